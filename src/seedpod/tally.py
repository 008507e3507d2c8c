"""What is remembered of trials that have ended: sums over all of them, times of the latest. Bounded, and pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seedpod.trial import ParamValue, Status, TrialResult, TrialSpec

SAMPLES = 256
"""Ended trials whose times are kept: enough for a mean within 5 %, and few enough to look at with every update."""
IDLE_SECONDS = 5.0
"""Seconds that RunPod bills a worker after a job, by default, if no other one comes (docs, "Serverless pricing",
2026-05-13)."""
_MEMORY = 30.0  # seconds over which the rate of epochs is averaged


@dataclass(frozen=True, slots=True)
class Times:
    """Where the seconds of one ended trial went.

    Attributes:
        busy: Seconds that it trained, or did what it did until it failed.
        wait: Seconds before that: the endpoint's queue, a cold start, a process that had to come up.
        cold: Whether it began before any trial of this search had been heard of, so that its wait says little about
            later ones.
        epochs: Epochs trained.
        max_epochs: Epochs that it was given, of all folds together.
        level: See ``cost_level``.
        first: Training seconds of the first epoch, which compiles; None where that was not told.
    """

    busy: float
    wait: float
    cold: bool
    epochs: int
    max_epochs: int
    level: float
    first: float | None = None


@dataclass(frozen=True, slots=True)
class EpochRate:
    """Epochs a second, averaged over the last half minute by exponential decay.

    Attributes:
        value: Epochs a second at ``at``, not yet corrected for a short past.
        at: When it was last raised, in seconds since the epoch.
        since: When the first epoch of this search was reported; None before.
    """

    value: float = 0.0
    at: float = 0.0
    since: float | None = None

    def with_epoch(self, now: float, epochs: int = 1) -> "EpochRate":
        """The rate after so many more epochs."""
        since = now if self.since is None else self.since
        return EpochRate(self._faded(now) + epochs / _MEMORY, max(now, self.at), since)

    def per_second(self, now: float, started_at: float) -> float:
        """The rate now, for a search that started then."""
        past = max(now - started_at, 1e-3)
        return self._faded(now) / -math.expm1(-past / _MEMORY)

    def _faded(self, now: float) -> float:
        return self.value * math.exp(-max(0.0, now - self.at) / _MEMORY)


@dataclass(frozen=True, slots=True)
class Bill:
    """What ended trials have cost, and what their workers were billed besides: their starts and their idle seconds.

    Those two belong to no trial and are told by nobody. So both are bounds: a worker's start lasted no longer than its
    first job waited, and it is billed for at most ``IDLE_SECONDS`` after each job.

    Attributes:
        usd: For the trials.
        unpriced: Trials that were paid for at a price that is not known, so that ``usd`` lacks them.
        per_second: USD that a second of the latest trial's worker costs; None before one with a price.
        seconds: Billed seconds of the trials that were billed, failed attempts included.
        trials: How many trials were billed.
        queue_seconds: Seconds that jobs waited in the endpoint's queue, cold starts included.
        workers: Different workers that ran them.
        start_seconds: For the start of each of them, at most.
        idle_seconds: For all between two jobs of one of them, and after its last one, at most.
    """

    usd: float = 0.0
    unpriced: int = 0
    per_second: float | None = None
    seconds: float = 0.0
    trials: int = 0
    queue_seconds: float = 0.0
    workers: int = 0
    start_seconds: float = 0.0
    idle_seconds: float = 0.0

    def with_trial(self, result: TrialResult, ended_at: float, worker_idle_since: float | None) -> "Bill":
        """The bill with one more trial on it.

        Args:
            result: How the trial ended.
            ended_at: When, in seconds since the epoch.
            worker_idle_since: When the job before ended on the same worker; None for its first one.
        """
        billed, cost = billed_seconds(result.run), result.cost
        queued = _number(result.run.get("queue_seconds"))
        paid = billed > 0 and bool(result.run.get("worker"))
        first = paid and worker_idle_since is None
        gap = 0.0
        if paid and worker_idle_since is not None:
            began_at = ended_at - _number(result.run.get("execution_seconds"))
            # After a longer one it had stopped: billed were the seconds that it waited, and are those after this job.
            gap = min(max(0.0, began_at - worker_idle_since), IDLE_SECONDS)
        return Bill(
            usd=self.usd + (cost or 0.0),
            unpriced=self.unpriced + (cost is None),
            per_second=cost / billed if billed > 0 and cost is not None else self.per_second,
            seconds=self.seconds + billed,
            trials=self.trials + (billed > 0),
            queue_seconds=self.queue_seconds + queued,
            workers=self.workers + first,
            start_seconds=self.start_seconds + (queued if first else 0.0),
            idle_seconds=self.idle_seconds + gap + (IDLE_SECONDS if first else 0.0),
        )


NO_EPOCHS = EpochRate()
NO_BILL = Bill()


def billed_seconds(run: Mapping[str, ParamValue]) -> float:
    """Seconds of all attempts of a trial for which an endpoint asks money, from the facts of where it ran."""
    return _number(run.get("billed_seconds"))


def times_of(
    spec: TrialSpec,
    result: TrialResult,
    took: float,
    training_at: float | None,
    *,
    cold: bool,
    first: float | None = None,
) -> Times:
    """Split what a trial took.

    Args:
        spec: The trial.
        result: How it ended.
        took: Seconds from its start to its end.
        training_at: Seconds from its start to the start of its training, as far as its reports told.
        cold: See Times.
        first: See Times.
    """
    if result.seconds > 0 and result.status is not Status.FAILED:  # that one may have hung for long after its last word
        wait = took - result.seconds
    elif training_at is not None:
        wait = training_at
    else:
        wait = _number(result.run.get("queue_seconds"))
    wait = min(max(wait, 0.0), took)
    return Times(took - wait, wait, cold, result.epochs, spec.total_epochs, cost_level(spec.params), first)


def cost_level(params: Mapping[str, ParamValue]) -> float:
    """How much an epoch of such a network costs, as log2 of the multiplications of its convolutions for a pixel.

    Every block halves the image: behind its convolutions, or strided in the first of them. 0 for parameters of another
    search space: all its trials then count as alike.
    """
    side, channels, work = int(_number(params.get("kernel_size"))), 1.0, 0.0
    strided = params.get("pooling") == "strided"
    for block in range(int(_number(params.get("conv_blocks")))):
        filters = _number(params.get(f"filters_{block}"))
        for _ in range(int(_number(params.get("convs_per_block"))) or 1):
            work += side * side * channels * filters / 4.0 ** (block + strided)
            channels = filters
    return math.log2(work) if work > 0 else 0.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
