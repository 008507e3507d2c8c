"""How soon ``python optimizer.py help`` has answered, beside a bare interpreter.

``python benchmarks/run.py help``. Both are started in turn.
"""

import subprocess
import sys
import time
from pathlib import Path

from apart import environment
from rows import Found, Row, Target

OPTIMIZER = Path(__file__).resolve().parents[1] / "optimizer.py"
LIMIT = 0.3  # seconds


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """One row."""
    ours, theirs = [], []
    for _ in range(3 if quick else 15):
        ours.append(seconds([sys.executable, str(OPTIMIZER), "help"]))
        theirs.append(seconds([sys.executable, "-c", "pass"]))
    target = Target(LIMIT, "ours")
    yield Row("help", "python optimizer.py help", "s", tuple(ours), "bare Python", tuple(theirs), target=target)


def seconds(command: list[str]) -> float:
    """Until a command has ended well."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began
