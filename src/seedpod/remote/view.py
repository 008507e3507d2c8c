"""An endpoint as a dashboard sees it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from seedpod.remote.counters import GateCounters
from seedpod.remote.wire import EndpointHealth


@dataclass(frozen=True, slots=True)
class EndpointView:
    """What an endpoint last said of itself, and what its gate has done.

    Attributes:
        counters: Requests by what became of them, and the breaker.
        health: Its jobs and workers; None where it has not said.
        in_flight: Jobs of this search at it.
        allowed: Jobs that this search lets be in flight now: fewer after failures.
    """

    counters: GateCounters
    health: EndpointHealth | None
    in_flight: int
    allowed: int


@runtime_checkable
class OnEndpoint(Protocol):
    """What runs its trials on an endpoint, and lets one look at it."""

    def view(self) -> EndpointView | None:
        """What the endpoint says of itself now; None where it is out of use. May take seconds; raises nothing."""


@dataclass(frozen=True, slots=True)
class LateJob:
    """A job that ended, or was found to have ended, after its trial had: nothing comes of it but its cost.

    Attributes:
        trial: Its trial's number.
        uid: Of its spec.
        attempt: Which try it was, from 1.
        job: Its id.
        worker: The worker that had it; empty where that is not known.
        state: How it ended, in the endpoint's word.
        value: The result that it brought; None where it brought none.
        seconds: Billed seconds, in all.
        extra: Those of them that are in no trial's bill.
    """

    trial: int
    uid: str
    attempt: int
    job: str
    worker: str
    state: str
    value: float | None
    seconds: float
    extra: float


@dataclass(frozen=True, slots=True)
class JobListener:
    """What a search wants to hear of its jobs. Called from the threads of trials, outside every lock.

    Attributes:
        ending: Gets the number of a trial that has a second or so left: one more may be run from then on, so that it
            begins where this one ends. At most once for each, and not for those whose end comes unforeseen.
        late: Gets each late job, once.
    """

    ending: Callable[[int], None] = lambda _: None
    late: Callable[[LateJob], None] = lambda _: None


@runtime_checkable
class TellsOfJobs(Protocol):
    """What runs its trials as jobs, and tells of them."""

    def listen(self, listener: JobListener, over: Collection[str]) -> None:
        """Whom to tell; to be called once, before the first trial.

        Args:
            listener: See there.
            over: The uids of trials that have ended in an earlier run: a job that is left of one is cancelled now.
        """
