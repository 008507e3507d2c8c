"""Backoff, token bucket and concurrency limit."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.endpoint.limits import LIMITS as ENDPOINTS
from seedpod.endpoint.limits import WINDOW as ENDPOINTS_WINDOW
from seedpod.remote.policy import LIMITS, WINDOW, Backoff, ConcurrencyLimit, Operation, TokenBucket

SECONDS = st.floats(0.0, 100.0)


@pytest.mark.parametrize("operation", [Operation.RUN, Operation.STATUS, Operation.CANCEL])
def test_both_sides_know_the_same_limits(operation: Operation) -> None:
    """The client keeps the limits that the embedded endpoint enforces."""
    assert (LIMITS[operation].per_window, LIMITS[operation].at_once) == ENDPOINTS[operation]
    assert WINDOW == ENDPOINTS_WINDOW


@given(st.integers(1, 100), SECONDS, st.integers(), st.none() | SECONDS)
def test_a_wait_stays_within_its_bounds(attempt: int, spent: float, seed: int, asked: float | None) -> None:
    """A wait is at least what the endpoint asked for, at most that plus the ceiling, and ends within the total."""
    rule = Backoff(base=0.5, longest=8.0, total=60.0)
    wait = rule.delay(attempt, spent, random.Random(seed), asked)
    if wait is None:
        assert spent >= rule.total or (asked or 0.0) > rule.total - spent
    else:
        assert (asked or 0.0) <= wait <= (asked or 0.0) + min(rule.longest, rule.base * 2 ** (attempt - 1))
        assert spent + wait <= rule.total + 1e-9


def test_waits_grow_and_are_spread_over_their_whole_range() -> None:
    """Full jitter: from near 0 up to a ceiling that doubles until it is the longest."""
    rule, chance = Backoff(base=1.0, longest=4.0, total=1e9), random.Random(1)
    for attempt, ceiling in enumerate((1.0, 2.0, 4.0, 4.0), start=1):
        waits = [rule.delay(attempt, 0.0, chance) or 0.0 for _ in range(500)]
        assert min(waits) < 0.05 * ceiling
        assert 0.95 * ceiling < max(waits) <= ceiling


@given(
    st.sampled_from([Operation.RUN, Operation.STATUS, Operation.CANCEL]),
    st.lists(st.tuples(st.floats(0.0, 6.0), st.integers(1, 600)), min_size=1, max_size=12),
)
def test_no_window_ever_holds_more_than_the_limit(operation: Operation, demand: list[tuple[float, int]]) -> None:
    """Whatever the demand, the requests of any 10 s are within the documented limit, bunched by a second or not."""
    bucket, now, sent = TokenBucket.within(LIMITS[operation]), 0.0, []
    for gap, wanted in demand:
        now += gap
        sent += [now for _ in range(wanted) if bucket.take(now)]
    for start in set(sent):
        assert sum(start <= at < start + WINDOW + 1.0 for at in sent) <= LIMITS[operation].per_window


@pytest.mark.parametrize("operation", list(Operation))
def test_a_bucket_gives_what_the_limit_allows(operation: Operation) -> None:
    """Under steady demand a bucket passes at least 45 % of the documented rate: the margin costs no more."""
    bucket = TokenBucket.within(LIMITS[operation])
    passed = sum(bucket.take(step / 1000) for step in range(100_000))
    assert passed >= 0.45 * LIMITS[operation].per_window * 10


def test_the_wait_for_a_token_is_exact() -> None:
    """After the wait that it names, a bucket has a token for the one in that place; before, it has none."""
    bucket = TokenBucket(burst=2, per_second=4.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert (bucket.wait(0.0), bucket.wait(0.0, place=3)) == (0.25, 0.75)
    assert not bucket.take(0.2)
    assert bucket.take(0.25)


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    """A reading that is earlier than the last one, as threads may bring it, refills nothing."""
    bucket = TokenBucket(burst=1, per_second=1.0)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)


@given(st.integers(1, 512), st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=200))
def test_the_limit_stays_between_one_and_its_maximum(maximum: int, ends: list[tuple[bool, float]]) -> None:
    """No run of successes and failures leads under 1 or over the maximum."""
    limit, now = ConcurrencyLimit(maximum), 0.0
    for good, gap in ends:
        now += gap
        limit.success() if good else limit.failure(now)
        assert 1 <= limit.allowed <= maximum


def test_failures_halve_and_successes_add_one() -> None:
    """16, 8, 4, 2, 1, 1; then one success adds one, and n more at a limit of n."""
    limit = ConcurrencyLimit(16)
    seen = []
    for second in range(5):
        limit.failure(float(10 * second))
        seen.append(limit.allowed)
    assert seen == [8, 4, 2, 1, 1]
    for reached in range(2, 17):
        for _ in range(reached - 1):
            assert limit.allowed == reached - 1
            limit.success()
        assert limit.allowed == reached
    limit.success()
    assert limit.allowed == 16


def test_failures_of_one_trouble_count_once() -> None:
    """Sixteen requests that fail together halve the limit once."""
    limit = ConcurrencyLimit(16, settle=1.0)
    for _ in range(16):
        limit.failure(5.0)
    assert limit.allowed == 8
