"""The machine's clock."""

import time

from seedpod.clock import Clock, SystemClock


def test_now_is_the_time_of_day() -> None:
    """A clock tells seconds since the epoch."""
    assert abs(SystemClock().now() - time.time()) < 1


def test_now_never_goes_backwards() -> None:
    """Of many readings none is earlier than the one before."""
    clock = SystemClock()
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)


def test_now_advances_with_monotonic_time() -> None:
    """Between two readings passes what the monotonic clock says, so that a clock set back moves no deadline."""
    clock = SystemClock()
    offsets = [clock.now() - time.monotonic() for _ in range(100)]
    assert max(offsets) - min(offsets) < 0.5


def test_sleep_sleeps() -> None:
    """Sleeping takes at least its time, as the clock itself measures it."""
    clock: Clock = SystemClock()
    before = clock.now()
    clock.sleep(0.02)
    assert clock.now() - before >= 0.019
