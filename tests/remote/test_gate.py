"""The gate around a real client, against the real embedded endpoint and its faults."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rig import KEY, NEVER_OPEN, Server, at_once, client_at, endpoint, gate_of, submit, wait_until

from fake_clock import FakeClock
from seedpod.clock import SystemClock
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import (
    BreakerOpen,
    EndpointBusy,
    EndpointRefused,
    EndpointUnreachable,
    JobGone,
    PerhapsSubmitted,
    TrialCancelled,
)
from seedpod.remote.breaker import BreakerRules, BreakerState
from seedpod.remote.gate import Gate
from seedpod.remote.policy import Backoff, Limit, Operation
from seedpod.remote.wire import JobState, JobStatus

SLOW = Backoff(base=30.0, longest=30.0, total=600.0)
ONCE = Backoff(total=0.0)


@pytest.fixture(scope="module")
def served() -> Iterator[EmbeddedEndpoint]:
    with endpoint() as running:
        yield running


@pytest.fixture
def control(served: EmbeddedEndpoint) -> EmbeddedEndpoint:
    """The endpoint, without faults."""
    served.set_faults([])
    return served


def sent(control: EmbeddedEndpoint, operation: str) -> int:
    """Requests of an operation that reached the endpoint."""
    return sum(control.state()["requests"].get(operation, {}).values())


def test_calls_pass_and_are_counted(control: EmbeddedEndpoint) -> None:
    """A healthy endpoint is asked once per call."""
    with gate_of(control) as gate:
        job = submit(gate)
        assert gate.status(job).state is JobState.IN_QUEUE
        assert gate.cancel(job).state is JobState.CANCELLED
        assert gate.health().workers.running == 0
        counters = gate.counters()
    assert [counters.operations[one].sent for one in Operation] == [1, 1, 1, 1]
    assert {counters.operations[one].failed for one in Operation} == {0}
    assert counters.breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("operation", ["status", "cancel", "health"])
def test_one_dropped_poll_does_not_end_the_wait(control: EmbeddedEndpoint, operation: str) -> None:
    """502 HTML, 524, 429 with Retry-After, a reset and half a JSON in a row: the answer after them is what counts."""
    faults: list[dict[str, Any]] = [
        {"kind": "status", "code": 502, "body": "html"},
        {"kind": "status", "code": 524, "body": "empty"},
        {"kind": "status", "code": 429, "retry_after": 0.1},
        {"kind": "drop"},
        {"kind": "truncate"},
    ]
    with gate_of(control) as gate:
        job = submit(gate)
        control.set_faults([{"operation": operation, "times": 1, **fault} for fault in faults])
        assert gate.health() if operation == "health" else getattr(gate, operation)(job)
        counts = gate.counters().operations[Operation(operation)]
    assert (counts.sent, counts.retried, counts.throttled, counts.failed) == (6, 5, 1, 0)


@pytest.mark.parametrize("code", [429, 503])
def test_a_submission_that_was_not_accepted_is_tried_again(control: EmbeddedEndpoint, code: int) -> None:
    """After 429 and 503 the job is posted again, and is there once."""
    with gate_of(control) as gate:
        before = control.state()["submitted"]
        control.set_faults([{"operation": "run", "kind": "status", "code": code, "times": 2}])
        assert submit(gate)
        assert control.state()["submitted"] == before + 1
        assert gate.counters().operations[Operation.RUN].retried == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "applied": True},
        {"kind": "status", "code": 502, "applied": True},
        {"kind": "truncate"},
        {"kind": "no_id"},
    ],
)
def test_a_submission_in_doubt_is_never_posted_twice(control: EmbeddedEndpoint, fault: dict[str, Any]) -> None:
    """Where the answer was lost and the job exists, the gate posts nothing more and says that it may."""
    with gate_of(control) as gate:
        before = control.state()["submitted"]
        control.set_faults([{"operation": "run", **fault}])
        with pytest.raises(PerhapsSubmitted, match="may run"):
            submit(gate)
        assert control.state()["submitted"] == before + 1


def test_what_is_refused_is_asked_once(control: EmbeddedEndpoint) -> None:
    """401, 404 on /run and 404 on /status are answers: no second try, and the breaker stays closed."""
    with gate_of(control, breaker=BreakerRules(consecutive=1)) as gate:
        control.set_faults([{"operation": "run", "kind": "status", "code": 401, "times": 1}])
        with pytest.raises(EndpointRefused):
            submit(gate)
        control.set_faults([{"operation": "run", "kind": "status", "code": 404, "times": 1}])
        with pytest.raises(EndpointRefused):
            submit(gate)
        with pytest.raises(JobGone):
            gate.status("unknown")
        counters = gate.counters()
    assert [(one.sent, one.failed) for one in counters.operations.values()] == [(0, 0), (2, 2), (1, 1), (0, 0)]
    assert counters.breaker.state is BreakerState.CLOSED


def test_retries_end_with_their_total_time(control: EmbeddedEndpoint) -> None:
    """An endpoint that stays down is given up after the backoff's total, with the last error."""
    control.set_faults([{"operation": "status", "kind": "status", "code": 500}])
    with gate_of(control, backoff=Backoff(base=0.02, longest=0.1, total=0.5)) as gate:
        with pytest.raises(EndpointUnreachable, match="HTTP 500"):
            gate.status("x")
        assert gate.counters().operations[Operation.STATUS].failed == 1


def test_retry_after_is_kept(control: EmbeddedEndpoint) -> None:
    """Nobody asks again before the time that the endpoint named: neither the one who was told nor the others."""
    control.set_faults([{"operation": "status", "kind": "status", "code": 429, "retry_after": 0.6, "times": 1}])
    with gate_of(control) as gate:
        job = submit(gate)
        began, told = time.monotonic(), gate.counters
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(gate.status, job)
            wait_until(lambda: told().operations[Operation.STATUS].throttled == 1)
            gate.status(job)
            assert time.monotonic() - began >= 0.55
            assert first.result().state is JobState.IN_QUEUE


def test_a_retry_after_beyond_the_total_is_not_waited_for(control: EmbeddedEndpoint) -> None:
    """An hour is not slept through: the call fails at once, as busy."""
    control.set_faults([{"operation": "run", "kind": "status", "code": 429, "retry_after": 3600}])
    with gate_of(control) as gate, pytest.raises(EndpointBusy):
        submit(gate)


def test_an_open_breaker_fails_fast_and_lets_a_cancel_through(control: EmbeddedEndpoint) -> None:
    """After failures in a row nothing is sent but cancels, and the refusal says what was wrong and for how long."""
    with gate_of(control, backoff=ONCE, breaker=BreakerRules(consecutive=3, rest=60.0)) as gate:
        job = submit(gate)
        control.set_faults([{"operation": "status", "kind": "status", "code": 500}])
        for _ in range(3):
            with pytest.raises(EndpointUnreachable):
                gate.status(job)
        before = sent(control, "status")
        with pytest.raises(BreakerOpen, match=r"3 times in a row.*HTTP 500") as caught:
            gate.status(job)
        assert 50.0 < (caught.value.retry_after or 0.0) <= 60.0
        assert sent(control, "status") == before
        assert gate.cancel(job).state is JobState.CANCELLED
        counters = gate.counters()
        assert counters.breaker.state is BreakerState.OPEN
        assert counters.operations[Operation.STATUS].refused == 1


def test_a_half_open_breaker_lets_exactly_one_call_through(control: EmbeddedEndpoint) -> None:
    """When its rest is over, one of eight callers reaches the endpoint; its success opens the way for all."""
    clock = FakeClock()
    with gate_of(control, backoff=ONCE, breaker=BreakerRules(consecutive=2, rest=30.0), clock=clock) as gate:
        job = submit(gate)
        control.set_faults([{"operation": "status", "kind": "status", "code": 500, "times": 2}])
        at_once([lambda: gate.status(job)] * 2)
        control.set_faults([{"operation": "status", "kind": "latency", "seconds": 0.5}])
        clock.sleep(29.0)
        assert gate.counters().breaker.state is BreakerState.OPEN
        clock.sleep(1.0)
        assert gate.counters().breaker.state is BreakerState.HALF_OPEN
        before = sent(control, "status")
        ends = at_once([lambda: gate.status(job)] * 8)
        assert sent(control, "status") == before + 1
        assert sorted(type(end) is BreakerOpen for end in ends) == [False] + [True] * 7
        assert gate.counters().breaker.state is BreakerState.CLOSED
        # Those who were refused have given their slots back.
        assert all(isinstance(end, JobStatus) for end in at_once([lambda: gate.status(job)] * 8))


def test_a_failed_probe_opens_the_breaker_again(control: EmbeddedEndpoint) -> None:
    """A probe that fails leaves the endpoint alone for twice as long."""
    clock = FakeClock()
    with gate_of(control, backoff=ONCE, breaker=BreakerRules(consecutive=1, rest=30.0), clock=clock) as gate:
        control.set_faults([{"operation": "health", "kind": "drop"}])
        for wait in (30.0, 60.0):
            with pytest.raises(EndpointUnreachable):
                gate.health()
            view = gate.counters().breaker
            assert (view.probe_at or 0.0) - clock.now() == wait
            clock.sleep(wait)


def test_slots_bound_the_requests_at_one_time(control: EmbeddedEndpoint) -> None:
    """Nine slow calls through three slots take three rounds; six of them are counted as having waited."""
    control.set_faults([{"operation": "status", "kind": "latency", "seconds": 0.5}])
    with gate_of(control, limits={Operation.STATUS: Limit(2000, 3, burst=400)}) as gate:
        job, began = submit(gate), time.monotonic()
        at_once([lambda: gate.status(job)] * 9)
        assert time.monotonic() - began >= 1.5
        counts = gate.counters().operations[Operation.STATUS]
    assert (counts.sent, counts.waited, counts.failed) == (9, 6, 0)


def test_many_cancels_stay_within_the_documented_limit(control: EmbeddedEndpoint) -> None:
    """Sixty cancels at once, against the endpoint's own limits, meet no 429: ten of them wait for their tokens."""
    with gate_of(control, connections=60) as gate:
        jobs = [submit(gate) for _ in range(60)]
        began = time.monotonic()
        ends = at_once([lambda job=job: gate.cancel(job) for job in jobs])  # type: ignore[misc]
        took = time.monotonic() - began
        counts = gate.counters().operations[Operation.CANCEL]
    assert all(isinstance(end, JobStatus) and end.state is JobState.CANCELLED for end in ends)
    assert (counts.throttled, counts.failed) == (0, 0)
    assert took >= 2.0


def test_the_more_urgent_goes_first(control: EmbeddedEndpoint) -> None:
    """With one connection, busy: a later submission overtakes the poll that waits, and a cancel overtakes all."""
    control.set_faults([{"operation": "status", "kind": "latency", "seconds": 0.5, "times": 1}])
    order: list[str] = []
    with gate_of(control, connections=1) as gate, ThreadPoolExecutor(4) as pool:
        job = submit(gate)
        calls = {
            "slow": lambda: gate.status(job),
            "status": lambda: gate.status(job),
            "run": lambda: submit(gate),
            "cancel": lambda: gate.cancel(job),
        }
        for name, call in calls.items():
            pool.submit(call).add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
            time.sleep(0.05)
    assert order == ["cancel", "slow", "run", "status"]


def stopped(gate: Gate, call: Any) -> None:
    """The call, waiting now, is ended as cancelled by ``cancel_waiting``; left alone it would have an answer."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        time.sleep(0.2)
        assert not future.done()
        gate.cancel_waiting()
        assert isinstance(future.exception(30), TrialCancelled)


def test_a_call_that_backs_off_is_stopped_at_once(control: EmbeddedEndpoint) -> None:
    """Who sleeps before a retry wakes when the search stops."""
    control.set_faults([{"operation": "status", "kind": "status", "code": 500}])
    with gate_of(control, backoff=SLOW) as gate:
        stopped(gate, lambda: gate.status("x"))


def test_a_call_that_waits_for_a_token_is_stopped_at_once(control: EmbeddedEndpoint) -> None:
    """Who waits for a token wakes when the search stops."""
    with gate_of(control, limits={Operation.STATUS: Limit(1, 1, burst=1)}) as gate:
        job = submit(gate)
        gate.status(job)
        stopped(gate, lambda: gate.status(job))


def test_a_call_that_waits_for_a_slot_is_stopped_at_once(control: EmbeddedEndpoint) -> None:
    """Who waits for a slot wakes when the search stops, while the call that holds it goes on to its answer."""
    control.set_faults([{"operation": "health", "kind": "latency", "seconds": 1.0}])
    with gate_of(control, connections=1) as gate, ThreadPoolExecutor(1) as pool:
        holder = pool.submit(gate.health)
        time.sleep(0.2)
        stopped(gate, lambda: submit(gate))
        assert holder.result().workers.running == 0


def test_a_pause_is_stopped_at_once(control: EmbeddedEndpoint) -> None:
    """Who sleeps between two polls wakes when the search stops; else it sleeps its time."""
    with gate_of(control) as gate:
        began = time.monotonic()
        gate.pause(0.1)
        assert time.monotonic() - began >= 0.1
        stopped(gate, lambda: gate.pause(60.0))


def test_while_stopping_cancels_alone_go_through(control: EmbeddedEndpoint) -> None:
    """After ``cancel_waiting`` a cancel is sent, with its retries, and nothing else is; after ``close`` nothing is."""
    with gate_of(control) as gate:
        job = submit(gate)
        gate.cancel_waiting()
        for call in (lambda: submit(gate), lambda: gate.status(job), gate.health, lambda: gate.pause(0.0)):
            with pytest.raises(TrialCancelled):
                call()
        control.set_faults([{"operation": "cancel", "kind": "status", "code": 500, "times": 2}])
        assert gate.cancel(job).state is JobState.CANCELLED
        gate.close()
        with pytest.raises(TrialCancelled):
            gate.cancel(job)


def test_many_threads_through_many_faults(control: EmbeddedEndpoint) -> None:
    """64 threads, a third of whose polls fail in every way, all get their answers; nothing is left behind."""
    kinds: list[dict[str, Any]] = [
        {"kind": "drop"},
        {"kind": "truncate"},
        {"kind": "status", "code": 503, "body": "html"},
        {"kind": "status", "code": 429, "retry_after": 0.05},
    ]
    threads = threading.active_count()
    with gate_of(control, connections=64, breaker=NEVER_OPEN) as gate:
        job = submit(gate)
        control.set_faults([{"operation": "status", "probability": 0.1, **kind} for kind in kinds], seed=3)
        ends = at_once([lambda: [gate.status(job) for _ in range(5)]] * 64)
        counts = gate.counters().operations[Operation.STATUS]
    assert all(isinstance(end, list) for end in ends)
    assert counts.sent == 320 + counts.retried
    assert counts.retried > 30
    assert threading.active_count() == threads


def test_the_gate_says_no_key() -> None:
    """Neither the gate's errors nor its counters hold the key, though the server echoes it."""
    with Server(KEY.encode()) as server:
        gate = Gate(client_at(server.url), SystemClock(), random.Random(1))
        with pytest.raises(PerhapsSubmitted) as caught:
            submit(gate)
        gate.close()
    assert KEY not in f"{caught.value} {caught.value.detail} {gate.counters()} {gate!r}"


def test_counters_are_frozen(control: EmbeddedEndpoint) -> None:
    """A snapshot stays what it was while the gate goes on, and cannot be changed."""
    with gate_of(control) as gate:
        before = gate.counters()
        submit(gate)
        assert before.operations[Operation.RUN].sent == 0
        with pytest.raises(TypeError):
            before.operations[Operation.RUN] = before.operations[Operation.STATUS]  # type: ignore[index]
