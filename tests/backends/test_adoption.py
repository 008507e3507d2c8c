"""Jobs that an earlier process has left: polled and not posted again, or run again, with a word, exactly once."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import samples
from seedpod.backends.ledger import JobLedger, OpenJob
from seedpod.backends.runpod import OWNED, JobRules, RunPodBackend
from seedpod.errors import EndpointUnreachable, JobFailed, JobGone, PerhapsSubmitted, TrialCancelled
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.wire import EndpointHealth, JobState, JobStatus
from seedpod.trial import TrialResult, TrialSpec

PLACE = "https://e/v2/x"
SPEC = samples.spec(3)


class Table:
    """An endpoint in memory: a job completes at its second poll, unless ``fates`` has another end for it."""

    def __init__(self, ledger: Path) -> None:
        self.posted: list[str] = []
        self.polled: list[str] = []
        self.cancelled: list[str] = []
        self.fates: dict[str, JobState | Exception] = {}
        self.refusals: list[Exception] = []
        self.noted_before: list[bool] = []
        self._ledger = ledger
        self._stopped = False

    def run(self, job: Mapping[str, object], *, execution_timeout: float, ttl: float) -> str:  # noqa: ARG002
        known = JobLedger(self._ledger).left_of(SPEC.uid)
        self.noted_before.append(known is not None and known.job == "")
        if self.refusals:
            raise self.refusals.pop(0)
        self.posted.append(f"new{len(self.posted)}")
        return self.posted[-1]

    def status(self, job_id: str) -> JobStatus:
        known = JobLedger(self._ledger).left_of(SPEC.uid)
        assert known is not None
        assert known.job == job_id, "a job is polled whose id is not on disk"
        self.polled.append(job_id)
        fate = self.fates.get(job_id, JobState.COMPLETED)
        if isinstance(fate, Exception):
            raise fate
        if self.polled.count(job_id) < 2:
            return JobStatus(job_id, JobState.IN_PROGRESS)
        output = {"result": samples.complete(SPEC.number, 0.75).to_wire()} if fate is JobState.COMPLETED else None
        return JobStatus(job_id, fate, output=output)

    def cancel(self, job_id: str) -> JobStatus:
        self.cancelled.append(job_id)
        return JobStatus(job_id, JobState.CANCELLED)

    def health(self) -> EndpointHealth:
        raise EndpointUnreachable("not asked")

    def pause(self, _seconds: float) -> None:
        if self._stopped:
            raise TrialCancelled("stopping")

    def counters(self) -> GateCounters:
        return GateCounters.of({}, BreakerView(BreakerState.CLOSED, 0.0, None, 0))

    def cancel_waiting(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._stopped = True


class Rig:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = Table(path)
        self.said: list[str] = []

    def left(self, **changes: object) -> None:
        """What the process before has noted."""
        JobLedger(self.path).posted(replace(OpenJob(SPEC.uid, 3, 1, PLACE, "old"), **changes))  # type: ignore[arg-type]

    def run(self, spec: TrialSpec = SPEC, retries: int = 0) -> TrialResult:
        backend = RunPodBackend(
            self.table,
            most_at_once=2,
            rules=JobRules(retries=retries),
            say=self.said.append,
            chance=random.Random(1),
            ledger=JobLedger(self.path),
            address=PLACE,
        )
        return backend.run(spec, lambda _: None)


@pytest.fixture(name="rig")
def new_rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "jobs.jsonl")


def test_intent_and_id_are_on_disk_in_time(rig: Rig) -> None:
    """The intent is durable before the job is posted and its id before it is polled."""
    rig.run()
    assert rig.table.noted_before == [True]
    assert rig.table.polled == ["new0", "new0"]


def test_running_job_is_polled_and_not_posted(rig: Rig) -> None:
    """A job that still runs is followed to its end under its own attempt; nothing is posted."""
    rig.left(attempt=2)
    result = rig.run()
    assert (result.value, result.attempts, result.run["job"]) == (0.75, 2, "old")
    assert (rig.table.posted, rig.table.polled) == ([], ["old", "old"])
    assert any("old is taken up again" in line for line in rig.said)


def test_finished_job_is_collected_again(rig: Rig) -> None:
    """A kill after a job's end and before its trial's record costs nothing: the result is read once more."""
    first = rig.run()
    assert rig.run() == first
    assert rig.table.posted == ["new0"]


@pytest.mark.parametrize("fate", [JobGone("job not found"), JobState.CANCELLED])
def test_job_that_is_gone_runs_again(rig: Rig, fate: JobState | Exception) -> None:
    """An expired job, or one cancelled when the search ended, runs again as the next attempt, and is no failure."""
    rig.left()
    rig.table.fates["old"] = fate
    result = rig.run(retries=0)
    assert (result.value, result.attempts, rig.table.posted) == (0.75, 2, ["new0"])
    assert any("runs again" in line for line in rig.said)


def test_intent_without_id_runs_again_and_is_named(rig: Rig) -> None:
    """A job that may or may not exist is posted anew, and the possible twin is named by its uid."""
    rig.left(job="")
    assert rig.run().attempts == 2
    assert rig.table.posted == ["new0"]
    assert any(f"a twin of uid {SPEC.uid} may run" in line for line in rig.said)


def test_job_at_another_endpoint_is_named(rig: Rig) -> None:
    """A job that was posted elsewhere is not polled here; where it is, is said."""
    rig.left(endpoint="https://other/v2/y")
    assert rig.run().value == 0.75
    assert "old" not in rig.table.polled
    assert any("https://other/v2/y" in line for line in rig.said)


def test_job_of_an_owned_endpoint_runs_again_silently(rig: Rig) -> None:
    """The jobs of an endpoint that a search had started for itself ended with it."""
    rig.left(endpoint=OWNED)
    assert rig.run().value == 0.75
    assert rig.said == []


def test_failed_job_counts_as_its_attempt(rig: Rig) -> None:
    """An adopted job that has failed is judged like any other: its trial fails, or is tried again where it may be."""
    rig.left()
    rig.table.fates["old"] = JobState.FAILED
    with pytest.raises(JobFailed):
        rig.run(retries=0)
    assert rig.run(retries=1).value == 0.75
    assert rig.table.posted == ["new0"]


def test_three_resumes_are_counted(rig: Rig) -> None:
    """A trial whose every try is lost to a kill is tried once a start, and the attempts count on."""
    for attempt in (1, 2, 3):
        rig.table.refusals = [KeyboardInterrupt()]  # type: ignore[list-item]
        with pytest.raises(KeyboardInterrupt):
            rig.run()
        left = JobLedger(rig.path).left_of(SPEC.uid)
        assert left is not None
        assert left.attempt == attempt
    assert rig.run().attempts == 4
    assert len(rig.table.posted) == 1


def test_refused_submission_leaves_nothing(rig: Rig) -> None:
    """A submission that was certainly not accepted is nothing to take up; one that perhaps was, is."""
    rig.table.refusals = [EndpointUnreachable("no network")]
    with pytest.raises(EndpointUnreachable):
        rig.run()
    assert JobLedger(rig.path).left_of(SPEC.uid) is None
    rig.table.refusals = [PerhapsSubmitted("no answer")]
    with pytest.raises(PerhapsSubmitted):
        rig.run()
    assert JobLedger(rig.path).left_of(SPEC.uid) is not None


def test_cancelled_job_is_dropped(rig: Rig) -> None:
    """A job that a stop has cancelled is nothing to take up."""

    def stop(_: object) -> None:
        raise TrialCancelled("stop")

    rig.table.cancel_waiting()
    with pytest.raises(TrialCancelled):
        rig.run()
    assert rig.table.cancelled == ["new0"]
    assert JobLedger(rig.path).left_of(SPEC.uid) is None
