"""Time as an argument, so that tests and simulations own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """What seedpod needs of time."""

    def now(self) -> float:
        """Seconds since the Unix epoch; never goes backwards."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""


class SystemClock:
    """The machine's clock, read once and then advanced by the monotonic one.

    A clock set back or forward in the middle of a search moves no deadline and makes no duration negative.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """See Clock."""
        return self._offset + time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)
