"""A clock that stands still until it is told to move."""

from seedpod.guarded import Guarded


class FakeClock:
    """Implements ``seedpod.clock.Clock``; sleeping moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now = Guarded([now])

    def now(self) -> float:
        with self._now.locked() as now:
            return now[0]

    def sleep(self, seconds: float) -> None:
        with self._now.locked() as now:
            now[0] += seconds
