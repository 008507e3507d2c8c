"""How many trainer processes fit into memory, by made-up numbers."""

from hypothesis import example, given
from hypothesis import strategies as st

from seedpod.training.headroom import FIRST, LEAST_RESERVE, Holdings, fit, short
from seedpod.training.memory import Room

BIG = Room(64_000, 60_000, "this machine")
_mb = st.floats(0, 1e6)
_holdings = st.builds(Holdings, st.lists(_mb, max_size=8), st.lists(_mb, max_size=16))
_rooms = st.builds(Room, st.floats(1, 1e6), st.none() | _mb, st.just("here"))


def test_all_fit_into_a_large_machine() -> None:
    """Where there is room for all, all live, also before anything is known of what they take."""
    assert fit(5, 5, Holdings(), BIG, None).processes == 5
    assert fit(5, 5, Holdings([200] * 5, [600]), BIG, None).processes == 5


def test_limit_bounds_processes() -> None:
    """Under memory_limit as many live as can each reach the most that any trial has taken."""
    found = fit(5, 5, Holdings([200, 300], [250, 600, 400]), BIG, 1900)
    assert (found.processes, found.each, found.where) == (3, 600, "memory_limit")


def test_running_trial_counts_with_what_it_holds() -> None:
    """A trial that holds more than any before it is what the next ones are reckoned by."""
    assert fit(4, 4, Holdings([200, 1000], [300]), BIG, 2000).processes == 2


def test_guess_before_a_trial_has_ended() -> None:
    """Before a trial has ended one is taken to need what it does at least, or what a process holds already."""
    assert fit(4, 4, Holdings(), BIG, 2.5 * FIRST).processes == 2
    assert fit(4, 4, Holdings([2 * FIRST, 180]), BIG, 2.5 * FIRST).processes == 1
    assert fit(4, 4, Holdings([20], [30]), BIG, 2.5 * FIRST).processes == 4


def test_others_take_memory_and_give_it_back() -> None:
    """As another program fills the memory fewer processes live; as it ends they come back, one each time that fits."""
    holdings, now = Holdings([500] * 4, [600]), 4
    counts = []
    for free in (4000, 1500, 1000, 500, 100, 500, 1000, 1500, 4000):
        now = fit(4, now, holdings, Room(8000, free, "this machine"), None).processes
        counts.append(now)
    assert counts == [4, 4, 4, 3, 2, 3, 3, 4, 4]


def test_shortness_is_told_before_the_kernel_acts() -> None:
    """Memory is short once less is free than the reserve, and not before."""
    assert not short(Room(1000, LEAST_RESERVE + 1, "this container"))
    assert short(Room(1000, LEAST_RESERVE - 1, "this container"))
    assert not short(Room(1000, None, "this machine"))


def test_one_more_needs_a_margin() -> None:
    """At the border the number stays what it is, whichever side it came from: nothing comes and goes."""
    holdings = Holdings([], [500])
    assert fit(4, 2, holdings, BIG, 1020).processes == 2
    assert fit(4, 1, holdings, BIG, 1020).processes == 1
    assert fit(4, 1, holdings, BIG, 1101).processes == 2


@given(st.integers(1, 600), st.integers(0, 600), _holdings, _rooms, st.none() | _mb)
@example(1, 0, Holdings([], [2.2e-311]), Room(1.0, None, "here"), None)
def test_one_may_always_run(most: int, now: int, holdings: Holdings, room: Room, limit: float | None) -> None:
    """Whatever the numbers, one process fits at least and never more than are wished."""
    found = fit(most, min(now, most), holdings, room, limit)
    assert 1 <= found.processes <= most
