"""The wall clock of this process, which jumps when it is told to; to be imported before what reads the clock.

For processes of their own: it stands in for ``time.time`` and ``datetime.now``. The clock that measures durations is
left alone, as when somebody sets a machine's clock.
"""

import datetime as dt
import time

_true = time.time
_jumped = [0.0]


def jump(seconds: float) -> None:
    """Set the clock forward, or back."""
    _jumped[0] += seconds


def _now() -> float:
    return _true() + _jumped[0]


class _Jumping(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_Jumping":
        return cls.fromtimestamp(_now(), tz)


time.time = _now
time.time_ns = lambda: round(_now() * 1e9)
dt.datetime = _Jumping  # type: ignore[misc]
