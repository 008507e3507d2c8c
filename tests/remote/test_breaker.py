"""The circuit breaker."""

from hypothesis import given
from hypothesis import strategies as st

from seedpod.remote.breaker import BreakerRules, BreakerState, CircuitBreaker

RULES = BreakerRules(consecutive=3, share=0.5, window=30.0, least=10, rest=5.0, longest_rest=12.0)


def call(breaker: CircuitBreaker, now: float, *, good: bool | None) -> bool:
    """One call that ends at once; False where it was not admitted."""
    ticket = breaker.admit(now)
    if ticket is not None:
        breaker.record(ticket, now, good=good)
    return ticket is not None


def opened() -> CircuitBreaker:
    """A breaker that opened at 0 and may be probed from 5 on."""
    breaker = CircuitBreaker(0.0, RULES)
    for _ in range(3):
        call(breaker, 0.0, good=False)
    return breaker


def test_it_opens_on_failures_in_a_row() -> None:
    """Three failures in a row open it, and say when it may be probed; two and a success do not."""
    breaker = CircuitBreaker(0.0, RULES)
    for good in (False, False, True, False, False):
        call(breaker, 0.0, good=good)
    assert breaker.view(0.0).state is BreakerState.CLOSED
    call(breaker, 1.0, good=False)
    view = breaker.view(1.0)
    assert (view.state, view.since, view.probe_at, view.failures) == (BreakerState.OPEN, 1.0, 6.0, 3)


def test_it_opens_on_a_share_of_failures() -> None:
    """Half of ten calls within the window open it, though no three failed in a row."""
    breaker = CircuitBreaker(0.0, RULES)
    for step in range(9):
        call(breaker, float(step), good=step % 2 == 1)
    assert breaker.view(9.0).state is BreakerState.CLOSED
    call(breaker, 9.0, good=True)
    call(breaker, 9.0, good=False)
    assert breaker.view(9.0).state is BreakerState.OPEN


def test_old_failures_are_forgotten() -> None:
    """Failures that have left the window do not count for the share."""
    breaker = CircuitBreaker(0.0, RULES)
    for step in range(40):
        call(breaker, 20.0 * step, good=step % 2 == 1)
    assert breaker.view(800.0).state is BreakerState.CLOSED


def test_an_open_breaker_admits_nothing_and_a_half_open_one_exactly_one() -> None:
    """Until the rest is over no call passes; then one does, and no second until that one has ended."""
    breaker = opened()
    assert [breaker.admit(4.9) for _ in range(3)] == [None] * 3
    assert breaker.view(5.0).state is BreakerState.HALF_OPEN
    probe = breaker.admit(5.0)
    assert probe is not None
    assert [breaker.admit(5.0 + step) for step in range(50)] == [None] * 50
    breaker.record(probe, 60.0, good=True)
    assert breaker.view(60.0).state is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_rest_up_to_its_end() -> None:
    """5 s, 10 s, 12 s, 12 s; and after a good probe it is 5 s again."""
    breaker, now, rests = opened(), 0.0, []
    for _ in range(4):
        probe_at = breaker.view(now).probe_at or 0.0
        rests.append(probe_at - now)
        now = probe_at
        call(breaker, now, good=False)
    assert rests == [5.0, 10.0, 12.0, 12.0]
    call(breaker, now + 12.0, good=True)
    for _ in range(3):
        call(breaker, now + 12.0, good=False)
    assert breaker.view(now + 12.0).probe_at == now + 17.0


def test_a_probe_that_says_nothing_leaves_room_for_the_next() -> None:
    """A probe that was interrupted neither closes nor opens; another may follow at once."""
    breaker = opened()
    assert call(breaker, 5.0, good=None)
    assert breaker.view(5.0).state is BreakerState.HALF_OPEN
    assert call(breaker, 5.0, good=True)
    assert breaker.view(5.0).state is BreakerState.CLOSED


def test_a_call_from_before_does_not_decide() -> None:
    """A call that was admitted before the breaker opened and ends after it, well or not, changes nothing."""
    breaker = CircuitBreaker(0.0, RULES)
    early = [breaker.admit(0.0) or 0 for _ in range(2)]
    for _ in range(3):
        call(breaker, 0.0, good=False)
    breaker.record(early[0], 1.0, good=True)
    assert breaker.view(1.0).state is BreakerState.OPEN
    probe = breaker.admit(5.0) or 0
    breaker.record(early[1], 5.0, good=False)
    assert breaker.admit(5.0) is None
    breaker.record(probe, 5.0, good=True)
    assert breaker.view(5.0).state is BreakerState.CLOSED


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 8.0), st.sampled_from(["admit", "probe", "call"]), st.sampled_from([True, False, None])
        )
    )
)
def test_never_two_probes(steps: list[tuple[float, str, bool | None]]) -> None:
    """In any order of calls and their ends, a half-open breaker has at most one call out."""
    breaker, now = opened(), 0.0
    out: dict[str, list[int]] = {"probe": [], "call": []}
    for gap, what, good in steps:
        now += gap
        if what != "admit":
            if out[what]:
                breaker.record(out[what].pop(), now, good=good)
            continue
        state, ticket = breaker.view(now).state, breaker.admit(now)
        if ticket is not None:
            assert state is not BreakerState.OPEN
            assert state is BreakerState.CLOSED or not out["probe"]
            out["call" if state is BreakerState.CLOSED else "probe"].append(ticket)
