"""Trials as jobs of an endpoint: every way in which endpoint, worker or network fail, on the real ones."""

import base64
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import InProcess, eventually
from runpod_rig import (
    Act,
    HandWorker,
    Lines,
    answers,
    backend_on,
    completes,
    executions,
    ignore,
    jobs_of,
    live,
    new_spec,
    result_of,
    sleeps,
    trials,
    well,
    working,
)
from seedpod.backends.runpod import why_waiting
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import (
    BreakerOpen,
    Cause,
    ContractMismatch,
    EndpointRefused,
    JobFailed,
    JobGone,
    JobOverdue,
    PerhapsSubmitted,
    RequestRefused,
    TrainingError,
    TrialCancelled,
    TrialError,
    TrialPruned,
)
from seedpod.remote.breaker import BreakerRules
from seedpod.remote.view import JobListener
from seedpod.remote.wire import EndpointHealth
from seedpod.trial import Status, TrialProgress, TrialRequest, TrialResult

pytestmark = pytest.mark.processes

Fault = dict[str, Any]


def fault(operation: str, kind: str, times: int = 1, **more: Any) -> Fault:
    return {"operation": operation, "kind": kind, "times": times, **more}


@pytest.fixture(name="endpoint")
def whole_endpoint(farm: EmbeddedEndpoint) -> Iterator[EmbeddedEndpoint]:
    """The farm; afterwards without faults, and without a job that nobody ended or cancelled."""
    yield farm
    farm.set_faults([])
    farm.set_settings(documented_time_out=False)
    eventually(lambda: not live(farm), 15)


@pytest.fixture(name="bare")
def endpoint_without_workers() -> Iterator[InProcess]:
    """An endpoint whose worker is the test; afterwards without a job that nobody ended or cancelled."""
    with InProcess() as endpoint:
        yield endpoint
        eventually(lambda: not live(endpoint), 15)


def test_facts_of_the_job_are_in_the_result(endpoint: EmbeddedEndpoint) -> None:
    """A result says which job of which worker it was, at which attempt, how long it waited and how long it ran."""
    with closing(backend_on(endpoint)) as backend:
        spec = new_spec(4, pause=0.2)
        result = backend.run(spec, ignore)
    (job,) = jobs_of(endpoint, spec)
    assert well(result, spec)
    assert (result.backend, result.attempts) == ("runpod", 1)
    worker = endpoint.state()["jobs"][job]["worker"]
    assert {name: result.run[name] for name in ("job", "worker", "attempt")} == {
        "job": job,
        "worker": worker,
        "attempt": 1,
    }
    assert float(result.run["queue_seconds"]) >= 0
    assert float(result.run["execution_seconds"]) >= 0.8


# ---- what happens to a submission

NEVER_AGAIN = [
    (fault("run", "status", code=401), EndpointRefused, "RUNPOD_API_KEY"),
    (fault("run", "status", code=403), EndpointRefused, "RUNPOD_API_KEY"),
    (fault("run", "status", code=404), EndpointRefused, "does not exist"),
    (fault("run", "status", code=400), RequestRefused, "HTTP 400"),
]


@pytest.mark.parametrize(("met", "kind", "said"), NEVER_AGAIN, ids=["401", "403", "404", "400"])
def test_a_refused_submission_is_not_tried_again(
    endpoint: EmbeddedEndpoint, met: Fault, kind: type[TrialError], said: str
) -> None:
    """Bad key, unknown endpoint and malformed request end the trial at the first answer, and say what to look at."""
    endpoint.set_faults([met])
    spec = new_spec()
    with closing(backend_on(endpoint)) as backend, pytest.raises(kind, match=said) as caught:
        backend.run(spec, ignore)
    assert caught.value.cause is Cause.ENDPOINT
    assert caught.value.run == {"attempt": 1, "billed_seconds": 0.0}
    assert not jobs_of(endpoint, spec)


def test_a_request_that_is_too_large_is_not_tried_again(endpoint: EmbeddedEndpoint) -> None:
    """Eleven megabytes are refused by the endpoint's own limit; the trial fails alone and says so."""
    with closing(backend_on(endpoint)) as backend:
        with pytest.raises(RequestRefused, match="exceeded max body size"):
            backend.run(new_spec(heavy=base64.b64encode(random.Random(1).randbytes(9 * 2**20)).decode()), ignore)
        spec = new_spec()
        assert well(backend.run(spec, ignore), spec)


NOT_ACCEPTED = [
    fault("run", "status", code=429, times=3),
    fault("run", "status", code=429, times=3, body="html"),
    fault("run", "status", code=503, times=3, body="html"),
]


@pytest.mark.parametrize("met", NOT_ACCEPTED, ids=["429", "429 without JSON", "503"])
def test_a_submission_that_was_not_accepted_is_repeated_unseen(endpoint: EmbeddedEndpoint, met: Fault) -> None:
    """Where the endpoint certainly took nothing, the same attempt is sent again and runs once."""
    endpoint.set_faults([met])
    spec = new_spec()
    with closing(backend_on(endpoint)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec), len(jobs_of(endpoint, spec))) == (1, 1, 1)


def test_retry_after_is_honoured(endpoint: EmbeddedEndpoint) -> None:
    """A 429 with Retry-After of a second is waited for."""
    endpoint.set_faults([fault("run", "status", code=429, retry_after=1.0)])
    spec = new_spec()
    begun = time.monotonic()
    with closing(backend_on(endpoint)) as backend:
        assert well(backend.run(spec, ignore), spec)
    assert time.monotonic() - begun >= 1
    assert executions(endpoint, spec) == 1


PERHAPS_ACCEPTED = [
    pytest.param(fault("run", "status", code=500), 1, id="500"),
    pytest.param(fault("run", "status", code=502, body="html"), 1, id="html"),
    pytest.param(fault("run", "drop"), 1, id="drop before"),
    pytest.param(fault("run", "status", code=500, applied=True), 2, id="500 after"),
    pytest.param(fault("run", "drop", applied=True), 2, id="drop after"),
    pytest.param(fault("run", "truncate"), 2, id="truncated"),
    pytest.param(fault("run", "no_id"), 2, id="no id"),
]


@pytest.mark.parametrize(("met", "jobs"), PERHAPS_ACCEPTED)
def test_a_lost_answer_is_a_new_attempt_and_names_the_twin(endpoint: EmbeddedEndpoint, met: Fault, jobs: int) -> None:
    """Where a submission may have been taken, the trial goes on as the next attempt, and its twin's uid is said."""
    endpoint.set_faults([met])
    spec, said = new_spec(), Lines()
    with closing(backend_on(endpoint, said)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert result.attempts == result.run["attempt"] == 2
    assert len(said.having(f"uid {spec.uid}, attempt 1")) == 1
    assert len(said.all()) == 1
    eventually(lambda: not live(endpoint))
    assert len(jobs_of(endpoint, spec)) == executions(endpoint, spec) == jobs


def test_attempts_are_counted_out(endpoint: EmbeddedEndpoint) -> None:
    """With ``retries`` spent the last error comes out, with the attempt that it was."""
    endpoint.set_faults([fault("run", "drop", times=9)])
    spec, said = new_spec(), Lines()
    with closing(backend_on(endpoint, said, retries=2)) as backend, pytest.raises(PerhapsSubmitted) as caught:
        backend.run(spec, ignore)
    assert caught.value.run == {"attempt": 3, "billed_seconds": 0.0}
    assert len(said.having(spec.uid)) == 3
    assert endpoint.state()["faults_fired"] == [3]


# ---- what happens while a job is followed

PASSING = [
    pytest.param([fault("status", "status", code=code, times=2, body=body)], id=f"{code} {body}")
    for code, body in [(500, "json"), (502, "html"), (503, "empty"), (524, "html"), (429, "json"), (429, "empty")]
] + [
    pytest.param([fault("status", "truncate", times=2)], id="truncated"),
    pytest.param([fault("status", "drop", times=2)], id="drop"),
    pytest.param([fault("status", "drop", times=2, applied=True)], id="drop after"),
    pytest.param(
        [
            fault("status", "status", code=502, body="html", skip=1),
            fault("status", "status", code=524),
            fault("status", "status", code=429, retry_after=0.2),
            fault("status", "drop"),
        ],
        id="one after another",
    ),
]


@pytest.mark.parametrize("met", PASSING)
def test_a_poll_that_fails_does_not_end_the_wait(endpoint: EmbeddedEndpoint, met: list[Fault]) -> None:
    """Errors, nonsense and lost connections while a job runs are looked past; it is neither lost nor run again."""
    endpoint.set_faults(met)
    spec = new_spec(pause=0.05)
    with closing(backend_on(endpoint)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec)) == (1, 1)
    assert endpoint.state()["faults_fired"] == [one["times"] for one in met]


def test_a_key_that_is_refused_later_ends_the_trial(endpoint: EmbeddedEndpoint) -> None:
    """A 401 to a poll is final, and the job that runs is cancelled."""
    endpoint.set_faults([fault("status", "status", code=401)])
    spec = new_spec(pause=0.1, epochs=1000)
    with closing(backend_on(endpoint)) as backend, pytest.raises(EndpointRefused):
        backend.run(spec, ignore)
    assert [view["status"] for view in jobs_of(endpoint, spec).values()] == ["CANCELLED"]


def test_a_job_that_the_endpoint_has_forgotten_is_run_again(endpoint: EmbeddedEndpoint) -> None:
    """A 404 to a poll is a lost job: cancelled in case it lives, and submitted as the next attempt."""
    endpoint.set_faults([fault("status", "status", code=404)])
    spec = new_spec(pause=0.1)
    with closing(backend_on(endpoint)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert result.attempts == 2
    assert sorted(view["status"] for view in jobs_of(endpoint, spec).values()) == ["CANCELLED", "COMPLETED"]


def test_a_job_that_is_over_its_retention_is_run_again(bare: InProcess) -> None:
    """A result that was forgotten before it was asked for costs an attempt, and after the last one the trial."""
    bare.set_settings(retain_run=0.0)
    with HandWorker(bare, [completes]), closing(backend_on(bare, retries=1)) as backend, pytest.raises(JobGone):
        backend.run(new_spec(), ignore)
    assert bare.state()["submitted"] == 2


AGAIN = [
    pytest.param([fault("status", "no_output")], "without a result", id="COMPLETED without output"),
    pytest.param([fault("status", "leftover")], "progress report", id="progress left in output"),
    pytest.param([fault("run", "cancel", seconds=0.25)], "cancelled by somebody else", id="CANCELLED"),
]


@pytest.mark.parametrize(("met", "said"), AGAIN)
def test_a_job_that_ends_without_a_result_is_run_again(endpoint: EmbeddedEndpoint, met: list[Fault], said: str) -> None:
    """What the endpoint or its worker did to a job is retried with the same uid; the last try says what it was."""
    endpoint.set_faults(met)
    spec = new_spec(pause=0.1)
    with closing(backend_on(endpoint)) as backend:
        result = backend.run(spec, ignore)
        assert well(result, spec)
        assert (result.attempts, executions(endpoint, spec)) == (2, 2)
    endpoint.set_faults(met)
    with closing(backend_on(endpoint, retries=0)) as backend, pytest.raises(JobFailed, match=said) as caught:
        backend.run(spec, ignore)
    assert (caught.value.cause, caught.value.run["attempt"]) == (Cause.ENDPOINT, 1)


FAILED = [
    pytest.param({"error": "RuntimeError: no GPU\nframes"}, [], "failed: RuntimeError: no GPU$", id="FAILED"),
    pytest.param(
        {"error": "RuntimeError"}, [fault("status", "no_error", times=9)], "no reason was given", id="without error"
    ),
]


@pytest.mark.parametrize(("body", "met", "said"), FAILED)
def test_a_job_that_fails_is_run_again(bare: InProcess, body: Mapping[str, Any], met: list[Fault], said: str) -> None:
    """A FAILED job is a failure of its worker: retried, and named with the first line of its reason, if it has one."""
    bare.set_faults(met)
    with HandWorker(bare, [answers(**body), completes]), closing(backend_on(bare)) as backend:
        spec = new_spec()
        assert backend.run(spec, ignore).attempts == 2
    with (
        HandWorker(bare, [answers(**body)]),
        closing(backend_on(bare)) as backend,
        pytest.raises(JobFailed, match=said) as caught,
    ):
        backend.run(new_spec(), ignore)
    assert caught.value.run["attempt"] == 3
    assert caught.value.run["worker"] == "hand"


@pytest.mark.parametrize(
    "documented", [pytest.param(True, id="TIMED_OUT", marks=pytest.mark.slow), pytest.param(False, id="FAILED")]
)
def test_the_endpoint_s_time_out_is_the_trial_s_deadline(endpoint: EmbeddedEndpoint, *, documented: bool) -> None:
    """However the endpoint words its execution time-out, the trial failed by its deadline and is not run again."""
    endpoint.set_settings(documented_time_out=documented)
    endpoint.set_faults([fault("run", "stuck", state="IN_PROGRESS")])
    spec = new_spec(max_seconds=4.0)
    with (
        closing(backend_on(endpoint, overtime=1.0)) as backend,
        pytest.raises(TrainingError, match="execution time-out") as caught,
    ):
        backend.run(spec, ignore)
    assert caught.value.cause is Cause.DEADLINE
    assert len(jobs_of(endpoint, spec)) == 1


def test_the_worker_s_own_deadline_comes_first(endpoint: EmbeddedEndpoint) -> None:
    """A trainer that no longer listens is ended by its worker, before the endpoint would, and not run again."""
    spec = new_spec(max_seconds=5.0, do="hang")
    with (
        closing(backend_on(endpoint, overtime=1.0)) as backend,
        pytest.raises(TrainingError, match="time limit") as caught,
    ):
        backend.run(spec, ignore)
    assert caught.value.cause is Cause.DEADLINE
    assert executions(endpoint, spec) == 1


def test_a_queue_that_does_not_move_is_explained_and_given_up(bare: InProcess) -> None:
    """A job that no worker takes says why from /health, once for all trials, and ends as overdue, cancelled."""
    said = Lines()
    specs = [new_spec(n) for n in range(3)]
    with (
        closing(backend_on(bare, said, timeout=2.0, queue_patience=0.7)) as backend,
        trials(backend, specs) as running,
    ):
        for trial in running:
            with pytest.raises(JobOverdue, match=r"IN_QUEUE: it has no worker\. Raise its maximum"):
                trial.result(20)
    assert 1 <= len(said.having("in the endpoint's queue: it has no worker")) <= 2
    assert [view["status"] for view in bare.state()["jobs"].values()] == ["CANCELLED"] * 3


def test_throttled_workers_are_the_reason(bare: InProcess) -> None:
    """Where health says that workers are throttled, so does the line."""
    bare.set_faults([fault("health", "value", times=9, field="throttled", value=3)])
    with (
        closing(backend_on(bare, timeout=1.0)) as backend,
        pytest.raises(JobOverdue, match="its 3 workers are throttled"),
    ):
        backend.run(new_spec(), ignore)


def test_a_job_that_runs_for_ever_is_given_up(endpoint: EmbeddedEndpoint) -> None:
    """A job that stays IN_PROGRESS past the time-out is cancelled, overdue, and not run again."""
    endpoint.set_faults([fault("run", "stuck", state="IN_PROGRESS")])
    spec = new_spec()
    with closing(backend_on(endpoint, timeout=1.5)) as backend, pytest.raises(JobOverdue, match="still IN_PROGRESS"):
        backend.run(spec, ignore)
    assert [view["status"] for view in jobs_of(endpoint, spec).values()] == ["CANCELLED"]


WRONG = [
    pytest.param({"field": "value", "value": float("nan")}, TrainingError, Cause.BAD_VALUE, "nan", id="NaN"),
    pytest.param({"field": "value", "value": "0.98"}, TrainingError, Cause.BAD_VALUE, "'0.98'", id="text"),
    pytest.param({"field": "value", "value": 1.7}, TrainingError, Cause.BAD_VALUE, "1.7", id="1.7"),
    pytest.param({"field": "number", "value": 99}, ContractMismatch, Cause.CONTRACT, "trial 99, not 7", id="number"),
    pytest.param({"field": "schema", "value": 0}, ContractMismatch, Cause.CONTRACT, "[Rr]edeploy", id="schema"),
    pytest.param({"field": "result", "value": []}, ContractMismatch, Cause.CONTRACT, "JSON object", id="no object"),
    pytest.param({"field": "epochs", "value": -1}, ContractMismatch, Cause.CONTRACT, "'epochs'", id="epochs"),
]


@pytest.mark.parametrize(("met", "kind", "cause", "said"), WRONG)
def test_a_wrong_answer_fails_its_trial_at_once(
    endpoint: EmbeddedEndpoint, met: Fault, kind: type[TrialError], cause: Cause, said: str
) -> None:
    """A value that is none, an answer for another trial or in another schema is not asked for again."""
    endpoint.set_faults([fault("status", "value", times=100, **met)])
    spec = new_spec(7, pause=0.1)
    with closing(backend_on(endpoint)) as backend, pytest.raises(kind, match=said) as caught:
        backend.run(spec, ignore)
    assert caught.value.cause is cause
    assert executions(endpoint, spec) == 1


def test_an_answer_without_a_result_is_a_stale_image(bare: InProcess) -> None:
    """What an image of something else answers says to redeploy, at once."""
    with (
        HandWorker(bare, [answers(output={"accuracy": 0.98})]),
        closing(backend_on(bare)) as backend,
        pytest.raises(ContractMismatch, match="redeploy"),
    ):
        backend.run(new_spec(), ignore)
    assert bare.state()["submitted"] == 1


def test_a_worker_that_refuses_the_request_is_a_stale_image(bare: InProcess) -> None:
    """An image that does not know a field of ours answers so, and the trial says that it was refused there."""

    def refuse(worker: HandWorker, job: str, _: Any) -> None:
        error = ContractMismatch("request: unknown field 'attempt'.")
        worker.done(job, output={"result": TrialResult.ended(0, Status.FAILED, error).to_wire()})

    with (
        HandWorker(bare, [refuse]),
        closing(backend_on(bare)) as backend,
        pytest.raises(ContractMismatch, match=r"refused the request.*attempt"),
    ):
        backend.run(new_spec(5), ignore)


@pytest.mark.parametrize(("do", "cause"), [("diverge", Cause.DIVERGED), ("raise", Cause.EXCEPTION)])
def test_a_failure_of_the_model_is_not_run_again(endpoint: EmbeddedEndpoint, do: str, cause: Cause) -> None:
    """What the model does to itself it would do again: one execution, its own cause, and its job's facts."""
    spec = new_spec(do=do)
    with closing(backend_on(endpoint)) as backend, pytest.raises(TrainingError) as caught:
        backend.run(spec, ignore)
    assert caught.value.cause is cause
    assert executions(endpoint, spec) == 1
    assert caught.value.run["job"] in jobs_of(endpoint, spec)


# ---- lost workers, twice-delivered jobs, progress out of order


def test_a_killed_worker_costs_its_trial_nothing_but_time(endpoint: EmbeddedEndpoint) -> None:
    """A worker killed in the middle of a trial: the endpoint runs the job again, and the value is the same."""
    spec = new_spec(pause=0.5)
    with closing(backend_on(endpoint)) as backend, trials(backend, [spec]) as (trial,):
        eventually(lambda: any(view["status"] == "IN_PROGRESS" for view in jobs_of(endpoint, spec).values()))
        time.sleep(0.5)
        (view,) = jobs_of(endpoint, spec).values()
        endpoint.kill_worker(int(view["worker"][1:].partition("-")[0]))
        result = trial.result(60)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec)) == (1, 2)
    endpoint.wait_for_workers()


def test_a_job_that_is_lost_twice_is_the_next_attempt(bare: InProcess) -> None:
    """When the endpoint gives a lost job up, the trial is submitted anew."""
    bare.set_settings(heartbeat_timeout=1.0, claim_grace=0.0)
    vanish = sleeps(1.3)
    with HandWorker(bare, [vanish, vanish, completes]), closing(backend_on(bare)) as backend:
        spec = new_spec()
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(bare, spec)) == (2, 3)


def test_a_job_that_is_delivered_twice_counts_once(endpoint: EmbeddedEndpoint) -> None:
    """The same job on two workers gives one result."""
    endpoint.set_faults([fault("take", "duplicate")])
    spec = new_spec(pause=0.3)
    with closing(backend_on(endpoint)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec), len(jobs_of(endpoint, spec))) == (1, 2, 1)


def test_progress_comes_in_order_and_once(endpoint: EmbeddedEndpoint) -> None:
    """Progress that the endpoint shows late, or shows again, does not go backwards and is not told twice."""
    endpoint.set_faults([fault("progress", "late", times=3, seconds=0.7)])
    seen: list[TrialProgress] = []
    spec = new_spec(pause=0.3, epochs=6)
    with closing(backend_on(endpoint)) as backend:
        assert well(backend.run(spec, seen.append), spec)
    epochs = [progress.epoch for progress in seen]
    assert epochs
    assert epochs == sorted(set(epochs))


def test_progress_of_an_earlier_attempt_is_not_this_one_s(bare: InProcess) -> None:
    """What a twin of the trial reports under this job is ignored."""

    def mixed(worker: HandWorker, job: str, asked: Any) -> None:
        spec = TrialRequest.from_wire(asked).spec
        for attempt, epoch in [(1, 3), (9, 4)]:
            progress = TrialProgress(spec.number, epoch, epoch, 4, 0.5, {}, 1.0, (), attempt)
            worker.progress(job, progress.to_wire())
            time.sleep(0.6)
        completes(worker, job, asked)

    seen: list[int] = []
    with HandWorker(bare, [mixed]), closing(backend_on(bare)) as backend:
        backend.run(new_spec(), lambda progress: seen.append(progress.epoch))
    assert seen == [3]


def test_a_result_that_late_progress_undoes_is_run_again(bare: InProcess) -> None:
    """Progress that clobbers a finished job (runpod-python #250) costs a second execution and no result."""
    bare.set_settings(heartbeat_timeout=1.0, claim_grace=0.0)
    bare.set_faults([fault("progress", "late", clobber=True)])

    def clobber(worker: HandWorker, job: str, asked: Any) -> None:
        number = TrialRequest.from_wire(asked).spec.number
        completes(worker, job, asked)
        worker.progress(job, TrialProgress(number, 1, 1, 4, 0.5, {}, 1.0).to_wire())
        time.sleep(0.1)

    with HandWorker(bare, [clobber, completes]), closing(backend_on(bare)) as backend:
        spec = new_spec()
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(bare, spec)) == (1, 2)


def test_words_that_seedpod_does_not_know_are_waited_for(bare: InProcess) -> None:
    """Output of a running job that is no progress of ours is ignored."""

    def chat(worker: HandWorker, job: str, asked: Any) -> None:
        for said in ("loading", {"percent": 50}, None, [1]):
            worker.progress(job, said)
            time.sleep(0.3)
        completes(worker, job, asked)

    seen: list[TrialProgress] = []
    with HandWorker(bare, [chat]), closing(backend_on(bare)) as backend:
        assert backend.run(new_spec(), seen.append).status is Status.COMPLETE
    assert seen == []


# ---- an endpoint that is away


def test_a_short_absence_costs_nothing(endpoint: EmbeddedEndpoint) -> None:
    """While the breaker is open the job runs on; it is found again, and neither cancelled nor run twice."""
    endpoint.set_faults([fault("status", "status", code=503, times=4, skip=1)])
    spec = new_spec(pause=0.4)
    breaker = BreakerRules(consecutive=3, rest=0.3)
    with closing(backend_on(endpoint, breaker=breaker, patience=10.0)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec)) == (1, 1)
    assert endpoint.state()["faults_fired"] == [4]


def test_a_long_absence_ends_the_trial_and_its_job(endpoint: EmbeddedEndpoint) -> None:
    """With no patience an open breaker gives the trial up; the cancel goes through all the same."""
    endpoint.set_faults([fault("status", "status", code=503, times=1000)])
    spec = new_spec(pause=0.4, epochs=1000)
    breaker = BreakerRules(consecutive=3, rest=30.0)
    with closing(backend_on(endpoint, breaker=breaker, patience=0.0)) as backend, pytest.raises(BreakerOpen):
        backend.run(spec, ignore)
    assert [view["status"] for view in jobs_of(endpoint, spec).values()] == ["CANCELLED"]


def test_a_submission_waits_where_it_is_told_to(endpoint: EmbeddedEndpoint) -> None:
    """With patience for submissions, a trial that meets an open breaker is submitted once the endpoint is back."""
    endpoint.set_faults([fault("run", "status", code=503, times=4)])
    spec = new_spec()
    breaker = BreakerRules(consecutive=3, rest=0.3)
    with closing(backend_on(endpoint, breaker=breaker, submit_patience=10.0)) as backend:
        result = backend.run(spec, ignore)
    assert well(result, spec)
    assert (result.attempts, executions(endpoint, spec)) == (1, 1)


def test_a_cancel_that_fails_is_said(endpoint: EmbeddedEndpoint) -> None:
    """A job that may still run is named, since somebody pays for it."""
    endpoint.set_faults([fault("cancel", "status", code=401)])
    spec, said = new_spec(pause=0.1, epochs=12), Lines()

    def prune(_: TrialProgress) -> None:
        raise TrialPruned("enough")

    with closing(backend_on(endpoint, said)) as backend, pytest.raises(TrialPruned):
        backend.run(spec, prune)
    (job,) = jobs_of(endpoint, spec)
    assert len(said.having(f"job {job} could not be cancelled and may still run")) == 1


# ---- many trials


def test_a_stop_cancels_every_job(endpoint: EmbeddedEndpoint) -> None:
    """With six jobs running and two in the queue, ``cancel_all`` cancels all eight; none is left to be paid."""
    specs = [new_spec(n, pause=0.1, epochs=1000) for n in range(8)]
    with closing(backend_on(endpoint, at_once=8)) as backend, trials(backend, specs) as running:
        working(endpoint, 6)
        backend.cancel_all()
        for trial in running:
            with pytest.raises(TrialCancelled):
                trial.result(10)
        assert not live(endpoint)
    statuses = [view["status"] for spec in specs for view in jobs_of(endpoint, spec).values()]
    assert statuses == ["CANCELLED"] * 8


def test_failures_shrink_and_successes_grow_the_number_in_flight(bare: InProcess) -> None:
    """Failures halve the jobs in flight, down to one, and successes let them grow back."""
    with HandWorker(bare, [answers(error="broken")]), closing(backend_on(bare, at_once=4, retries=0)) as backend:
        assert backend.allowed == 4
        for allowed in (2, 1):
            time.sleep(1.05)  # failures that come together count as one
            with pytest.raises(JobFailed):
                backend.run(new_spec(), ignore)
            assert backend.allowed == allowed
    with (
        HandWorker(bare, [answers(error="broken"), completes]),
        closing(backend_on(bare, at_once=4, retries=0)) as backend,
    ):
        with pytest.raises(JobFailed):
            backend.run(new_spec(), ignore)
        found = [backend.allowed]
        for _ in range(8):
            backend.run(new_spec(), ignore)
            found.append(backend.allowed)
    assert found[0] == 2
    assert found == sorted(found)
    assert found[-1] == 4


def test_no_more_jobs_are_in_flight_than_allowed(bare: InProcess) -> None:
    """After a failure, trials wait at home instead of in the endpoint's queue."""
    with closing(backend_on(bare, at_once=4, retries=0)) as backend:
        with HandWorker(bare, [answers(error="broken")]), pytest.raises(JobFailed):
            backend.run(new_spec(), ignore)
        with trials(backend, [new_spec(n) for n in range(4)]) as running:
            eventually(lambda: len(live(bare)) == 2)
            time.sleep(0.5)
            assert len(live(bare)) == 2
            backend.cancel_all()
            for trial in running:
                with pytest.raises(TrialCancelled):
                    trial.result(10)


def about_to_end(worker: HandWorker, job: str, asked: Any) -> None:
    """One epoch of two is done, in a hundredth of a second; the second one ends when another job is there."""
    request = TrialRequest.from_wire(asked)
    worker.progress(job, TrialProgress(request.spec.number, 1, 1, 2, 0.5, {}, 0.01).to_wire())
    eventually(lambda: worker.control.state()["submitted"] > 1, 20)
    completes(worker, job, asked)


def test_a_job_about_to_end_gives_its_place_to_the_next(bare: InProcess) -> None:
    """One place: the next trial's job is in the queue before the first one's has ended, and the search is told once."""
    told: list[int] = []
    specs = [new_spec(3), new_spec(4), new_spec(5)]
    with HandWorker(bare, [about_to_end, completes]), closing(backend_on(bare, at_once=1)) as backend:
        backend.listen(JobListener(ending=told.append), ())
        with trials(backend, specs) as running:
            ends = [trial.result(30) for trial in running]
    assert all(well(end, spec) for end, spec in zip(ends, specs, strict=True))
    assert len(told) == 1
    assert bare.state()["submitted"] == 3


def test_a_job_whose_end_nobody_foresees_keeps_its_place(bare: InProcess) -> None:
    """One place: while a job has said nothing, or has long to go, no other one is submitted."""

    def says_far(worker: HandWorker, job: str, asked: Any) -> None:
        number = TrialRequest.from_wire(asked).spec.number
        worker.progress(job, TrialProgress(number, 1, 1, 100, 0.5, {}, 60.0).to_wire())
        time.sleep(1.0)
        assert bare.state()["submitted"] == 1
        completes(worker, job, asked)

    with HandWorker(bare, [says_far, completes]), closing(backend_on(bare, at_once=1)) as backend:
        backend.listen(JobListener(ending=lambda number: pytest.fail(f"trial {number} was said to end")), ())
        with trials(backend, [new_spec(), new_spec()]) as running:
            assert [trial.result(30).status for trial in running] == [Status.COMPLETE] * 2


def test_a_worker_that_keeps_failing_is_named_with_its_jobs(bare: InProcess) -> None:
    """The third failure of one worker is said once, with its id and the three jobs; its good ones are not."""
    said = Lines()
    acts: list[Act] = [completes, *[answers(error="broken")] * 4, completes]
    with HandWorker(bare, acts, "w7"), closing(backend_on(bare, said, retries=9)) as backend:
        specs = [new_spec(), new_spec()]
        for spec in specs:
            backend.run(spec, ignore)
    (line,) = said.having("w7")
    bad = [job for job, view in jobs_of(bare, specs[1]).items() if view["status"] == "FAILED"]
    assert sum(job in line for job in bad) == 3
    assert not any(job in line for job in jobs_of(bare, specs[0]))


def test_a_failing_job_leaves_its_neighbours_alone(endpoint: EmbeddedEndpoint) -> None:
    """Of six trials at once, the one that somebody cancels and the one that diverges fail, and the others complete."""
    endpoint.set_faults([fault("run", "cancel", seconds=0.0)])
    specs = [new_spec(n, pause=0.1, do="diverge" if n == 2 else "train") for n in range(6)]
    ends: list[str] = []
    with closing(backend_on(endpoint, at_once=6, retries=0)) as backend, trials(backend, specs) as running:
        for spec, trial in zip(specs, running, strict=True):
            error = trial.exception(30)
            assert error is not None or well(trial.result(), spec)
            ends.append(type(error).__name__)
    assert ends.count("NoneType") >= 4
    assert ends.count("JobFailed") == 1, [str(trial.exception()) for trial in running]
    assert set(ends) <= {"NoneType", "JobFailed", "TrainingError"}


def test_two_backends_share_an_endpoint(endpoint: EmbeddedEndpoint) -> None:
    """Two optimizers on one endpoint get each their own results; one that stops cancels its own jobs alone."""
    mine = [new_spec(n, pause=0.2) for n in range(4)]
    theirs = [new_spec(n, pause=0.2, epochs=1000) for n in range(3)]
    with (
        closing(backend_on(endpoint)) as one,
        closing(backend_on(endpoint)) as other,
        trials(one, mine) as kept,
        trials(other, theirs) as stopped,
    ):
        eventually(lambda: all(executions(endpoint, spec) for spec in theirs))
        other.cancel_all()
        for trial in stopped:
            with pytest.raises(TrialCancelled):
                trial.result(10)
        assert all(well(trial.result(30), spec) for spec, trial in zip(mine, kept, strict=True))
    assert all(executions(endpoint, spec) == 1 for spec in mine)


# ---- words

HEALTH = [
    ({"throttled": 2}, "its 2 workers are throttled"),
    ({"unhealthy": 2}, "its 2 workers are unhealthy. Look at their logs"),
    ({"initializing": 1}, "1 workers are starting"),
    ({}, "it has no worker"),
    ({"running": 2, "throttled": 1}, "2 workers run and 5 jobs wait"),
]


@pytest.mark.parametrize(("workers", "said"), HEALTH)
def test_why_jobs_wait(workers: dict[str, int], said: str) -> None:
    """Each state of the workers has words of its own."""
    health = EndpointHealth.from_answer({"jobs": {"inQueue": 5}, "workers": workers})
    assert health is not None
    assert said in why_waiting(health)


def test_a_result_of_the_hand_worker_is_one_of_ours(tmp_path: Path) -> None:
    """The stand-in for a worker answers what the wire takes back."""
    asked = TrialRequest(new_spec(3), 2, 10.0).to_wire()
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(result_of(asked).to_wire()))
    assert TrialResult.from_wire(json.loads(path.read_text())).attempts == 2


def test_the_last_word_counts_the_requests(endpoint: EmbeddedEndpoint) -> None:
    """When the backend is closed, the user reads what was asked of the endpoint, once."""
    said = Lines()
    backend = backend_on(endpoint, said)
    backend.run(new_spec(), lambda _: None)
    backend.close()
    backend.close()
    (line,) = said.having("Endpoint: ")
    assert line.startswith("Endpoint: 1 jobs posted, 0 cancelled; ")
    assert line.endswith("breaker closed")
