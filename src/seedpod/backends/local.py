"""Trials on this machine."""

from pathlib import Path

from seedpod.training.child import PoolLimits
from seedpod.training.pool import KERAS_TRAINER, TrainerPool
from seedpod.trial import Report, TrialResult, TrialSpec


class LocalBackend:
    """Runs each trial in a trainer process of this machine. Thread-safe.

    Args:
        workers: Trials at once.
        cache_dir: Where the prepared data sets are.
        limits: See PoolLimits.
        trainer: ``module:factory`` of what the processes run.
        memory_mb: MB that the processes together may hold; None for what the machine or its container has.
    """

    name = "local"

    def __init__(
        self,
        workers: int,
        cache_dir: Path,
        *,
        limits: PoolLimits | None = None,
        trainer: str = KERAS_TRAINER,
        memory_mb: float | None = None,
    ) -> None:
        self.at_once = workers
        self._pool = TrainerPool(workers, cache_dir, limits=limits, trainer=trainer, memory_mb=memory_mb)

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """See TrialBackend."""
        return self._pool.run(spec, report)

    def cancel_all(self) -> None:
        """See TrialBackend."""
        self._pool.cancel_all()

    def close(self) -> None:
        """See TrialBackend."""
        self._pool.close()
