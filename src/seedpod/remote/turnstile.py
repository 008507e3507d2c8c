"""Lanes and breaker behind one lock: a thread enters, sends its request, leaves with what came of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from seedpod.clock import Clock
from seedpod.errors import BackendError, BreakerOpen, EndpointBusy, EndpointUnreachable, TrialCancelled
from seedpod.guarded import Guarded
from seedpod.remote.breaker import BreakerRules, BreakerState, CircuitBreaker
from seedpod.remote.counters import GateCounters
from seedpod.remote.lanes import Lanes, Standing, Turn
from seedpod.remote.policy import Limit, Operation

_PROBE_TIME = 0.5  # seconds after which it is worth asking what became of a probe
_LONGEST_QUIET = 60.0  # seconds for which one answer's Retry-After may silence an operation


@dataclass(slots=True)
class _State:
    lanes: Lanes
    breaker: CircuitBreaker
    counts: Counter[tuple[Operation, str]] = field(default_factory=Counter)
    shut: frozenset[Operation] = frozenset()
    last_failure: str = ""


@dataclass(slots=True)
class _Shut:
    """What is shut, once more, in a lock of its own: those who pause wake for nothing else."""

    operations: frozenset[Operation] = frozenset()


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to send one request; bring it back. ``ticket`` is the breaker's; None for a cancel that goes without."""

    operation: Operation
    ticket: int | None


class Turnstile:
    """Thread-safe. ``enter`` and ``pause`` block, in small sleeps on a lock of the caller's own."""

    def __init__(self, limits: Mapping[Operation, Limit], connections: int, rules: BreakerRules, clock: Clock) -> None:
        self._clock = clock
        self._state = Guarded(_State(Lanes(limits, connections), CircuitBreaker(clock.now(), rules)))
        self._shut = Guarded(_Shut())

    def enter(self, operation: Operation) -> Pass:
        """Wait for a token, a slot and the breaker's leave.

        Raises:
            BreakerOpen: At once, where the breaker is open; a cancel passes all the same.
            TrialCancelled: As soon as the operation is shut.
        """
        with self._state.locked() as state:
            if operation in state.shut:
                raise _stopped()
            if operation is not Operation.CANCEL and state.breaker.view(self._clock.now()).state is BreakerState.OPEN:
                raise self._refusal(state, operation)
            turn = state.lanes.join(operation)
        try:
            self._wait(turn)
        except BaseException:  # Ctrl-C too: a place that nobody waits in must not be let go
            with self._state.locked() as state:
                state.lanes.give_up(turn)
            raise
        return self._admitted(operation)

    def leave(self, used: Pass, error: BaseException | None) -> None:
        """Give the slot back and judge the request by what it raised, if anything."""
        with self._state.locked() as state:
            now = self._clock.now()
            state.lanes.leave(used.operation)
            if used.ticket is not None:
                state.breaker.record(used.ticket, now, good=_alive(error))
            if isinstance(error, EndpointUnreachable):
                state.last_failure = error.message
                state.counts[used.operation, "throttled"] += isinstance(error, EndpointBusy)
                quiet = min(error.retry_after or 0.0, _LONGEST_QUIET)
                state.lanes.went(used.operation, now, well=False, quiet=quiet)
            elif _alive(error):
                state.lanes.went(used.operation, now, well=True)
            granted = state.lanes.grant(now)
        _ring(granted)

    def pause(self, operation: Operation, seconds: float) -> None:
        """Sleep; raises TrialCancelled as soon as the operation is shut."""
        if self._shut.wait_for(lambda shut: True if operation in shut.operations else None, seconds):
            raise _stopped()

    def shut(self, operations: frozenset[Operation]) -> None:
        """Whoever waits to do one of these, or comes to, gets TrialCancelled."""
        with self._state.locked() as state:
            state.shut |= operations
            stopped = state.lanes.stop(operations)
        with self._shut.locked() as shut:
            shut.operations |= operations
        _ring(stopped)

    def count(self, operation: Operation, what: str) -> None:
        """One more of these."""
        with self._state.locked() as state:
            state.counts[operation, what] += 1

    def counters(self) -> GateCounters:
        """A snapshot."""
        with self._state.locked() as state:
            return GateCounters.of(state.counts, state.breaker.view(self._clock.now()))

    def _wait(self, turn: Turn) -> None:
        """Return with a slot taken."""
        with self._state.locked() as state:
            granted = state.lanes.grant(self._clock.now())
            state.counts[turn.operation, "waited"] += turn.standing is Standing.WAITING
        _ring(granted)
        while True:
            with self._state.locked() as state:
                now = self._clock.now()
                granted = state.lanes.grant(now)
                standing, wait = turn.standing, state.lanes.wait(turn, now)
            _ring(granted)
            if standing is Standing.STOPPED:
                raise _stopped()
            if standing is Standing.GO:
                return
            turn.sleep(wait)

    def _admitted(self, operation: Operation) -> Pass:
        with self._state.locked() as state:
            ticket = state.breaker.admit(self._clock.now())
            if ticket is None and operation is not Operation.CANCEL:
                state.lanes.leave(operation)
                raise self._refusal(state, operation)
            state.counts[operation, "sent"] += 1
            return Pass(operation, ticket)

    def _refusal(self, state: _State, operation: Operation) -> BreakerOpen:
        state.counts[operation, "refused"] += 1
        now = self._clock.now()
        view = state.breaker.view(now)
        wait = max(_PROBE_TIME, (view.probe_at or now) - now)
        return BreakerOpen(
            f"the endpoint has failed {view.failures} times in a row and is left alone for {wait:.1f} s. "
            f"Last: {state.last_failure}",
            detail=state.last_failure,
            retry_after=wait,
        )


def _alive(error: BaseException | None) -> bool | None:
    """Whether the call shows that the endpoint works; None where it shows nothing (a bug of ours, Ctrl-C)."""
    if error is None or isinstance(error, EndpointBusy):
        return True
    if isinstance(error, EndpointUnreachable):
        return False
    return True if isinstance(error, BackendError) else None


def _stopped() -> TrialCancelled:
    return TrialCancelled("the search is stopping; nothing more is sent to the endpoint.")


def _ring(turns: list[Turn]) -> None:
    for turn in turns:
        turn.ring()
