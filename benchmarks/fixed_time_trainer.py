"""A trainer that trains nothing for a fixed time, for benchmarks: ``epochs`` epochs of ``pause`` seconds."""

import time
from collections.abc import Callable
from pathlib import Path

from seedpod.trial import Report, Status, TrialProgress, TrialResult, TrialSpec


def make(_cache_dir: Path, _schedulers: int) -> "FixedTimeTrainer":
    """What TrainerPool calls."""
    return FixedTimeTrainer()


class FixedTimeTrainer:
    """Sleeps, looks for a stop every 10 ms, reports each epoch."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See ``seedpod.training.trainer.Trainer.train``."""
        pause = float(spec.params["pause"])
        began = time.monotonic()
        history = []
        for epoch in range(1, spec.max_epochs + 1):
            while time.monotonic() - began < epoch * pause:
                check()
                time.sleep(0.01)
            history.append({"val_accuracy": 0.5, "val_loss": 1.0})
            report(TrialProgress(spec.number, epoch, epoch, spec.max_epochs, 0.5, history[-1], epoch * pause))
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            value=0.5,
            best_epoch=1,
            epochs=spec.max_epochs,
            metrics=history[0],
            history=tuple(history),
            seconds=time.monotonic() - began,
        )
