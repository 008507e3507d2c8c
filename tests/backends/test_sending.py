"""A data set on its way to workers: uploaded by the first trial; an address for each job, a new one each attempt."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import samples
from endpoint_client import InProcess
from runpod_rig import HandWorker, Lines, completes, gate_to, ignore, new_spec, well
from seedpod.backends.runpod import RunPodBackend
from seedpod.backends.sending import SentData
from seedpod.errors import Cause, EndpointUnreachable, JobFailed, TrialCancelled
from seedpod.training.datasets import prepare
from seedpod.trial import Status, TrialFailure, TrialRequest, TrialResult, TrialSpec
from store_rig import Server, s3_server, save_images, store_at

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", name="server")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def spec_on(home: Path, count: int) -> TrialSpec:
    info = prepare(str(save_images(home / f"of{count}.npz", count)), home)
    return samples.spec(dataset=info.id, fingerprint=info.fingerprint)


def wanted() -> bool:
    return False


def test_the_first_trial_uploads_and_the_others_wait(server: Server, tmp_path: Path) -> None:
    """Six trials at once bring one upload and six addresses of one object."""
    spec, lines = spec_on(tmp_path, 60), Lines()
    sent = SentData(store_at(server.url), tmp_path, lines)
    with ThreadPoolExecutor(6) as threads:
        urls = list(threads.map(lambda _: sent.address(spec, 1, 60.0, wanted), range(6)))
    (name,) = {url.partition("?")[0] for url in urls}
    assert server.asked("PUT", name.rpartition("/")[2]) == ["200"]
    assert len(lines.having("uploaded")) == 1


def test_a_further_attempt_looks_whether_the_object_is_there(server: Server, tmp_path: Path) -> None:
    """An object that somebody has deleted is uploaded again when a worker could not fetch it."""
    spec = spec_on(tmp_path, 63)
    sent = SentData(store_at(server.url), tmp_path, lambda _: None)
    name = sent.address(spec, 1, 60.0, wanted).partition("?")[0].rpartition("/")[2]
    (stored,) = server.folder.rglob(name)
    stored.unlink()
    sent.address(spec, 1, 60.0, wanted)
    assert not stored.exists()
    sent.address(spec, 2, 60.0, wanted)
    assert stored.exists()


def test_what_workers_know_by_name_is_not_sent(tmp_path: Path) -> None:
    """A registered data set has no address, and nobody is asked for one."""
    assert SentData(store_at("http://127.0.0.1:1"), tmp_path, print).address(samples.SPEC, 1, 60.0, wanted) == ""


def test_trouble_is_each_trials_and_the_next_one_tries_again(tmp_path: Path) -> None:
    """An upload that fails fails the trial that makes it, and no other waits for it for ever."""
    spec = spec_on(tmp_path, 66)
    sent = SentData(store_at("http://127.0.0.1:1"), tmp_path, lambda _: None)
    for _ in range(2):
        with pytest.raises(EndpointUnreachable, match="cannot be reached"):
            sent.address(spec, 1, 60.0, wanted)


def test_a_search_that_stops_waits_for_no_upload(server: Server, tmp_path: Path) -> None:
    """A trial that waits for another one's upload leaves when the search stops."""
    spec = spec_on(tmp_path, 69)
    sent = SentData(store_at(server.url), tmp_path, lambda _: None)
    assert sent._there(again=False) == ""  # another trial uploads from here on
    with pytest.raises(TrialCancelled):
        sent.address(spec, 1, 60.0, lambda: True)


def address(spec: TrialSpec, attempt: int, seconds: float, stopping: Any) -> str:  # noqa: ARG001 - as Addresses
    return f"https://s3.example/{'0' * 64}.tar?attempt={attempt}&for={seconds:.0f}"


def failing(cause: Cause) -> Any:
    def act(worker: HandWorker, job: str, asked: Any) -> None:
        failure = TrialFailure(cause, "its address has expired")
        result = TrialResult(TrialRequest.from_wire(asked).spec.number, Status.FAILED, error=failure)
        worker.done(job, output={"result": result.to_wire()})

    return act


def test_what_a_worker_could_not_fetch_is_tried_again_with_a_new_address() -> None:
    """A download that failed is the endpoint's trouble: the same spec is the next attempt, its address a new one that
    lasts as long as the job may.
    """
    asked = list[str]()

    def noting(worker: HandWorker, job: str, request: Any) -> None:
        asked.append(TrialRequest.from_wire(request).data)
        (failing(Cause.TRANSFER) if len(asked) < 3 else completes)(worker, job, request)

    with InProcess() as endpoint, HandWorker(endpoint, [noting]):
        backend = RunPodBackend(gate_to(endpoint), most_at_once=2, data=address)
        with closing(backend):
            spec = new_spec()
            result = backend.run(spec, ignore)
    assert well(result, spec)
    assert asked == [address(spec, attempt, 3660.0, wanted) for attempt in (1, 2, 3)]


def test_a_download_that_fails_for_good_fails_its_trial_with_its_cause() -> None:
    """After the last attempt the trial fails as a download, in the worker's words."""
    with InProcess() as endpoint, HandWorker(endpoint, [failing(Cause.TRANSFER)]):
        backend = RunPodBackend(gate_to(endpoint), most_at_once=2, data=address)
        with closing(backend), pytest.raises(JobFailed, match="its address has expired") as caught:
            backend.run(new_spec(), ignore)
    assert caught.value.cause is Cause.TRANSFER
