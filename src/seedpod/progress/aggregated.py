"""AggregatedProgress: all that a view shows, and the pure function that makes it from a snapshot of the board."""

from dataclasses import dataclass, replace

from seedpod.board import FinishedTrial, RunningTrial, Snapshot
from seedpod.progress.estimate import Outlook, outlook
from seedpod.remote.view import EndpointView
from seedpod.trial import Status

_LOCAL = "local"


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A running trial.

    Attributes:
        number: The trial's number.
        backend: Where it runs.
        worker: On which worker; empty where that is not known.
        attempt: Which try it is, from 1.
        epoch: Epochs finished.
        max_epochs: Epochs that it may run, of all folds together.
        value: The first objective after the latest epoch; None before the first, or where it is not known then.
        values: The first objective after the latest epochs, oldest first.
        age: Seconds that it trains; before its first report, seconds since it began.
        remaining: Seconds that it still needs; None where that is not known.
    """

    number: int
    backend: str
    worker: str
    attempt: int
    epoch: int
    max_epochs: int
    value: float | None
    values: tuple[float | None, ...]
    age: float
    remaining: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """Money, in USD. What ran on this machine costs 0.

    Attributes:
        per_second: Price of a second of the endpoint's GPU; 0 where nothing is paid, None where it is not known (yet).
        spent: For trials that have ended, failed attempts included.
        running: For those that run, up to now; an estimate.
        projected: ``spent`` at the end of the search; None while that is not known.
        starts: Beside that, at most: for the starts of workers.
        idle: Beside that, at most: for the seconds that workers wait after their jobs.
        queue_seconds: Seconds that jobs waited for a worker; RunPod bills what of it was a worker's start.
        limit: What ``max_cost`` allows for all of that; None where there is no limit.
        unpriced: Trials that were paid for at a price that is not known: ``spent`` lacks them.
    """

    per_second: float | None = 0.0
    spent: float = 0.0
    running: float = 0.0
    projected: float | None = 0.0
    starts: float = 0.0
    idle: float = 0.0
    queue_seconds: float = 0.0
    limit: float | None = None
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class AggregatedProgress:
    """A search at a glance. Seconds and USD.

    Attributes:
        version: Of two, the higher one is newer; equal ones differ in time alone.
        total: Trials that the search is to run.
        queued: Trials that have not started.
        running: Trials that run.
        completed: Trials that ended with a value.
        pruned: Trials that were stopped as hopeless.
        failed: Trials that failed.
        cancelled: Trials that were stopped with the search.
        best_value: Best value of the first objective so far; None before the first.
        best_trial: The number of that trial.
        elapsed: Since the search began.
        remaining: Until it ends; None while there is no ground for an estimate.
        remaining_low: Lower end of its range, which holds the end in about 8 of 10 cases.
        remaining_high: Upper end of it.
        epochs_per_second: Of all trials together, over the last half minute.
        costs: What it costs.
        rows: The trials that run, by number.
        last: The trials that ended last, oldest first.
        best: The best trial; its spec names the objectives.
        front: See Snapshot.
        endpoint: Health and counters of the endpoint; None where there is none, or it was not yet asked.
        skipped: Updates that this listener did not get because a newer one was there when it was ready.
    """

    version: int
    total: int
    queued: int
    running: int
    completed: int
    pruned: int
    failed: int
    cancelled: int
    best_value: float | None
    best_trial: int | None
    elapsed: float
    remaining: float | None
    remaining_low: float | None
    remaining_high: float | None
    epochs_per_second: float
    costs: Costs
    rows: tuple[TrialRow, ...]
    last: tuple[FinishedTrial, ...]
    best: FinishedTrial | None
    endpoint: EndpointView | None = None
    skipped: int = 0
    front: tuple[FinishedTrial, ...] = ()

    @property
    def ended(self) -> int:
        """Trials that have ended, in any way."""
        return self.completed + self.pruned + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class ConcurrentProgressAggregator:
    """Makes AggregatedProgress of snapshots. Pure and thread-safe; its cost does not grow with ended trials.

    Attributes:
        at_once: Trials that may run side by side.
        backend: Name of the backend, for trials that have not said where they run.
        per_second: See Costs; where it is None, the price of the trial that ended last counts.
        limit: See Costs.
    """

    at_once: int = 1
    backend: str = _LOCAL
    per_second: float | None = 0.0
    limit: float | None = None

    def aggregate(
        self, snapshot: Snapshot, now: float, endpoint: EndpointView | None = None, skipped: int = 0
    ) -> AggregatedProgress:
        """The search at a glance.

        Args:
            snapshot: The board.
            now: Seconds since the epoch; not before the snapshot.
            endpoint: What is known of the endpoint.
            skipped: See AggregatedProgress.
        """
        ahead = outlook(snapshot, now, self.at_once)
        over = not snapshot.queued and not snapshot.running
        best = snapshot.best
        return AggregatedProgress(
            version=snapshot.version,
            total=snapshot.total,
            queued=snapshot.queued,
            running=len(snapshot.running),
            completed=snapshot.finished[Status.COMPLETE],
            pruned=snapshot.finished[Status.PRUNED],
            failed=snapshot.finished[Status.FAILED],
            cancelled=snapshot.finished[Status.CANCELLED],
            best_value=None if best is None else best.result.value,
            best_trial=None if best is None else best.spec.number,
            elapsed=max(0.0, now - snapshot.started_at),
            remaining=0.0 if over else None if ahead is None else ahead.seconds,
            remaining_low=0.0 if over else None if ahead is None else ahead.low,
            remaining_high=0.0 if over else None if ahead is None else ahead.high,
            epochs_per_second=snapshot.rate.per_second(now, snapshot.started_at),
            costs=self.costs(snapshot, now, ahead),
            rows=tuple(self._row(trial, ahead, now) for trial in snapshot.running),
            last=snapshot.last,
            best=best,
            endpoint=endpoint,
            skipped=skipped,
            front=snapshot.front,
        )

    def next_trial_fits(self, snapshot: Snapshot, now: float) -> bool:
        """Whether one more trial is expected to end within ``limit``, after all those that run.

        What starts and idle seconds of workers cost at most counts too.
        """
        if self.limit is None or not self._price(snapshot):
            return True
        ahead = outlook(snapshot, now, self.at_once)
        known = self.costs(replace(snapshot, queued=1), now, ahead)
        trials = known.spent + known.running if known.projected is None else known.projected
        return trials + known.starts + known.idle <= self.limit

    def costs(self, snapshot: Snapshot, now: float, ahead: Outlook | None) -> Costs:
        """What the search costs."""
        per_second, bill = self._price(snapshot), snapshot.bill
        price = per_second or 0.0
        paid = [trial for trial in snapshot.running if self._where(trial) != _LOCAL] if price else []
        running = sum(_billed_so_far(trial, now) for trial in paid) * price
        projected: float | None = bill.usd if per_second is not None else None
        if price and (paid or snapshot.queued):
            projected = None
            if ahead is not None:
                per_trial = bill.seconds / bill.trials if bill.trials else ahead.per_trial
                left = sum(ahead.running.get(trial.spec.number, 0.0) for trial in paid) * price
                projected = bill.usd + running + left + snapshot.queued * per_trial * price
        return Costs(
            per_second=per_second,
            spent=bill.usd,
            running=running,
            projected=projected,
            starts=bill.start_seconds * price,
            idle=bill.idle_seconds * price,
            queue_seconds=bill.queue_seconds,
            limit=self.limit,
            unpriced=bill.unpriced,
        )

    def _price(self, snapshot: Snapshot) -> float | None:
        if self.per_second is not None:
            return self.per_second
        nothing_billed = any(snapshot.finished.values()) and not snapshot.bill.trials
        if nothing_billed and all(self._where(trial) == _LOCAL for trial in snapshot.running):
            return 0.0  # an endpoint was asked for, and all that has run ran here
        return snapshot.bill.per_second

    def _where(self, trial: RunningTrial) -> str:
        told = trial.progress.backend if trial.progress else ""
        return told or self.backend

    def _row(self, trial: RunningTrial, ahead: Outlook | None, now: float) -> TrialRow:
        progress = trial.progress
        return TrialRow(
            number=trial.spec.number,
            backend=self._where(trial),
            worker=progress.worker if progress else "",
            attempt=progress.attempt if progress else 1,
            epoch=progress.epoch if progress else 0,
            max_epochs=trial.spec.total_epochs,
            value=progress.value if progress else None,
            values=trial.values,
            age=max(0.0, now - trial.started_at - (trial.waited or 0.0)),
            remaining=None if ahead is None else ahead.running.get(trial.spec.number),
        )


def _billed_so_far(trial: RunningTrial, now: float) -> float:
    """Billed seconds of a running trial, as far as its reports tell: from the start of its training."""
    return 0.0 if trial.waited is None else max(0.0, now - trial.started_at - trial.waited)
