"""A real S3 server as a process, images to bring there, and a line to it that breaks."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from command_rig import records
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.guarded import Guarded
from seedpod.remote.store import DataStore

BUCKET = "images"
KEYS = {"AWS_ACCESS_KEY_ID": "SEEDPODTESTKEY", "AWS_SECRET_ACCESS_KEY": "notsecretnotsecretnotsecret"}
PART = 5 * 2**20
"""Bytes of a part of an upload: as small as S3 takes them."""
UNCONFIGURED = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Without whatever the machine's owner has set up for boto3."""


@dataclass(frozen=True)
class Server:
    """A running S3 server.

    Attributes:
        url: Its API.
        folder: Its buckets are folders there, and objects files.
        log: A line for each request.
    """

    url: str
    folder: Path
    log: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What boto3 needs."""
        return {**KEYS, **UNCONFIGURED}

    def asked(self, method: str, name: str = "") -> list[str]:
        """The status of each answer to such a request of an object."""
        pattern = re.compile(rf'"{method} /{BUCKET}/\S*{re.escape(name)}\S* HTTP/1.1" (\d+)')
        return pattern.findall(self.log.read_text("utf-8", "replace"))


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """Serve a folder with one bucket."""
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "server.log"
    command = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(port)]
    names = {"NANIO_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "NANIO_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "buckets")],
            env={**os.environ, **names},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield Server(f"http://127.0.0.1:{port}", folder / "buckets", log)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """The process environment with these, which is where boto3 looks for keys."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@cache
def store_at(url: str, prefix: str = "p", bucket: str = BUCKET, **keys: str) -> DataStore:
    """A store at this address, which may be a server's or that of a line to it: its signatures are for that host."""
    with variables({**KEYS, **UNCONFIGURED, **keys}):
        return DataStore(f"s3://{bucket}/{prefix}", url, part=PART)


def save_images(path: Path, count: int = 60, side: int = 8, seed: int = 0) -> Path:
    """A user's own file: stripes and noise, which a small network tells apart."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = chance.integers(0, 80, (count, side, side), dtype=np.uint8)
    images[labels == 1, ::2, :] += 150
    images[labels == 2, :, ::2] += 150
    held = count // 5
    np.savez(path, x_train=images[held:], y_train=labels[held:], x_test=images[:held], y_test=labels[:held])
    return path


class CuttingLine:
    """A TCP proxy that cuts the first connections after so many bytes of the answer.

    Args:
        server: Where to.
        cuts: Bytes after which each of the first connections is cut; later ones are left alone.
    """

    def __init__(self, server: Server, cuts: list[int]) -> None:
        self._port = int(server.url.rpartition(":")[2])
        self._cuts = Guarded(list(cuts))
        self.carried = Guarded([0])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with self._cuts.locked() as cuts:
            left = cuts.pop(0) if cuts else None
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, suppress(OSError):
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            while data := server.recv(65536):
                data = data if left is None else data[:left]
                client.sendall(data)
                with self.carried.locked() as carried:
                    carried[0] += len(data)
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def through(server: Server, endpoint: EmbeddedEndpoint) -> tuple[str, ...]:
    """The settings of a search on two workers of an endpoint, whose images go there by this store."""
    return (
        "use_runpod_service=true",
        f"runpod_service_endpoint={endpoint.url}/{endpoint.endpoint_id}",
        "runpod_service_fallback_local=false",
        "concurrent_workers=2",
        f"data_store=s3://{BUCKET}/p",
        f"data_store_endpoint={server.url}",
    )


WHERE = {"times", "run", "backend", "cost"}
"""What of a record says where a trial ran, and not what it found."""


def table(folder: Path) -> list[dict[str, Any]]:
    """A run's records, but for where its trials ran."""
    return [{key: value for key, value in each.items() if key not in WHERE} for each in records(folder)]
