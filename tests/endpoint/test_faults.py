"""Fault settings: what they accept, and when they fire."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.endpoint.faults import OPERATIONS, Fault, FaultBook, Kind
from seedpod.endpoint.settings import Settings
from seedpod.errors import ConfigError


def book(*faults: dict[str, Any], seed: int = 0) -> FaultBook:
    return FaultBook.from_wire(list(faults), seed)


def fires(faults: FaultBook, times: int, operation: str = "run") -> list[int]:
    """The code that each of so many requests meets; 0 for none."""
    met = (faults.first(operation, lambda _: True) for _ in range(times))
    return [0 if fault is None else fault.code for fault in met]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"operation": "run", "kind": "status", "code": 99}, "code"),
        ({"operation": "run", "kind": "status", "code": True}, "code"),
        ({"operation": "run", "kind": "status", "colour": 1}, "colour"),
        ({"operation": "fly", "kind": "status"}, "operation"),
        ({"kind": "status"}, "operation"),
        ({"operation": "run"}, "kind"),
        ({"operation": "run", "kind": "duplicate"}, "duplicate"),
        ({"operation": "run", "kind": "latency", "seconds": 1e9}, "seconds"),
        ({"operation": "run", "kind": "latency", "seconds": math.nan}, "seconds"),
        ({"operation": "run", "kind": "status", "probability": 1.5}, "probability"),
        ({"operation": "run", "kind": "stuck", "state": "COMPLETED"}, "state"),
        ({"operation": "run", "kind": "drop", "applied": 1}, "applied"),
        ("run", "object"),
    ],
)
def test_a_wrong_fault_is_refused_by_the_name_of_its_field(fault: object, named: str) -> None:
    """Unknown, mistyped and unbounded fields are named in the refusal."""
    with pytest.raises(ConfigError, match=named):
        FaultBook.from_wire([fault])


@given(st.sampled_from(sorted(OPERATIONS)), st.sampled_from(list(Kind)))
def test_an_operation_takes_its_own_kinds_only(operation: str, kind: Kind) -> None:
    """Each pair of operation and kind is either accepted or refused, as the table says."""
    data = {"operation": operation, "kind": str(kind)}
    if kind in OPERATIONS[operation]:
        assert Fault.from_wire(data).kind is kind
    else:
        with pytest.raises(ConfigError):
            Fault.from_wire(data)


def test_faults_that_fire_once_are_a_queue() -> None:
    """Faults with times 1 are met one after another, one a request."""
    one = {"operation": "run", "kind": "status", "times": 1}
    assert fires(book({**one, "code": 503}, {**one, "code": 429}), 3) == [503, 429, 0]


def test_skip_lets_the_first_requests_pass() -> None:
    """A fault with skip 2 fires at the third request."""
    assert fires(book({"operation": "run", "kind": "status", "skip": 2, "times": 1}), 4) == [0, 0, 500, 0]


def test_probability_follows_the_seed() -> None:
    """The same seed fires at the same requests, at about the given share of them; another seed at others."""
    fault = {"operation": "run", "kind": "status", "probability": 0.3}
    first, again, other = (fires(book(fault, seed=seed), 1000) for seed in (1, 1, 2))
    assert first == again != other
    assert 200 < sum(map(bool, first)) < 400


def test_latencies_add_up_within_their_range() -> None:
    """Every latency fault of an operation counts, drawn from its range, and no other operation's."""
    faults = book(
        {"operation": "run", "kind": "latency", "seconds": 1},
        {"operation": "run", "kind": "latency", "seconds": 2, "seconds_high": 3},
        {"operation": "status", "kind": "latency", "seconds": 100},
    )
    assert 3 <= faults.delay("run") <= 4


def test_a_fault_that_does_not_fit_waits() -> None:
    """A fault is used up only by a request that it fits."""
    faults = book({"operation": "status", "kind": "no_output", "times": 1})
    assert faults.first("status", lambda _: False) is None
    assert faults.first("status", lambda _: True) is not None
    assert faults.fired() == [1]


@pytest.mark.parametrize(
    "changes", [{"take_hold": 0}, {"take_hold": "x"}, {"rate_limits": 1}, {"max_retries": 0.5}, {"colour": 1}]
)
def test_a_wrong_setting_is_refused_by_its_name(changes: dict[str, object]) -> None:
    """A setting that is unknown, mistyped or out of bounds is named in the refusal."""
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Settings().updated(changes)
