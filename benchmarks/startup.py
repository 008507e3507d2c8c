"""How soon a search is under way: the first trial's beginning, the first finished epoch.

``python benchmarks/run.py startup``. Beside what no search can do without: ``import optuna``, and a plain Keras script
that trains its first epoch on the same images. Ours runs the command that people type, on the digits.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from apart import CACHE, apart, environment
from help import OPTIMIZER, seconds
from rows import Found, Row

PATIENCE = 300.0  # seconds
LOOK = 0.005  # seconds between looks at the events


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """First trial, first epoch."""
    trials, epochs, plain, floor = [], [], [], []
    with TemporaryDirectory(prefix="seedpod-startup-") as folder:
        apart("startup:prepared", cache_dir=CACHE)
        for number in range(1 if quick else 3):
            trial, epoch = _search(Path(folder), f"run-{number}")
            trials.append(trial)
            epochs.append(epoch)
            began = time.monotonic()
            apart("plain_keras:fit", images="digits", batch_size=64, epochs=1)
            plain.append(time.monotonic() - began)
            floor.append(seconds([sys.executable, "-c", "import optuna"]))
    what = "python optimizer.py: until the first trial has begun"
    yield Row("startup.trial", what, "s", tuple(trials), "import optuna", tuple(floor))
    what = "python optimizer.py: until its first epoch is known"
    yield Row("startup.epoch", what, "s", tuple(epochs), "plain Keras script, one epoch", tuple(plain))


def prepared(cache_dir: str) -> None:
    """Prepare the digits, so that every start finds them."""
    from seedpod.training.datasets import prepare

    prepare("digits", Path(cache_dir))


def _search(folder: Path, name: str) -> tuple[float, float]:
    """Seconds from the command until a trial has begun, and until an epoch of it is known."""
    given = {
        "trials": 1,
        "max_epochs_per_trial": 1,
        "results_dir": folder,
        "cache_dir": CACHE,
        "run_name": name,
        "final_model": "none",
        "report": "none",
    }
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, str(OPTIMIZER), *(f"{key}={value}" for key, value in given.items())],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
    ) as search:
        events = folder / name / "events.jsonl"
        times = [_until(events, search, kind) - began for kind in ("trial_started", "trial_progress")]
    return times[0], times[1]


def _until(events: Path, search: subprocess.Popen[bytes], kind: str) -> float:
    """The moment at which such an event is seen."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended = search.poll() is not None  # looked at before the events: none comes after
        whole = events.read_text(encoding="utf-8").split("\n")[:-1] if events.exists() else []
        if any(json.loads(line)["event"] == kind for line in whole):
            return time.monotonic()
        if ended:
            raise RuntimeError(f"the search ended with exit code {search.returncode} before its first epoch")
        time.sleep(LOOK)
    raise RuntimeError(f"no such event within {PATIENCE:g} s")
