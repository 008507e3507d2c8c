"""Trials on a RunPod endpoint: submit, follow, report, cancel.

A trial is one job; the thread that runs the trial follows it. What the endpoint or its worker does to a job is retried
with the same spec as the next attempt; what the model does to itself is not, since it would do it again. Whatever way a
trial leaves this module, its job has ended or was cancelled: nobody pays for a job that nobody follows.
"""

import random
import statistics
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from seedpod.backends.ledger import JobLedger, OpenJob
from seedpod.clock import Clock, SystemClock
from seedpod.errors import (
    BackendError,
    Cause,
    ContractMismatch,
    EndpointUnreachable,
    JobFailed,
    JobGone,
    JobOverdue,
    PerhapsSubmitted,
    TrainingError,
    TrialCancelled,
    TrialError,
    TrialStopped,
)
from seedpod.guarded import Guarded
from seedpod.remote.breaker import BreakerState
from seedpod.remote.counters import GateCounters
from seedpod.remote.policy import ConcurrencyLimit, Operation
from seedpod.remote.polling import poll_delay
from seedpod.remote.view import EndpointView, JobListener, LateJob
from seedpod.remote.wire import EndpointHealth, JobState, JobStatus
from seedpod.trial import (
    ParamValue,
    Report,
    Status,
    TrialProgress,
    TrialRequest,
    TrialResult,
    TrialSpec,
    checked_values,
)

OWNED = "local"
"""What the ledger calls an endpoint that lives no longer than the search."""

T = TypeVar("T")

_MARGIN = 5.0  # seconds by which the worker's own deadline comes before the endpoint's: it knows what it was doing
_TTL_MARGIN = 60.0  # seconds by which the endpoint forgets a job later than we give it up
_LOOK_AGAIN = 1.0  # seconds until an endpoint that is out of reach is asked again
_REMEMBERED = 32  # trials whose pace predicts the next one's
_LATE = "{} after its trial"  # what the ledger says of a late job
_LEAD = 1.5  # seconds by which a job gives its place to the next before its probable end: see _hand_over
_SUSPICIOUS = 3  # failures of one worker that make it worth naming


class _NothingToAdopt(BackendError):
    """A job of an earlier process that is gone or was cancelled: no failure, its trial runs again."""


class Endpoint(Protocol):
    """What this backend needs of an endpoint; ``Gate`` is one. Every method may raise BackendError."""

    def run(self, job: Mapping[str, object], *, execution_timeout: float, ttl: float) -> str: ...  # noqa: D102
    def status(self, job_id: str) -> JobStatus: ...  # noqa: D102
    def cancel(self, job_id: str) -> JobStatus: ...  # noqa: D102
    def health(self) -> EndpointHealth: ...  # noqa: D102
    def counters(self) -> GateCounters: ...  # noqa: D102
    def pause(self, seconds: float) -> None: ...  # noqa: D102
    def cancel_waiting(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class JobRules:
    """How long a job may take, in seconds, and how often a trial is tried.

    Attributes:
        timeout: From submission to its end, the queue included; then it is cancelled and its trial fails.
        retries: Further attempts after one that the endpoint or its worker lost.
        patience: While the endpoint is out of reach, so long until a job that runs there is cancelled and given up.
        submit_patience: The same for a trial that is still to be submitted.
        overtime: Past a trial's own limit, until its job is ended by force.
        queue_patience: In the queue, until the user is told why; and then once in so long.
    """

    timeout: float = 3600.0
    retries: int = 2
    patience: float = 20.0
    submit_patience: float = 0.0
    overtime: float = 60.0
    queue_patience: float = 60.0


@dataclass(slots=True)
class _Job:
    """One attempt, followed by one thread."""

    id: str
    attempt: int
    submitted_at: float
    phase: float
    state: JobState = JobState.IN_QUEUE
    worker: str = ""
    reports: int = 0
    adopted: bool = False  # an earlier process has posted it
    sequence: int = 0  # of the last progress that was reported
    ended: bool = False
    gone: bool = False
    cancelled: bool = False
    status: JobStatus | None = None
    pace: float | None = None  # seconds an epoch, from its own progress
    gpu: str = ""  # that its worker has told
    ends_at: float | None = None  # when it will probably end; a little late rather than early
    handed_over: bool = False
    late: bool = False  # its result came when the trial had ended
    kept: bool = False  # its result is there for the trial, which goes on in a later run


@dataclass(frozen=True, slots=True)
class _Stray:
    """A job that lives, or has lived, longer than its trial: it could not be cancelled."""

    job: OpenJob
    billed: float  # seconds that its trial has been charged for


@dataclass(slots=True)
class _End:
    stopping: bool = False
    closed: bool = False


@dataclass(slots=True)
class _Shared:
    """What the threads of all trials know together."""

    limit: ConcurrencyLimit
    in_flight: int = 0
    ending: int = 0  # those of them that have given their place to the next
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    failures_of: dict[str, list[str]] = field(default_factory=dict)  # job ids by worker
    strays: list[_Stray] = field(default_factory=list)
    health_said_at: float = float("-inf")
    billed: dict[str, float] = field(default_factory=dict)  # seconds of all attempts, by the uid of a running trial


class RunPodBackend:
    """Runs each trial as a job of one endpoint. Thread-safe.

    Args:
        endpoint: The endpoint, behind its gate.
        most_at_once: Jobs in flight at most; fewer after failures, and more again after successes.
        rules: See JobRules.
        say: Gets a line for the user, now and then.
        clock: Tells the time.
        chance: Spreads the polls of jobs that were submitted together.
        on_close: Called at the end of ``close``.
        ledger: Remembers jobs beyond the end of this process; without one nothing is taken up again.
        address: What the ledger calls this endpoint.
    """

    name = "runpod"

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        most_at_once: int,
        rules: JobRules | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        on_close: Callable[[], None] = lambda: None,
        ledger: JobLedger | None = None,
        address: str = "",
    ) -> None:
        self.at_once = most_at_once
        self._on_close = on_close
        self._ledger = ledger
        self._address = address
        self._endpoint = endpoint
        self._rules = rules or JobRules()
        self._say = say
        self._clock = clock or SystemClock()
        self._chance = chance or random.Random()
        self._shared = Guarded(_Shared(ConcurrencyLimit(most_at_once)))
        self._end = Guarded(_End())
        self._listener = JobListener()

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """See TrialBackend. A job of the same spec that an earlier process left at this endpoint is taken up again.

        Result and error carry ``billed_seconds`` of all attempts among the facts of where the trial ran.
        """
        try:
            result = self._attempts(spec, report)
        except (TrialError, TrialStopped) as error:
            error.run["billed_seconds"] = self._billed(spec)
            raise
        return replace(result, run={**result.run, "billed_seconds": self._billed(spec)})

    def listen(self, listener: JobListener, over: Collection[str]) -> None:
        """See TellsOfJobs."""
        self._listener = listener
        left = (
            []
            if self._ledger is None
            else [job for job in self._ledger.running() if job.uid in over or self._ledger.overtaken(job)]
        )
        with self._shared.locked() as shared:
            shared.strays += [_Stray(job, 0.0) for job in left if job.job and job.endpoint == self._address]
        self._settle()

    def view(self) -> EndpointView:
        """What the endpoint says of itself. Asks it, so it may take a while."""
        try:
            health = self._endpoint.health()
        except (BackendError, TrialStopped):
            health = None
        with self._shared.locked() as shared:
            in_flight, allowed = shared.in_flight, shared.limit.allowed
        return EndpointView(self._endpoint.counters(), health, in_flight, allowed)

    def _attempts(self, spec: TrialSpec, report: Report) -> TrialResult:
        left = self._ledger.left_of(spec.uid) if self._ledger is not None else None
        first, failed = 1, 0
        if left is not None:
            first = left.attempt + 1
            if self._may_adopt(spec, left):
                try:
                    return self._try(spec, left.attempt, report, left.job)
                except _NothingToAdopt as error:
                    self._say(f"trial {spec.number} runs again: {error.message}")
                except BackendError as error:
                    self._judge(spec, left.attempt, error)
                    failed = 1
                    if failed > self._rules.retries:
                        raise
        for attempt in range(first, first + self._rules.retries + 1 - failed):
            try:
                return self._try(spec, attempt, report)
            except BackendError as error:
                self._judge(spec, attempt, error)
                last = error
        raise last

    def _judge(self, spec: TrialSpec, attempt: int, error: BackendError) -> None:
        """Let pass what may be tried again, as the next attempt; raise what not."""
        if isinstance(error, PerhapsSubmitted):
            self._say(f"trial {spec.number}: {error.message} Its input says uid {spec.uid}, attempt {attempt}.")
        # The gate has retried what it could: an endpoint that is out of reach is no matter of this one trial.
        elif not error.retryable or isinstance(error, EndpointUnreachable):
            raise error

    def _may_adopt(self, spec: TrialSpec, left: OpenJob) -> bool:
        """Whether there is a job to take up again; a line for what cannot be."""
        if left.endpoint == OWNED:  # it ended with the process that had started it, and its jobs with it
            return False
        if left.job and left.endpoint == self._address:
            self._say(f"trial {spec.number}: job {left.job} is taken up again")
            return True
        if left.job:
            self._say(f"trial {spec.number} runs again: its job {left.job} is at {left.endpoint}")
        else:
            self._say(f"trial {spec.number} was being posted when the search ended: a twin of uid {spec.uid} may run")
        return False

    @property
    def allowed(self) -> int:
        """Jobs that may be in flight now."""
        with self._shared.locked() as shared:
            return shared.limit.allowed

    def cancel_all(self) -> None:
        """See TrialBackend."""
        with self._end.locked() as end:
            end.stopping = True
        self._endpoint.cancel_waiting()

    def close(self) -> None:
        """See TrialBackend."""
        self.cancel_all()
        self._shared.wait_for(lambda shared: True if shared.in_flight == 0 else None, timeout=20.0)
        with self._end.locked() as end:
            first, end.closed = not end.closed, True
        if first:
            if self._endpoint.counters().breaker.state is BreakerState.CLOSED:
                self._settle()
            self._say(counters_line(self._endpoint.counters()))
        self._endpoint.close()
        self._on_close()

    def _try(self, spec: TrialSpec, attempt: int, report: Report, adopted: str = "") -> TrialResult:
        with self._slot():
            job = replace(self._job(adopted, attempt), adopted=True) if adopted else self._submit(spec, attempt)
            goes_on = True  # a trial that is interrupted has not ended: a later run takes up its job
            try:
                result = self._follow(spec, job, report)
            except (TrialError, TrialStopped) as error:
                goes_on = isinstance(error, TrialCancelled)
                error.run = _facts(job)
                self._learn(job, error)
                raise
            finally:
                if not job.ended:
                    self._cancel(spec, job, goes_on=goes_on)
                with self._shared.locked() as shared:
                    shared.ending -= job.handed_over
                    before = shared.billed.get(spec.uid, 0.0)
                    shared.billed[spec.uid] = before + (0.0 if job.kept else billed_of(job, self._clock.now()))
                self._note_end(spec, job)
            self._learn(job, None)
            return replace(result, backend=self.name, attempts=attempt, run=_facts(job))

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """A place among the jobs in flight."""

        def take(shared: _Shared) -> bool | None:
            if shared.in_flight - shared.ending < shared.limit.allowed or self._stopping():
                shared.in_flight += 1
                return True
            return None

        while not self._shared.wait_for(take, timeout=1.0):
            pass
        try:
            if self._stopping():
                raise TrialCancelled("the search is stopping")
            yield
        finally:
            with self._shared.locked() as shared:
                shared.in_flight -= 1

    def _submit(self, spec: TrialSpec, attempt: int) -> _Job:
        limit = self._rules.timeout
        if spec.max_seconds:
            limit = min(limit, spec.max_seconds + self._rules.overtime)
        request = TrialRequest(spec, attempt, max(1.0, limit - _MARGIN))
        ttl = self._rules.timeout + _TTL_MARGIN
        intent = OpenJob(spec.uid, spec.number, attempt, self._address)
        if self._ledger is not None:
            self._ledger.intend(intent)

        def submit() -> str:
            return self._endpoint.run(request.to_wire(), execution_timeout=limit, ttl=ttl)

        try:
            job_id = self._patiently(submit, self._rules.submit_patience)
        except (BackendError, TrialStopped) as error:
            # A submission that was perhaps accepted stays open in the ledger: its twin may run.
            if self._ledger is not None and not isinstance(error, PerhapsSubmitted):
                self._ledger.dropped(intent, "not accepted" if isinstance(error, BackendError) else "not sent")
            error.run = {"attempt": attempt}
            raise
        if self._ledger is not None:
            self._ledger.posted(replace(intent, job=job_id))
        self._settle()  # the endpoint answers
        return self._job(job_id, attempt)

    def _job(self, job_id: str, attempt: int) -> _Job:
        return _Job(job_id, attempt, self._clock.now(), self._chance.random())

    def _note_end(self, spec: TrialSpec, job: _Job) -> None:
        if self._ledger is None:
            return
        noted = self._noted(spec, job)
        if job.late:
            self._ledger.dropped(noted, _LATE.format(job.state))
        elif job.cancelled or job.gone:
            self._ledger.dropped(noted, "gone" if job.gone else "cancelled")
        elif job.ended:  # not dropped: until the trial's record is written, the endpoint has its only result
            self._ledger.ended(replace(noted, ended=str(job.state)))

    def _noted(self, spec: TrialSpec, job: _Job) -> OpenJob:
        return OpenJob(spec.uid, spec.number, job.attempt, self._address, job.id)

    def _patiently(self, ask: Callable[[], T], patience: float) -> T:
        """Ask again while the endpoint is out of reach, for so many seconds; not what may have been accepted."""
        since = self._clock.now()
        while True:
            try:
                return ask()
            except PerhapsSubmitted:
                raise
            except EndpointUnreachable as error:
                wait = error.retry_after or _LOOK_AGAIN
                if self._clock.now() - since + wait > patience:
                    raise
            self._endpoint.pause(wait)

    def _follow(self, spec: TrialSpec, job: _Job, report: Report) -> TrialResult:
        """Poll until the job has ended; its result, or the error that it stands for."""
        while True:
            self._wait(spec, job)
            try:
                status = self._patiently(partial(self._endpoint.status, job.id), self._rules.patience)
            except JobGone as error:
                job.gone = True  # cancelled all the same, in case it lives
                if job.adopted:
                    raise _NothingToAdopt(error.message) from error
                raise
            job.status, job.worker = status, status.worker_id or job.worker
            if status.state.ended:
                job.ended, job.state, job.gpu = True, status.state, gpu_of(status.output)
                if job.adopted and status.state is JobState.CANCELLED:
                    raise _NothingToAdopt(f"job {job.id} was cancelled when the search ended.")
                return read_end(spec, status)
            if status.state is JobState.IN_PROGRESS:
                self._heard(job, read_progress(spec, job.attempt, status.output), report)
            job.state = status.state
            self._judge_wait(spec, job)

    def _wait(self, spec: TrialSpec, job: _Job) -> None:
        """Until the next look at a job; on the way its place goes to the next trial, if it will have ended soon."""
        delay = self._delay(spec, job)
        if job.ends_at is not None and not job.handed_over:
            before = max(0.0, job.ends_at - _LEAD - self._clock.now())
            if before < delay:
                self._endpoint.pause(before)
                self._hand_over(spec, job)
                delay -= before
        self._endpoint.pause(delay)

    def _hand_over(self, spec: TrialSpec, job: _Job) -> None:
        """Let the next trial submit its job, so that it is in the queue when this one's worker asks for more.

        Our worker asks up to 1.2 s before the end (``REFILL_SECONDS`` of the handler) and begins the next trial when
        this one has ended: neither our look at the end, nor our submission, nor the endpoint's dispatch is waited for.
        So late, and so shortly, that the endpoint starts no further worker for it (RunPod's rule: 4 s in the queue).
        """
        job.handed_over = True
        with self._shared.locked() as shared:
            shared.ending += 1
        self._listener.ending(spec.number)

    def _delay(self, spec: TrialSpec, job: _Job) -> float:
        with self._shared.locked() as shared:
            known = statistics.median(shared.paces) if shared.paces else None
            in_flight = shared.in_flight
        pace = job.pace or known
        waited = self._clock.now() - job.submitted_at
        age = waited
        if job.state is not JobState.IN_QUEUE and job.status is not None:
            age = job.status.execution if job.status.execution is not None else waited - (job.status.delay or 0.0)
        expected = None if pace is None else pace * spec.total_epochs
        return poll_delay(job.state, age, expected, in_flight, reports=job.reports, phase=job.phase)

    def _heard(self, job: _Job, progress: TrialProgress | None, report: Report) -> None:
        if progress is None or progress.sequence <= job.sequence:  # seen before, or late
            return
        job.sequence = progress.sequence
        job.reports = max(job.reports, progress.epoch)
        if progress.epoch:
            job.pace = progress.seconds / progress.epoch
            # What was reported is older than our look at it, so the end is not later than this, at a steady pace.
            ends_at = self._clock.now() + (progress.max_epochs - progress.epoch) * job.pace
            job.ends_at = ends_at if job.ends_at is None else min(ends_at, job.ends_at)
        report(replace(progress, backend=self.name, worker=job.worker))

    def _judge_wait(self, spec: TrialSpec, job: _Job) -> None:
        """Say why a job waits; give up one that takes too long."""
        waited = self._clock.now() - job.submitted_at
        if waited > self._rules.timeout:
            raise JobOverdue(
                f"not done {waited:.0f} s after it was submitted (runpod_service_timeout), still {job.state}"
                f"{self._why_waiting() if job.state is JobState.IN_QUEUE else ''}; the job was cancelled."
            )
        if job.state is JobState.IN_QUEUE and waited > self._rules.queue_patience and self._may_speak():
            self._say(f"trial {spec.number} has waited {waited:.0f} s in the endpoint's queue{self._why_waiting()}")

    def _may_speak(self) -> bool:
        now = self._clock.now()
        with self._shared.locked() as shared:
            due = now - shared.health_said_at >= self._rules.queue_patience
            shared.health_said_at = now if due else shared.health_said_at
        return due

    def _why_waiting(self) -> str:
        try:
            return why_waiting(self._endpoint.health())
        except BackendError:
            return ""

    def _cancel(self, spec: TrialSpec, job: _Job, *, goes_on: bool) -> None:
        """End a job that is not wanted any more; one that has ended by itself in the meantime is late, or kept."""
        try:
            status = self._endpoint.cancel(job.id)
        except JobGone:
            job.cancelled = True
        except (BackendError, TrialStopped) as error:
            self._say(f"job {job.id} could not be cancelled and may still run: {error}")
            if not goes_on:
                with self._shared.locked() as shared:
                    shared.strays.append(_Stray(self._noted(spec, job), billed_of(job, self._clock.now())))
        else:
            if not status.state.ended or status.state is JobState.CANCELLED:
                job.cancelled = True
                return
            job.ended, job.state, job.status = True, status.state, status
            job.late, job.kept = not goes_on, goes_on
            if job.late:
                self._tell_late(self._noted(spec, job), status, billed_of(job, self._clock.now()))

    def _settle(self) -> None:
        """Try once more to end what could not be cancelled; what has ended by itself is late."""
        with self._shared.locked() as shared:
            strays, shared.strays = shared.strays, []
        for stray in strays:
            try:
                status = self._endpoint.cancel(stray.job.job)
            except JobGone:
                why = "gone"
            except (BackendError, TrialStopped):
                with self._shared.locked() as shared:
                    shared.strays.append(stray)
                continue
            else:
                why = _LATE.format(status.state)
                self._tell_late(stray.job, status, stray.billed)
            if self._ledger is not None:
                self._ledger.dropped(stray.job, why)

    def _tell_late(self, job: OpenJob, status: JobStatus, billed: float) -> None:
        """Tell of a job that ended after its trial; ``billed`` seconds of it were told with the trial."""
        seconds = status.execution or 0.0
        value = None
        if status.state is JobState.COMPLETED and isinstance(status.output, dict):
            with suppress(TrialError):
                value = TrialResult.from_wire(status.output.get("result")).value
        brought = "" if value is None else f" with {value:.4f}"
        self._say(
            f"trial {job.trial}: job {job.job} came to its end late ({status.state}{brought}); it changes nothing"
        )
        extra = max(0.0, seconds - billed)
        self._listener.late(
            LateJob(
                trial=job.trial,
                uid=job.uid,
                attempt=job.attempt,
                job=job.job,
                worker=status.worker_id,
                state=str(status.state),
                value=value,
                seconds=seconds,
                extra=extra,
            )
        )

    def _learn(self, job: _Job, error: TrialError | TrialStopped | None) -> None:
        """Let the next trials profit: more or fewer in flight, a pace, a worker under suspicion."""
        infrastructure = isinstance(error, BackendError) and not isinstance(error, _NothingToAdopt)
        with self._shared.locked() as shared:
            if infrastructure:
                shared.limit.failure(self._clock.now())
            elif not isinstance(error, TrialStopped):
                shared.limit.success()
            if job.pace is not None and not infrastructure:
                shared.paces.append(job.pace)
            blamed = shared.failures_of.setdefault(job.worker, []) if infrastructure and job.worker else []
            if infrastructure:
                blamed.append(job.id)
            jobs = list(blamed)
        if len(jobs) == _SUSPICIOUS:
            self._say(f"worker {job.worker} has failed {len(jobs)} jobs: {', '.join(jobs)}. Look at its log on RunPod.")

    def _billed(self, spec: TrialSpec) -> float:
        with self._shared.locked() as shared:
            return round(shared.billed.pop(spec.uid, 0.0), 3)

    def _stopping(self) -> bool:
        with self._end.locked() as end:
            return end.stopping


def read_progress(spec: TrialSpec, attempt: int, output: object) -> TrialProgress | None:
    """The progress in a running job's output; None where there is none, or it is another trial's."""
    try:
        progress = TrialProgress.from_wire(output)
    except ContractMismatch:
        return None
    return progress if (progress.number, progress.attempt) == (spec.number, attempt) else None


def read_end(spec: TrialSpec, status: JobStatus) -> TrialResult:
    """The complete result of an ended job.

    Raises:
        TrialError: What the end stands for otherwise.
    """
    where = f"job {status.id}" + (f" on worker {status.worker_id}" if status.worker_id else "")
    if status.timed_out:
        raise TrainingError(
            f"{where} ran into the endpoint's execution time-out.", cause=Cause.DEADLINE, detail=status.error
        )
    if status.state is JobState.CANCELLED:
        raise JobFailed(f"{where} was cancelled by somebody else.")
    if status.state is JobState.FAILED:
        raise JobFailed(f"{where} failed: {_first_line(status.error)}", detail=status.error[-4000:])
    if not isinstance(status.output, dict):
        raise JobFailed(f"{where} completed without a result. Results over 10 MB, and some retries, end like this.")
    if "result" not in status.output:
        return _no_result(where, status.output)
    return _read_result(spec, where, status.output["result"])


def _no_result(where: str, output: Mapping[str, object]) -> TrialResult:
    if "sequence" in output:
        raise JobFailed(f"{where} completed, but its output is a progress report; the result was lost.")
    raise ContractMismatch(
        f"{where} answered without a result. Its image is not seedpod's, or of another version: redeploy it."
    )


def _read_result(spec: TrialSpec, where: str, data: object) -> TrialResult:
    result = TrialResult.from_wire(data)
    error = result.error
    if error is not None and error.cause is Cause.CONTRACT:
        raise ContractMismatch(f"{where} refused the request: {error.message}")
    if result.number != spec.number:
        raise ContractMismatch(f"{where} answered for trial {result.number}, not {spec.number}.")
    if result.status is Status.PRUNED:  # by the trainer itself, as hopeless
        return result
    if error is not None:
        failed = TrainingError(error.message, cause=error.cause, detail=error.detail)
        failed.values = spec.curve(result.history)
        raise failed
    if result.status is not Status.COMPLETE:
        raise JobFailed(f"{where} answered with a trial that is {result.status}.")
    checked_values(spec, result)
    return result


def counters_line(counters: GateCounters) -> str:
    """What was asked of the endpoint in all, in one line."""
    counts = counters.operations
    posted, cancelled = counts[Operation.RUN].sent, counts[Operation.CANCEL].sent
    sent, retried, throttled, refused = (
        sum(getattr(one, name) for one in counts.values()) for name in ("sent", "retried", "throttled", "refused")
    )
    return (
        f"Endpoint: {posted} jobs posted, {cancelled} cancelled; {sent} requests, {retried} of them repeated, "
        f"{throttled} throttled, {refused} held back; breaker {counters.breaker.state}"
    )


def why_waiting(health: EndpointHealth) -> str:
    """Why jobs wait, in words that follow a sentence."""
    workers = health.workers
    able = workers.idle + workers.running + workers.ready
    if workers.throttled and not able:
        return f": its {workers.throttled} workers are throttled, no GPU of that kind is free. Allow more kinds of GPU."
    if workers.unhealthy and not able:
        return f": its {workers.unhealthy} workers are unhealthy. Look at their logs on RunPod."
    if workers.initializing:
        return f": {workers.initializing} workers are starting."
    if not able:
        return ": it has no worker. Raise its maximum of workers on RunPod."
    return f": {workers.running} workers run and {health.jobs.in_queue} jobs wait."


def billed_of(job: _Job, now: float) -> float:
    """Seconds of a job that RunPod asks money for: those that it executed, as told or else as seen."""
    if job.status is None:
        return 0.0
    told = job.status.execution or 0.0
    if job.ended or job.status.state is not JobState.IN_PROGRESS:
        return told
    return max(told, now - job.submitted_at - (job.status.delay or 0.0))


def _facts(job: _Job) -> dict[str, ParamValue]:
    """Where a job ran, for its trial's record."""
    facts: dict[str, ParamValue] = {"job": job.id, "worker": job.worker, "attempt": job.attempt}
    if job.status is not None and job.status.delay is not None:
        facts["queue_seconds"] = job.status.delay
    if job.status is not None and job.status.execution is not None:
        facts["execution_seconds"] = job.status.execution
    if job.gpu:
        facts["gpu"] = job.gpu
    return facts


def gpu_of(output: object) -> str:
    """The GPU that an ended job's result names, also where the result is no good otherwise; empty where it does not."""
    result = output.get("result") if isinstance(output, dict) else None
    run = result.get("run") if isinstance(result, dict) else None
    gpu = run.get("gpu") if isinstance(run, dict) else None
    return gpu[:200] if isinstance(gpu, str) else ""


def _first_line(text: str) -> str:
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "no reason was given")
