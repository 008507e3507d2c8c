"""A search that tells an MLflow server, a real one, and one that is not there."""

import json
import logging
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedpod.config import OptimizationConfig
from seedpod.errors import ConfigError
from seedpod.remote.mlflow import MlflowClient
from thread_backend import searched_here


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def search(tmp_path: Path, cache: Path, uri: str) -> Path:
    searched_here(tmp_path, cache, trials=3, max_epochs_per_trial=3, mlflow_tracking_uri=uri)
    return tmp_path / "r"


@pytest.fixture(name="server")
def real_server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("mlflow.server", reason="needs `uv sync --group mlflow-server`")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, cwd=tmp_path)
    uri = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=5):  # noqa: S310 - http, as above
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < end, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_real_server_knows_every_trial(server: str, tmp_path: Path, digits_cache: Path) -> None:
    """Each trial is a run of the search's experiment, with its parameters, its metrics at every epoch, and its end."""
    folder = search(tmp_path, digits_cache, server)
    client = MlflowClient(server)
    experiment = client.experiment("r")
    found = client._call("POST", "runs/search", {"experiment_ids": [experiment]})["runs"]
    assert len(found) == 3
    for run in found:
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        record = json.loads((folder / "trials" / f"{int(tags['seedpod.trial']):04d}.json").read_text("utf-8"))
        params = {param["key"]: param["value"] for param in run["data"]["params"]}
        assert {name: str(value) for name, value in record["params"].items()}.items() <= params.items()
        assert run["info"]["status"] == "FINISHED"
        fields = {"run_id": run["info"]["run_id"], "metric_key": "val_accuracy"}
        history = client._call("GET", "metrics/get-history", fields)["metrics"]
        points = [(int(point["step"]), point["value"]) for point in history]
        assert points == [(epoch, pytest.approx(row["val_accuracy"])) for epoch, row in enumerate(record["history"], 1)]
    client.close()


def test_server_that_is_away_costs_a_line(tmp_path: Path, digits_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody answers the search is what it would have been, and it is said once."""
    with caplog.at_level(logging.WARNING):
        folder = search(tmp_path, digits_cache, f"http://127.0.0.1:{free_port()}")
    assert sum("does not answer" in r.getMessage() for r in caplog.records) == 1
    assert len(list((folder / "trials").glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("uri", "said"), [("http://me:secret@host:5000", "holds a password"), ("sqlite:///x.db", "http(s)://HOST:PORT")]
)
def test_address_is_checked(uri: str, said: str) -> None:
    """A password is not saved, and what is no server's address is refused."""
    with pytest.raises(ConfigError, match=said.replace("(", r"\(").replace(")", r"\)")) as refused:
        OptimizationConfig(mlflow_tracking_uri=uri)
    if "secret" in uri:
        assert "secret" not in str(refused.value).split("holds")[1]
