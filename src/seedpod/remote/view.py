"""An endpoint as a dashboard sees it."""

from collections.abc import Callable
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


@runtime_checkable
class HandsOver(Protocol):
    """What can begin a trial without a pause where another one is about to end."""

    def tell_ending(self, tell: Callable[[int], None]) -> None:
        """Call ``tell`` with the number of each trial that has a second or so left: one more may be run from then on.

        At most once for each, and not for those whose end comes unforeseen.
        """
