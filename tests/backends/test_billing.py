"""Billed seconds: what every attempt of a trial executed, whatever became of it."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

import samples
from fake_clock import FakeClock
from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.runpod import JobRules, RunPodBackend
from seedpod.errors import EndpointUnreachable, JobFailed, TrialCancelled
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.view import OnEndpoint
from seedpod.remote.wire import EndpointHealth, JobCounts, JobState, JobStatus, WorkerCounts
from seedpod.trial import TrialProgress
from thread_backend import ThreadBackend

SPEC = samples.spec(3)
RESULT = {"result": samples.complete(3, 0.5).to_wire()}
RUNNING = JobStatus("j", JobState.IN_PROGRESS, samples.PROGRESS.to_wire(), "", "w1", 2.0, 4.0)
DONE = JobStatus("j", JobState.COMPLETED, RESULT, "", "w1", 2.0, 9.5)
LOST = JobStatus("j", JobState.FAILED, None, "job timed out after 1 retries", "w1", 2.0, 30.25)


class Script:
    """An endpoint that answers to status what it is told to, one answer after the other; each poll takes 1 s."""

    def __init__(self, *answers: JobStatus | Exception) -> None:
        self._answers = list(answers)
        self.clock = FakeClock()

    def run(self, _job: Mapping[str, object], *, execution_timeout: float, ttl: float) -> str:
        assert execution_timeout < ttl
        return "j"

    def status(self, _job_id: str) -> JobStatus:
        self.clock.sleep(1.0)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, _job_id: str) -> JobStatus:
        return replace(RUNNING, state=JobState.CANCELLED)

    def health(self) -> EndpointHealth:
        return EndpointHealth(JobCounts(in_queue=1), WorkerCounts(running=2))

    def counters(self) -> GateCounters:
        return GateCounters.of({}, BreakerView(BreakerState.CLOSED, 0.0, None, 0))

    def pause(self, seconds: float) -> None: ...

    def cancel_waiting(self) -> None: ...

    def close(self) -> None: ...


def backend(script: Script, retries: int = 2) -> RunPodBackend:
    return RunPodBackend(
        script,
        most_at_once=2,
        rules=JobRules(retries=retries, patience=0.0),
        clock=script.clock,
        chance=random.Random(1),
    )


def ignore(_: TrialProgress) -> None: ...


def test_attempts_add_up() -> None:
    """A trial that was lost twice is billed for all three attempts; the wait in the queue is told apart."""
    result = backend(Script(RUNNING, LOST, LOST, RUNNING, DONE)).run(SPEC, ignore)
    assert result.run["billed_seconds"] == 30.25 + 30.25 + 9.5
    assert (result.run["execution_seconds"], result.run["queue_seconds"], result.attempts) == (9.5, 2.0, 3)


def test_failed_trial_is_billed_too() -> None:
    """When the last attempt is lost as well, the error carries what all of them were billed."""
    with pytest.raises(JobFailed) as caught:
        backend(Script(LOST, LOST), retries=1).run(SPEC, ignore)
    assert caught.value.run["billed_seconds"] == 60.5


def test_stopped_trial_is_billed_as_seen() -> None:
    """A job that is cancelled while it runs is billed at least for what was seen of it."""

    def stop(_: TrialProgress) -> None:
        raise TrialCancelled("enough")

    with pytest.raises(TrialCancelled) as caught:
        backend(Script(RUNNING)).run(SPEC, stop)
    assert caught.value.run["billed_seconds"] == 4.0


def test_job_that_never_began_costs_nothing() -> None:
    """A job that only waited is not billed."""
    waiting = replace(RUNNING, state=JobState.IN_QUEUE, output=None, execution=None)
    with pytest.raises(EndpointUnreachable) as caught:
        backend(Script(waiting, EndpointUnreachable("away"))).run(SPEC, ignore)
    assert caught.value.run["billed_seconds"] == 0.0


def test_second_search_of_a_spec_starts_at_zero() -> None:
    """What a trial was billed is told once."""
    remote = backend(Script(LOST, DONE, DONE))
    assert remote.run(SPEC, ignore).run["billed_seconds"] == 39.75
    assert remote.run(SPEC, ignore).run["billed_seconds"] == 9.5


def test_trial_that_moves_takes_its_bill_along() -> None:
    """A trial that ends on this machine keeps what it was billed before, and says where it runs."""
    seen: list[TrialProgress] = []
    remote = backend(Script(LOST, EndpointUnreachable("away")))
    both = FallbackBackend(remote, ThreadBackend)
    result = both.run(samples.spec(3, params={}), seen.append)
    assert result.run == {"billed_seconds": 30.25}
    assert {progress.backend for progress in seen} == {"local"}


def test_progress_says_where() -> None:
    """Progress of a remote trial names backend and worker."""
    seen: list[TrialProgress] = []
    progress = replace(samples.PROGRESS, number=3).to_wire()
    backend(Script(replace(RUNNING, output=progress), DONE)).run(SPEC, seen.append)
    assert [(each.backend, each.worker) for each in seen] == [("runpod", "w1")]


def test_view_of_an_endpoint() -> None:
    """A backend on an endpoint can be looked at: health, counters, jobs in flight."""
    remote = backend(Script())
    for one in (remote, FallbackBackend(remote, ThreadBackend)):
        assert isinstance(one, OnEndpoint)
        view = one.view()
        assert view is not None
        assert view.health is not None
        assert (view.health.workers.running, view.in_flight, view.allowed) == (2, 0, 2)
