"""What the endpoint says of a job and of itself, read tolerantly: an odd field costs that field, not the answer."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self


class JobState(StrEnum):
    """RunPod's words for a job's state."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    UNKNOWN = "UNKNOWN"  # a word that is none of these; the job counts as alive

    @classmethod
    def of(cls, word: str) -> "JobState":
        """The state of that name, or UNKNOWN."""
        return cls(word) if word in set(cls) else cls.UNKNOWN

    @property
    def ended(self) -> bool:
        """Whether a job in this state is over."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One answer of ``/status`` or ``/cancel``.

    Attributes:
        id: The job's id; empty where the answer has none.
        state: Where the job stands.
        output: The last progress while it runs, the result at its end; None where the answer has none. Not checked:
            it may be a leftover progress, or hold a NaN that a careless server let pass.
        error: Why it failed, as text; empty where the answer has none.
        worker_id: The worker that has or had it; empty where the answer has none.
        delay: Seconds that it waited for a worker; None where the answer has none.
        execution: Seconds that it has run; None where the answer has none.
        retries: Times that the endpoint lost it and queued it again.
    """

    id: str
    state: JobState
    output: Any = None
    error: str = ""
    worker_id: str = ""
    delay: float | None = None
    execution: float | None = None
    retries: int = 0

    @classmethod
    def from_answer(cls, body: object) -> Self | None:
        """Read the body of an answer; None where it is no status at all."""
        if not isinstance(body, dict) or not isinstance(body.get("status"), str):
            return None
        return cls(
            id=text(body.get("id")),
            state=JobState.of(body["status"]),
            output=body.get("output"),
            error=text(body.get("error")),
            worker_id=text(body.get("workerId")),
            delay=_seconds(body.get("delayTime")),
            execution=_seconds(body.get("executionTime")),
            retries=_count(body.get("retries")),
        )

    @property
    def timed_out(self) -> bool:
        """Whether the endpoint ended it by its execution time-out: TIMED_OUT as documented, FAILED as observed."""
        late = self.state is JobState.FAILED and "executiontimeout" in self.error.lower()
        return late or self.state is JobState.TIMED_OUT


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Jobs of the endpoint, by RunPod's names."""

    completed: int = 0
    failed: int = 0
    in_progress: int = 0
    in_queue: int = 0
    retried: int = 0


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """Workers of the endpoint, by RunPod's names."""

    idle: int = 0
    initializing: int = 0
    ready: int = 0
    running: int = 0
    throttled: int = 0
    unhealthy: int = 0


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """One answer of ``/health``."""

    jobs: JobCounts
    workers: WorkerCounts

    @classmethod
    def from_answer(cls, body: object) -> Self | None:
        """Read the body of an answer; None where it is no health at all. A count that is none reads 0."""
        if not isinstance(body, dict) or not isinstance(body.get("workers"), dict):
            return None
        jobs, workers = body.get("jobs"), body["workers"]
        return cls(
            JobCounts(**_counts(JobCounts, jobs if isinstance(jobs, dict) else {})),
            WorkerCounts(**_counts(WorkerCounts, workers)),
        )


def text(value: object) -> str:
    """A field that should be a text: others as JSON, none as empty."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _counts(kind: type[JobCounts | WorkerCounts], data: Mapping[str, object]) -> dict[str, int]:
    names = {"in_progress": "inProgress", "in_queue": "inQueue"}
    return {field.name: _count(data.get(names.get(field.name, field.name))) for field in fields(kind)}


def _number(value: object) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if fits and isinstance(value, int | float) else None


def _count(value: object) -> int:
    return int(_number(value) or 0)


def _seconds(milliseconds: object) -> float | None:
    number = _number(milliseconds)
    return None if number is None else number / 1000
