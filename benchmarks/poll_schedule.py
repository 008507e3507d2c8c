"""The requests of a search on N workers against RunPod's documented limits, in simulated time.

    uv run benchmarks/poll_schedule.py [workers=6,64,512,1000,10000] [seconds=10,60,600]

Everything that decides when a request is sent is the product's own: ``poll_delay``, the gate's lanes with their token
buckets and slots, the place that a job gives to the next one before its end. The limits that judge it are the embedded
endpoint's, a sliding window of 10 s as RunPod documents it: a request over them is a 429. Not simulated are the
coordinator's own time, failures, and the search itself: the next trial is always there.

Of each row: efficiency is the time of the same trials on workers that never wait / the simulated time; late is how long
after its end a job is known to have ended; the rates are of the busiest 10 s.
"""

import heapq
import itertools
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from seedpod.endpoint.limits import WINDOW, RateLimits
from seedpod.remote.lanes import Lanes, Standing, Turn
from seedpod.remote.policy import LIMITS, Operation
from seedpod.remote.polling import poll_delay
from seedpod.remote.wire import JobState

ROUNDS = 4  # trials for each worker
EPOCHS = 10
ROUND_TRIP = 0.12  # seconds; 110 to 140 ms were seen (a user's live run of SDK 1.12.0, 2026-09)
LEAD = 1.5  # seconds before its end by which a job gives its place to the next: RunPodBackend's
ARGUMENTS = {"workers": "6,64,512,1000,10000", "seconds": "10,60,600"}


@dataclass(eq=False, slots=True)
class Job:
    """A trial's job: what the endpoint knows of it, and what the coordinator has seen."""

    seconds: float
    phase: float
    submitted: float = 0.0
    began: float | None = None
    state: JobState = JobState.IN_QUEUE
    reports: int = 0
    age: float = 0.0
    seen_at: float = 0.0
    ends_at: float | None = None
    gave_place: bool = False

    def epochs(self, now: float) -> int:
        """Epochs that it has reported."""
        if self.began is None:
            return 0
        return min(EPOCHS - 1, int((now - self.began) / self.seconds * EPOCHS))


@dataclass
class Simulation:
    """One search; events by time."""

    workers: int
    seconds: float
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    sent: dict[str, list[float]] = field(default_factory=lambda: {"run": [], "status": []})
    refused: int = 0
    in_flight: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        self.lanes = Lanes(LIMITS, 2 * self.workers)
        self.limits = RateLimits()
        self.chance = random.Random(0)
        self.count = itertools.count()
        self.waiting: dict[Operation, deque[tuple[Turn, Callable[[], None]]]] = {each: deque() for each in Operation}
        self.queue: deque[Job] = deque()
        self.idle = self.workers
        self.lengths = [self.seconds * self.chance.uniform(0.8, 1.2) for _ in range(ROUNDS * self.workers)]
        self.next = 0
        self.free = self.workers  # places for trials
        self.pace: float | None = None

    def run(self) -> float:
        """Simulated seconds."""
        self.fill()
        while self.ended < ROUNDS * self.workers:
            self.now, _, event = heapq.heappop(self.events)
            event()
        return self.now

    def floor(self) -> float:
        """Seconds of the same trials on the same workers, each begun the moment that a worker is free."""
        ends = [0.0] * self.workers
        for length in self.lengths:
            heapq.heapreplace(ends, ends[0] + length)
        return max(ends)

    def at(self, delay: float, event: Callable[[], None]) -> None:
        """Let something happen after so many seconds."""
        heapq.heappush(self.events, (self.now + delay, next(self.count), event))

    def ask(self, operation: Operation, then: Callable[[], None]) -> None:
        """Send a request when the gate lets it go; ``then`` has its answer."""
        self.waiting[operation].append((self.lanes.join(operation), then))
        self.grant()

    def grant(self) -> None:
        """Let go who may, and come back when the next one may."""
        self.lanes.grant(self.now)
        for operation, waiting in self.waiting.items():
            while waiting and waiting[0][0].standing is Standing.GO:
                self.send(operation, waiting.popleft()[1])
            if waiting:
                self.at(max(0.01, self.lanes.wait(waiting[0][0], self.now)), self.wake(operation, waiting[0][0]))

    def wake(self, operation: Operation, turn: Turn) -> Callable[[], None]:
        """Look again, if this one still is the first who waits."""

        def look() -> None:
            if self.waiting[operation] and self.waiting[operation][0][0] is turn:
                self.grant()

        return look

    def send(self, operation: Operation, then: Callable[[], None]) -> None:
        """The endpoint counts it, and answers."""
        self.sent[str(operation)].append(self.now)
        admitted = self.limits.admit(str(operation), self.now)
        self.refused += not admitted

        def answered() -> None:
            if admitted:
                self.limits.release(str(operation))
            self.lanes.leave(operation)
            self.grant()
            then()

        self.at(ROUND_TRIP, answered)

    def fill(self) -> None:
        """Submit a trial for each free place."""
        while self.free and self.next < len(self.lengths):
            job = Job(self.lengths[self.next], self.chance.random())
            self.free, self.next = self.free - 1, self.next + 1
            self.in_flight += 1
            self.ask(Operation.RUN, partial(self.submitted, job))

    def submitted(self, job: Job) -> None:
        """The endpoint has it."""
        job.submitted = job.seen_at = self.now
        self.queue.append(job)
        self.dispatch()
        self.follow(job)

    def dispatch(self) -> None:
        """Idle workers take jobs."""
        while self.idle and self.queue:
            job = self.queue.popleft()
            self.idle -= 1
            job.began = self.now
            self.at(job.seconds, self.freed)

    def freed(self) -> None:
        """A worker has ended its job."""
        self.idle += 1
        self.dispatch()

    def follow(self, job: Job) -> None:
        """Wait as the backend does, and look."""
        expected = job.seconds if job.reports else self.pace  # its own pace, once it has told it
        age = job.age + self.now - job.seen_at
        delay = poll_delay(job.state, age, expected, self.in_flight, reports=job.reports, phase=job.phase)
        if job.ends_at is not None and not job.gave_place:
            before = max(0.0, job.ends_at - LEAD - self.now)
            if before < delay:
                self.at(before, lambda: self.give_place(job))
        self.at(delay, lambda: self.ask(Operation.STATUS, lambda: self.seen(job)))

    def give_place(self, job: Job) -> None:
        """The next trial may submit its job."""
        if not job.gave_place:
            job.gave_place = True
            self.free += 1
            self.fill()

    def seen(self, job: Job) -> None:
        """A look at a job has come back; it was taken when half of its time was over."""
        looked = self.now - ROUND_TRIP / 2
        if job.began is None or looked < job.began:
            job.age = looked - job.submitted
        elif looked >= job.began + job.seconds:
            self.over(job)
            return
        else:
            job.state, job.age, job.reports = JobState.IN_PROGRESS, looked - job.began, job.epochs(looked)
            if job.reports:
                # What was reported is older than our look at it: seen from here the end is not later than this.
                ends_at = self.now + (EPOCHS - job.reports) * job.seconds / EPOCHS
                job.ends_at = ends_at if job.ends_at is None else min(ends_at, job.ends_at)
        job.seen_at = looked
        self.follow(job)

    def over(self, job: Job) -> None:
        """The coordinator knows how a trial has ended."""
        assert job.began is not None
        self.late.append(self.now - job.began - job.seconds)
        self.ended += 1
        self.in_flight -= 1
        self.pace = self.seconds
        self.give_place(job)


def busiest(times: list[float]) -> float:
    """Requests a second in the busiest window."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most / WINDOW


def main() -> None:
    """Simulate and print."""
    given = ARGUMENTS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    print(f"{ROUNDS} trials a worker of {EPOCHS} epochs, round trip {ROUND_TRIP:g} s, lengths 0.8 to 1.2 of the mean\n")
    print("| workers | trials of | efficiency | late, median | late, 99 % | status/s | run/s | 429 |")
    print("|---|---|---|---|---|---|---|---|")
    for workers in map(int, given["workers"].split(",")):
        for seconds in map(float, given["seconds"].split(",")):
            simulation = Simulation(workers, seconds)
            took = simulation.run()
            late = sorted(simulation.late)
            print(
                f"| {workers:,} | {seconds:g} s | {simulation.floor() / took:.1%} | {statistics.median(late):.2f} s "
                f"| {late[int(0.99 * len(late))]:.1f} s | {busiest(simulation.sent['status']):.0f} "
                f"| {busiest(simulation.sent['run']):.0f} | {simulation.refused} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
