"""A trainer that trains nothing for a fixed time, for benchmarks: epochs of ``pause`` seconds.

``pause`` is a parameter of the spec, or else the environment's BENCH_PAUSE. The moment at which a trial ended is told
in its metrics, in seconds of the monotonic clock, which Linux's processes share. ``deaf`` trials look for no stop, as
those that hang in native code, and note their process in ``deaf.pid`` of the cache folder.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from seedpod.trial import Report, Status, TrialProgress, TrialResult, TrialSpec

PAUSE = "BENCH_PAUSE"
DEAF = "deaf.pid"
LOOK = 0.05  # seconds between looks for a stop; 64 that looked every 0.01 s would take a sixth of two cores


def make(cache_dir: Path, _schedulers: int) -> "FixedTimeTrainer":
    """What TrainerPool calls."""
    return FixedTimeTrainer(cache_dir)


class FixedTimeTrainer:
    """Sleeps, looks for a stop, reports each epoch. Its values differ by the spec's seed."""

    def __init__(self, cache_dir: Path) -> None:
        self._noted = cache_dir / DEAF

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See ``seedpod.training.trainer.Trainer.train``."""
        pause = float(spec.params.get("pause", os.environ.get(PAUSE, "0")))
        value = spec.seed * 2654435761 % 2**32 / 2**32  # Knuth's multiplicative hash
        deaf = bool(spec.params.get("deaf"))
        if deaf:
            self._noted.parent.mkdir(parents=True, exist_ok=True)
            self._noted.write_text(str(os.getpid()), encoding="ascii")
        began = time.monotonic()
        history = []
        for epoch in range(1, spec.max_epochs + 1):
            while (left := began + epoch * pause - time.monotonic()) > 0:
                if not deaf:
                    check()
                time.sleep(min(left, LOOK))
            history.append({"val_accuracy": value, "val_loss": 1.0})
            if deaf and epoch > 1:
                continue  # the trainer's own report looks for a stop too
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
