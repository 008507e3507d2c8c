"""Make docs/page.png: the page of a real search in Chromium. ``uv run --all-extras --group test docs/page.py``."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402 - only now can it be found

SETTINGS = ("dashboard=web", "run_name=digits", "trials=24", "local_workers=2", "max_parameters=90000")
ENOUGH = 12  # ended trials: some to see, some to come
CURVES = "document.getElementById('curves').data.filter((t) => t.mode.includes('markers') && t.x.length > 2).length"


def main() -> None:
    """Run a search, and take the picture in the middle of it."""
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder) / "profile") as browser:
        command = [sys.executable, str(ROOT / "optimizer.py"), *SETTINGS]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            lines = iter(process.stdout or ())
            browser.size(1400, 1230)
            browser.open(next(found.group() for line in lines if (found := re.search(r"http://\S+", line))))
            browser.until(f"document.querySelectorAll('#trials tbody tr').length >= {ENOUGH}", 600)
            browser.until("(document.getElementById('mattered').data ?? []).length")
            browser.until(f"{CURVES} > 0")
            browser.picture(ROOT / "docs" / "page.png", whole=False)
            process.terminate()
            process.communicate()


if __name__ == "__main__":
    main()
