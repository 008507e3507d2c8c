"""Real SDK workers on the embedded endpoint."""

import time

import psutil
import pytest

from endpoint_client import Client, eventually

pytestmark = pytest.mark.processes


def test_a_job_runs_on_a_worker_and_its_progress_is_seen(farm: Client) -> None:
    """A job's progress arrives while it runs, then its output, with the worker that made it."""
    job = farm.run(uid="progress", seconds=2, steps=4)
    assert "step" in farm.when(job, lambda view: view["status"] == "IN_PROGRESS" and "output" in view)["output"]
    view = farm.ended(job)
    assert (view["status"], view["output"]["uid"]) == ("COMPLETED", "progress")
    assert view["workerId"] == view["output"]["worker"]


def test_two_jobs_run_at_one_time_on_two_workers(farm: Client) -> None:
    """Two jobs that are submitted together are shared out, not piled on one worker."""
    jobs = [farm.run(uid=f"pair{index}", seconds=0.8) for index in range(2)]
    assert len({farm.ended(job)["workerId"] for job in jobs}) == 2


def test_an_exception_comes_back_as_the_jobs_error(farm: Client) -> None:
    """A handler's exception ends the job FAILED, with its message in the error."""
    view = farm.ended(farm.run(uid="fail", seconds=0.1, fail="boom"))
    assert view["status"] == "FAILED"
    assert "boom" in view["error"]


def test_a_cancel_reaches_the_worker(farm: Client) -> None:
    """A cancelled job's worker is free for another job long before the cancelled one would have ended."""
    begun = time.monotonic()
    jobs = [farm.run(uid=f"long{index}", seconds=120) for index in range(2)]
    for job in jobs:
        farm.when(job, lambda view: view["status"] == "IN_PROGRESS")
    time.sleep(0.5)  # a cancel before the SDK has started the handler is lost (measured on runpod 1.12.0)
    assert [farm.call("POST", f"cancel/{job}")[1]["status"] for job in jobs] == ["CANCELLED"] * 2
    assert farm.ended(farm.run(uid="after", seconds=0.1))["status"] == "COMPLETED"
    assert time.monotonic() - begun < 60


def test_a_killed_workers_job_runs_again_and_the_worker_is_replaced(farm: Client) -> None:
    """A SIGKILLed worker's job is queued again, completes elsewhere with retries 1, and the slot lives on."""
    job = farm.run(uid="killed", seconds=1)
    holder = farm.when(job, lambda view: "workerId" in view)["workerId"]
    slot = next(one for one in farm.endpoint.state()["processes"] if one["worker"] == holder)
    children = psutil.Process(slot["pid"]).children(recursive=True)
    farm.endpoint.kill_worker(slot["slot"])
    view = farm.ended(job)
    assert (view["status"], view["retries"]) == ("COMPLETED", 1)
    assert farm.endpoint.state()["executions"]["killed"] == 2
    assert not any(child.is_running() for child in children)
    eventually(lambda: len([one for one in farm.endpoint.state()["workers"].values() if one["pings"]]) == 2)


def test_the_ping_child_dies_with_its_worker(farm: Client) -> None:
    """When only the worker's main process is killed, its ping child goes too, so that the job is queued again."""
    process = farm.endpoint.state()["processes"][0]
    eventually(lambda: bool(psutil.Process(process["pid"]).children()))
    children = psutil.Process(process["pid"]).children()
    psutil.Process(process["pid"]).kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_frozen_workers_job_runs_elsewhere_and_its_late_result_is_ignored(farm: Client) -> None:
    """A frozen worker loses its job; when it thaws, what it says of that job changes nothing."""
    farm.endpoint.wait_for_workers(2)
    job = farm.run(uid="frozen", seconds=1)
    holder = farm.when(job, lambda view: "workerId" in view)["workerId"]
    slot = next(one["slot"] for one in farm.endpoint.state()["processes"] if one["worker"] == holder)
    farm.endpoint.freeze_worker(slot)
    view = farm.ended(job)
    farm.endpoint.thaw_worker(slot)
    assert view["workerId"] != holder
    eventually(lambda: any(mark["what"] == "stale result" for mark in farm.endpoint.trace(job)))
    assert farm.status(job)["output"]["worker"] == view["workerId"]
