"""Answers are read tolerantly."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.remote.wire import EndpointHealth, JobCounts, JobState, JobStatus, WorkerCounts

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
STATUS_FIELDS = ["id", "status", "output", "error", "workerId", "delayTime", "executionTime", "retries"]


def test_a_whole_status_is_read() -> None:
    """Every field of RunPod's answer arrives, times in seconds."""
    body = {
        "id": "j",
        "status": "FAILED",
        "output": {"a": 1},
        "error": "boom",
        "workerId": "w",
        "delayTime": 1500,
        "executionTime": 250,
        "retries": 1,
    }
    assert JobStatus.from_answer(body) == JobStatus("j", JobState.FAILED, {"a": 1}, "boom", "w", 1.5, 0.25, 1)


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"status": "COMPLETED"}, "output", None),
        ({"status": "FAILED"}, "error", ""),
        ({"status": "FAILED", "error": {"type": "X"}}, "error", '{"type": "X"}'),
        ({"status": "SLEEPING"}, "state", JobState.UNKNOWN),
        ({"status": "IN_PROGRESS", "delayTime": "1"}, "delay", None),
        ({"status": "IN_PROGRESS", "executionTime": math.nan}, "execution", None),
        ({"status": "IN_PROGRESS", "executionTime": -1}, "execution", None),
        ({"status": "IN_PROGRESS", "retries": math.inf}, "retries", 0),
        ({"status": "IN_PROGRESS", "retries": True}, "retries", 0),
    ],
)
def test_an_odd_field_costs_that_field_alone(body: dict[str, Any], field: str, value: object) -> None:
    """What is missing, of another type or not finite reads as unknown; the rest of the answer stands."""
    status = JobStatus.from_answer(body)
    assert getattr(status, field) == value


@pytest.mark.parametrize("body", [None, [], "x", 1, {}, {"status": None}, {"status": 200}])
def test_what_is_no_status_is_none(body: object) -> None:
    """An answer without a status word is no status."""
    assert JobStatus.from_answer(body) is None


@given(st.dictionaries(st.sampled_from(STATUS_FIELDS), JSON))
def test_no_answer_breaks_the_reader(body: dict[str, Any]) -> None:
    """Whatever stands in the fields, reading raises nothing, and numbers are finite."""
    status = JobStatus.from_answer(body)
    assert status is None or math.isfinite((status.delay or 0) + (status.execution or 0) + status.retries)


@pytest.mark.parametrize(
    ("state", "error", "late"),
    [
        ("TIMED_OUT", "", True),
        ("FAILED", "executionTimeout exceeded", True),
        ("FAILED", "job timed out after 1 retries", False),
        ("COMPLETED", "executionTimeout exceeded", False),
    ],
)
def test_both_forms_of_a_time_out_are_known(state: str, error: str, late: bool) -> None:  # noqa: FBT001
    """TIMED_OUT, as documented, and FAILED with its message, as observed; a lost job is neither."""
    status = JobStatus.from_answer({"status": state, "error": error})
    assert status is not None
    assert status.timed_out is late


def test_a_whole_health_is_read() -> None:
    """Every count of RunPod's answer arrives; odd ones read 0."""
    jobs = {"completed": 1, "failed": 2, "inProgress": 3, "inQueue": 4, "retried": 5}
    workers = {"idle": 1, "initializing": 2, "ready": 3, "running": 4, "throttled": "many", "unhealthy": math.nan}
    expected = EndpointHealth(JobCounts(1, 2, 3, 4, 5), WorkerCounts(1, 2, 3, 4, 0, 0))
    assert EndpointHealth.from_answer({"jobs": jobs, "workers": workers}) == expected
    assert EndpointHealth.from_answer({"workers": {}}) == EndpointHealth(JobCounts(), WorkerCounts())
    assert EndpointHealth.from_answer({"jobs": jobs}) is None
