"""TrialBoard: every trial's state behind one lock. Facts leave it as a frozen Snapshot."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from seedpod.guarded import Guarded
from seedpod.objectives import dominates, precedes
from seedpod.tally import NO_BILL, NO_EPOCHS, SAMPLES, Bill, EpochRate, Times, times_of
from seedpod.trial import Status, TrialFailure, TrialProgress, TrialResult, TrialSpec

LAST = 8
"""Finished trials that a snapshot shows; older ones are in the run's folder."""
CURVE = 24
"""Latest values of a running trial that a snapshot shows."""


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial between its start and its end. Times are in seconds since the epoch.

    Attributes:
        spec: What is trained.
        started_at: When it began, with whatever wait there was before its training.
        cold: Whether no trial of the search had been heard of by then.
        progress: The latest report.
        reported_at: When that came; None before the first one.
        first: The first report of the attempt that runs.
        first_at: When that came.
        values: The first objective after the latest epochs, oldest first, at most CURVE.
    """

    spec: TrialSpec
    started_at: float
    cold: bool = False
    progress: TrialProgress | None = None
    reported_at: float | None = None
    first: TrialProgress | None = None
    first_at: float | None = None
    values: tuple[float | None, ...] = ()

    def heard(self, progress: TrialProgress, now: float) -> "RunningTrial":
        """The trial after one more report."""
        again = self.first is None or self.first.attempt != progress.attempt
        values = (progress.value,) if again else (*self.values[1 - CURVE :], progress.value)
        first, first_at = (progress, now) if again else (self.first, self.first_at)
        return RunningTrial(self.spec, self.started_at, self.cold, progress, now, first, first_at, values)

    @property
    def waited(self) -> float | None:
        """Seconds from the start to the training of this attempt; None before its first report."""
        if self.first is None or self.first_at is None:
            return None
        return max(0.0, self.first_at - self.first.seconds - self.started_at)

    @property
    def first_epoch(self) -> float | None:
        """Training seconds of the first epoch of this attempt; None where no report told them."""
        return self.first.seconds if self.first is not None and self.first.epoch == 1 and self.first.seconds else None


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """A trial that has ended. Times are in seconds since the epoch."""

    spec: TrialSpec
    result: TrialResult
    started_at: float
    ended_at: float

    def final_epochs(self, mode: str) -> int:
        """Epochs that a final model of this configuration is trained for: those that validation chose.

        With ``retrain``, all, where a share of right answers was best in the last third of a falling learning rate: its
        epochs differ by noise there, and to stop keeps the noise and leaves out the small steps at the end. Of nine
        such trials on 6,000 MNIST images, measured on 20,000 others that nothing else had seen, all epochs were better
        in six and worse in one, by 0.06 points on average; a schedule made shorter was worse than both.
        """
        spec, best = self.spec, self.result.best_epoch
        if not best:  # the trial has lost its record
            return spec.max_epochs
        falls = spec.params.get("schedule", "constant") != "constant"
        late = best > 2 / 3 * spec.max_epochs
        return spec.max_epochs if mode == "retrain" and falls and late and spec.goals[0].better(1.0, 0.0) else best


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The board at one moment.

    Attributes:
        version: Grows with every change; of two snapshots the higher one is newer.
        total: Trials that the search is to run.
        started_at: Seconds since the epoch.
        queued: Trials that have not started.
        running: Trials that run, by number.
        finished: How many trials ended in each way.
        last: The trials that ended last, oldest first, at most LAST.
        best: The complete trial with the best value, under ``mode=health`` weighed with its health; of equal ones, the
            one with better further values, or the lowest number.
        front: Of several objectives, the complete trials that no other beats in one without losing in another, by
            number; ``best`` is one of them. Empty where there is one objective.
        times: Where the seconds of the latest ended trials went, at most ``tally.SAMPLES``.
        rate: Epochs a second.
        bill: What ended trials have cost, those of an earlier run of this search included.
        worst: The complete trial that every other one precedes, which may be the best one.
        largest: The trial whose process has held the most memory; None where that is not known of any.
    """

    version: int
    total: int
    started_at: float
    queued: int
    running: tuple[RunningTrial, ...]
    finished: Mapping[Status, int]
    last: tuple[FinishedTrial, ...]
    best: FinishedTrial | None
    times: tuple[Times, ...] = ()
    rate: EpochRate = NO_EPOCHS
    bill: Bill = NO_BILL
    front: tuple[FinishedTrial, ...] = ()
    worst: FinishedTrial | None = None
    largest: FinishedTrial | None = None


@dataclass(slots=True)
class _State:
    health_weight: float = 0.0
    version: int = 0
    running: dict[int, RunningTrial] = field(default_factory=dict)
    finished: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    last: deque[FinishedTrial] = field(default_factory=lambda: deque(maxlen=LAST))
    best: FinishedTrial | None = None
    worst: FinishedTrial | None = None
    largest: FinishedTrial | None = None
    front: tuple[FinishedTrial, ...] = ()
    failures: list[tuple[int, Status, TrialFailure]] = field(default_factory=list)
    times: tuple[Times, ...] = ()
    rate: EpochRate = NO_EPOCHS
    bill: Bill = NO_BILL
    workers: dict[str, float] = field(default_factory=dict)  # when the latest job of each ended
    ended: int = 0

    def take_in(self, finished: FinishedTrial, times: Times) -> None:
        self.version += 1
        self.ended += 1
        if finished.result.status is not Status.CANCELLED:  # how long that one would have taken is not known
            self.times = (*self.times[1 - SAMPLES :], times)
        worker = str(finished.result.run.get("worker", ""))
        self.bill = self.bill.with_trial(finished.result, finished.ended_at, self.workers.get(worker))
        self.workers[worker] = finished.ended_at
        self.finished[finished.result.status] += 1
        self.last.append(finished)
        if finished.result.peak_mb > (0.0 if self.largest is None else self.largest.result.peak_mb):
            self.largest = finished
        if finished.result.error is not None:
            self.failures.append((finished.result.number, finished.result.status, finished.result.error))
        if finished.result.status is Status.COMPLETE:
            if self.best is None or self.better(finished, self.best):
                self.best = finished
            if self.worst is None or self.better(self.worst, finished):
                self.worst = finished
        if len(finished.spec.objectives) > 1:
            self.front = _front_with(finished, self.front)

    def better(self, finished: FinishedTrial, other: FinishedTrial) -> bool:
        scores, others = (trial.result.scores(self.health_weight) for trial in (finished, other))
        if scores == others:
            return finished.spec.number < other.spec.number
        return precedes(finished.spec.goals, scores, others)


class TrialBoard:
    """Collects what all trial threads know. Thread-safe; no update costs more when there are more trials.

    Args:
        total: Trials that the search is to run.
        started_at: When it began, in seconds since the epoch.
        health_weight: What a trial's health weighs beside its value, see ``TrialResult.scores``.
    """

    def __init__(self, total: int, started_at: float, health_weight: float = 0.0) -> None:
        self._total = total
        self._started_at = started_at
        self._guarded = Guarded(_State(health_weight))

    def limit(self, total: int | None) -> None:
        """There are no more trials to run than this; None is no limit."""
        with self._guarded.locked() as state:
            state.version += 1
            self._total = self._total if total is None else min(self._total, total)

    def start(self, spec: TrialSpec, now: float) -> None:
        """A trial begins."""
        with self._guarded.locked() as state:
            state.version += 1
            state.running[spec.number] = RunningTrial(spec, now, cold=state.rate.since is None and not state.ended)

    def report(self, progress: TrialProgress, now: float) -> bool:
        """A running trial has finished an epoch; False, and nothing changed, where that is late or out of order."""
        with self._guarded.locked() as state:
            trial = state.running.get(progress.number)
            if trial is None or (trial.progress and _age(trial.progress) >= _age(progress)):
                return False
            state.version += 1
            state.running[progress.number] = trial.heard(progress, now)
            known = trial.progress.epoch if trial.progress and trial.progress.attempt == progress.attempt else 0
            state.rate = state.rate.with_epoch(now, max(0, progress.epoch - known))
            return True

    def finish(self, result: TrialResult, now: float) -> FinishedTrial | None:
        """A running trial has ended; None, and nothing changed, where it was not running (any more)."""
        with self._guarded.locked() as state:
            trial = state.running.pop(result.number, None)
            if trial is None:
                return None
            took = max(0.0, now - trial.started_at)
            times = times_of(trial.spec, result, took, trial.waited, cold=trial.cold, first=trial.first_epoch)
            if result.status is not Status.COMPLETE and not result.seconds and trial.progress is not None:
                result = replace(result, seconds=trial.progress.seconds)  # an error tells none
            finished = FinishedTrial(trial.spec, result, trial.started_at, now)
            state.take_in(finished, times)
            return finished

    def restore(self, finished: FinishedTrial) -> None:
        """Take in a trial that an earlier run of the same search has finished."""
        took = max(0.0, finished.ended_at - finished.started_at)
        times = times_of(finished.spec, finished.result, took, None, cold=False)
        with self._guarded.locked() as state:
            state.take_in(finished, times)

    def charge(self, usd: float) -> None:
        """Take in what an earlier run of the same search has paid for trials that did not end."""
        with self._guarded.locked() as state:
            state.bill = replace(state.bill, usd=state.bill.usd + usd)

    def failures(self, status: Status = Status.FAILED) -> tuple[tuple[int, TrialFailure], ...]:
        """Number and failure of every failed trial so far; of every PRUNED one that a limit has ended."""
        with self._guarded.locked() as state:
            return tuple((number, failure) for number, ended, failure in state.failures if ended is status)

    def snapshot(self) -> Snapshot:
        """The board as it is now."""
        with self._guarded.locked() as state:
            begun = len(state.running) + state.ended
            return Snapshot(
                version=state.version,
                total=self._total,
                started_at=self._started_at,
                queued=max(0, self._total - begun),
                running=tuple(state.running[number] for number in sorted(state.running)),
                finished=dict(state.finished),
                last=tuple(state.last),
                best=state.best,
                times=state.times,
                rate=state.rate,
                bill=state.bill,
                front=state.front,
                worst=state.worst,
                largest=state.largest,
            )


def _age(progress: TrialProgress) -> tuple[int, int]:
    return progress.attempt, progress.sequence


def _front_with(finished: FinishedTrial, front: tuple[FinishedTrial, ...]) -> tuple[FinishedTrial, ...]:
    """The front after one more trial; equal ones share it."""
    goals, values = finished.spec.goals, finished.result.values
    if finished.result.status is not Status.COMPLETE:
        return front
    if any(dominates(goals, other.result.values, values) for other in front):
        return front
    kept = [other for other in front if not dominates(goals, values, other.result.values)]
    return tuple(sorted([*kept, finished], key=lambda trial: trial.spec.number))
