"""What was sent to an endpoint: one line a fact, on disk before the next step is taken.

::

    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "job": ""}                    the intent, before it is posted
    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "job": …}                     its id, right after
    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "job": …, "ended": …}         it ended; its result may be there
    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "job": …, "dropped": …}       nothing is left of it to take up

So a search that is killed anywhere knows on its next start which jobs to take up again, which results to collect, and
which intents may have become jobs that nobody knows. A job that has ended stays: its trial's record is written later,
and until then the endpoint has the only copy of its result.
"""

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from seedpod.errors import SeedpodError
from seedpod.guarded import Guarded


@dataclass(frozen=True, slots=True)
class OpenJob:
    """An attempt that may be taken up again.

    Attributes:
        uid: Of its spec.
        trial: Its trial's number.
        attempt: From 1.
        endpoint: Where it was, or was to be, posted.
        job: Its id; empty where it is not known whether there is such a job.
        ended: How it ended, as far as we were told; empty while it runs.
    """

    uid: str
    trial: int
    attempt: int
    endpoint: str
    job: str = ""
    ended: str = ""


class JobLedger:
    """The file of one run. Thread-safe; every note is on disk when the call returns.

    Args:
        path: The file; it may exist, and may end in half a line.

    Raises:
        SeedpodError: It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs = Guarded(_read(path))

    def intend(self, job: OpenJob) -> None:
        """A job is about to be posted."""
        self._note(job)

    def posted(self, job: OpenJob) -> None:
        """The endpoint has given the job its id."""
        self._note(job)

    def ended(self, job: OpenJob) -> None:
        """The endpoint has said how the job ended."""
        self._note(job)

    def dropped(self, job: OpenJob, why: str) -> None:
        """Nothing is left of this attempt to take up."""
        self._append({**_fact(job), "dropped": why})
        with self._jobs.locked() as jobs:
            _drop(jobs, job)

    def left_of(self, uid: str) -> OpenJob | None:
        """What there is of this spec to take up: the last of its attempts."""
        with self._jobs.locked() as jobs:
            return max(jobs.get(uid, ()), key=lambda job: job.attempt, default=None)

    def running(self) -> tuple[OpenJob, ...]:
        """Every attempt whose end is not known."""
        with self._jobs.locked() as jobs:
            return tuple(job for attempts in jobs.values() for job in attempts if not job.ended)

    def overtaken(self, job: OpenJob) -> bool:
        """Whether its trial has gone on without this attempt, which could not be cancelled then."""
        last = self.left_of(job.uid)
        return last is not None and last.attempt > job.attempt

    def _note(self, job: OpenJob) -> None:
        self._append(_fact(job))
        with self._jobs.locked() as jobs:
            _put(jobs, job)

    def _append(self, fact: dict[str, str | int]) -> None:
        line = json.dumps(fact, allow_nan=False).encode() + b"\n"
        try:
            # One write of one short line at the file's end: whole lines, whatever other threads write.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SeedpodError(
                f"cannot write {self._path} ({error.strerror}), so no further job is posted: it could not be taken up "
                f"again. Make room and start again."
            ) from error


def _fact(job: OpenJob) -> dict[str, str | int]:
    fact = asdict(job)
    return fact if job.ended else {name: value for name, value in fact.items() if name != "ended"}


_Jobs = dict[str, tuple[OpenJob, ...]]
"""By uid, what may be taken up of its attempts."""


def _put(jobs: _Jobs, job: OpenJob) -> None:
    others = tuple(other for other in jobs.get(job.uid, ()) if other.attempt != job.attempt)
    jobs[job.uid] = *others, job


def _drop(jobs: _Jobs, job: OpenJob) -> None:
    others = tuple(other for other in jobs.pop(job.uid, ()) if other.attempt != job.attempt)
    if others:
        jobs[job.uid] = others


def _read(path: Path) -> _Jobs:
    """What may be taken up; half a line at the end, which a kill has left, is cut off."""
    try:
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            found = _jobs(path, content[:whole])
            file.truncate(whole)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SeedpodError(f"cannot read {path} ({error.strerror}).") from error
    return found


def _jobs(path: Path, content: bytes) -> _Jobs:
    found: _Jobs = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            fact = json.loads(line)
            dropped = fact.pop("dropped", None)
            job = OpenJob(**fact)
        except (AttributeError, TypeError, ValueError) as error:
            raise SeedpodError(
                f"{path} is damaged in line {number}; nothing was changed. Bring back a copy of it, or remove it, and "
                f"look on RunPod for jobs that still run."
            ) from error
        if dropped is None:
            _put(found, job)
        else:
            _drop(found, job)
    return found
