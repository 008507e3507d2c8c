"""TrialBoard: every trial's state behind one lock. Facts leave it as a frozen Snapshot."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from seedpod.guarded import Guarded
from seedpod.trial import Status, TrialFailure, TrialProgress, TrialResult, TrialSpec

LAST = 8
"""Finished trials that a snapshot shows; older ones are in the run's folder."""


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial between its start and its end. ``started_at`` is in seconds since the epoch."""

    spec: TrialSpec
    started_at: float
    progress: TrialProgress | None = None


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """A trial that has ended. Times are in seconds since the epoch."""

    spec: TrialSpec
    result: TrialResult
    started_at: float
    ended_at: float


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
        best: The complete trial with the highest value; of equal ones, the lowest number.
    """

    version: int
    total: int
    started_at: float
    queued: int
    running: tuple[RunningTrial, ...]
    finished: Mapping[Status, int]
    last: tuple[FinishedTrial, ...]
    best: FinishedTrial | None


@dataclass(slots=True)
class _State:
    version: int = 0
    running: dict[int, RunningTrial] = field(default_factory=dict)
    finished: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    last: deque[FinishedTrial] = field(default_factory=lambda: deque(maxlen=LAST))
    best: FinishedTrial | None = None
    failures: list[tuple[int, TrialFailure]] = field(default_factory=list)

    def take_in(self, finished: FinishedTrial) -> None:
        self.version += 1
        self.finished[finished.result.status] += 1
        self.last.append(finished)
        if finished.result.error is not None:
            self.failures.append((finished.result.number, finished.result.error))
        if _better(finished, self.best):
            self.best = finished


class TrialBoard:
    """Collects what all trial threads know. Thread-safe; no update costs more when there are more trials.

    Args:
        total: Trials that the search is to run.
        started_at: When it began, in seconds since the epoch.
    """

    def __init__(self, total: int, started_at: float) -> None:
        self._total = total
        self._started_at = started_at
        self._guarded = Guarded(_State())

    def start(self, spec: TrialSpec, now: float) -> None:
        """A trial begins."""
        with self._guarded.locked() as state:
            state.version += 1
            state.running[spec.number] = RunningTrial(spec, now)

    def report(self, progress: TrialProgress) -> bool:
        """A running trial has finished an epoch; False, and nothing changed, where that is late or out of order."""
        with self._guarded.locked() as state:
            trial = state.running.get(progress.number)
            if trial is None or (trial.progress and _age(trial.progress) >= _age(progress)):
                return False
            state.version += 1
            state.running[progress.number] = replace(trial, progress=progress)
            return True

    def finish(self, result: TrialResult, now: float) -> FinishedTrial | None:
        """A running trial has ended; None, and nothing changed, where it was not running (any more)."""
        with self._guarded.locked() as state:
            trial = state.running.pop(result.number, None)
            if trial is None:
                return None
            finished = FinishedTrial(trial.spec, result, trial.started_at, now)
            state.take_in(finished)
            return finished

    def restore(self, finished: FinishedTrial) -> None:
        """Take in a trial that an earlier run of the same search has finished."""
        with self._guarded.locked() as state:
            state.take_in(finished)

    def failures(self) -> tuple[tuple[int, TrialFailure], ...]:
        """Number and failure of every failed trial so far."""
        with self._guarded.locked() as state:
            return tuple(state.failures)

    def snapshot(self) -> Snapshot:
        """The board as it is now."""
        with self._guarded.locked() as state:
            begun = len(state.running) + sum(state.finished.values())
            return Snapshot(
                version=state.version,
                total=self._total,
                started_at=self._started_at,
                queued=max(0, self._total - begun),
                running=tuple(state.running[number] for number in sorted(state.running)),
                finished=dict(state.finished),
                last=tuple(state.last),
                best=state.best,
            )


def _age(progress: TrialProgress) -> tuple[int, int]:
    return progress.attempt, progress.sequence


def _better(finished: FinishedTrial, best: FinishedTrial | None) -> bool:
    value = finished.result.value
    if finished.result.status is not Status.COMPLETE or value is None:
        return False
    if best is None or best.result.value is None:
        return True
    return (value, -finished.spec.number) > (best.result.value, -best.spec.number)
