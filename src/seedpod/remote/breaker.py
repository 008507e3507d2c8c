"""A circuit breaker: stop asking an endpoint that fails, and find out with one call whether it is back. Pure."""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"  # everything
    OPEN = "open"  # nothing
    HALF_OPEN = "half_open"  # one probe


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When the breaker opens and when it may be probed; times in seconds.

    Attributes:
        consecutive: Failures in a row that open it.
        share: Share of failures within ``window`` that opens it, where at least ``least`` calls ended in it.
        window: See ``share``.
        least: See ``share``.
        rest: Time from opening to the first probe; doubled by each failed probe.
        longest_rest: Upper end of that.
    """

    consecutive: int = 5
    share: float = 0.5
    window: float = 30.0
    least: int = 20
    rest: float = 5.0
    longest_rest: float = 60.0


@dataclass(frozen=True, slots=True)
class BreakerView:
    """The breaker at a moment.

    Attributes:
        state: What it lets through.
        since: When it came into this state.
        probe_at: When it may be probed; None while it is closed.
        failures: Failures in a row so far.
    """

    state: BreakerState
    since: float
    probe_at: float | None
    failures: int


class CircuitBreaker:
    """Closed, open, half-open (Nygard, "Release It!").

    ``admit`` gives a ticket for one call and ``record`` brings it back with the call's end. A call that was admitted
    before the breaker last changed its mind counts no more: neither does a late success close it, nor does a late
    failure keep it open.
    """

    def __init__(self, now: float, rules: BreakerRules | None = None) -> None:
        self._rules = rules or BreakerRules()
        self._ticket = 0  # the only one that counts
        self._since = now
        self._probe_at: float | None = None
        self._probing = False
        self._rest = self._rules.rest
        self._in_a_row = 0
        self._ended: deque[tuple[float, bool]] = deque()

    def view(self, now: float) -> BreakerView:
        """State, and when it may be probed."""
        if self._probe_at is None:
            return BreakerView(BreakerState.CLOSED, self._since, None, self._in_a_row)
        if now < self._probe_at:
            return BreakerView(BreakerState.OPEN, self._since, self._probe_at, self._in_a_row)
        return BreakerView(BreakerState.HALF_OPEN, self._probe_at, self._probe_at, self._in_a_row)

    def admit(self, now: float) -> int | None:
        """A ticket for one call; None where none may be made now. A ticket must come back by ``record``."""
        if self._probe_at is None:
            return self._ticket
        if self._probing or now < self._probe_at:
            return None
        self._probing = True
        self._ticket += 1
        return self._ticket

    def record(self, ticket: int, now: float, *, good: bool | None) -> None:
        """How the call ended: well, by an infrastructure failure, or (None) in a way that says nothing."""
        if ticket != self._ticket:
            return
        if self._probe_at is not None:
            self._record_probe(now, good=good)
        elif good is not None:
            self._record_call(now, good=good)

    def _record_probe(self, now: float, *, good: bool | None) -> None:
        self._probing = False
        if good:
            self._close(now)
        elif good is not None:
            self._in_a_row += 1
            self._open(now, min(2 * self._rest, self._rules.longest_rest))

    def _record_call(self, now: float, *, good: bool) -> None:
        rules, ended = self._rules, self._ended
        self._in_a_row = 0 if good else self._in_a_row + 1
        ended.append((now, good))
        while now - ended[0][0] > rules.window:
            ended.popleft()
        if good:
            return
        failed = sum(not well for _, well in ended)
        if self._in_a_row >= rules.consecutive or (len(ended) >= rules.least and failed >= rules.share * len(ended)):
            self._open(now, rules.rest)

    def _open(self, now: float, rest: float) -> None:
        self._ticket += 1
        self._rest = rest
        self._since = now
        self._probe_at = now + rest
        self._ended.clear()

    def _close(self, now: float) -> None:
        self._ticket += 1
        self._since = now
        self._probe_at = None
        self._in_a_row = 0
        self._rest = self._rules.rest
