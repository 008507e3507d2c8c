"""A trainer whose trial takes ``params.seconds``, in ``max_epochs`` equal epochs. Runs inside trainer processes."""

import time
from collections.abc import Callable
from pathlib import Path

from seedpod.trial import Report, Status, TrialProgress, TrialResult, TrialSpec


class FixedTimeTrainer:
    """Sleeps."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """One trial; see seedpod.training.process."""
        seconds, begun = float(spec.params["seconds"]), time.monotonic()
        for epoch in range(1, spec.max_epochs + 1):
            end = begun + seconds * epoch / spec.max_epochs
            while (left := end - time.monotonic()) > 0:
                check()
                time.sleep(min(left, 0.05))
            passed = time.monotonic() - begun
            report(TrialProgress(spec.number, epoch, epoch, spec.max_epochs, 0.5, {}, passed))
        return TrialResult(spec.number, Status.COMPLETE, 0.5, 1, spec.max_epochs, seconds=seconds)


def make(_cache_dir: Path, _schedulers: int) -> FixedTimeTrainer:
    """What SEEDPOD_TRAINER names."""
    return FixedTimeTrainer()
