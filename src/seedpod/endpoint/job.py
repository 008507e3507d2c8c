"""One job of the endpoint, and what ``/status`` says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

Json = dict[str, Any]


class JobStatus(StrEnum):
    """RunPod's words."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def terminal(self) -> bool:
        """Whether a job in this status has ended."""
        return self not in {JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client may ask for; times in seconds."""

    input: Any
    execution_timeout: float
    ttl: float
    sync: bool = False
    stuck_in: JobStatus | None = None  # fault: never leaves this status by itself
    cancel_after: float | None = None  # fault: somebody else cancels it so long after submission

    @property
    def uid(self) -> str:
        """The trial's uid, where the input has one; else empty."""
        found = self.input.get("uid") if isinstance(self.input, dict) else None
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a job's trace."""

    at: float
    what: str
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are seconds of the endpoint's clock."""

    id: str
    asked: Submission
    created: float
    status: JobStatus = JobStatus.IN_QUEUE
    worker: str = ""
    taken: float | None = None
    seen: float = 0.0  # when a ping last named it
    ended: float | None = None
    progress: Any = None
    output: Any = None
    error: Any = None
    retries: int = 0
    executions: int = 0  # times it was handed to a worker
    chunks: tuple[Any, ...] = ()
    trace: tuple[Mark, ...] = ()

    def marked(self, at: float, what: str, detail: Any = None, **changes: Any) -> Self:
        """A copy with ``changes`` and one more line of trace; the trace keeps its last 500 lines."""
        return replace(self, trace=(*self.trace[-499:], Mark(at, what, detail)), **changes)

    def view(self, now: float) -> Json:
        """The body of ``/status``: times in ms; optional fields only where they are set."""
        found: Json = {"id": self.id, "status": str(self.status)}
        if self.taken is not None:
            found["delayTime"] = _ms(self.taken - self.created)
            until = now if self.ended is None else self.ended
            found["executionTime"] = _ms(until - self.taken)
        optional: Mapping[str, Any] = {
            "workerId": self.worker or None,
            "output": self.output if self.status.terminal else self.progress,
            "error": self.error,
            "retries": self.retries or None,
        }
        return {**found, **{name: value for name, value in optional.items() if value is not None}}


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
