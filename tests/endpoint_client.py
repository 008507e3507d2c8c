"""Both sides of the wire in plain HTTP, and the endpoint in a thread."""

import asyncio
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from seedpod.clock import SystemClock
from seedpod.endpoint.app import application, listen
from seedpod.endpoint.control import Control
from seedpod.endpoint.service import Service
from seedpod.endpoint.settings import Settings
from seedpod.errors import ConfigError

HANDLER = Path(__file__).parent / "endpoint" / "sleep_handler.py"
QUICK = {"take_tick": 0.01, "take_hold": 0.25}
PATIENCE = 30.0  # seconds; generous, for a loaded machine


class Client:
    """Client and worker side of the wire, in plain HTTP."""

    def __init__(self, endpoint: Control) -> None:
        self.endpoint = endpoint

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        key: str | None = None,
        endpoint_id: str | None = None,
    ) -> tuple[int, bytes, dict[str, str]]:
        address, _, prefix = self.endpoint.url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        url = f"/{prefix}/{endpoint_id or self.endpoint.endpoint_id}/{path}"
        headers = {"Authorization": f"Bearer {self.endpoint.key}" if key is None else key}
        try:
            connection.request(method, url, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), dict(response.headers)
        finally:
            connection.close()

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        status, said, _ = self.raw(method, path, None if body is None else json.dumps(body).encode())
        return status, json.loads(said) if said else None

    def run(self, policy: dict[str, int] | None = None, **asked: Any) -> str:
        body = {"input": asked or {"uid": "u"}, **({"policy": policy} if policy else {})}
        return str(self.call("POST", "run", body)[1]["id"])

    def status(self, job: str) -> dict[str, Any]:
        status, body = self.call("GET", f"status/{job}")
        return dict(body) if status == 200 else {"status": status}

    def worker(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """A request as the SDK makes it: bare key."""
        data = None if body is None else json.dumps(body).encode()
        status, said, _ = self.raw(method, path, data, key=self.endpoint.key)
        return status, json.loads(said) if said else None

    def take(self, worker: str = "w") -> Any:
        return self.worker("GET", f"job-take/{worker}?gpu=x&job_in_progress=0")[1]

    def done(self, job: str, worker: str = "w", **body: Any) -> int:
        return self.worker("POST", f"job-done/{worker}/{job}?gpu=x&isStream=false", body)[0]

    def ended(self, job: str) -> dict[str, Any]:
        """The status at the job's end."""
        return self.when(job, lambda view: view["status"] not in {"IN_QUEUE", "IN_PROGRESS"})

    def when(self, job: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        eventually(lambda: holds(self.status(job)))
        return self.status(job)


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Fail if it does not become true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.03)


class NoWorkers:
    """An endpoint's hands where there are no processes."""

    def act(self, slot: int, action: str) -> None:
        raise ConfigError(f"there is no worker {slot} to {action}.")

    def wire(self) -> list[dict[str, Any]]:
        return []


class InProcess(Control):
    """The endpoint in a thread of this process: the same application, up in milliseconds."""

    def __init__(self) -> None:
        super().__init__(endpoint_id="ep", key="in-process-key")
        self._ready: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self.url, self._stop = self._ready.get(timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        service = Service(self.endpoint_id, self.key, SystemClock(), Settings().updated(QUICK))
        runner, port = await listen(application(service, NoWorkers()), 0)
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.put((f"http://127.0.0.1:{port}/v2", lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
        await runner.cleanup()
