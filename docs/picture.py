"""Make docs/search.svg: what a terminal shows of a real search. ``uv run docs/picture.py``, about a minute."""

import io
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
ARGUMENTS = ["dataset=digits", "trials=12", "local_workers=auto"]
COLUMNS = 118
_BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"


def main() -> None:
    """Run the README's search on a pseudo terminal and draw what is left on the screen at its end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ uv run optimizer.py " + " ".join(ARGUMENTS), style="bold"))
    with tempfile.TemporaryDirectory() as folder:
        for line in _screen(folder).splitlines():
            if _BAR in line:  # it moves along the bottom and is gone at the end
                continue
            console.print(Text.from_ansi(line), soft_wrap=False, overflow="ellipsis", no_wrap=True)
    svg = console.export_svg(title="seedpod")
    # The fonts that rich names lie on somebody else's server; a page about seedpod should not ask for them.
    svg = "\n".join(line for line in svg.splitlines() if "url(" not in line or "clip" in line)
    (ROOT / "docs" / "search.svg").write_text(svg + "\n", encoding="utf-8")


def _screen(folder: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    command = [sys.executable, str(ROOT / "optimizer.py"), *ARGUMENTS, "dashboard=plain"]  # a picture does not move
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        while chunk := _read(ours):
            written += chunk
    # A line that was cleared and written again counts as last written.
    lines = written.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\x1b[2K", 1)[-1].rsplit("\r", 1)[-1] for line in lines)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux tells that the other side has closed
        return b""


if __name__ == "__main__":
    main()
