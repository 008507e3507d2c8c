"""What the tests of the wire share: clients, a server that says what it is told, threads whose ends are collected."""

import json
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

from seedpod.clock import Clock, SystemClock
from seedpod.endpoint.control import Control
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.remote.breaker import BreakerRules
from seedpod.remote.client import EndpointClient, Timeouts
from seedpod.remote.gate import Gate, GateRules
from seedpod.remote.policy import LIMITS, Backoff, Limit, Operation
from seedpod.remote.secret import Secret

T = TypeVar("T")

KEY = "rpa_TESTKEYTESTKEY0123456789"
JOB = {"uid": "u", "number": 1}
HURRY = Backoff(base=0.01, longest=0.05, total=5.0)
NEVER_OPEN = BreakerRules(consecutive=10_000, least=10_000)


@contextmanager
def endpoint() -> Iterator[EmbeddedEndpoint]:
    """The real embedded endpoint, without workers."""
    with EmbeddedEndpoint(workers=0, handler=Path(__file__)) as running:
        yield running


def client_of(control: Control, **changes: object) -> EndpointClient:
    """A client for an endpoint; ``endpoint_id``, ``key``, ``connections``, ``read`` may differ."""
    return EndpointClient(
        control.url,
        str(changes.get("endpoint_id", control.endpoint_id)),
        Secret(str(changes.get("key", control.key))),
        int(str(changes.get("connections", 8))),
        timeouts=Timeouts(connect=2.0, read=float(str(changes.get("read", 10.0)))),
    )


def client_at(url: str, read: float = 5.0) -> EndpointClient:
    """A client for a server of this module."""
    return EndpointClient(url, "ep", Secret(KEY), 4, timeouts=Timeouts(connect=2.0, read=read))


@contextmanager
def gate_of(
    control: Control,
    *,
    backoff: Backoff = HURRY,
    breaker: BreakerRules = NEVER_OPEN,
    limits: Mapping[Operation, Limit] | None = None,
    clock: Clock | None = None,
    connections: int = 8,
) -> Iterator[Gate]:
    """A gate in a hurry, around a client for an endpoint."""
    rules = GateRules(
        limits=MappingProxyType({**LIMITS, **(limits or {})}),
        backoff=dict.fromkeys(Operation, backoff),
        breaker=breaker,
    )
    client = client_of(control, connections=connections)
    gate = Gate(client, clock or SystemClock(), random.Random(1), rules)
    try:
        yield gate
    finally:
        gate.close()


def submit(caller: EndpointClient | Gate) -> str:
    """A job's id."""
    return caller.run(JOB, execution_timeout=60.0, ttl=600.0)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Make all calls in threads of their own, once all of these are there; what each returned or raised."""
    together = threading.Barrier(len(calls))

    def made(call: Callable[[], T]) -> T:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(made, call) for call in calls]
    ends: list[T | BaseException] = []
    for future in futures:
        error = future.exception()
        ends.append(future.result() if error is None else error)
    return ends


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Fail if it does not become true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.01)


class Server:
    """Answers each connection with the same bytes, once it has read a whole request; keeps what it read."""

    def __init__(self, answer: bytes, *, reset: bool = False, silent: bool = False) -> None:
        self.requests: list[bytes] = []
        self.tls: ssl.SSLContext | None = None
        self._answer = answer
        self._reset = reset
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/v2"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            connection, _ = self._listener.accept()
            with suppress(OSError), connection:
                connection.settimeout(5)
                self._answer_one(connection)

    def _answer_one(self, plain: socket.socket) -> None:
        connection = self.tls.wrap_socket(plain, server_side=True) if self.tls else plain
        with connection:
            request = _whole_request(connection)
            if not request:
                return
            self.requests.append(request)
            if self._silent:
                self._ended.wait(5)
            elif self._reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.sendall(self._answer)


def _whole_request(connection: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        piece = connection.recv(65536)
        if not piece:
            return b""
        read += piece
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: object, code: int = 200, *headers: str) -> bytes:
    """A whole HTTP answer; a body that is not bytes goes as JSON."""
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(said)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + said
