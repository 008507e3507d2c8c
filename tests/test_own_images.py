"""Images of one's own on remote workers, by the command line, real SDK workers and a real S3 server."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest

from command_rig import records, run
from seedpod.endpoint.embedded import EmbeddedEndpoint
from store_rig import KEYS, UNCONFIGURED, s3_server, save_images, table, through

pytestmark = pytest.mark.processes

SEARCH = ("trials=4", "search_lag=2", "startup_trials=2", "max_epochs_per_trial=2", "search_space=small")


def final(folder: Path) -> dict[str, Any]:
    """What is known of a final model, but for when it was made and the bytes of its file, which hold that too."""
    found: dict[str, Any] = json.loads((folder / "final.json").read_text("utf-8"))
    return {key: value for key, value in found.items() if key not in {"run", "times", "model"}}


def weights(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "model.keras") as archive, h5py.File(archive.open("model.weights.h5")) as file:
        found = dict[str, bytes]()
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()} if hasattr(item, "dtype") else {}))
    assert found
    return found


@pytest.mark.slow
def test_the_same_trials_as_locally_and_one_download_a_worker(tmp_path: Path) -> None:
    """A search over a user's file on two workers that do not have it has the trials of the local one, bit for bit, and
    the final model that a worker has trained is the local one too; each worker has downloaded once, and neither the
    secret nor a signature is in any file of the run.
    """
    file = save_images(tmp_path / "own.npz")
    common = (f"dataset={file}", *SEARCH, f"cache_dir={tmp_path / 'home'}", "final_model=retrain")
    done = run(*common, "run_name=here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    caches = tmp_path / "workers"
    own_cache = Path(__file__).with_name("own_cache_handler.py")
    with (
        s3_server(tmp_path / "s3") as server,
        EmbeddedEndpoint(workers=2, handler=own_cache, environment={"SEEDPOD_CACHE_DIR": str(caches)}) as endpoint,
    ):
        endpoint.wait_for_workers(timeout=120)
        done = run(
            *common,
            "run_name=there",
            "final_on=remote",
            *through(server, endpoint),
            cwd=tmp_path,
            RUNPOD_API_KEY=endpoint.key,
            **KEYS,
            **UNCONFIGURED,
        )
        assert (done.returncode, done.stderr) == (0, "")
        worked = {record["run"]["worker"] for record in records(tmp_path / "results" / "there")}
        assert server.asked("GET", ".tar") == ["200"] * len(worked)
        assert server.asked("PUT", ".tar") == ["200"]
        assert server.asked("PUT", ".keras") == ["200"]
        assert not [log for log in endpoint.logs.glob("*.log") if "X-Amz" in log.read_text("utf-8", "replace")]
    assert table(tmp_path / "results" / "there") == table(tmp_path / "results" / "here")
    here, there = (tmp_path / "results" / name for name in ("here", "there"))
    assert final(here) == final(there)
    assert weights(here) == weights(there)
    assert len(worked) == 2
    assert all(not list(folder.rglob("x_test.npy")) for folder in caches.iterdir())
    written = b"".join(path.read_bytes() for path in (tmp_path / "results" / "there").rglob("*") if path.is_file())
    assert b"X-Amz" not in written
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in written
    assert "X-Amz" not in done.stdout


def test_images_that_no_worker_has_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """A user's file on a remote endpoint without a store is a mistake in the settings, which says what to set."""
    file = save_images(tmp_path / "own.npz")
    done = run(f"dataset={file}", "use_runpod_service=true", "runpod_service_endpoint=abc123", cwd=tmp_path)
    assert done.returncode == 2
    assert "the endpoint's workers do not have these images. Set data_store=s3://BUCKET/PREFIX" in done.stderr
    assert not (tmp_path / "results").exists()
