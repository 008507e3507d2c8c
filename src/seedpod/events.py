"""What a search tells whoever watches it: its plan, its trials as they go by, its summary."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedpod.board import FinishedTrial, Snapshot
from seedpod.config import OptimizationConfig
from seedpod.health import Health, advice
from seedpod.remote.view import EndpointView, LateJob
from seedpod.training.datasets import DatasetInfo
from seedpod.training.own.found import Found
from seedpod.trial import TrialFailure, TrialProgress, TrialSpec

SURE = 30
"""Complete trials below which importances are but a hint. No source: the shares of 20 hyperparameters
from fewer trials than that change places with every trial, as was seen on digits."""

_NOTHING = Found()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is about to do.

    Attributes:
        config: Its settings.
        data: The prepared data set.
        folder: Where its results go.
        workers: Trials at once.
        cost: What it may cost, in a line; empty where it costs nothing.
        found: What a user should know of his own images.
        before: The search as an earlier run of it has left it; None where it is new.
    """

    config: OptimizationConfig
    data: DatasetInfo
    folder: Path
    workers: int
    cost: str = ""
    found: Found = _NOTHING
    before: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Trials that failed for one cause, or that one limit pruned, with the first of them as example."""

    cause: str
    count: int
    example: int
    message: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What is ill with a trial's network and what may help.

    Attributes:
        which: ``best`` or ``worst``.
        trial: The trial.
        health: Of its network.
        lines: The worst first; empty where nothing stands out.
    """

    which: str
    trial: FinishedTrial
    health: Health
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """How a whole search ended.

    Attributes:
        run: The run's name.
        outcome: ``done``; ``exhausted``, where the space has no
            more points; ``timeout``; ``max_cost``; ``interrupted``; ``error``, where results could not be written; or
            ``bug``.
        trials: How many trials ended in each way.
        total: Trials that were asked for.
        best: The best complete trial; of several objectives, by the first.
        importances: Share of each hyperparameter in the value of the first objective, largest first.
        failures: Failed trials by cause, most frequent first.
        started_at: Seconds since the epoch.
        ended_at: Seconds since the epoch.
        cost: USD, of all trials, those of an earlier run of this search included.
        starts: USD beside that, at most: for the starts of workers.
        idle: USD beside that, at most: for the seconds that workers wait after their jobs.
        unpriced: Trials that were paid for at a price that is not known: ``cost`` lacks them.
        front: See Snapshot.
        worst: The worst complete trial; None where there is no other than the best.
        largest: See Snapshot.
        limits: Trials that a limit has pruned, by cause, most frequent first.
    """

    run: str
    outcome: str
    trials: Mapping[str, int]
    total: int
    best: FinishedTrial | None
    importances: Mapping[str, float]
    failures: tuple[FailureGroup, ...]
    started_at: float
    ended_at: float
    cost: float = 0.0
    starts: float = 0.0
    idle: float = 0.0
    unpriced: int = 0
    front: tuple[FinishedTrial, ...] = ()
    worst: FinishedTrial | None = None
    largest: FinishedTrial | None = None
    limits: tuple[FailureGroup, ...] = ()

    @property
    def advice(self) -> tuple[Advice, ...]:
        """For the best and the worst trial, as far as their health is known."""
        return tuple(
            Advice(which, trial, trial.result.health, advice(trial.result.health, trial.spec.params))
            for which, trial in (("best", self.best), ("worst", self.worst))
            if trial is not None and trial.result.health is not None
        )


class Observer:
    """Sees a search go by; this one looks away. Methods are called outside every lock, from any trial's thread."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """The data set is prepared: what is done, and how much of how much; of 0 where that is not known."""

    def began(self, plan: Plan) -> None:
        """The search starts."""

    def progressed(self, snapshot: Snapshot) -> None:
        """A trial has started or finished an epoch."""

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        """A trial has ended."""

    def ended(self, plan: Plan, summary: Summary) -> None:
        """The search is over and its files are written."""

    def final_began(self, trial: FinishedTrial, mode: str) -> None:
        """The configuration of the best trial is trained once more: ``retrain`` or ``best``."""

    def final_progressed(self, progress: TrialProgress) -> None:
        """The final model has finished an epoch."""

    def final_ended(self, folder: Path, record: Mapping[str, Any]) -> None:
        """The final model is kept and measured; ``record`` is its ``final.json``."""

    def reported(self, page: Path) -> None:
        """The report is written."""


class RunLog:
    """Is told of every change of a search's state; this one keeps nothing. Thread-safe, raises nothing, never waits."""

    def search_started(self, at: float, plan: Plan, spent: float) -> None:
        """A search starts, or goes on; ``spent`` USD before."""

    def search_ended(self, at: float, summary: Summary) -> None:
        """A search is over."""

    def stopping(self, at: float, reason: str) -> None:
        """No new trial starts any more."""

    def trial_started(self, at: float, spec: TrialSpec) -> None:
        """A trial starts."""

    def trial_progress(self, at: float, progress: TrialProgress) -> None:
        """A trial has finished an epoch."""

    def trial_finished(self, at: float, trial: FinishedTrial) -> None:
        """A trial has ended."""

    def job_late(self, at: float, job: LateJob, cost: float) -> None:
        """A job has ended after its trial; ``cost`` in USD comes on top of the trial's."""

    def endpoint(self, at: float, view: EndpointView) -> None:
        """The endpoint's state is another one."""

    def close(self) -> None:
        """Nothing more is told."""


def summarize(
    run: str,
    outcome: str,
    snapshot: Snapshot,
    *,
    failures: Iterable[tuple[int, TrialFailure]],
    limits: Iterable[tuple[int, TrialFailure]] = (),
    importances: Mapping[str, float],
    ended_at: float,
) -> Summary:
    """Put together what the end of a search has to say."""
    bill = snapshot.bill
    return Summary(
        run=run,
        outcome=outcome,
        trials={str(status): count for status, count in snapshot.finished.items()},
        total=snapshot.total,
        best=snapshot.best,
        importances=importances,
        failures=group_failures(failures),
        limits=group_failures(limits),
        started_at=snapshot.started_at,
        ended_at=ended_at,
        cost=bill.usd,
        starts=bill.start_seconds * (bill.per_second or 0.0),
        idle=bill.idle_seconds * (bill.per_second or 0.0),
        unpriced=bill.unpriced,
        front=snapshot.front,
        worst=None if snapshot.worst is snapshot.best else snapshot.worst,
        largest=snapshot.largest,
    )


def group_failures(failures: Iterable[tuple[int, TrialFailure]]) -> tuple[FailureGroup, ...]:
    """Failures by cause, most frequent first, each with the message of its lowest-numbered trial."""
    ordered = sorted(failures, key=lambda pair: pair[0])
    counts = Counter(str(failure.cause) for _, failure in ordered)
    first = {str(failure.cause): (number, failure.message) for number, failure in reversed(ordered)}
    return tuple(FailureGroup(cause, count, *first[cause]) for cause, count in counts.most_common())
