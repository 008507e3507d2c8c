"""Faults that the endpoint commits when it is told to: for tests and chaos runs.

A fault is one JSON object. ``operation`` and ``kind`` must be there; every other field has a default::

    {"operation": "status", "kind": "status", "code": 503, "retry_after": 2, "times": 3}
    {"operation": "run", "kind": "drop", "applied": true, "probability": 0.1}

Of one request's faults all ``latency`` ones add up; of the others the first in the list that fires is committed, and
those behind it wait for the next request. So a list of faults with ``times`` 1 is a queue.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

from seedpod.endpoint.job import JobStatus
from seedpod.errors import ConfigError


class Kind(StrEnum):
    """What goes wrong. The first five work on every operation."""

    STATUS = "status"  # answers `code`, with `body` and `retry_after`; `applied`: after the operation took effect
    LATENCY = "latency"  # answers after `seconds` (to `seconds_high`, drawn evenly)
    DROP = "drop"  # cuts the connection without an answer; `applied`: after the operation took effect
    RESET = "reset"  # the same by a TCP reset, as a gateway that restarts does it
    TRUNCATE = "truncate"  # cuts the JSON of the answer in half
    NO_ID = "no_id"  # /run answers without id
    STUCK = "stuck"  # the job that is submitted stays in `state` for ever
    CANCEL = "cancel"  # somebody else cancels the submitted job after `seconds`
    NO_OUTPUT = "no_output"  # /status says COMPLETED without output
    NO_ERROR = "no_error"  # /status says FAILED without error
    LEFTOVER = "leftover"  # /status of an ended job carries its last progress as output
    VALUE = "value"  # every field named `field` in /status' output or in /health is `value`; NaN goes as a bare NaN
    DUPLICATE = "duplicate"  # the job that is taken is handed out once more
    LATE = "late"  # progress counts `seconds` later; `clobber`: also after the job's end, which it undoes


_EVERYWHERE = frozenset({Kind.STATUS, Kind.LATENCY, Kind.DROP, Kind.RESET, Kind.TRUNCATE})
_SUBMIT = frozenset({Kind.NO_ID, Kind.STUCK, Kind.CANCEL})
_STATUS = frozenset({Kind.NO_OUTPUT, Kind.NO_ERROR, Kind.LEFTOVER, Kind.VALUE})
OPERATIONS: dict[str, frozenset[Kind]] = {
    "run": _EVERYWHERE | _SUBMIT,
    "runsync": _EVERYWHERE | _SUBMIT | _STATUS,
    "status": _EVERYWHERE | _STATUS,
    "stream": _EVERYWHERE,
    "cancel": _EVERYWHERE,
    "retry": _EVERYWHERE,
    "purge-queue": _EVERYWHERE,
    "health": _EVERYWHERE | {Kind.VALUE},
    "take": _EVERYWHERE | {Kind.DUPLICATE},
    "stop": _EVERYWHERE,
    "done": _EVERYWHERE,
    "progress": _EVERYWHERE | {Kind.LATE},
    "chunk": _EVERYWHERE,
    "ping": _EVERYWHERE,
}
"""The kinds that each operation knows. From ``take`` on they are the worker's."""

_MOST_FAULTS = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; the module's docstring and ``Kind`` say what the fields do."""

    operation: str
    kind: Kind
    probability: float = 1.0  # of firing at a request that it fits
    times: int = 1_000_000  # fires at most so often
    skip: int = 0  # lets so many requests that it fits pass first
    code: int = 500
    retry_after: float | None = None  # seconds
    body: str = "json"  # or html, empty
    seconds: float = 0.0
    seconds_high: float = 0.0  # 0: exactly `seconds`
    applied: bool = False
    state: JobStatus = JobStatus.IN_QUEUE
    clobber: bool = False
    field: str = "value"
    value: Any = None

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read one; raises ConfigError naming the field that is unknown, mistyped or out of bounds."""
        if not isinstance(data, Mapping):
            raise ConfigError(f"endpoint fault: expected a JSON object, got {type(data).__name__}.")
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigError(f"endpoint fault: unknown field {min(unknown)!r}.")
        for name, value in data.items():
            wanted = _wrong(name, value)
            if wanted:
                raise ConfigError(f"endpoint fault: field {name!r} is {value!r:.80}; it must be {wanted}.")
        operation, kind = data.get("operation"), data.get("kind")
        if operation is None or kind not in OPERATIONS[operation]:
            raise ConfigError(f"endpoint fault: operation {operation!r} has no fault of kind {kind!r}.")
        known = {**data, "kind": Kind(kind)}
        if "state" in data:
            known["state"] = JobStatus(data["state"])
        return cls(**known)


class FaultBook:
    """The faults in force, with how often each has fired; its random choices follow from the seed."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self._faults = list(faults)
        self._fired = [0] * len(self._faults)
        self._met = [0] * len(self._faults)
        self._random = random.Random(seed)

    @classmethod
    def from_wire(cls, data: object, seed: object = 0) -> Self:
        """Read a list of faults; raises ConfigError."""
        if not isinstance(data, list) or len(data) > _MOST_FAULTS:
            raise ConfigError(f"endpoint faults: expected a list of at most {_MOST_FAULTS}.")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ConfigError(f"endpoint faults: seed is {seed!r:.80}; it must be a whole number.")
        return cls([Fault.from_wire(item) for item in data], seed)

    def delay(self, operation: str) -> float:
        """Seconds that this request is to wait."""
        total = 0.0
        for index, fault in enumerate(self._faults):
            if fault.operation == operation and fault.kind is Kind.LATENCY and self._fires(index):
                total += self._random.uniform(fault.seconds, max(fault.seconds, fault.seconds_high))
        return total

    def first(self, operation: str, fits: Callable[[Fault], bool]) -> Fault | None:
        """The fault that this request meets, among those that fit it; latency aside."""
        for index, fault in enumerate(self._faults):
            other = fault.operation != operation or fault.kind is Kind.LATENCY
            if not other and fits(fault) and self._fires(index):
                return fault
        return None

    def fired(self) -> list[int]:
        """How often each fault has been committed, in their order."""
        return list(self._fired)

    def _fires(self, index: int) -> bool:
        fault = self._faults[index]
        if self._fired[index] >= fault.times:
            return False
        self._met[index] += 1
        if self._met[index] <= fault.skip or self._random.random() >= fault.probability:
            return False
        self._fired[index] += 1
        return True


def on_the_wire(fault: Fault) -> bool:
    """Whether the fault touches the answer's transport and not its meaning."""
    return fault.kind in _EVERYWHERE


_NUMBERS: dict[str, tuple[float, float, bool]] = {
    "probability": (0.0, 1.0, False),
    "times": (0, 1_000_000, True),
    "skip": (0, 1_000_000, True),
    "code": (200, 599, True),
    "retry_after": (0.0, 3600.0, False),
    "seconds": (0.0, 3600.0, False),
    "seconds_high": (0.0, 3600.0, False),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "operation": tuple(OPERATIONS),
    "kind": tuple(Kind),
    "body": ("json", "html", "empty"),
    "state": (JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS),
}


def _wrong(name: str, value: object) -> str:
    """What the field must be, where it is not; else empty."""
    if name in _CHOICES:
        return "" if value in _CHOICES[name] else f"one of {', '.join(_CHOICES[name])}"
    if name in {"applied", "clobber"}:
        return "" if isinstance(value, bool) else "true or false"
    if name == "field":
        return "" if isinstance(value, str) else "a text"
    if name not in _NUMBERS:
        return ""
    low, high, whole = _NUMBERS[name]
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and low <= value <= high
    return "" if fits else f"a {'whole ' if whole else ''}number from {low} to {high}"
