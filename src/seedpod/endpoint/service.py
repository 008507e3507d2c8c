"""The endpoint's moving parts: the job table with a clock, a bell that wakes long polls, a dispatcher and a reaper."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from seedpod.clock import Clock
from seedpod.endpoint.faults import FaultBook, Kind
from seedpod.endpoint.fleet import Fleet
from seedpod.endpoint.job import Job, JobStatus
from seedpod.endpoint.jobs import JobTable
from seedpod.endpoint.limits import RateLimits
from seedpod.endpoint.settings import Settings

R = TypeVar("R")

_REAP_EVERY = 0.05  # seconds


@dataclass(eq=False, slots=True)
class Taker:
    """An open ``job-take``: it wants up to ``limit`` jobs."""

    worker: str
    limit: int
    inbox: list[Job] = field(default_factory=list)


class Service:
    """One endpoint. Everything runs on one event loop, so there is nothing to lock."""

    def __init__(self, endpoint_id: str, key: str, clock: Clock, settings: Settings) -> None:
        self.endpoint_id = endpoint_id
        self.key = key
        self.settings = settings
        self.jobs = JobTable(lambda: f"{uuid.uuid4()}-u1")
        self.fleet = Fleet()
        self.limits = RateLimits()
        self.faults = FaultBook()
        self.requests: Counter[tuple[str, str]] = Counter()  # (operation, status code or "drop")
        self.polls: Counter[str] = Counter()  # /status requests by job id
        self._clock = clock
        self._bell = asyncio.Event()
        self._takers: list[Taker] = []

    def now(self) -> float:
        """The endpoint's time."""
        return self._clock.now()

    def patience(self) -> float:
        """Seconds of silence after which a worker is no longer counted."""
        return self.settings.take_hold + self.settings.heartbeat_timeout

    def ring(self) -> None:
        """Something changed: every waiter looks again."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def until(self, look: Callable[[], R | None], seconds: float) -> R | None:
        """Wait until ``look()`` is not None, and return that; None after ``seconds``."""
        end = self.now() + seconds
        while (found := look()) is None and (left := end - self.now()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), left)
        return found

    async def take(self, worker: str, limit: int) -> list[Job]:
        """Hold until there are jobs for this worker; empty after ``take_hold``."""
        taker = Taker(worker, limit)
        self._takers.append(taker)
        self.ring()
        try:
            return await self.until(lambda: taker.inbox or None, self.settings.take_hold) or []
        except asyncio.CancelledError:  # the worker hung up
            self.give_back(worker, taker.inbox)
            raise
        finally:
            self._takers.remove(taker)

    def give_back(self, worker: str, jobs: list[Job]) -> None:
        """These hand-outs never reached the worker."""
        for job in reversed(jobs):
            self.jobs.give_back(worker, job.id, self.now())
        self.ring()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while."""

        def now() -> None:
            act()
            self.ring()

        asyncio.get_running_loop().call_later(seconds, now)

    async def run(self) -> None:
        """Dispatch and reap for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatch_for_ever())
            group.create_task(self._reap_for_ever())

    async def _dispatch_for_ever(self) -> None:
        while True:
            await self.until(lambda: True if self.jobs.waiting() and self._open_takers() else None, 3600.0)
            tick = self.settings.take_tick
            if tick:
                await asyncio.sleep(tick - self.now() % tick)
            self._dispatch()
            await asyncio.sleep(0)

    def _dispatch(self) -> None:
        """One job at a time to the worker that holds the fewest. RunPod's own order is not known."""
        busy = self.jobs.busy()
        while takers := self._open_takers():
            taker = min(takers, key=lambda one: busy[one.worker])
            job = self.jobs.take(taker.worker, self.now(), duplicate=self._duplicate())
            if job is None:
                break
            busy[taker.worker] += 1
            taker.inbox.append(job)
        self.ring()

    def _duplicate(self) -> bool:
        if not self.jobs.waiting():
            return False
        return self.faults.first("take", lambda fault: fault.kind is Kind.DUPLICATE) is not None

    def _open_takers(self) -> list[Taker]:
        return [taker for taker in self._takers if len(taker.inbox) < taker.limit]

    async def _reap_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REAP_EVERY)
            if self.jobs.reap(self.settings, self.now()):
                self.ring()

    def health(self) -> dict[str, Any]:
        """The body of ``/health``."""
        ended, live = self.jobs.ended, self.jobs.tally()
        return {
            "jobs": {
                "completed": ended[JobStatus.COMPLETED],
                "failed": ended[JobStatus.FAILED] + ended[JobStatus.TIMED_OUT],
                "inProgress": live[JobStatus.IN_PROGRESS],
                "inQueue": live[JobStatus.IN_QUEUE],
                "retried": self.jobs.retried,
            },
            "workers": self.fleet.counts(self.now(), self.patience(), self.jobs.busy()),
        }
