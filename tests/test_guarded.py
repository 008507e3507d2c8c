"""Guarded: one lock, honest waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from seedpod.guarded import Guarded


def test_no_update_is_lost() -> None:
    """Many threads that read, change and write back lose nothing."""
    counter = Guarded([0])

    def count(_: int) -> None:
        for _turn in range(500):
            with counter.locked() as state:
                before = state[0]
                state[0] = before + 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    with counter.locked() as state:
        assert state == [4000]


def test_lock_is_released_by_an_exception() -> None:
    """An exception under the lock comes out and leaves the lock free."""
    guarded = Guarded([0])
    with pytest.raises(ZeroDivisionError), guarded.locked():
        raise ZeroDivisionError
    assert guarded.wait_for(lambda state: state[0], timeout=0) == 0


def test_exception_of_the_look_comes_out() -> None:
    """What ``look`` raises reaches the waiter and leaves the lock free."""
    guarded = Guarded([0])
    with pytest.raises(ZeroDivisionError):
        guarded.wait_for(lambda state: 1 // state[0])
    with guarded.locked() as state:
        assert state == [0]


def test_waiter_sees_a_change() -> None:
    """A waiter wakes up by a change alone, without polling, and gets what it looked for."""
    guarded: Guarded[list[str]] = Guarded([])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(guarded.wait_for, lambda state: state.pop() if state else None)
        with guarded.locked() as state:
            state.append("news")
        assert waiting.result(timeout=10) == "news"


def test_waiting_ends_by_its_timeout() -> None:
    """Without a change, waiting ends with None."""
    assert Guarded([]).wait_for(lambda state: state or None, timeout=0.01) is None


@pytest.mark.parametrize("answer", [0, False, "", ()])
def test_any_answer_but_none_counts(answer: object) -> None:
    """An answer that is false but not None ends the wait."""
    assert Guarded([]).wait_for(lambda _: answer, timeout=5) == answer


def test_every_item_is_taken_once() -> None:
    """Of many waiters that take items, each item goes to one."""
    box: Guarded[list[int]] = Guarded([])
    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(box.wait_for, lambda state: state.pop() if state else None, 10) for _ in range(40)]
        for item in range(40):
            with box.locked() as state:
                state.append(item)
        assert sorted(taker.result() or 0 for taker in takers) == list(range(40))


def test_a_look_that_changes_the_state_wakes_the_waiters() -> None:
    """What a ``look`` changes is a change for every waiter."""
    state = Guarded({"taken": False})
    ready = threading.Event()

    def wait(inside: dict[str, bool]) -> bool | None:
        ready.set()
        return inside["taken"] or None

    def take(inside: dict[str, bool]) -> bool:
        inside["taken"] = True
        return True

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(state.wait_for, wait, 5)
        assert ready.wait(10)
        assert state.wait_for(take)
        assert waiting.result(timeout=3)  # before its own time-out makes it look again
