"""The endpoint over HTTP, the test playing the worker."""

import http.client
import json
import socket
from typing import Any

import pytest

from endpoint_client import Client, eventually
from seedpod.errors import SeedpodError

GONE = (ConnectionError, http.client.RemoteDisconnected)


def finished(client: Client, **output: Any) -> str:
    """A completed job with one report of progress."""
    job = client.run(uid="u")
    assert client.take()["id"] == job
    client.done(job, status="IN_PROGRESS", output={"step": 1})
    client.done(job, output=output or {"value": 0.5})
    return job


def test_a_job_runs_from_submission_to_its_output(client: Client) -> None:
    """A client's job reaches a worker with its input, and the worker's output reaches the client."""
    job = client.run(uid="u", number=3)
    assert client.status(job) == {"id": job, "status": "IN_QUEUE"}
    assert client.take() == {"id": job, "input": {"uid": "u", "number": 3}}
    assert client.status(job)["workerId"] == "w"
    client.done(job, status="IN_PROGRESS", output={"step": 1})
    assert client.status(job)["output"] == {"step": 1}
    assert client.done(job, output={"value": 0.5}) == 200
    view = client.status(job)
    assert (view["status"], view["output"]) == ("COMPLETED", {"value": 0.5})
    assert client.endpoint.state()["executions"] == {"u": 1}
    assert [mark["what"] for mark in client.endpoint.trace(job)] == ["submitted", "taken", "progress", "COMPLETED"]


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "wrong"])
def test_every_door_wants_the_key(client: Client, key: str) -> None:
    """Without the key there is 401, for clients, workers and control alike."""
    doors = [("POST", "run"), ("GET", "status/x"), ("GET", "health"), ("GET", "job-take/w?"), ("GET", "ping/w?")]
    assert {client.raw(method, path, key=key)[0] for method, path in doors} == {401}


def test_the_control_interface_wants_the_key(client: Client) -> None:
    """The control interface answers nobody without the key."""
    address = client.endpoint.url.removeprefix("http://").removesuffix("/v2")
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/__seedpod/state")
    assert connection.getresponse().status == 401
    connection.close()


def test_a_client_needs_the_word_bearer_and_a_worker_must_not_have_it(client: Client) -> None:
    """Each side's header has its own form, as in RunPod's own client and worker."""
    assert client.raw("GET", "health", key=client.endpoint.key)[0] == 401
    assert client.raw("GET", "job-take/w?", key=f"Bearer {client.endpoint.key}")[0] == 401


def test_another_endpoint_is_not_found(client: Client) -> None:
    """An unknown endpoint id answers 404 to the right key."""
    status, said, _ = client.raw("GET", "health", endpoint_id="other")
    assert (status, json.loads(said)["detail"]) == (404, "endpoint not found")


def test_it_listens_on_loopback_only(client: Client) -> None:
    """The URL is 127.0.0.1, and this host's other addresses refuse."""
    port = int(client.endpoint.url.removesuffix("/v2").rpartition(":")[2])
    assert client.endpoint.url.startswith("http://127.0.0.1:")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_body_over_10_mib_is_refused_in_runpods_words(client: Client) -> None:
    """An oversize body answers 400 with the limit."""
    status, said, _ = client.raw("POST", "run", b'{"input": "' + b"x" * (10 * 2**20) + b'"}')
    assert status == 400
    assert "exceeded max body size of 10MiB" in json.loads(said)["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"input": {"a": 1}, "policy": {"executionTimeout": 1}}', b'{"input": 1, "policy": 1}']
)
def test_a_body_that_is_no_request_is_refused(client: Client, body: bytes) -> None:
    """Bad JSON, no object, and a policy out of the documented bounds answer 400."""
    assert client.raw("POST", "run", body)[0] == 400


@pytest.mark.parametrize("body", [{}, {"input": {}}, {"input": None}])
def test_a_job_without_input_fails(client: Client, body: dict[str, Any]) -> None:
    """It is accepted, as RunPod does, and fails when a worker would take it."""
    job = client.call("POST", "run", body)[1]["id"]
    assert client.take() is None
    assert "missing field(s)" in client.status(job)["error"]


def test_runsync_waits_for_the_result(client: Client) -> None:
    """/runsync without a worker comes back in time with the job in the queue; a bad wait answers 400."""
    status, view = client.call("POST", "runsync?wait=1000", {"input": {"uid": "u"}})
    assert (status, view["status"]) == (200, "IN_QUEUE")
    assert view["id"].startswith("sync-")
    assert client.call("POST", "runsync?wait=1", {"input": {"uid": "u"}})[0] == 400


def test_cancel_tells_the_worker(client: Client) -> None:
    """A running job is CANCELLED at once, and its worker's stop channel names it."""
    job = client.run(uid="u")
    client.take()
    assert client.call("POST", f"cancel/{job}")[1]["status"] == "CANCELLED"
    assert client.worker("GET", "job-stop/w?")[1] == {"jobsToStop": [job]}


def test_a_failed_job_can_be_retried(client: Client) -> None:
    """/retry queues a failed job again and refuses a running one."""
    job = client.run(uid="u")
    client.take()
    assert client.call("POST", f"retry/{job}")[0] == 400
    client.done(job, error="boom")
    assert client.call("POST", f"retry/{job}") == (200, {"id": job, "status": "IN_QUEUE"})
    assert client.take()["id"] == job


def test_purging_removes_what_waits(client: Client) -> None:
    """/purge-queue says how many jobs it removed."""
    jobs = [client.run(uid="u") for _ in range(3)]
    assert client.call("POST", "purge-queue")[1] == {"removed": 3, "status": "completed"}
    assert client.status(jobs[0])["status"] == "CANCELLED"


def test_a_stream_is_drained(client: Client) -> None:
    """/stream gives each piece once."""
    job = client.run(uid="u")
    client.take()
    assert client.worker("POST", f"job-stream/w/{job}?gpu=x&isStream=true", {"output": 1})[0] == 200
    assert client.call("GET", f"stream/{job}")[1] == {"status": "IN_PROGRESS", "stream": [{"output": 1}]}
    assert client.call("GET", f"stream/{job}")[1]["stream"] == []


def test_unknown_jobs_are_not_found(client: Client) -> None:
    """Every operation on a job answers 404 where there is none."""
    doors = [("GET", "status/x"), ("GET", "stream/x"), ("POST", "cancel/x"), ("POST", "retry/x")]
    assert {client.raw(method, path)[0] for method, path in doors} == {404}
    assert client.done("x", output=1) == 404


def test_a_batch_is_at_most_so_many(client: Client) -> None:
    """A worker that asks for a batch gets a list of what waits, at most so many."""
    jobs = [client.run(uid="u") for _ in range(3)]
    taken = client.worker("GET", "job-take-batch/w?gpu=x&batch_size=2")[1]
    assert [job["id"] for job in taken] == jobs[:2]


@pytest.mark.parametrize("text", [b'{"output": {"value": NaN}}', b"{", b"[]"])
def test_a_result_that_is_no_json_is_refused(client: Client, text: bytes) -> None:
    """NaN and broken results answer 400, and the job goes on waiting for one."""
    job = client.run(uid="u")
    client.take()
    assert client.raw("POST", f"job-done/w/{job}?x", text, key=client.endpoint.key)[0] == 400
    assert client.status(job)["status"] == "IN_PROGRESS"


def test_a_worker_that_hangs_up_takes_no_job(client: Client) -> None:
    """A job that comes after a worker left its open take goes to the next worker, once."""
    client.endpoint.set_settings(take_hold=20.0)
    host, port = client.endpoint.url.removeprefix("http://").removesuffix("/v2").split(":")
    with socket.create_connection((host, int(port))) as gone:
        path = f"/v2/{client.endpoint.endpoint_id}/job-take/gone?x"
        gone.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.endpoint.key}\r\n\r\n".encode())
        eventually(lambda: "gone" in client.endpoint.state()["workers"])
    job = client.run(uid="u")
    assert client.take()["id"] == job
    assert client.endpoint.state()["executions"] == {"u": 1}


def test_over_the_limit_is_429_until_limits_are_off(client: Client) -> None:
    """The third purge in ten seconds answers 429; with rate_limits off it passes."""
    codes = [client.raw("POST", "purge-queue")[0] for _ in range(3)]
    assert codes == [200, 200, 429]
    client.endpoint.set_settings(rate_limits=False)
    assert client.raw("POST", "purge-queue")[0] == 200
    assert client.endpoint.state()["requests"]["purge-queue"] == {"200": 3, "429": 1}


def test_a_status_fault_answers_its_code_and_retry_after(client: Client) -> None:
    """The injected code, body and Retry-After arrive, and the operation did not happen."""
    fault = {"operation": "run", "kind": "status", "code": 503, "retry_after": 2, "body": "html", "times": 1}
    client.endpoint.set_faults([fault])
    status, said, headers = client.raw("POST", "run", b'{"input": {"uid": "u"}}')
    assert (status, headers["Retry-After"], said[:6]) == (503, "2", b"<html>")
    state = client.endpoint.state()
    assert (state["submitted"], state["faults_fired"]) == (0, [1])
    assert client.raw("POST", "run", b'{"input": {"uid": "u"}}')[0] == 200


@pytest.mark.parametrize(("applied", "submitted"), [(False, 0), (True, 1)])
def test_a_dropped_connection_may_have_taken_effect(client: Client, applied: bool, submitted: int) -> None:  # noqa: FBT001  # pytest passes it
    """A drop cuts the connection before the operation, or after it: the lost answer."""
    client.endpoint.set_faults([{"operation": "run", "kind": "drop", "applied": applied}])
    with pytest.raises(GONE):
        client.run(uid="u")
    assert client.endpoint.state()["submitted"] == submitted


def test_a_reset_connection_is_reset(client: Client) -> None:
    """A reset ends the connection by a TCP reset, where a drop closes it."""
    client.endpoint.set_faults([{"operation": "health", "kind": "reset"}])
    with pytest.raises(ConnectionResetError) as raised:
        client.call("GET", "health")
    assert type(raised.value) is ConnectionResetError  # not its subclass, by which http.client tells of a closed one


def test_a_latency_fault_delays(client: Client) -> None:
    """The answer comes no sooner than the latency."""
    client.endpoint.set_faults([{"operation": "health", "kind": "latency", "seconds": 0.3, "times": 1}])
    address = client.endpoint.url.removeprefix("http://").removesuffix("/v2")
    connection = http.client.HTTPConnection(address, timeout=0.1)
    connection.request(
        "GET", f"/v2/{client.endpoint.endpoint_id}/health", headers={"Authorization": f"Bearer {client.endpoint.key}"}
    )
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


def test_a_truncated_answer_is_no_json(client: Client) -> None:
    """The answer's JSON is cut in half."""
    client.endpoint.set_faults([{"operation": "health", "kind": "truncate"}])
    with pytest.raises(ValueError, match="line 1"):
        client.call("GET", "health")


def test_an_answer_without_id_hides_a_job_that_exists(client: Client) -> None:
    """The no_id fault leaves the id out; the job is there."""
    client.endpoint.set_faults([{"operation": "run", "kind": "no_id"}])
    assert client.call("POST", "run", {"input": {"uid": "u"}})[1] == {"status": "IN_QUEUE"}
    assert client.take()["input"] == {"uid": "u"}


def test_completed_without_output(client: Client) -> None:
    """The no_output fault waits for a completed job and hides its output."""
    client.endpoint.set_faults([{"operation": "status", "kind": "no_output", "times": 1}])
    waiting = client.run(uid="u")
    assert client.status(waiting)["status"] == "IN_QUEUE"
    client.call("POST", f"cancel/{waiting}")
    job = finished(client)
    assert "output" not in client.status(job)
    assert client.status(job)["output"] == {"value": 0.5}


def test_failed_without_error(client: Client) -> None:
    """The no_error fault hides a failed job's error."""
    client.endpoint.set_faults([{"operation": "status", "kind": "no_error"}])
    job = client.run(uid="u")
    client.take()
    client.done(job, error="boom")
    view = client.status(job)
    assert (view["status"], "error" in view) == ("FAILED", False)


def test_progress_left_in_the_output(client: Client) -> None:
    """The leftover fault shows the last progress as a completed job's output."""
    client.endpoint.set_faults([{"operation": "status", "kind": "leftover"}])
    assert client.status(finished(client))["output"] == {"step": 1}


@pytest.mark.parametrize("value", [float("nan"), "text", None, True])
def test_a_false_value_in_the_output(client: Client, value: object) -> None:
    """The value fault replaces a field wherever it is in the output; NaN arrives as a bare NaN."""
    client.endpoint.set_faults([{"operation": "status", "kind": "value", "field": "value", "value": value}])
    job = finished(client, best={"value": 0.5}, epochs=[{"value": 0.1, "epoch": 1}])
    said = client.raw("GET", f"status/{job}")[1]
    assert repr(json.loads(said)["output"]) == repr(
        {"best": {"value": value}, "epochs": [{"value": value, "epoch": 1}]}
    )


def test_health_can_tell_of_throttled_workers(client: Client) -> None:
    """The value fault replaces a count in /health."""
    client.endpoint.set_faults([{"operation": "health", "kind": "value", "field": "throttled", "value": 3}])
    assert client.call("GET", "health")[1]["workers"]["throttled"] == 3


def test_a_job_is_handed_out_twice(client: Client) -> None:
    """The duplicate fault gives one job to two workers, and the executions count both."""
    client.endpoint.set_faults([{"operation": "take", "kind": "duplicate", "times": 1}])
    job = client.run(uid="u")
    assert [client.take(worker)["id"] for worker in "vw"] == [job, job]
    assert client.endpoint.state()["executions"] == {"u": 2}


def test_late_progress_clobbers_a_completed_job(client: Client) -> None:
    """The late fault with clobber makes a completed job IN_PROGRESS again."""
    client.endpoint.set_faults([{"operation": "progress", "kind": "late", "seconds": 0.3, "clobber": True}])
    job = finished(client)
    assert client.status(job)["status"] == "COMPLETED"
    assert client.when(job, lambda view: view["status"] == "IN_PROGRESS")["output"] == {"step": 1}


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS"])
def test_a_job_stays_where_it_is(client: Client, state: str) -> None:
    """The stuck fault holds the submitted job in its state, out of every worker's reach."""
    client.endpoint.set_faults([{"operation": "run", "kind": "stuck", "state": state}])
    job = client.run(uid="u")
    assert client.take() is None
    assert client.when(job, lambda view: view["status"] == state)


def test_somebody_else_cancels(client: Client) -> None:
    """The cancel fault ends the submitted job CANCELLED."""
    client.endpoint.set_faults([{"operation": "run", "kind": "cancel", "seconds": 0.1}])
    assert client.ended(client.run(uid="u"))["status"] == "CANCELLED"


def test_a_wrong_control_call_is_refused_with_its_reason(client: Client) -> None:
    """The handle raises one sentence that names the wrong field, setting or worker."""
    with pytest.raises(SeedpodError, match="colour"):
        client.endpoint.set_faults([{"operation": "run", "kind": "status", "colour": 1}])
    with pytest.raises(SeedpodError, match="take_hold"):
        client.endpoint.set_settings(take_hold=-1)
    with pytest.raises(SeedpodError, match="worker 7"):
        client.endpoint.kill_worker(7)
