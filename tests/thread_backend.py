"""A small real TrialBackend without processes: each trial is a function call in its caller's thread."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seedpod.config import OptimizationConfig
from seedpod.errors import TrialCancelled
from seedpod.guarded import Guarded
from seedpod.optimizer import ModelOptimizer
from seedpod.trial import Report, TrialProgress, TrialResult, TrialSpec
from stand_in_trainers import StandInTrainer

Train = Callable[[TrialSpec, Report, Callable[[], None]], TrialResult]
"""(spec, report, check) -> result; ``check`` raises TrialCancelled once the trial is to stop."""

stand_in: Train = StandInTrainer(Path(), 1).train


class ThreadBackend:
    """Runs trials in the threads that ask for them.

    Args:
        train: What a trial does; what it raises comes out of ``run`` unchanged.
        at_once: Trials that a search runs side by side.
    """

    name = "thread"

    def __init__(self, train: Train = stand_in, at_once: int = 1) -> None:
        self.at_once = at_once
        self._train = train
        self._closed = Guarded([False])

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        def report_and_check(progress: TrialProgress) -> None:
            report(progress)
            self._check()

        self._check()
        return self._train(spec, report_and_check, self._check)

    @property
    def closed(self) -> bool:
        with self._closed.locked() as closed:
            return closed[0]

    def cancel_all(self) -> None:
        with self._closed.locked() as closed:
            closed[0] = True

    def close(self) -> None:
        self.cancel_all()

    def _check(self) -> None:
        if self.closed:
            raise TrialCancelled("the backend is closed")


def wait_for_stop(_spec: TrialSpec, _report: Report, check: Callable[[], None]) -> TrialResult:
    """A trial that runs until it is stopped."""
    while True:
        check()
        time.sleep(0.002)


def searched_here(
    results_dir: Path, cache_dir: Path, *, train: Train = stand_in, **settings: Any
) -> OptimizationConfig:
    """Search in this process, as run ``r``; the settings."""
    known = {"run_name": "r", "results_dir": str(results_dir), "cache_dir": str(cache_dir)}
    config = OptimizationConfig(**{**known, **settings})
    ModelOptimizer(config, make_backend=lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers)).run()  # noqa: ARG005
    return config
