"""The final model as a job: on real SDK workers, back by a real S3 server, whole or not at all."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import InProcess, eventually
from runpod_rig import HandWorker, Lines, gate_to, ignore, live, new_spec
from seedpod.backends.final import RemoteFinal
from seedpod.backends.runpod import JobRules
from seedpod.backends.sending import no_addresses
from seedpod.endpoint.control import Control
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import BackendError, Cause, ContractMismatch, JobFailed, TrainingError, TrialCancelled
from seedpod.training.tasks import FinalTask
from seedpod.trial import ParamValue, TrialProgress, TrialRequest
from store_rig import Server, s3_server, store_at

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", name="server")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(name="bare")
def endpoint_without_workers() -> Iterator[InProcess]:
    with InProcess() as endpoint:
        yield endpoint
        eventually(lambda: not live(endpoint), 15)


def remote(control: Control, server: Server, retries: int = 2, say: Any = ignore) -> RemoteFinal:
    rules = JobRules(timeout=60.0, retries=retries)
    return RemoteFinal(gate_to(control), store_at(server.url), no_addresses, rules, say)


def task(path: Path, epochs: int = 3, **params: ParamValue) -> FinalTask:
    return FinalTask(replace(new_spec(), params=params), epochs, on_all=True, path=str(path / "model.keras"))


def left(server: Server) -> list[Path]:
    """Models that are still in the store."""
    return [path for path in server.folder.rglob("*.keras") if path.is_file()]


def test_a_model_comes_back(farm: EmbeddedEndpoint, server: Server, tmp_path: Path) -> None:
    """The file is the one that the worker has written, progress is told on the way, and the store is left empty."""
    asked, told = task(tmp_path, 4, pause=0.6), list[TrialProgress]()
    with closing(remote(farm, server)) as final:
        found = final.train(asked, told.append)
    assert Path(asked.path).read_text() == f"{asked.spec.uid} 4 True"
    assert len(found["history"]) == 4
    assert "test" not in found
    assert told
    assert {progress.max_epochs for progress in told} == {4}
    assert left(server) == []


def test_a_training_that_fails_is_not_tried_again(farm: EmbeddedEndpoint, server: Server, tmp_path: Path) -> None:
    """A model that diverges would do it again: its cause is told."""
    with closing(remote(farm, server)) as final, pytest.raises(TrainingError, match="nan") as caught:
        final.train(task(tmp_path, do="diverge"), ignore)
    assert caught.value.cause is Cause.DIVERGED


def test_a_stop_cancels_the_job(farm: EmbeddedEndpoint, server: Server, tmp_path: Path) -> None:
    """Whoever stops leaves no job behind."""
    with closing(remote(farm, server)) as final:

        def stop(_: TrialProgress) -> None:
            final.cancel_all()

        with pytest.raises(TrialCancelled):
            final.train(task(tmp_path, 50, pause=0.2), stop)
    eventually(lambda: not live(farm), 10)


def test_another_model_than_was_sent_is_refused(bare: InProcess, server: Server, tmp_path: Path) -> None:
    """A file whose hash is not the one that the worker tells costs an attempt, and in the end the model."""
    said = Lines()

    def sends_another(worker: HandWorker, job: str, asked: Any) -> None:
        name = TrialRequest.from_wire(asked).keep.model.partition("?")[0].rpartition("/")[2]  # type: ignore[union-attr]
        (server.folder / "images" / "p").mkdir(exist_ok=True)
        (server.folder / "images" / "p" / name).write_bytes(b"another")
        plain: dict[str, Any] = {"form": {}, "class_names": [], "train_images": 1, "history": [], "parameters": 1}
        told = {**plain, "environment": {}, "seconds": 1.0, "model": {"sha256": "0" * 64}}
        worker.done(job, output={"final": told})

    with (
        HandWorker(bare, [sends_another]),
        closing(remote(bare, server, 1, said)) as final,
        pytest.raises(JobFailed, match="not the one that was sent"),
    ):
        final.train(task(tmp_path), ignore)
    assert len(said.having("tried again")) == 1


@pytest.mark.parametrize("output", [{"final": {}}, {"final": [1]}, {"probe": {}}, None])
def test_an_answer_that_is_none_is_named(bare: InProcess, server: Server, tmp_path: Path, output: Any) -> None:
    """An image that does not know final models, or half an answer, is told as such."""
    with (
        HandWorker(bare, [lambda worker, job, _: worker.done(job, output=output)]),
        closing(remote(bare, server, 0)) as final,
        pytest.raises(BackendError, match=r"tells too little|without a result") as caught,
    ):
        final.train(task(tmp_path), ignore)
    assert isinstance(caught.value, ContractMismatch) or output is None
