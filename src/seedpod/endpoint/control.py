"""Tells a running endpoint what to do: faults, settings, workers; and asks what it has seen. Standard library only."""

import http
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from seedpod.errors import SeedpodError

_CALL_TIMEOUT = 10.0  # seconds


class Control:
    """The control interface of one endpoint (``control_api``). May be used from any thread.

    Args:
        url: Base of the client's API, ending in ``/v2``.
        endpoint_id: The endpoint's id.
        key: The endpoint's key.
    """

    def __init__(self, url: str = "", endpoint_id: str = "", key: str = "") -> None:
        self.url = url
        self.endpoint_id = endpoint_id
        self.key = key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url or 'not started'})"

    def set_faults(self, faults: Sequence[Mapping[str, Any]], seed: int = 0) -> None:
        """Replace the faults in force (``faults.Fault`` says what there is); ``[]`` ends them."""
        self._call("PUT", "faults", {"faults": [dict(fault) for fault in faults], "seed": seed})

    def set_settings(self, **settings: bool | float) -> None:
        """Change settings while it runs (``settings.Settings``)."""
        self._call("PATCH", "settings", settings)

    def state(self) -> dict[str, Any]:
        """Jobs, workers, executions by uid, requests by operation and outcome (``control_api``)."""
        state: dict[str, Any] = self._call("GET", "state")
        return state

    def trace(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to a job: ``at``, ``what``, ``detail``."""
        trace: list[dict[str, Any]] = self._call("GET", f"trace/{job_id}")
        return trace

    def kill_worker(self, slot: int) -> None:
        """SIGKILL a worker's process group; it is replaced under a new id."""
        self._call("POST", f"workers/{slot}/kill", {})

    def freeze_worker(self, slot: int) -> None:
        """SIGSTOP a worker's process group."""
        self._call("POST", f"workers/{slot}/freeze", {})

    def thaw_worker(self, slot: int) -> None:
        """SIGCONT a worker's process group."""
        self._call("POST", f"workers/{slot}/thaw", {})

    def wait_for_workers(self, count: int, timeout: float = 60.0) -> None:
        """Block until so many workers have asked for a job; raises SeedpodError after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while (ready := sum(one["asked"] for one in self.state()["workers"].values())) < count:
            if time.monotonic() > end:
                logs = ", ".join(one["log"] for one in self.state()["processes"])
                raise SeedpodError(
                    f"{ready} of {count} workers came up in {timeout:g} s; look into {logs or 'no log'}."
                )
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        address = self.url.removeprefix("http://").removesuffix("/v2")
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(address, timeout=_CALL_TIMEOUT)
        try:
            connection.request(method, f"/__seedpod/{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            said = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            where = self.url or "(not started)"
            raise SeedpodError(f"the endpoint at {where} does not answer: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise SeedpodError(f"the endpoint refused {method} {path}: {said.get('detail', response.reason)}")
        return said
