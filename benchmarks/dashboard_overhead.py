"""What the live dashboard costs a search: the same one with ``dashboard=none`` and ``live``, in turn, on a terminal.

``python benchmarks/run.py dashboard_overhead``. 12 trials, two at a time, in real trainer processes, with epochs of a
quarter of a second that train nothing. What ``live`` costs is measured in CPU seconds of the optimizer's own process,
since wall time is mostly noise on a shared machine, and told as what it adds to the wall time of ``none``.
"""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

from apart import HERE
from fixed_time_trainer import PAUSE as PAUSED
from rows import Found, Row, Target

from seedpod.trial import TrialBackend

PAUSE = 0.25  # seconds an epoch
TRIALS, WORKERS = 12, 2
LINES, COLUMNS = 45, 160


def search(mode: str, folder: Path) -> None:
    """Run the search on this process's terminal; its seconds and its own CPU seconds go into a file."""
    from seedpod.backends.local import LocalBackend
    from seedpod.config import OptimizationConfig
    from seedpod.dashboard.terminal import Terminal
    from seedpod.optimizer import ModelOptimizer

    config = OptimizationConfig(trials=TRIALS, sampler="random", results_dir=str(folder), run_name=mode)

    def backend(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return LocalBackend(WORKERS, cache_dir, trainer="fixed_time_trainer:make")

    terminal = Terminal(sys.stdout, WORKERS, mode=mode)
    optimizer = ModelOptimizer(config, observer=terminal, progress_callback=terminal.updated, make_backend=backend)
    wall, cpu = time.monotonic(), time.process_time()
    optimizer.run()
    terminal.close()
    took = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    (folder / f"{mode}.json").write_text(json.dumps(took), "utf-8")


def measured(mode: str) -> dict[str, float]:
    """Wall and CPU seconds of one search in a process and on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "CI", "LINES", "COLUMNS"}}
    environment = {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(HERE), PAUSED: str(PAUSE)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, mode, folder]
        with subprocess.Popen(command, env=environment, stdout=theirs) as process:
            os.close(theirs)
            threading.Thread(target=_drain, args=(ours,), daemon=True).start()
            process.wait()
        found: dict[str, float] = json.loads((Path(folder) / f"{mode}.json").read_text("utf-8"))
    return found


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # how Linux tells that the other side has closed
        os.close(descriptor)


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """What following the search adds to its time."""
    ours, floor = [], []
    for number in range(1 if quick else 4):
        order = ("none", "live") if number % 2 == 0 else ("live", "none")
        found = {mode: measured(mode) for mode in order}
        floor.append(found["none"]["wall"])
        ours.append(found["none"]["wall"] + found["live"]["cpu"] - found["none"]["cpu"])
    what = f"{TRIALS} trials with the live dashboard, its CPU time added to the search's"
    yield Row("dashboard_overhead", what, "s", tuple(ours), "dashboard=none", tuple(floor), target=Target(0.99))


if __name__ == "__main__":
    search(sys.argv[1], Path(sys.argv[2]))
