"""How many trainer processes fit into memory: pure policy, fed numbers.

It decides when trials start and nothing else, so that the same seed gives the same study whatever the memory. One trial
may always run: it is told soon enough that it is too large, where a search that waits for memory would tell nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seedpod.training.memory import Room

FIRST = 400.0
"""MB that a trial is expected to hold before one has ended: a process with TensorFlow waits with 200, and trains on
digits with 250 to 310 (measured)."""
LEAST = 1.0
"""MB that a process holds at least, whatever was measured: less makes more of them than can be counted."""
LATEST = 16
"""Ended trials whose peaks are remembered."""
RESERVE = 0.05
"""Share of the memory that stays free for everything else, where the limit is the machine's or the container's own."""
LEAST_RESERVE = 128.0
"""And MB of it at least: the optimizer itself, and what the kernel needs to stay alive."""
MARGIN = 1.1
"""A process more needs so many times the memory that it is expected to hold: nothing is to come and go every second."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What trainer processes hold, in MB.

    Attributes:
        processes: What each living process holds now.
        peaks: The most that each of the latest trials has held.
    """

    processes: Sequence[float] = ()
    peaks: Sequence[float] = ()

    @property
    def expected(self) -> float:
        """What one process may come to hold: the most that any has held of late, or a guess before that is known."""
        return max(*(self.peaks or [FIRST]), *self.processes, LEAST)


@dataclass(frozen=True, slots=True)
class Fit:
    """How many processes fit.

    Attributes:
        processes: So many, 1 at least.
        each: MB that one is expected to hold.
        budget: MB that all may hold together.
        where: Whose limit that is, in words.
    """

    processes: int
    each: float
    budget: float
    where: str


def short(room: Room) -> bool:
    """Whether memory is about to run out: less is free than is to stay free."""
    return room.free is not None and room.free < _reserve(room)


def fit(most: int, now: int, holdings: Holdings, room: Room, limit: float | None) -> Fit:
    """How many trainer processes may live.

    Args:
        most: Processes that are wished.
        now: Processes that may live so far.
        holdings: What they hold.
        room: What the machine or its container has.
        limit: MB that all of them may hold together, ``memory_limit``; None for the room alone.
    """
    held = sum(holdings.processes)
    reserve = _reserve(room)
    budget, where = room.total - reserve, room.where
    if room.free is not None:
        budget = min(budget, held + room.free - reserve)
    if limit is not None and limit < budget:
        budget, where = limit, "memory_limit"
    each = holdings.expected
    return Fit(_count(most, now, budget / each), each, max(0.0, budget), where)


def _reserve(room: Room) -> float:
    return max(LEAST_RESERVE, RESERVE * room.total)


def _count(most: int, now: int, fitting: float) -> int:
    """Fewer at once; one more only where it fits with a margin."""
    fits = max(1, min(most, math.floor(fitting)))
    return fits if fits <= now else max(now, 1, min(most, math.floor(fitting / MARGIN)))
