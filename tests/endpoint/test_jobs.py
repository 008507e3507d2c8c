"""The queue's state machine."""

import itertools

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seedpod.endpoint.job import JobStatus, Submission
from seedpod.endpoint.jobs import GHOST, JobTable
from seedpod.endpoint.settings import Settings

RULES = Settings(heartbeat_timeout=10.0, claim_grace=1.0)


def table() -> JobTable:
    numbers = itertools.count()
    return JobTable(lambda: f"job{next(numbers)}")


def asked(uid: str = "u", **changes: object) -> Submission:
    known: dict[str, object] = {"execution_timeout": 100.0, "ttl": 1000.0, **changes}
    return Submission({"uid": uid}, **known)  # type: ignore[arg-type]


def taken() -> tuple[JobTable, str]:
    jobs = table()
    job = jobs.submit(asked(), 0.0)
    assert jobs.take("w", 2.0) is not None
    return jobs, job.id


def status(jobs: JobTable, job_id: str) -> JobStatus | None:
    job = jobs.get(job_id)
    return None if job is None else job.status


def test_a_finished_job_shows_its_output_and_times_in_milliseconds() -> None:
    """A completed job's view has RunPod's fields: id, status, delayTime, executionTime, workerId, output."""
    jobs, job_id = taken()
    jobs.finish("w", job_id, 5.0, output={"value": 0.5})
    job = jobs.get(job_id)
    assert job is not None
    assert job.view(9.0) == {
        "id": "job0",
        "status": "COMPLETED",
        "delayTime": 2000,
        "executionTime": 3000,
        "workerId": "w",
        "output": {"value": 0.5},
    }


def test_a_queued_job_shows_only_id_and_status() -> None:
    """Optional fields are absent until they are set."""
    assert table().submit(asked(), 0.0).view(1.0) == {"id": "job0", "status": "IN_QUEUE"}


def test_an_error_makes_a_failed_job() -> None:
    """A result with an error ends FAILED and shows the error."""
    jobs, job_id = taken()
    jobs.finish("w", job_id, 5.0, error="boom")
    job = jobs.get(job_id)
    assert job is not None
    assert job.view(5.0)["error"] == "boom"
    assert job.status is JobStatus.FAILED


def test_jobs_are_taken_in_the_order_of_submission() -> None:
    """The queue is first in, first out."""
    jobs = table()
    for uid in "abc":
        jobs.submit(asked(uid), 0.0)
    handed = [jobs.take("w", 1.0) for _ in range(3)]
    assert [job.asked.uid for job in handed if job] == ["a", "b", "c"]
    assert jobs.take("w", 1.0) is None


def test_a_silent_job_is_queued_again_at_the_head_once() -> None:
    """A lost job goes before the waiting ones with retries 1, and fails when it is lost again."""
    jobs, job_id = taken()
    other = jobs.submit(asked("other"), 2.0)
    assert not jobs.reap(RULES, 12.0)
    assert jobs.reap(RULES, 14.0)
    again = jobs.take("v", 15.0)
    assert again is not None
    assert (again.id, again.retries, again.executions) == (job_id, 1, 2)
    jobs.reap(RULES, 27.0)
    job = jobs.get(job_id)
    assert job is not None
    assert (job.status, job.error) == (JobStatus.FAILED, "job timed out after 1 retries")
    assert status(jobs, other.id) is JobStatus.IN_QUEUE


def test_a_ping_keeps_a_job() -> None:
    """A job that its own worker's ping names is not lost; another worker's ping does not count."""
    jobs, job_id = taken()
    jobs.heartbeat("w", [job_id], 12.0)
    jobs.reap(RULES, 20.0)
    assert status(jobs, job_id) is JobStatus.IN_PROGRESS
    jobs.heartbeat("other", [job_id], 22.0)
    jobs.reap(RULES, 23.0)
    assert status(jobs, job_id) is JobStatus.IN_QUEUE


def test_a_stale_result_changes_nothing() -> None:
    """The result of a worker that lost the job is ignored."""
    jobs, job_id = taken()
    jobs.reap(RULES, 14.0)
    jobs.finish("w", job_id, 15.0, output=1)
    assert status(jobs, job_id) is JobStatus.IN_QUEUE


@pytest.mark.parametrize(("documented", "word"), [(False, "FAILED"), (True, "TIMED_OUT")])
def test_the_execution_time_out_ends_a_job(documented: bool, word: str) -> None:  # noqa: FBT001  # pytest passes it
    """Over executionTimeout a job ends FAILED as observed, or TIMED_OUT as documented, and its worker is told."""
    jobs, job_id = taken()
    jobs.heartbeat("w", [job_id], 101.0)
    jobs.reap(Settings(documented_time_out=documented), 103.0)
    job = jobs.get(job_id)
    assert job is not None
    assert (str(job.status), job.error) == (word, "executionTimeout exceeded")
    assert jobs.stops("w") == [job_id]
    assert jobs.stops("w") == []


def test_the_ttl_forgets_a_running_job() -> None:
    """Over its ttl a job is gone, whatever it did, and its worker is told."""
    jobs = table()
    job = jobs.submit(asked(ttl=10.0), 0.0)
    jobs.take("w", 9.0)
    jobs.reap(RULES, 11.0)
    assert jobs.get(job.id) is None
    assert jobs.stops("w") == [job.id]
    assert jobs.executions["u"] == 1


@pytest.mark.parametrize(("sync", "kept"), [(False, 1800.0), (True, 60.0)])
def test_results_are_kept_for_the_documented_time(sync: bool, kept: float) -> None:  # noqa: FBT001  # pytest passes it
    """A result of /run stays 30 minutes, one of /runsync 1 minute."""
    jobs = table()
    job = jobs.submit(asked(sync=sync), 0.0)
    jobs.take("w", 0.0)
    jobs.finish("w", job.id, 0.0, output=1)
    jobs.reap(RULES, kept)
    assert jobs.get(job.id) is not None
    jobs.reap(RULES, kept + 1)
    assert jobs.get(job.id) is None


def test_a_job_without_input_fails_when_it_is_taken() -> None:
    """The SDK refuses a job without input; the endpoint says so and hands out the next one."""
    jobs = table()
    empty = jobs.submit(Submission({}, 100.0, 1000.0), 0.0)
    jobs.submit(asked("next"), 0.0)
    handed = jobs.take("w", 1.0)
    assert handed is not None
    assert handed.asked.uid == "next"
    found = jobs.get(empty.id)
    assert found is not None
    assert "Job has missing field(s)" in found.error


def test_cancel_ends_a_job_at_once_and_an_ended_one_stays() -> None:
    """Cancel is immediate for a waiting or running job, and leaves an ended one unchanged."""
    jobs, job_id = taken()
    waiting = jobs.submit(asked(), 3.0)
    assert jobs.cancel(waiting.id, 3.0).status is JobStatus.CANCELLED
    assert jobs.cancel(job_id, 3.0).status is JobStatus.CANCELLED
    assert jobs.stops("w") == [job_id]
    before = jobs.get(job_id)
    assert jobs.cancel(job_id, 4.0) == before


def test_retry_takes_failed_jobs_only() -> None:
    """A failed job can be queued again, its output cleared; a running one cannot."""
    jobs, job_id = taken()
    assert not jobs.retry(job_id, 3.0)
    jobs.finish("w", job_id, 4.0, error="boom")
    assert jobs.retry(job_id, 5.0)
    again = jobs.take("w", 6.0)
    assert again is not None
    assert (again.error, again.executions) == (None, 2)


def test_purge_cancels_what_waits() -> None:
    """Purging the queue leaves running jobs alone."""
    jobs, job_id = taken()
    jobs.submit(asked(), 0.0)
    assert jobs.purge(3.0) == 1
    assert status(jobs, job_id) is JobStatus.IN_PROGRESS


def test_a_hand_out_that_did_not_arrive_never_was() -> None:
    """A job given back is at the head again, with no retry and no execution counted."""
    jobs, job_id = taken()
    jobs.submit(asked("later"), 2.0)
    jobs.give_back("w", job_id, 3.0)
    again = jobs.take("w", 4.0)
    assert again is not None
    assert (again.id, again.retries, again.executions) == (job_id, 0, 1)


def test_progress_after_the_end_is_ignored_unless_it_may_clobber() -> None:
    """Late progress is dropped; with the clobber fault it makes a completed job IN_PROGRESS again."""
    jobs, job_id = taken()
    jobs.finish("w", job_id, 3.0, output=1)
    jobs.progress("w", job_id, {"step": 1}, 4.0)
    assert status(jobs, job_id) is JobStatus.COMPLETED
    jobs.progress("w", job_id, {"step": 1}, 4.0, clobber=True)
    assert status(jobs, job_id) is JobStatus.IN_PROGRESS


def test_a_duplicate_is_handed_out_twice_and_counted_twice() -> None:
    """Duplicate delivery hands the same job to a second worker; the first one's result counts."""
    jobs = table()
    job = jobs.submit(asked(), 0.0)
    jobs.take("w", 1.0, duplicate=True)
    twin = jobs.take("v", 1.0)
    assert twin is not None
    assert (twin.id, jobs.executions["u"]) == (job.id, 2)
    jobs.finish("v", job.id, 2.0, output="second")
    assert status(jobs, job.id) is JobStatus.IN_PROGRESS
    jobs.finish("w", job.id, 3.0, output="first")
    assert status(jobs, job.id) is JobStatus.COMPLETED


def test_a_job_stuck_in_the_queue_is_never_taken() -> None:
    """The stuck fault keeps a job IN_QUEUE, and those behind it go on."""
    jobs = table()
    job = jobs.submit(asked(stuck_in=JobStatus.IN_QUEUE), 0.0)
    jobs.submit(asked("next"), 0.0)
    handed = jobs.take("w", 1.0)
    assert handed is not None
    assert handed.asked.uid == "next"
    jobs.reap(RULES, 500.0)
    assert status(jobs, job.id) is JobStatus.IN_QUEUE


def test_a_job_stuck_in_progress_stays_until_its_time_out() -> None:
    """The stuck fault keeps a job IN_PROGRESS without a heartbeat; executionTimeout still ends it."""
    jobs = table()
    job = jobs.submit(asked(stuck_in=JobStatus.IN_PROGRESS), 0.0)
    jobs.reap(RULES, 1.0)
    jobs.reap(RULES, 90.0)
    held = jobs.get(job.id)
    assert held is not None
    assert (held.status, held.worker) == (JobStatus.IN_PROGRESS, GHOST)
    jobs.reap(RULES, 102.0)
    assert status(jobs, job.id) is JobStatus.FAILED


def test_somebody_else_cancels() -> None:
    """The cancel fault cancels a job by itself after its seconds."""
    jobs = table()
    job = jobs.submit(asked(cancel_after=5.0), 0.0)
    jobs.reap(RULES, 4.0)
    assert status(jobs, job.id) is JobStatus.IN_QUEUE
    jobs.reap(RULES, 6.0)
    assert status(jobs, job.id) is JobStatus.CANCELLED


class Endpoint(RuleBasedStateMachine):
    """Clients, workers and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = table()
        self.now = 0.0
        self.ends: dict[str, JobStatus] = {}
        self.retried: set[str] = set()

    def some(self, index: int) -> str | None:
        known = [job.id for job in self.jobs]
        return known[index % len(known)] if known else None

    @rule(uid=st.sampled_from("abc"), sync=st.booleans(), empty=st.booleans(), ttl=st.sampled_from([20.0, 1000.0]))
    def submit(self, uid: str, sync: bool, empty: bool, ttl: float) -> None:  # noqa: FBT001  # hypothesis passes them
        self.jobs.submit(Submission({} if empty else {"uid": uid}, 30.0, ttl, sync), self.now)

    @rule(worker=st.sampled_from("vw"))
    def take(self, worker: str) -> None:
        self.jobs.take(worker, self.now)

    @rule(worker=st.sampled_from("vw"), index=st.integers(0, 20), error=st.booleans())
    def finish(self, worker: str, index: int, error: bool) -> None:  # noqa: FBT001  # hypothesis passes it
        if job_id := self.some(index):
            self.jobs.finish(worker, job_id, self.now, output=None if error else 1, error="boom" if error else None)

    @rule(worker=st.sampled_from("vw"), index=st.integers(0, 20))
    def progress_and_ping(self, worker: str, index: int) -> None:
        if job_id := self.some(index):
            self.jobs.progress(worker, job_id, {"step": 1}, self.now)
            self.jobs.heartbeat(worker, [job_id], self.now)

    @rule(worker=st.sampled_from("vw"), index=st.integers(0, 20))
    def give_back(self, worker: str, index: int) -> None:
        if job_id := self.some(index):
            self.jobs.give_back(worker, job_id, self.now)

    @rule(index=st.integers(0, 20))
    def cancel(self, index: int) -> None:
        if job_id := self.some(index):
            self.jobs.cancel(job_id, self.now)

    @rule(index=st.integers(0, 20))
    def retry(self, index: int) -> None:
        if (job_id := self.some(index)) and self.jobs.retry(job_id, self.now):
            self.ends.pop(job_id, None)

    @rule()
    def purge(self) -> None:
        self.jobs.purge(self.now)

    @rule(seconds=st.sampled_from([0.1, 5.0, 40.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.jobs.reap(RULES, self.now)

    @invariant()
    def counts_add_up(self) -> None:
        tally = self.jobs.tally()
        assert self.jobs.submitted == self.jobs.forgotten + tally.total()
        assert sum(self.jobs.busy().values()) == tally[JobStatus.IN_PROGRESS]
        assert self.jobs.waiting() == tally[JobStatus.IN_QUEUE]

    @invariant()
    def an_end_is_an_end(self) -> None:
        for job in self.jobs:
            if job.id in self.ends:
                assert job.status is self.ends[job.id]
            if job.status.terminal:
                self.ends[job.id] = job.status
            assert job.status.terminal == (job.ended is not None)
            assert job.view(self.now)["status"] == job.status

    def teardown(self) -> None:
        """Whatever happened, enough time ends and forgets every job."""
        for _ in range(8):
            self.now += 2000.0
            self.jobs.reap(RULES, self.now)
        assert not list(self.jobs)


TestEndpoint = Endpoint.TestCase
TestEndpoint.settings = hypothesis_settings(max_examples=60, stateful_step_count=40)
