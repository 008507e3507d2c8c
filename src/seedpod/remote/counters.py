"""What a gate has done, for the board and the closing summary."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Self

from seedpod.remote.breaker import BreakerView
from seedpod.remote.policy import Operation


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """What became of one operation's calls.

    Attributes:
        sent: Requests sent.
        waited: Requests that waited for a token or a slot.
        retried: Requests sent again after a failure.
        throttled: Answers 429.
        refused: Calls that were not sent because the breaker was open.
        failed: Calls that ended in an error, after all retries; those refused included.
    """

    sent: int = 0
    waited: int = 0
    retried: int = 0
    throttled: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class GateCounters:
    """The gate at a moment."""

    operations: Mapping[Operation, OperationCounts]
    breaker: BreakerView

    @classmethod
    def of(cls, counts: Mapping[tuple[Operation, str], int], breaker: BreakerView) -> Self:
        """Read from counts by (operation, name)."""
        names = [field.name for field in fields(OperationCounts)]
        operations = {one: OperationCounts(**{name: counts.get((one, name), 0) for name in names}) for one in Operation}
        return cls(MappingProxyType(operations), breaker)
