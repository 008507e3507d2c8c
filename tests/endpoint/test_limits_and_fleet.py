"""Rate limits, and what the endpoint says of its workers."""

import pytest

from seedpod.endpoint.fleet import CRASH_LOOP, Fleet
from seedpod.endpoint.limits import LIMITS, WINDOW, RateLimits


@pytest.mark.parametrize("operation", sorted(LIMITS))
def test_the_window_admits_exactly_the_documented_number(operation: str) -> None:
    """So many requests in 10 s pass, the next does not, and after the window it does."""
    limits, most = RateLimits(), LIMITS[operation][0]
    for _ in range(most):
        assert limits.admit(operation, 0.0)
        limits.release(operation)
    assert not limits.admit(operation, WINDOW - 0.01)
    assert limits.admit(operation, WINDOW)


def test_the_requests_at_one_time_are_capped() -> None:
    """The 21st open cancel is refused until one is answered."""
    limits = RateLimits()
    assert all(limits.admit("cancel", 0.0) for _ in range(20))
    assert not limits.admit("cancel", 0.0)
    limits.release("cancel")
    assert limits.admit("cancel", 0.0)


def test_an_operation_without_a_documented_limit_always_passes() -> None:
    """Health has no limit."""
    limits = RateLimits()
    assert all(limits.admit("health", 0.0) for _ in range(5000))


def test_workers_are_counted_by_what_they_do() -> None:
    """A started worker is initializing, one heard of is idle, or running where it holds a job; a silent one is none."""
    fleet = Fleet()
    for name in ("a", "b", "c", "silent"):
        fleet.started(name)
    fleet.heard("silent", 0.0)
    fleet.heard("a", 100.0)
    fleet.pinged("b", 100.0, ("job",))
    counts = fleet.counts(101.0, 10.0, {"b"})
    assert (counts["idle"], counts["running"], counts["initializing"]) == (1, 1, 1)


def test_a_crash_loop_shows_as_unhealthy() -> None:
    """A worker that keeps dying before its first request is unhealthy, and no longer initializing."""
    fleet = Fleet()
    for number in range(CRASH_LOOP):
        fleet.started(f"w{number}")
        fleet.gone(f"w{number}")
    fleet.started("again")
    counts = fleet.counts(1.0, 10.0, ())
    assert (counts["unhealthy"], counts["initializing"]) == (1, 0)
