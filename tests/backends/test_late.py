"""Jobs that end after their trial: recorded, paid, and nothing else; through the embedded endpoint."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import InProcess, eventually
from runpod_rig import (
    Act,
    HandWorker,
    Lines,
    backend_on,
    completes,
    gate_to,
    ignore,
    live,
    new_spec,
    result_of,
    well,
)
from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.ledger import JobLedger, OpenJob
from seedpod.backends.runpod import JobRules, RunPodBackend
from seedpod.errors import EndpointUnreachable, TrialCancelled, TrialPruned, TrialStopped
from seedpod.remote.view import JobListener, LateJob
from seedpod.trial import TrialProgress, TrialRequest, TrialSpec
from stand_in_trainers import value_of
from thread_backend import ThreadBackend

AWAY = [{"operation": operation, "kind": "status", "code": 503} for operation in ("status", "cancel")]


@pytest.fixture(name="bare")
def endpoint_without_workers() -> Iterator[InProcess]:
    with InProcess() as endpoint:
        yield endpoint
        endpoint.set_faults([])
        eventually(lambda: not live(endpoint), 15)


class Rig:
    """A backend with a ledger, and what it told."""

    def __init__(self, control: InProcess, path: Path, **rules: float) -> None:
        self.control = control
        self.path = path
        self.said = Lines()
        self.late: list[LateJob] = []
        known: dict[str, Any] = {"timeout": 60.0, "retries": 0, **rules}
        self.backend = RunPodBackend(
            gate_to(control),
            most_at_once=4,
            rules=JobRules(**known),
            say=self.said,
            ledger=JobLedger(path),
            address="here",
        )

    def listen(self, over: Collection[str] = ()) -> None:
        self.backend.listen(JobListener(late=self.late.append), over)

    def noted(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]


def completed(control: InProcess, count: int) -> bool:
    return [view["status"] for view in control.state()["jobs"].values()].count("COMPLETED") >= count


def ends_meanwhile(error: TrialStopped) -> tuple[Act, Callable[[InProcess], Callable[[TrialProgress], None]]]:
    """A job that completes while its progress is being reported, and a report that then raises."""

    def act(worker: HandWorker, job: str, asked: Any) -> None:
        number = TrialRequest.from_wire(asked).spec.number
        worker.progress(job, TrialProgress(number, 1, 1, 100, 0.5, {}, 60.0).to_wire())
        eventually(lambda: worker.control.state()["jobs"][job]["polls"] > 0, 20)
        eventually(lambda: bool(reported), 20)
        completes(worker, job, asked)

    reported: list[int] = []

    def report_to(control: InProcess) -> Callable[[TrialProgress], None]:
        def report(progress: TrialProgress) -> None:
            reported.append(progress.number)
            eventually(lambda: completed(control, 1), 20)
            raise error

        return report

    return act, report_to


def test_result_of_a_trial_that_was_stopped_is_late(bare: InProcess, tmp_path: Path) -> None:
    """A job that completes while its trial is being pruned is told with its value; its seconds are its trial's."""
    rig, spec = Rig(bare, tmp_path / "jobs"), new_spec(3)
    act, report_to = ends_meanwhile(TrialPruned("enough"))
    rig.listen()
    with HandWorker(bare, [act]), closing(rig.backend), pytest.raises(TrialPruned) as caught:
        rig.backend.run(spec, report_to(bare))
    (late,) = rig.late
    assert (late.trial, late.uid, late.attempt, late.state) == (3, spec.uid, 1, "COMPLETED")
    assert late.value == value_of(spec)
    assert late.extra == 0.0
    assert caught.value.run["billed_seconds"] == pytest.approx(late.seconds, abs=0.01)
    assert [fact.get("dropped", "") for fact in rig.noted()] == ["", "", "COMPLETED after its trial"]
    assert len(rig.said.having("it changes nothing")) == 1


def test_result_of_a_trial_that_was_interrupted_is_kept_for_it(bare: InProcess, tmp_path: Path) -> None:
    """A job that completes while the search is being stopped is no late one: the next run collects and pays it."""
    rig, spec = Rig(bare, tmp_path / "jobs"), new_spec(3)
    act, report_to = ends_meanwhile(TrialCancelled("stop"))
    rig.listen()
    with HandWorker(bare, [act]), closing(rig.backend), pytest.raises(TrialCancelled) as caught:
        rig.backend.run(spec, report_to(bare))
    assert (rig.late, caught.value.run["billed_seconds"]) == ([], 0.0)
    again = Rig(bare, tmp_path / "jobs")
    again.listen()
    with closing(again.backend):
        result = again.backend.run(spec, ignore)
    assert well(result, spec)
    assert float(result.run["billed_seconds"]) > 0
    assert bare.state()["submitted"] == 1


def gives_up_then_completes(given_up: list[bool]) -> Act:
    """Reports nothing until the trial has been given up, and completes then."""

    def act(worker: HandWorker, job: str, asked: Any) -> None:
        eventually(lambda: bool(given_up), 30)
        completes(worker, job, asked)

    return act


def lose(rig: Rig, spec: TrialSpec) -> None:
    """Run a trial that is given up, and whose job cannot be cancelled."""
    rig.control.set_faults(AWAY)
    with pytest.raises(EndpointUnreachable, match="HTTP 503"):
        rig.backend.run(spec, ignore)
    assert len(rig.said.having("could not be cancelled and may still run")) == 1
    rig.control.set_faults([])


def test_job_that_could_not_be_cancelled_is_settled_later(bare: InProcess, tmp_path: Path) -> None:
    """A given-up job that completes after all is told when the endpoint next answers, once; the next trial is well."""
    rig, lost, spec = Rig(bare, tmp_path / "jobs", patience=0.0), new_spec(1), new_spec(2)
    rig.listen()
    given_up: list[bool] = []
    with HandWorker(bare, [gives_up_then_completes(given_up), completes]), closing(rig.backend):
        lose(rig, lost)
        given_up.append(True)
        eventually(lambda: completed(bare, 1))
        assert well(rig.backend.run(spec, ignore), spec)
        assert [(late.trial, late.value, late.state) for late in rig.late] == [(1, value_of(lost), "COMPLETED")]
        assert 0 <= rig.late[0].extra <= rig.late[0].seconds
        rig.backend.run(new_spec(3), ignore)
    assert len(rig.late) == 1
    assert JobLedger(rig.path).left_of(lost.uid) is None


def test_overtaken_attempt_is_settled_by_the_next_run(bare: InProcess, tmp_path: Path) -> None:
    """A search is killed with an attempt that could not be cancelled and the next one: the latter alone goes on."""
    spec = new_spec(0)
    jobs = [bare_submit(bare, spec) for _ in range(2)]
    for attempt, job in enumerate(jobs, 1):
        JobLedger(tmp_path / "jobs").posted(OpenJob(spec.uid, spec.number, attempt, "here", job))
    rig = Rig(bare, tmp_path / "jobs")
    rig.listen()
    assert [bare.state()["jobs"][job]["status"] for job in jobs] == ["CANCELLED", "IN_QUEUE"]
    with HandWorker(bare, [completes]), closing(rig.backend):
        assert well(rig.backend.run(spec, ignore), spec)
    assert bare.state()["submitted"] == 2


def test_job_of_an_ended_trial_is_settled_by_the_next_run(bare: InProcess, tmp_path: Path) -> None:
    """A search is killed with such a job: the next one cancels it, or tells of its result, and never takes it up."""
    running, ended, open_ = new_spec(0), new_spec(1), new_spec(2)
    for spec in (running, ended, open_):
        job = bare_submit(bare, spec)
        JobLedger(tmp_path / "jobs").posted(OpenJob(spec.uid, spec.number, 1, "here", job))
        if spec is running:
            worker = HandWorker(bare, [completes])
            assert worker.client.take("hand") is not None
        if spec is ended:
            taken = worker.client.take("hand")
            assert taken is not None
            worker.done(job, output={"result": result_of(taken["input"]).to_wire()})
    rig = Rig(bare, tmp_path / "jobs")
    rig.listen(over={running.uid, ended.uid})
    assert [(late.trial, late.state, late.value) for late in rig.late] == [
        (0, "CANCELLED", None),
        (1, "COMPLETED", value_of(ended)),
    ]
    assert all(late.extra == late.seconds for late in rig.late)
    assert [job.uid for job in JobLedger(rig.path).running()] == [open_.uid]
    with HandWorker(bare, [completes]), closing(rig.backend):
        assert well(rig.backend.run(open_, ignore), open_)
    assert bare.state()["submitted"] == 3


def bare_submit(control: InProcess, spec: TrialSpec) -> str:
    gate = gate_to(control)
    with closing(gate):
        return gate.run(TrialRequest(spec, 1, 60.0).to_wire(), execution_timeout=60.0, ttl=600.0)


def test_fallback_passes_it_on(bare: InProcess) -> None:
    """A search that may fall back on this machine hears of late jobs too."""
    told: list[LateJob] = []
    remote = backend_on(bare)
    fallback = FallbackBackend(remote, ThreadBackend)
    act, report_to = ends_meanwhile(TrialPruned("enough"))
    fallback.listen(JobListener(late=told.append), ())
    with HandWorker(bare, [act]), closing(fallback), pytest.raises(TrialPruned):
        fallback.run(new_spec(), report_to(bare))
    assert [late.state for late in told] == ["COMPLETED"]
