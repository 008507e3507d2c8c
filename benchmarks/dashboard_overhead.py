"""What the live dashboard costs a search: the same one with ``dashboard=none`` and ``live``, in turn, on a terminal.

    python benchmarks/dashboard_overhead.py [rounds]

12 trials, two at a time, in real trainer processes, with epochs of a quarter of a second that train nothing. Two
measures: wall time, which on a shared machine is mostly noise, and the CPU seconds of the optimizer's own process,
which are not. The overhead is what ``live`` takes more, as a share of the wall time of ``none``.
"""

import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fixed_time_trainer import FixedTimeTrainer

from seedpod.trial import Report, TrialBackend, TrialResult, TrialSpec

PAUSE = 0.25  # seconds an epoch
TRIALS, WORKERS = 12, 2
LINES, COLUMNS = 45, 160
HERE = Path(__file__).parent


class SamePace(FixedTimeTrainer):
    """Epochs of the same length whatever the parameters are."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See FixedTimeTrainer."""
        return super().train(replace(spec, params={**spec.params, "pause": PAUSE}), report, check)


def make(_cache_dir: Path, _schedulers: int) -> SamePace:
    """What TrainerPool calls."""
    return SamePace()


def search(mode: str, folder: Path) -> None:
    """Run the search on this process's terminal; its seconds and its own CPU seconds go into a file."""
    from seedpod.backends.local import LocalBackend
    from seedpod.config import OptimizationConfig
    from seedpod.dashboard.terminal import Terminal
    from seedpod.optimizer import ModelOptimizer

    config = OptimizationConfig(trials=TRIALS, sampler="random", results_dir=str(folder), run_name=mode)

    def backend(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return LocalBackend(WORKERS, cache_dir, trainer="dashboard_overhead:make")

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
    environment = {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(HERE)}
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


def main(rounds: int) -> None:
    """Print each round and the medians."""
    print(f"{TRIALS} trials, {WORKERS} at a time, epochs of {PAUSE:g} s, terminal of {COLUMNS}x{LINES}")
    print(f"{'round':>6}{'none, s':>10}{'live, s':>10}{'more':>9}{'none, CPU s':>13}{'live, CPU s':>13}{'more':>9}")
    shares: list[tuple[float, float]] = []
    for number in range(rounds):
        order = ("none", "live") if number % 2 == 0 else ("live", "none")
        found = {mode: measured(mode) for mode in order}
        none, live = found["none"], found["live"]
        more = tuple((live[what] - none[what]) / none["wall"] for what in ("wall", "cpu"))
        shares.append((more[0], more[1]))
        print(
            f"{number + 1:>6}{none['wall']:>10.2f}{live['wall']:>10.2f}{more[0]:>9.2%}"
            f"{none['cpu']:>13.3f}{live['cpu']:>13.3f}{more[1]:>9.2%}",
            flush=True,
        )
    for name, each in zip(("wall time", "CPU time"), zip(*shares, strict=True), strict=True):
        print(
            f"overhead by {name}, as share of the wall time: median {statistics.median(each):.2%}, "
            f"from {min(each):.2%} to {max(each):.2%}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        search(sys.argv[1], Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
