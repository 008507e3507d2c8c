"""Searches of ours that train nothing, by the way of real ones: ModelOptimizer, LocalBackend, crash-safe journal."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from apart import CACHE
from fixed_time_trainer import PAUSE, FixedTimeTrainer

from seedpod.backends.local import LocalBackend
from seedpod.board import FinishedTrial, Snapshot
from seedpod.config import OptimizationConfig
from seedpod.events import Observer, Plan
from seedpod.optimizer import ModelOptimizer
from seedpod.training.child import PoolLimits
from seedpod.training.process import resident_mb
from seedpod.trial import Report, TrialBackend, TrialProgress, TrialResult, TrialSpec

TRAINER = "fixed_time_trainer:make"
_LASTING = PoolLimits(trials=10**9)  # what trains nothing leaves nothing behind: no process need be replaced


def spec(number: int, fingerprint: str = "0" * 16, epochs: int = 1, **params: Any) -> TrialSpec:
    """A trial on the digits; those that train nothing look at no images and need no fingerprint."""
    return TrialSpec(number, "digits", fingerprint, params, number, 0, ("val_accuracy",), epochs, 1, 0.2, 10**7, 0.0)


class Watch(Observer):
    """Notes when a search's trials could begin and when the last one had ended, and the memory that was held then.

    Attributes:
        first: When the first trial could begin, in seconds of the monotonic clock; 0.0 before.
        last: When the latest trial had ended, its record and its value written.
        resident: MB that this process held at the first of these moments.
    """

    def __init__(self) -> None:
        self.first = self.last = self.resident = 0.0

    def began(self, plan: Plan) -> None:  # noqa: ARG002 - Observer's names
        """The search starts."""
        self.resident = resident_mb()
        self.first = time.monotonic()

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:  # noqa: ARG002
        """A trial has ended."""
        self.last = time.monotonic()


class Threads:
    """A backend without processes: what a search costs with it is the coordinator's cost.

    Args:
        at_once: Trials at once.
    """

    name = LocalBackend.name

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._trainer = FixedTimeTrainer(Path())

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """See TrialBackend."""
        return self._trainer.train(spec, report, lambda: None)

    def cancel_all(self) -> None:
        """Nothing is cancelled here."""

    def close(self) -> None:
        """Nothing is to be closed."""


def search(
    *,
    trials: int,
    pause: float = 0.0,
    workers: int = 4,
    sampler: str = "random",
    folder: str = ".",
    cache_dir: str = CACHE,
    processes: bool = True,
    storage: str = "",
) -> dict[str, float]:
    """Search with trials of ``pause`` seconds, or go on with the search of that folder.

    Args:
        trials: How many in all.
        pause: Seconds of each.
        workers: Trials at once.
        sampler: Chooses them.
        folder: Where the run's folder is.
        cache_dir: Where the digits are prepared.
        processes: Whether trials run in warm trainer processes, or in the coordinator's own threads.
        storage: Database that keeps the study; the run's own journal where it is empty.

    Returns:
        ``seconds`` from the first trial's beginning to the last one's end, both as ``first`` and ``last`` by the
        monotonic clock, ``cpu`` seconds of this process in the whole
        search, ``ready``, the seconds before the first trial without those that the processes' start took, and
        ``grown``, the MB that this process holds more at the end than at the first trial.
    """
    config = OptimizationConfig(
        trials=trials,
        sampler=sampler,
        pruner="none",
        local_workers=workers,
        max_epochs_per_trial=1,
        storage=storage,
        search_lag=32 if storage else 8,  # of all optimizers' trials together
        results_dir=folder,
        cache_dir=cache_dir,
        run_name="searched",
        final_model="none",
        report="none",
    )
    os.environ[PAUSE] = str(pause)
    watch = Watch()
    starting = 0.0

    def backend(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        nonlocal starting
        since = time.monotonic()
        if not processes:
            return Threads(workers)
        made = LocalBackend(workers, cache_dir, trainer=TRAINER, limits=_LASTING)
        _warm_up(made, workers)
        starting = time.monotonic() - since
        return made

    began, cpu = time.monotonic(), time.process_time()
    summary = ModelOptimizer(config, observer=watch, make_backend=backend).run()
    cpu = time.process_time() - cpu
    if not storage and summary.trials["complete"] != trials:
        raise RuntimeError(f"{summary.trials} of {trials} trials")
    return {
        "seconds": watch.last - watch.first,
        "first": watch.first,
        "last": watch.last,
        "cpu": cpu,
        "ready": watch.first - began - starting,
        "grown": resident_mb() - watch.resident,
    }


def _warm_up(backend: TrialBackend, workers: int) -> None:
    """Wait until every process has begun a trial, so that none of the measured ones waits for a start."""
    together = threading.Barrier(workers)

    def report(_: TrialProgress) -> None:
        together.wait(120)

    with ThreadPoolExecutor(workers) as threads:
        for trial in [threads.submit(backend.run, spec(number, pause=0.0), report) for number in range(workers)]:
            trial.result()
