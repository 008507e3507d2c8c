"""Who may send a request now: a lane per operation, with its bucket and its slots, the most urgent first. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from seedpod.guarded import Guarded
from seedpod.remote.policy import ConcurrencyLimit, Limit, Operation, TokenBucket

_SHORTEST_WAIT = 0.002  # seconds between two looks of one who waits
_LONGEST_WAIT = 1.0


class Standing(Enum):
    """Where one who waits stands."""

    WAITING = "waiting"
    GO = "go"
    STOPPED = "stopped"


@dataclass(slots=True)
class Bell:
    """Rung for one who waits."""

    rung: bool = False


@dataclass(eq=False, slots=True)
class Turn:
    """One request's place. ``standing`` belongs to the lanes' lock; the bell only wakes."""

    operation: Operation
    standing: Standing = Standing.WAITING
    bell: Guarded[Bell] = field(default_factory=lambda: Guarded(Bell()))

    def ring(self) -> None:
        """Wake the one who waits for this turn. Not under the lanes' lock."""
        with self.bell.locked() as bell:
            bell.rung = True

    def sleep(self, seconds: float) -> None:
        """Wait for the bell, at most so long."""
        self.bell.wait_for(lambda bell: bell.rung or None, seconds)


@dataclass(slots=True)
class Lane:
    """The requests of one operation."""

    bucket: TokenBucket
    slots: ConcurrencyLimit
    busy: int = 0
    quiet_until: float = 0.0  # the endpoint asked to be left alone
    waiting: deque[Turn] = field(default_factory=deque)


class Lanes:
    """The state behind the gate's lock.

    Args:
        limits: Of each operation.
        connections: Requests at one time, of all operations. A cancel may go beyond: it never waits behind the others.
    """

    def __init__(self, limits: Mapping[Operation, Limit], connections: int) -> None:
        self._connections = connections
        self._lanes = {
            operation: Lane(TokenBucket.within(limits[operation]), ConcurrencyLimit(limits[operation].at_once))
            for operation in Operation
        }

    def join(self, operation: Operation) -> Turn:
        """Queue up."""
        turn = Turn(operation)
        self._lanes[operation].waiting.append(turn)
        return turn

    def grant(self, now: float) -> list[Turn]:
        """Let go all who may, the most urgent operation first; each holds a slot until ``leave``. Ring them."""
        granted = []
        for operation, lane in self._lanes.items():
            while lane.waiting and self._room(operation, lane) and now >= lane.quiet_until and lane.bucket.take(now):
                lane.busy += 1
                turn = lane.waiting.popleft()
                turn.standing = Standing.GO
                granted.append(turn)
        return granted

    def wait(self, turn: Turn, now: float) -> float:
        """Seconds after which it is worth looking again, bell or no bell."""
        lane = self._lanes[turn.operation]
        place = lane.waiting.index(turn) + 1 if turn in lane.waiting else 1
        wanted = max(lane.bucket.wait(now, place), lane.quiet_until - now)
        return min(max(wanted, _SHORTEST_WAIT), _LONGEST_WAIT)

    def leave(self, operation: Operation) -> None:
        """A request has ended."""
        self._lanes[operation].busy -= 1

    def went(self, operation: Operation, now: float, *, well: bool, quiet: float = 0.0) -> None:
        """How a request ended, for the number of slots; ``quiet``: seconds that the endpoint asked for."""
        lane = self._lanes[operation]
        lane.quiet_until = max(lane.quiet_until, now + quiet)
        if well:
            lane.slots.success()
        else:
            lane.slots.failure(now)

    def give_up(self, turn: Turn) -> None:
        """The one who waited has gone away, whether or not it was let go."""
        if turn.standing is Standing.GO:
            self.leave(turn.operation)
        elif turn in self._lanes[turn.operation].waiting:
            self._lanes[turn.operation].waiting.remove(turn)

    def stop(self, operations: frozenset[Operation]) -> list[Turn]:
        """Stop all who wait for one of these. Ring them."""
        stopped = [turn for operation in operations for turn in self._lanes[operation].waiting]
        for turn in stopped:
            turn.standing = Standing.STOPPED
        for operation in operations:
            self._lanes[operation].waiting.clear()
        return stopped

    def slots(self, operation: Operation) -> int:
        """Requests of this operation allowed at one time now."""
        return self._lanes[operation].slots.allowed

    def waiting(self, operation: Operation) -> int:
        """Requests of this operation that wait."""
        return len(self._lanes[operation].waiting)

    def _room(self, operation: Operation, lane: Lane) -> bool:
        ordinary = sum(one.busy for name, one in self._lanes.items() if name is not Operation.CANCEL)
        free = operation is Operation.CANCEL or ordinary < self._connections
        return free and lane.busy < lane.slots.allowed
