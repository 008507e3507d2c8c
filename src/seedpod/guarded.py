"""The only place that makes locks. State that threads share lives in a ``Guarded``; facts leave it frozen."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Guarded(Generic[T]):
    """A piece of mutable state behind one lock.

    Thread-safe: ``locked`` and ``wait_for`` may be called from any thread. Under the lock belongs dictionary work only:
    never a callback, HTTP, print or file. The lock is not re-entrant, so a nested use is a deadlock that the test
    suite's ``faulthandler_timeout`` shows.
    """

    def __init__(self, state: T) -> None:
        self._state = state
        self._condition = threading.Condition(threading.Lock())

    @contextmanager
    def locked(self) -> Iterator[T]:
        """Hold the lock over a ``with`` block; every waiter looks again when it ends."""
        with self._condition:
            try:
                yield self._state
            finally:
                self._condition.notify_all()

    def wait_for(self, look: Callable[[T], R | None], timeout: float | None = None) -> R | None:
        """Block until ``look(state)`` is not None and return that; None after ``timeout`` seconds.

        ``look`` runs under the lock and may change the state (take an item, for instance).
        """
        found: list[R] = []

        def satisfied() -> bool:
            answer = look(self._state)
            if answer is not None:
                found.append(answer)
            return answer is not None

        with self._condition:
            self._condition.wait_for(satisfied, timeout)
            if found:
                self._condition.notify_all()
        return found[0] if found else None
