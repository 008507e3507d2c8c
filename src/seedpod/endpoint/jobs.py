"""The endpoint's queue: a pure state machine over jobs. No I/O; every call is told the time.

::

    submit -> IN_QUEUE -- take --> IN_PROGRESS -- finish --> COMPLETED | FAILED
                 ^  |                  |  |
                 |  +-- cancel, purge -+--+-- executionTimeout -> FAILED (or TIMED_OUT)
                 |       -> CANCELLED  |
                 +---- lost, once -----+-- lost again -> FAILED
    ttl, retention: forgotten, whatever the status
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from seedpod.endpoint.job import Job, JobStatus, Submission
from seedpod.endpoint.settings import Settings

GHOST = "ghost"
"""Id of the worker that holds jobs which a fault keeps IN_PROGRESS."""

NO_INPUT = "Job has missing field(s): id or input."


class JobTable:
    """All jobs of one endpoint. Not thread-safe: one event loop owns it."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.submitted = 0
        self.forgotten = 0
        self.retried = 0
        self.ended: Counter[JobStatus] = Counter()
        self.executions: Counter[str] = Counter()
        """Hand-outs by the input's uid; kept when the jobs are forgotten."""
        self._new_id = new_id
        self._jobs: dict[str, Job] = {}
        self._queue: deque[str] = deque()
        self._twins: deque[str] = deque()  # handed out once more by the duplicate fault
        self._stops: defaultdict[str, list[str]] = defaultdict(list)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """The job, or None where it was never known or is forgotten."""
        return self._jobs.get(job_id)

    def tally(self) -> Counter[JobStatus]:
        """How many of the known jobs are in each status."""
        return Counter(job.status for job in self)

    def waiting(self) -> int:
        """Jobs that a worker could take now."""
        return len(self._twins) + sum(self._jobs[job_id].asked.stuck_in is None for job_id in self._queue)

    def busy(self) -> Counter[str]:
        """How many jobs each worker holds."""
        return Counter(job.worker for job in self if job.status is JobStatus.IN_PROGRESS)

    def submit(self, asked: Submission, now: float) -> Job:
        """Queue a job."""
        job_id = ("sync-" if asked.sync else "") + self._new_id()
        job = Job(job_id, asked, created=now).marked(now, "submitted")
        self.submitted += 1
        self._jobs[job.id] = job
        self._queue.append(job.id)
        return job

    def take(self, worker: str, now: float, *, duplicate: bool = False) -> Job | None:
        """Hand the next job to ``worker``; a ``duplicate`` one will be handed out a second time.

        A job without input fails here, as the SDK refuses it.
        """
        while self._twins:
            twin = self._jobs.get(self._twins.popleft())
            if twin is not None and not twin.status.terminal:
                return self._hand_out(twin.marked(now, "duplicate", worker))
        for job_id in tuple(self._queue):
            job = self._jobs[job_id]
            if job.asked.stuck_in is not None:
                continue
            self._queue.remove(job_id)
            if not job.asked.input:
                self._put(job.marked(now, "taken", worker, worker=worker, taken=now))
                self._end(self._jobs[job_id], JobStatus.FAILED, now, error=NO_INPUT)
                continue
            if duplicate:
                self._twins.append(job_id)
            return self._hand_out(self._started(job, worker, now))
        return None

    def give_back(self, worker: str, job_id: str, now: float) -> None:
        """The hand-out never reached the worker: to the head of the queue, as if it had not been."""
        job = self._jobs.get(job_id)
        if job is None or not _holds(job, worker):
            return
        self.executions[job.asked.uid] -= 1
        undone = {"status": JobStatus.IN_QUEUE, "worker": "", "taken": None, "executions": job.executions - 1}
        self._put(job.marked(now, "given back", worker, **undone))
        self._queue.appendleft(job_id)

    def heartbeat(self, worker: str, job_ids: Iterable[str], now: float) -> None:
        """A ping of ``worker`` names these jobs."""
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job is not None and _holds(job, worker):
                self._put(replace(job, seen=now))

    def progress(self, worker: str, job_id: str, output: Any, now: float, *, clobber: bool = False) -> None:
        """Progress of a running job; stale progress is ignored, unless it may ``clobber`` (runpod-python #250)."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if _holds(job, worker):
            self._put(job.marked(now, "progress", output, progress=output))
        elif clobber and job.worker == worker and job.status.terminal:
            undone = {"status": JobStatus.IN_PROGRESS, "ended": None, "progress": output}
            self._put(job.marked(now, "clobbered", output, **undone))
        else:
            self._put(job.marked(now, "stale progress", output))

    def chunk(self, job_id: str, chunk: Any, now: float) -> None:
        """One piece of a streamed output."""
        job = self._jobs.get(job_id)
        if job is not None and not job.status.terminal:
            self._put(job.marked(now, "chunk", chunks=(*job.chunks, chunk)))

    def drain(self, job_id: str) -> tuple[Any, ...]:
        """The pieces since the last call."""
        job = self._jobs[job_id]
        self._put(replace(job, chunks=()))
        return job.chunks

    def finish(self, worker: str, job_id: str, now: float, *, output: Any = None, error: Any = None) -> None:
        """A worker's result; ignored from a worker that no longer holds the job."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if not _holds(job, worker):
            self._put(job.marked(now, "stale result", worker))
            return
        self._end(job, JobStatus.FAILED if error else JobStatus.COMPLETED, now, output=output, error=error)

    def cancel(self, job_id: str, now: float) -> Job:
        """CANCELLED at once, and a stop signal for its worker; a job that has ended is left as it is."""
        job = self._jobs[job_id]
        if not job.status.terminal:
            self._signal(job)
            self._end(job, JobStatus.CANCELLED, now)
        return self._jobs[job_id]

    def retry(self, job_id: str, now: float) -> bool:
        """Queue a failed job again, its output cleared; False where it has not failed."""
        job = self._jobs[job_id]
        if job.status not in {JobStatus.FAILED, JobStatus.TIMED_OUT}:
            return False
        fresh = Job(job.id, job.asked, created=now, executions=job.executions, trace=job.trace)
        self._put(fresh.marked(now, "retry"))
        self._queue.append(job_id)
        return True

    def purge(self, now: float) -> int:
        """Cancel everything that waits; returns how many. That they end CANCELLED is inferred."""
        waiting = tuple(self._queue)
        for job_id in waiting:
            self._end(self._jobs[job_id], JobStatus.CANCELLED, now)
        return len(waiting)

    def stops(self, worker: str) -> list[str]:
        """Jobs that ``worker`` is to stop; each is told once."""
        return self._stops.pop(worker, [])

    def reap(self, settings: Settings, now: float) -> bool:
        """Everything that time alone does to jobs; True where something changed."""
        return sum(self._reap(job, settings, now) for job in tuple(self)) > 0

    def _reap(self, job: Job, settings: Settings, now: float) -> bool:
        if job.ended is not None:
            keep = settings.retain_runsync if job.asked.sync else settings.retain_run
            return now - job.ended > keep and self._forget(job)
        age = now - job.created
        if age > job.asked.ttl:
            self._signal(job)
            return self._forget(job)
        if job.asked.cancel_after is not None and age > job.asked.cancel_after:
            self.cancel(job.id, now)
            return True
        if job.taken is None:
            if job.asked.stuck_in is JobStatus.IN_PROGRESS:
                self._queue.remove(job.id)
                self._put(self._started(job, GHOST, now))
            return False
        return self._reap_running(job, job.taken, settings, now)

    def _reap_running(self, job: Job, taken: float, settings: Settings, now: float) -> bool:
        if now - taken > job.asked.execution_timeout:
            status = JobStatus.TIMED_OUT if settings.documented_time_out else JobStatus.FAILED
            self._signal(job)
            self._end(job, status, now, error="executionTimeout exceeded")
            return True
        silent = now - max(job.seen, taken + settings.claim_grace)
        if silent <= settings.heartbeat_timeout or job.asked.stuck_in is not None:
            return False
        if job.retries >= settings.max_retries:
            self._end(job, JobStatus.FAILED, now, error=f"job timed out after {job.retries} retries")
            return True
        self.retried += 1
        fresh = {"status": JobStatus.IN_QUEUE, "worker": "", "taken": None, "progress": None, "chunks": ()}
        self._put(job.marked(now, "lost", job.worker, retries=job.retries + 1, **fresh))
        self._queue.appendleft(job.id)
        return True

    @staticmethod
    def _started(job: Job, worker: str, now: float) -> Job:
        started = {"status": JobStatus.IN_PROGRESS, "worker": worker, "taken": now, "seen": 0.0}
        return job.marked(now, "taken", worker, **started)

    def _hand_out(self, job: Job) -> Job:
        self.executions[job.asked.uid] += 1
        return self._put(replace(job, executions=job.executions + 1))

    def _put(self, job: Job) -> Job:
        self._jobs[job.id] = job
        return job

    def _end(self, job: Job, status: JobStatus, now: float, *, output: Any = None, error: Any = None) -> None:
        if job.id in self._queue:
            self._queue.remove(job.id)
        self.ended[status] += 1
        self._put(job.marked(now, str(status), status=status, ended=now, output=output, error=error))

    def _forget(self, job: Job) -> bool:
        if job.id in self._queue:
            self._queue.remove(job.id)
        del self._jobs[job.id]
        self.forgotten += 1
        return True

    def _signal(self, job: Job) -> None:
        if job.status is JobStatus.IN_PROGRESS:
            self._stops[job.worker].append(job.id)


def _holds(job: Job, worker: str) -> bool:
    return job.status is JobStatus.IN_PROGRESS and job.worker == worker
