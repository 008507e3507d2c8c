"""The handle on the endpoint process: start, refusals, secrets, and the end of everything."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Self

import psutil
import pytest

from endpoint_client import HANDLER, Client, eventually
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.endpoint.guardian import carriers
from seedpod.endpoint.workers import inherited
from seedpod.errors import ConfigError

pytestmark = pytest.mark.processes

OWNER = """
import sys, time
from pathlib import Path
from seedpod.endpoint.embedded import EmbeddedEndpoint
endpoint = EmbeddedEndpoint(workers=2, handler=Path(sys.argv[1]))
endpoint.start()
endpoint.wait_for_workers()
assert "aiohttp" not in sys.modules and "runpod" not in sys.modules
print(endpoint.pid, flush=True)
time.sleep(600)
"""


class Owner:
    """A process that owns an endpoint with two workers, all marked by a variable in their environment."""

    def __init__(self) -> None:
        self.mark = f"SEEDPOD_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(HANDLER)],
            env={**os.environ, name: value, "SEEDPOD_TEST_DETACHED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.server = int(self.process.stdout.readline())

    def family(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in carriers(self.mark)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        for process in self.family():
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_dies(number: signal.Signals) -> None:
    """Ten seconds after the owner's death by any signal, no process with its mark is left."""
    with Owner() as owner:
        # Owner, server, two guardians, two workers, two ping children, two processes that left their worker's group.
        assert len(owner.family()) == 10
        owner.process.send_signal(number)
        _, alive = psutil.wait_procs(owner.family(), timeout=10)
        assert not alive
        assert not list(carriers(owner.mark))


def test_nothing_is_left_when_the_server_is_killed() -> None:
    """A SIGKILLed server cleans up nothing; its workers' guardians do."""
    with Owner() as owner:
        os.kill(owner.server, signal.SIGKILL)
        eventually(lambda: set(carriers(owner.mark)) == {owner.process.pid}, 10)


def test_a_killed_guardian_takes_its_worker_along() -> None:
    """When a guardian is killed, the server kills the worker, starts another, and closes in order."""
    with EmbeddedEndpoint(workers=1, handler=HANDLER) as endpoint:
        endpoint.wait_for_workers()
        worker = psutil.Process(endpoint.state()["processes"][0]["pid"])
        family = [worker, *worker.children(recursive=True)]
        guardian = worker.parent()
        assert guardian is not None
        guardian.kill()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
        endpoint.wait_for_workers(1)


def test_close_ends_every_process_and_may_be_called_twice() -> None:
    """After close no process of the endpoint is left, and its port is shut."""
    endpoint = EmbeddedEndpoint(workers=1, handler=HANDLER)
    endpoint.start()
    assert endpoint.pid is not None
    server = psutil.Process(endpoint.pid)
    family = [server, *server.children(recursive=True)]
    endpoint.close()
    endpoint.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert not endpoint.logs.exists()


def test_a_missing_handler_is_named() -> None:
    """A handler path that does not exist is refused in one sentence."""
    with pytest.raises(ConfigError, match=r"no handler at /nowhere/handler\.py"):
        EmbeddedEndpoint(handler=Path("/nowhere/handler.py")).start()


def test_a_port_in_use_is_named(client: Client) -> None:
    """A port that is taken is refused in one sentence."""
    port = int(client.endpoint.url.removesuffix("/v2").rpartition(":")[2])
    with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
        EmbeddedEndpoint(workers=0, handler=HANDLER, port=port).start()


def test_the_key_is_in_no_argument_list_log_or_repr(tmp_path: Path) -> None:
    """The key is random, and shows neither in a repr nor in any process's arguments nor in a worker's log."""
    with EmbeddedEndpoint(workers=1, handler=HANDLER, log_dir=tmp_path) as endpoint:
        endpoint.wait_for_workers()
        assert len(endpoint.key) > 20
        assert endpoint.key not in repr(endpoint)
        server = psutil.Process(endpoint.pid)
        assert all(endpoint.key not in " ".join(one.cmdline()) for one in [server, *server.children(recursive=True)])
        key = endpoint.key
    logs = list(tmp_path.glob("*.log"))
    assert logs
    assert all(key not in log.read_text() for log in logs)


def test_workers_inherit_no_account() -> None:
    """Nothing of the owner's RunPod account, cloud or endpoint key passes to a worker; what is named and ours does."""
    owner = {"RUNPOD_API_KEY": "k", "AWS_SECRET": "k", "SEEDPOD_ENDPOINT_KEY": "k", "KERAS_BACKEND": "jax", "DATA": "d"}
    assert inherited(owner, ["DATA"]) == {"KERAS_BACKEND": "jax", "DATA": "d"}


def test_workers_get_what_is_handed_on_and_a_home_of_their_own(tmp_path: Path) -> None:
    """A worker process sees the variables that are handed on, and a home without the owner's configuration."""
    with EmbeddedEndpoint(workers=1, handler=HANDLER, log_dir=tmp_path, environment={"DATA": "here"}) as endpoint:
        endpoint.wait_for_workers()
        seen = psutil.Process(endpoint.state()["processes"][0]["pid"]).environ()
    assert (seen["DATA"], seen["HOME"]) == ("here", str(tmp_path / "home"))


def test_a_crashing_handler_shows_as_a_crash_loop(tmp_path: Path) -> None:
    """A handler that ends at once is restarted with pauses, and /health counts its worker unhealthy."""
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('broken')")
    with EmbeddedEndpoint(workers=1, handler=broken) as endpoint:
        eventually(lambda: Client(endpoint).call("GET", "health")[1]["workers"]["unhealthy"] == 1)
        assert "broken" in (endpoint.logs / "worker-0.log").read_text()


def test_it_stops_on_sigterm_and_at_the_end_of_its_input() -> None:
    """The command prints its ready line and ends cleanly on SIGTERM, and when its input closes."""
    command = [sys.executable, "-m", "seedpod.endpoint", "--workers", "0", "--handler", str(HANDLER)]
    for end in ("signal", "input"):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert b'"url"' in process.stdout.readline()
            if end == "signal":
                process.terminate()
            else:
                process.stdin.close()
            assert process.wait(20) == 0
