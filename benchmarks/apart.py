"""Calls one function of a benchmark in a process of its own: nothing that a measurement leaves behind meets the next.

``python benchmarks/apart.py MODULE:FUNCTION '{"argument": 1}' ANSWER.json`` is what ``apart`` starts.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = str(Path(tempfile.gettempdir()) / "seedpod-bench-cache")
"""Where measurements find the digits prepared, so that none of them waits for that."""
PATIENCE = 3600.0
"""Seconds after which a measurement, and what it has started, is ended."""
_ABSENT = 3  # exit code where a package is missing
_LAST = 12  # lines of what a process has said


class NotHere(Exception):
    """A package that the measurement needs is not installed; its text says which."""


_PATH = re.compile(r"(?:/[^/\s'\"]+){2,}")


class Broken(Exception):
    """The process failed or took too long; its text is the end of what it has said."""


def apart(what: str, **given: Any) -> Any:
    """The answer of ``module:function`` for these arguments, both of JSON's kinds.

    Args:
        what: ``module:function``; modules of this folder are found.
        given: The function's arguments.

    Raises:
        NotHere, Broken: There is no answer.
    """
    with tempfile.TemporaryDirectory(prefix="seedpod-bench-") as folder, tempfile.TemporaryFile() as said:
        answer = Path(folder) / "answer.json"
        process = subprocess.Popen(
            [sys.executable, __file__, what, json.dumps(given), str(answer)],
            cwd=folder,
            env=environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"no answer within {PATIENCE:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        if process.returncode == _ABSENT:
            raise NotHere(lines[-1])
        if process.returncode:
            raise Broken("\n".join(lines[-_LAST:]))
        return json.loads(answer.read_bytes())


def briefly(error: BaseException) -> str:
    """The last line of what an error says, without paths of this machine."""
    lines = str(error).strip().splitlines()
    return _PATH.sub("…", lines[-1]) if lines else type(error).__name__


def environment() -> dict[str, str]:
    """Ours, with this folder for our trainer processes to import from, and without settings of a search."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEEDPOD_", "RUNPOD_"))}
    paths = os.pathsep.join(filter(None, [str(HERE), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def _called(what: str, given: str, answer: str) -> None:
    module, _, function = what.partition(":")
    found = getattr(importlib.import_module(module), function)(**json.loads(given))
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    try:
        _called(*sys.argv[1:])
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install 'seedpod[bench]', or uv run --extra bench", file=sys.stderr)
        sys.exit(_ABSENT)
