"""The only place that makes locks. State that threads share lives in a ``Guarded``; facts leave it frozen."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class _Waiter:
    """A thread that waits, and what it waits for."""

    look: Callable[[Any], Any]
    bell: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False
    found: Any = None
    error: Exception | None = None

    def satisfied(self, state: object) -> bool:
        """Look, in whatever thread; what is found, or raised, is the waiting one's. Ctrl-C is this thread's own."""
        try:
            self.found = self.look(state)
        except Exception as error:  # noqa: BLE001 - raised where it was waited for
            self.error = error
        self.over = self.found is not None or self.error is not None
        return self.over


class Guarded(Generic[T]):
    """A piece of mutable state behind one lock.

    Thread-safe: ``locked`` and ``wait_for`` may be called from any thread. Under the lock belongs dictionary work only:
    never a callback, HTTP, print or file. The lock is not re-entrant, so a nested use is a deadlock that the test
    suite's ``faulthandler_timeout`` shows.
    """

    def __init__(self, state: T) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []

    @contextmanager
    def locked(self) -> Iterator[T]:
        """Hold the lock over a ``with`` block; when it ends, those wake whose wait is over.

        Whoever holds the lock looks for all that wait, the longest wait first: to wake a thread so that it looks itself
        takes a hundred times as long, and hundreds may wait where one can go.
        """
        with self._lock:
            try:
                yield self._state
            finally:
                self._wake()

    def wait_for(self, look: Callable[[T], R | None], timeout: float | None = None) -> R | None:
        """Block until ``look(state)`` is not None and return that; None after ``timeout`` seconds.

        ``look`` runs under the lock, in any thread, and may change the state (take an item, for instance).
        """
        waiter = _Waiter(look)
        try:
            with self._lock:
                if waiter.satisfied(self._state):
                    self._wake()
                else:
                    waiter.bell.acquire()
                    self._waiting.append(waiter)
            if not waiter.over:
                self._sleep(waiter, timeout)
        except BaseException:  # Ctrl-C, in the main thread
            with self._lock:
                self._forget(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        found: R | None = waiter.found
        return found

    def _sleep(self, waiter: _Waiter, timeout: float | None) -> None:
        """Until the bell rings, or the time is over; then look once more, for ``look`` may ask a clock."""
        if waiter.bell.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return
        with self._lock:
            if self._forget(waiter) and waiter.satisfied(self._state):
                self._wake()

    def _forget(self, waiter: _Waiter) -> bool:
        """Whether it still waited."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        return not waiter.over

    def _wake(self) -> None:
        """Let go all whose wait is over; what one of them takes or gives may end another's."""
        again = True
        while again:
            again = False
            for waiter in tuple(self._waiting):
                # One whose wait is over by now was about to hear of it when Ctrl-C came to whoever held the lock.
                if waiter.over or waiter.satisfied(self._state):
                    if waiter.bell.locked():
                        waiter.bell.release()
                    self._waiting.remove(waiter)
                    again = True
