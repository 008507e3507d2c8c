"""Guarded: one lock, honest waiting."""

import inspect
import itertools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

import pytest

from seedpod.guarded import Guarded

T = TypeVar("T")


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


def waits(guarded: Guarded[T], look: Callable[[T], object], threads: ThreadPoolExecutor) -> "Future[object]":
    """A thread that waits by now."""
    looked = threading.Event()

    def first(state: T) -> object:
        looked.set()
        return look(state)

    waiting = threads.submit(guarded.wait_for, first, 60)
    assert looked.wait(20)
    with guarded.locked():  # it is among those that wait once the lock is free
        pass
    return waiting


def test_error_of_a_look_in_anothers_hands_is_its_waiters() -> None:
    """What a waiter's look raises in the thread that changed the state reaches the waiter alone."""
    guarded = Guarded([0])
    with ThreadPoolExecutor(1) as threads:
        waiting = waits(guarded, lambda state: 1 // (state[0] - 1) if state[0] else None, threads)
        with guarded.locked() as state:
            state[0] = 1
        with pytest.raises(ZeroDivisionError):
            waiting.result(20)


def test_ctrl_c_in_anothers_look_stays_where_it_came() -> None:
    """An interrupt while a thread looks for a waiter is the thread's own, and the waiter goes on waiting."""
    guarded, here = Guarded([0]), threading.current_thread()

    def look(state: list[int]) -> int | None:
        if state[0] == 1 and threading.current_thread() is here:
            raise KeyboardInterrupt
        return state[0] if state[0] == 2 else None

    def put(value: int) -> None:
        with guarded.locked() as state:
            state[0] = value

    with ThreadPoolExecutor(1) as threads:
        waiting = waits(guarded, look, threads)
        with pytest.raises(KeyboardInterrupt):
            put(1)
        put(2)
        assert waiting.result(20) == 2


def test_who_gave_up_takes_nothing() -> None:
    """A wait that is over by its time looks no more."""
    guarded: Guarded[list[int]] = Guarded([])
    assert guarded.wait_for(lambda state: state.pop() if state else None, timeout=0.01) is None
    with guarded.locked() as state:
        state.append(1)
    with guarded.locked() as state:
        assert state == [1]


def test_what_a_look_changes_ends_an_earlier_wait() -> None:
    """A look that changes the state ends the wait of one that has waited for longer."""
    guarded = Guarded({"first": False, "second": False})

    def second(state: dict[str, bool]) -> bool | None:
        state["second"] = state["first"]
        return state["first"] or None

    with ThreadPoolExecutor(2) as threads:
        longer = waits(guarded, lambda state: state["second"] or None, threads)
        shorter = waits(guarded, second, threads)
        with guarded.locked() as state:
            state["first"] = True
        assert shorter.result(20)
        assert longer.result(20)


def test_the_longest_wait_ends_first() -> None:
    """Of several that wait for one thing, it goes to the one that has waited longest."""
    guarded: Guarded[list[str]] = Guarded([])
    with ThreadPoolExecutor(3) as threads:
        waiting = [waits(guarded, lambda state: state.pop() if state else None, threads) for _ in range(3)]
        for number, one in enumerate(waiting):
            with guarded.locked() as state:
                state.append(str(number))
            assert one.result(20) == str(number)


def test_a_look_that_asks_the_time_is_asked_at_its_end() -> None:
    """When the time is over there is one more look, without any change."""
    looks = itertools.count(1)
    assert Guarded([0]).wait_for(lambda _: next(looks) == 2 or None, timeout=0.01)


@pytest.mark.parametrize("line", ["self._waiting.remove(waiter)", "if waiter.bell.locked():", "again = True"])
def test_ctrl_c_under_the_lock_leaves_nobody_asleep(line: str) -> None:
    """An interrupt of the thread that lets others go, at whatever line, keeps none of them from what it has taken."""
    guarded: Guarded[list[str]] = Guarded([])
    lines, begin = inspect.getsourcelines(Guarded._wake)
    number = begin + max(index for index, text in enumerate(lines) if text.strip() == line)

    def interrupt(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code is Guarded._wake.__code__ and event == "line" and frame.f_lineno == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return interrupt

    with ThreadPoolExecutor(1) as threads:
        waiting = waits(guarded, lambda state: state.pop() if state else None, threads)
        tracing = sys.gettrace()

        def put() -> None:
            with guarded.locked() as state:
                state.append("item")
                sys.settrace(interrupt)

        try:
            with pytest.raises(KeyboardInterrupt):
                put()
        finally:
            sys.settrace(tracing)
        with guarded.locked():
            pass
        assert waiting.result(20) == "item"
