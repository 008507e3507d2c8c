"""What the endpoint knows of its workers, and how ``/health`` counts them. Pure: fed the time."""

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

CRASH_LOOP = 3
"""So many deaths in a row without one request make a worker slot unhealthy."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One worker: when it was last heard of, and what its ping says."""

    last: float | None = None  # None: started, not heard of yet
    asked: bool = False  # for a job; its pings begin before, while it warms up
    pings: int = 0
    reported: tuple[str, ...] = ()
    unhealthy: str = ""


class Fleet:
    """All workers by id. One that asks for a job is known from then on, whoever started it."""

    def __init__(self) -> None:
        self.workers: dict[str, Seen] = {}
        self.deaths = 0
        self._still_born = 0

    def started(self, worker: str) -> None:
        """A process was started under this id."""
        self.workers[worker] = Seen()

    def heard(self, worker: str, now: float) -> None:
        """A request came from it."""
        self._still_born = 0
        self.workers[worker] = replace(self.workers.get(worker, Seen()), last=now)

    def asked(self, worker: str, now: float) -> None:
        """It asks for a job."""
        self.heard(worker, now)
        self.workers[worker] = replace(self.workers[worker], asked=True)

    def pinged(self, worker: str, now: float, job_ids: tuple[str, ...], unhealthy: str = "") -> None:
        """Its ping names these jobs, and a failed check or nothing."""
        self.heard(worker, now)
        seen = self.workers[worker]
        self.workers[worker] = replace(seen, pings=seen.pings + 1, reported=job_ids, unhealthy=unhealthy)

    def gone(self, worker: str) -> None:
        """Its process has ended."""
        self.deaths += 1
        seen = self.workers.pop(worker, Seen())
        self._still_born = self._still_born + 1 if seen.last is None else 0

    def ready(self, now: float, patience: float) -> list[str]:
        """Workers heard of within ``patience`` seconds."""
        return [name for name, seen in self.workers.items() if seen.last is not None and now - seen.last <= patience]

    def counts(self, now: float, patience: float, busy: Container[str]) -> dict[str, int]:
        """The ``workers`` part of ``/health``; what exactly RunPod counts as idle and ready is inferred."""
        ready = self.ready(now, patience)
        running = sum(name in busy for name in ready)
        unborn = sum(seen.last is None for seen in self.workers.values())
        crash_loop = self._still_born >= CRASH_LOOP
        return {
            "idle": len(ready) - running,
            "initializing": 0 if crash_loop else unborn,
            "ready": len(ready) - running,
            "running": running,
            "throttled": 0,
            "unhealthy": sum(bool(seen.unhealthy) for seen in self.workers.values()) + (unborn if crash_loop else 0),
        }

    def wire(self, now: float) -> dict[str, Any]:
        """Each worker for the control interface: seconds since it was heard of, whether it has asked for a job, pings,
        jobs that its ping named.
        """
        return {
            name: {
                "silent": None if seen.last is None else round(now - seen.last, 3),
                "asked": seen.asked,
                "pings": seen.pings,
                "reported": list(seen.reported),
            }
            for name, seen in self.workers.items()
        }
