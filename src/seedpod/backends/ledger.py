"""What was sent to an endpoint and has not come back: one line a fact, on disk before the next step is taken.

::

    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …}                 the intent, before the job is posted
    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "job": …}       its id, right after
    {"uid": …, "trial": 3, "attempt": 1, "endpoint": …, "ended": …}     how it ended, as far as we were told

So a search that is killed anywhere knows on its next start which jobs to take up again, and which intents may have
become jobs that nobody knows.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from seedpod.errors import SeedpodError
from seedpod.guarded import Guarded


@dataclass(frozen=True, slots=True)
class OpenJob:
    """An attempt whose end is not known.

    Attributes:
        uid: Of its spec.
        trial: Its trial's number.
        attempt: From 1.
        endpoint: Where it was, or was to be, posted.
        job: Its id; empty where it is not known whether there is such a job.
    """

    uid: str
    trial: int
    attempt: int
    endpoint: str
    job: str = ""


class JobLedger:
    """The file of one run. Thread-safe; every note is on disk when the call returns.

    Args:
        path: The file; it may exist, and may end in half a line.

    Raises:
        SeedpodError: It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = Guarded(_read(path))

    def intend(self, job: OpenJob) -> None:
        """A job is about to be posted."""
        self._note(job)

    def posted(self, job: OpenJob) -> None:
        """The endpoint has given the job its id."""
        self._note(job)

    def ended(self, job: OpenJob, how: str) -> None:
        """Nothing is left of this attempt to take up."""
        self._append({**asdict(job), "ended": how})
        with self._open.locked() as jobs:
            if jobs.get(job.uid, job).attempt == job.attempt:
                jobs.pop(job.uid, None)

    def left_of(self, uid: str) -> OpenJob | None:
        """The attempt of this spec that is open, if there is one."""
        with self._open.locked() as jobs:
            return jobs.get(uid)

    def _note(self, job: OpenJob) -> None:
        self._append(asdict(job))
        with self._open.locked() as jobs:
            jobs[job.uid] = job

    def _append(self, fact: dict[str, object]) -> None:
        line = json.dumps(fact, allow_nan=False).encode() + b"\n"
        try:
            # One write of one short line at the file's end: whole lines, whatever other threads write.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SeedpodError(
                f"cannot write {self._path} ({error.strerror}), so no further job is posted: it could not be taken up "
                f"again. Make room and start again."
            ) from error


def _read(path: Path) -> dict[str, OpenJob]:
    """The open attempts, by uid; half a line at the end, which a kill has left, is cut off."""
    if not path.exists():
        return {}
    try:
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            file.truncate(whole)
    except OSError as error:
        raise SeedpodError(f"cannot read {path} ({error.strerror}).") from error
    found: dict[str, OpenJob] = {}
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            fact = json.loads(line)
            ended = fact.pop("ended", None)
            job = OpenJob(**fact)
        except (ValueError, TypeError) as error:
            raise SeedpodError(
                f"{path} is damaged in line {number}; nothing was changed. Bring back a copy of it, or remove it, and "
                f"look on RunPod for jobs that still run."
            ) from error
        if ended is None:
            found[job.uid] = job
        elif found.get(job.uid, job).attempt == job.attempt:
            found.pop(job.uid, None)
    return found
