"""One trial's way: asked for, started, run on a backend, recorded, and its value told."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from seedpod.board import TrialBoard
from seedpod.clock import Clock
from seedpod.errors import (
    Cause,
    ContractMismatch,
    EndpointRefused,
    EndpointUnreachable,
    TrainingError,
    TrialCancelled,
    TrialError,
    TrialPruned,
    TrialStopped,
    TrialSuperseded,
)
from seedpod.events import Plan
from seedpod.guarded import Guarded
from seedpod.money import Prices
from seedpod.objectives import Objective
from seedpod.optimizer.ending import Ending
from seedpod.optimizer.plans import spec_of
from seedpod.progress import ConcurrentProgressAggregator
from seedpod.remote.view import LateJob
from seedpod.reporting import Reporter
from seedpod.results.run_folder import RunFolder
from seedpod.search.judging import Judge
from seedpod.search.proposals import Proposals
from seedpod.search.study import SearchStudy, Trial, suggest
from seedpod.tally import billed_seconds
from seedpod.trial import ParamValue, Status, TrialBackend, TrialProgress, TrialResult, TrialSpec, checked_values

log = logging.getLogger(__name__)


class TrialRunner:
    """Runs the trials of one search, many at once; called by ``study.optimize``'s threads.

    Args:
        plan: What the search does.
        proposals: What its trials try.
        study: Knows which trials are ours.
        backend: Where its trials run.
        folder: Where their records go.
        board: Knows every trial's state.
        reporter: Is told what happens.
        aggregator: Knows what the search costs.
        ending: Whether it goes on.
        prices: What trials cost.
        clock: Tells the time.
        began: When the search began, for ``timeout_hours``.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        proposals: Proposals,
        study: SearchStudy,
        backend: TrialBackend,
        folder: RunFolder,
        board: TrialBoard,
        reporter: Reporter,
        aggregator: ConcurrentProgressAggregator,
        ending: Ending,
        prices: Prices,
        clock: Clock,
        began: float,
    ) -> None:
        self._config = plan.config
        self._data = plan.data
        self._proposals = proposals
        self._study = study
        self._backend = backend
        self._folder = folder
        self._board = board
        self._reporter = reporter
        self._aggregator = aggregator
        self._ending = ending
        self._prices = prices
        self._clock = clock
        self._began = began
        self._starting = Guarded([0])  # trials that were let start, one after the other

    def objective(self, trial: Trial) -> tuple[float, ...]:
        """Run one trial of the study and return its values; see ``search.study.optimize`` for what it raises."""
        self._check_going()
        spec = spec_of(self._config, trial.number, suggest(self._proposals, trial), self._data)
        return self._run(spec, Judge(trial))

    def check_failures(self) -> None:
        """End the search where ``max_failures`` trials have failed."""
        most = self._config.max_failures
        if most and self._board.snapshot().finished[Status.FAILED] >= most:
            self._ending.stop(f"{most} failed trials (max_failures)")

    def late(self, job: LateJob) -> None:
        """A job has outlived its trial: its cost counts, and nothing else."""
        cost = self._prices.cost({"billed_seconds": job.extra})
        self._board.charge(cost or 0.0)
        self._reporter.late(job, cost)

    def _check_going(self) -> None:
        if self._overtime() and not self._ending.reason:
            self._ending.stop("timeout", cancel=False)
        if self._ending.reason:
            raise TrialCancelled(self._ending.reason)

    def _overtime(self) -> bool:
        """Whether no trial may start any more; a trial may have waited for others since it was asked for."""
        limit = self._config.timeout_hours * 3600
        return bool(limit) and self._clock.now() - self._began > limit

    def _start(self, spec: TrialSpec) -> None:
        """Let a trial start, unless it would pass ``max_cost``; one decides after the other, each with its elders."""
        with self._starting.locked() as started:
            now = self._clock.now()
            fits = self._aggregator.next_trial_fits(self._board.snapshot(), now)
            if fits:
                started[0] += 1
                self._board.start(spec, now)
        if not fits:
            self._ending.stop("max_cost", cancel=False)
            raise TrialCancelled(f"another trial would cost more than max_cost={self._config.max_cost:g} USD allows")
        self._reporter.started(spec)

    def _run(self, spec: TrialSpec, judge: Judge) -> tuple[float, ...]:
        self._start(spec)
        error: TrialError | TrialStopped | None = None
        try:
            result = self._judged(spec, judge)
        except (TrialError, TrialStopped) as caught:
            error, result = caught, _ended(spec, caught, self._backend.name, judge)
        result = replace(result, cost=self._prices.cost(result.run))
        if not isinstance(error, TrialCancelled) and not self._study.has(spec.number):
            self._reporter.late(_late_result(spec, result), 0.0)
            error = _superseded(spec, result)
            result = replace(_ended(spec, error, self._backend.name, judge), cost=result.cost)
        if isinstance(error, EndpointRefused | EndpointUnreachable):
            self._ending.fail(error)  # no trial would fare better
            error = TrialCancelled(error.message)
        self._record(result)
        self.check_failures()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback has this frame, and this frame would have it
        if result.status is Status.PRUNED:
            raise TrialPruned("" if result.error is None else result.error.message)
        return result.scores(self._config.weight_of_health)

    def _judged(self, spec: TrialSpec, judge: Judge) -> TrialResult:
        """Run a trial and judge each of its epochs, those too of which its end alone tells."""
        try:
            result = self._backend.run(spec, partial(self._report, spec, judge))
        except TrialError as error:
            with _still_billed(error.run, error.backend):
                judge.heard(error.values)
            raise
        _check(result, spec, health=self._config.weight_of_health > 0)
        with _still_billed(result.run, result.backend):
            judge.heard(spec.curve(result.history))
        return result

    def _record(self, result: TrialResult) -> None:
        finished = self._board.finish(result, self._clock.now())
        if finished is None:
            return
        if result.status is not Status.CANCELLED:  # that one has not ended: it is to go on one day
            self._folder.write_trial(finished)
        self._reporter.finished(finished)

    def _report(self, spec: TrialSpec, judge: Judge, progress: TrialProgress) -> None:
        progress = _possible(spec.goals[0], progress)
        if self._board.report(progress, self._clock.now()):
            self._reporter.progressed(progress)
            judge.heard(progress.values, progress.attempt)


def _check(result: TrialResult, spec: TrialSpec, *, health: bool) -> None:
    """Raises TrialError where a result is another trial's, a value of it is none of its objective's, or it lacks the
    health that is asked for.
    """
    if result.number != spec.number:
        error = ContractMismatch(
            f"the backend answered for trial {result.number} where trial {spec.number} was asked. Redeploy the worker "
            f"image from the same version of seedpod as the optimizer."
        )
        error.run = dict(result.run)  # it was billed all the same
        raise error
    if result.status is Status.COMPLETE:
        try:
            checked_values(spec, result)
            if health and result.health is None:
                raise TrainingError("the trial answered no health, by which mode=health judges.", cause=Cause.BAD_VALUE)
        except TrialError as refused:
            refused.run = dict(result.run)
            raise


def _possible(objective: Objective, progress: TrialProgress) -> TrialProgress:
    """The progress, with None for what is no possible value of its objective."""
    told = (progress.value, *progress.values)
    value, *values = (None if each is None or not objective.takes(each) else each for each in told)
    return replace(progress, value=value, values=tuple(values))


@contextmanager
def _still_billed(run: Mapping[str, ParamValue], backend: str) -> Iterator[None]:
    """A trial that is pruned at its end has run all the same."""
    try:
        yield
    except TrialPruned as pruned:
        pruned.run, pruned.backend = dict(run), backend
        raise


def _ended(spec: TrialSpec, error: TrialError | TrialStopped, backend: str, judge: Judge) -> TrialResult:
    """The result of a trial that ended in an error; one that lost its endpoint was not at fault.

    Of one that has ended it tells the epochs that were judged, and none of those that its worker may have begun since.
    """
    lost = isinstance(error, EndpointRefused | EndpointUnreachable | TrialStopped)
    status = Status.PRUNED if isinstance(error, TrialPruned) else Status.CANCELLED if lost else Status.FAILED
    failure = error if isinstance(error, TrialError) and status is Status.FAILED else None
    attempts = error.run.get("attempt", 1)
    over = status is not Status.CANCELLED
    return TrialResult.ended(
        spec.number,
        status,
        failure,
        epochs=judge.epochs if over else 0,
        history=tuple({spec.objectives[0]: value} for value in judge.values) if over else (),
        backend=error.backend or backend,
        run=error.run,
        attempts=int(attempts),
    )


def _late_result(spec: TrialSpec, result: TrialResult) -> LateJob:
    """A result that came when somebody else had the trial; its cost counts with its trial, which is cancelled here."""
    return LateJob(
        trial=spec.number,
        uid=spec.uid,
        attempt=result.attempts,
        job=str(result.run.get("job", "")),
        worker=str(result.run.get("worker", "")),
        state=str(result.status),
        value=result.value,
        seconds=billed_seconds(result.run),
        extra=0.0,
    )


def _superseded(spec: TrialSpec, result: TrialResult) -> TrialSuperseded:
    log.warning(
        "trial %d came late: this optimizer was not heard of for so long that another one has taken it up; what it "
        "brought changes nothing",
        spec.number,
    )
    error = TrialSuperseded("another optimizer has taken it up")
    error.run = dict(result.run)
    error.backend = result.backend
    return error
