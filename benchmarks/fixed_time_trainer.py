"""A trainer that trains nothing for a fixed time, for benchmarks: epochs of ``pause`` seconds.

``pause`` is a parameter of the spec, or else the environment's BENCH_PAUSE. The moments at which trials ended are told in
their metrics, in seconds of the monotonic clock, which Linux's processes share.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from seedpod.trial import Report, Status, TrialProgress, TrialResult, TrialSpec

PAUSE = "BENCH_PAUSE"
LOOK = 0.01  # seconds between looks for a stop, as between two batches


def make(_cache_dir: Path, _schedulers: int) -> "FixedTimeTrainer":
    """What TrainerPool calls."""
    return FixedTimeTrainer()


class FixedTimeTrainer:
    """Sleeps, looks for a stop, reports each epoch. Its values differ by the spec's seed."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See ``seedpod.training.trainer.Trainer.train``."""
        pause = float(spec.params.get("pause", os.environ.get(PAUSE, "0")))
        value = spec.seed * 2654435761 % 2**32 / 2**32  # Knuth's multiplicative hash
        began = time.monotonic()
        history = []
        for epoch in range(1, spec.max_epochs + 1):
            while (left := began + epoch * pause - time.monotonic()) > 0:
                check()
                time.sleep(min(left, LOOK))
            history.append({"val_accuracy": value, "val_loss": 1.0})
            report(TrialProgress(spec.number, epoch, epoch, spec.max_epochs, value, history[-1], epoch * pause))
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            value=value,
            best_epoch=1,
            epochs=spec.max_epochs,
            metrics={**history[0], "ended": time.monotonic()},
            history=tuple(history),
            seconds=time.monotonic() - began,
        )
