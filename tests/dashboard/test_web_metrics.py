"""A search as Prometheus reads it."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import samples
from seedpod.board import TrialBoard
from seedpod.dashboard.web.metrics import exposition
from seedpod.events import Summary, summarize
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.policy import Operation
from seedpod.remote.view import EndpointView
from seedpod.remote.wire import EndpointHealth, JobCounts, WorkerCounts
from web_rig import plan_of

VIEW = EndpointView(
    GateCounters.of(
        {(Operation.RUN, "sent"): 12, (Operation.STATUS, "retried"): 2, (Operation.STATUS, "failed"): 1},
        BreakerView(BreakerState.HALF_OPEN, 0.0, None, 0),
    ),
    EndpointHealth(JobCounts(in_queue=3), WorkerCounts(idle=1, running=2, initializing=1)),
    4,
    8,
)
Sample = tuple[str, tuple[tuple[str, str], ...]]


def board(cost: float | None = 0.5) -> TrialBoard:
    board = TrialBoard(10, 0.0)
    for number in range(5):
        board.start(samples.spec(number), 0.0)
    billed = replace(samples.complete(0, 0.75), seconds=60.0, run={"billed_seconds": 60.0}, cost=cost)
    board.finish(billed, 60.0)
    board.finish(samples.failed(1), 60.0)
    return board


def progress(view: EndpointView | None = VIEW, per_second: float | None = 0.01) -> AggregatedProgress:
    known = board(None if per_second is None else 0.5).snapshot()
    return ConcurrentProgressAggregator(3, "runpod", per_second, 5.0).aggregate(known, 61.0, view)


def read(text: str) -> dict[Sample, float]:
    """Samples by name and labels; the parser refuses what is no exposition."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = float(sample.value)
    return found


def test_all_that_a_search_says() -> None:
    """Trials by state, best, time, money, jobs, workers, breaker and requests are samples of valid families."""
    found = read(exposition(plan_of(Path("results/r")), progress(), None))
    assert found["seedpod_info", (("dataset", "digits"), ("run", "r"))] == 1
    assert found["seedpod_ended", ()] == 0
    states = {"queued": 5, "running": 3, "completed": 1, "pruned": 0, "failed": 1, "cancelled": 0}
    assert {key[1][0][1]: value for key, value in found.items() if key[0] == "seedpod_trials"} == states
    assert found["seedpod_best_value", ()] == 0.75
    assert found["seedpod_elapsed_seconds", ()] == 61
    assert found["seedpod_remaining_seconds", ()] > 0
    assert found["seedpod_spent_usd", ()] == 0.5
    assert found["seedpod_max_usd", ()] == 5
    assert found["seedpod_jobs_in_flight", ()] == 4
    assert found["seedpod_endpoint_workers", (("state", "running"),)] == 2
    assert found["seedpod_endpoint_queue", ()] == 3
    breaker = {key[1][0][1]: value for key, value in found.items() if key[0] == "seedpod_breaker_state"}
    assert breaker == {"closed": 0, "open": 0, "half_open": 1}
    assert found["seedpod_requests_total", (("operation", "run"),)] == 12
    assert found["seedpod_request_retries_total", (("operation", "status"),)] == 2
    assert found["seedpod_requests_failed_total", (("operation", "status"),)] == 1


def test_what_is_not_known_has_no_sample() -> None:
    """Before the first update, without an endpoint, or without a price, nothing is made up."""
    assert len(read(exposition(plan_of(Path("r")), None, None))) == 2
    names = {name for name, _ in read(exposition(plan_of(Path("r")), progress(None, None), None))}
    assert not {name for name in names if "usd" in name and name != "seedpod_max_usd"}
    assert not {name for name in names if "request" in name or "breaker" in name or "job" in name}
    empty = ConcurrentProgressAggregator().aggregate(TrialBoard(3, 0.0).snapshot(), 1.0)
    assert "seedpod_remaining_seconds" not in {n for n, _ in read(exposition(plan_of(Path("r")), empty, None))}


def test_end_of_a_search() -> None:
    """A search that has ended says so."""
    summary: Summary = summarize("r", "done", board().snapshot(), failures=[], importances={}, ended_at=70.0)
    assert read(exposition(plan_of(Path("r")), progress(), summary))["seedpod_ended", ()] == 1


@pytest.mark.parametrize("name", ["a b", 'quote"s', "back\\slash", "Grüße", "line\nfeed"])
def test_labels_are_escaped(name: str) -> None:
    """Any folder's name is a label that reads back as it was."""
    found = read(exposition(plan_of(Path("results") / name), None, None))
    assert ("seedpod_info", (("dataset", "digits"), ("run", name))) in found
