"""The owner's handle on an endpoint process. Standard library only: no aiohttp and no runpod in the optimizer."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from seedpod.endpoint.control import Control
from seedpod.endpoint.settings import KEY
from seedpod.errors import ConfigError, SeedpodError
from seedpod.extras import require

_NEEDED = ("aiohttp", "runpod")
_END_TIMEOUT = 10.0  # seconds
_REFUSED = 2  # exit code of a configuration that cannot be run


def default_handler() -> Path:
    """``runpod_service/handler.py`` of this checkout; an installed package has none and needs ``handler=``."""
    return Path(__file__).resolve().parents[3] / "runpod_service" / "handler.py"


class EmbeddedEndpoint(Control):
    """An endpoint and its workers, as child processes that die with this one, however it dies.

    A context manager. Not thread-safe to start and close; the control calls may come from any thread. One that was
    closed may be started again: at its address, with its id and its key, without its jobs.

    Args:
        workers: SDK worker processes.
        concurrency: Jobs that one worker may hold.
        handler: Python file that starts the handler; None for ``default_handler()``.
        port: Port on 127.0.0.1; 0 takes a free one.
        log_dir: Folder for the workers' logs, and at its end for all that it has seen (``state.json``); None for a
            temporary one that goes with the endpoint.
        settings: Settings to change (``settings.Settings``), by name.
        environment: Variables that the workers get beside what they inherit.
        start_timeout: Seconds until it must listen.

    Attributes:
        url: Base of the client's API, as ``https://api.runpod.ai/v2`` is RunPod's.
        endpoint_id: The endpoint's id, the next part of a client's URL.
        key: The API key. In no repr, log or argument list.
        logs: Folder of ``worker-N.log``.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        concurrency: int = 1,
        handler: Path | None = None,
        port: int = 0,
        log_dir: Path | None = None,
        settings: Mapping[str, bool | float] | None = None,
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        super().__init__()
        self.workers = workers
        self.logs = Path()
        self._environment = dict(environment or {})
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments = [
            *("--workers", str(workers), "--concurrency", str(concurrency), "--port", str(port)),
            *("--handler", str(handler or default_handler())),
            *(() if log_dir is None else ("--log-dir", str(log_dir))),
            *(word for name in self._environment for word in ("--pass-on", name)),
            *(word for name, value in (settings or {}).items() for word in ("--set", f"{name}={json.dumps(value)}")),
        ]

    def __repr__(self) -> str:
        return f"EmbeddedEndpoint({self.url or 'not started'}, workers={self.workers})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the endpoint; None where it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and wait until it listens; the workers are still starting then.

        Raises:
            ConfigError: A package or the handler is missing, or a setting is wrong.
            SeedpodError: It did not listen in time.
        """
        require("the endpoint on this machine", _NEEDED, ("endpoint", "worker"))
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "seedpod.endpoint", *self._arguments, *self._again()],
                env={**os.environ, **self._environment, **({KEY: self.key} if self.key else {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches the owner, who closes us in order
            )
            process = self._process
            line = _line_within(process.stdout, self._start_timeout)
            if not line:
                self.close()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
                if process.returncode == _REFUSED:
                    raise ConfigError(said)
                raise SeedpodError(
                    f"the endpoint did not listen within {self._start_timeout:g} s. {said[-2000:]}".rstrip()
                )
        ready = json.loads(line)
        self.url, self.endpoint_id, self.key = ready["url"], ready["endpoint_id"], ready["key"]
        self.logs = Path(ready["logs"])

    def _again(self) -> tuple[str, ...]:
        """Arguments that make it the endpoint that it was; none, at its first start."""
        if not self.url:
            return ()
        return ("--port", self.url.removesuffix("/v2").rpartition(":")[2], "--id", self.endpoint_id)

    def close(self) -> None:
        """Stop the endpoint and every process under it; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        # The signal first, since a forked child of ours may hold the pipe open; not after, since it would cut short the
        # orderly end that the pipe begins.
        process.terminate()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def wait_for_workers(self, count: int | None = None, timeout: float = 60.0) -> None:
        """Block until ``count`` workers (None: all) have asked for a job; raises SeedpodError after ``timeout`` s."""
        super().wait_for_workers(self.workers if count is None else count, timeout)


def _line_within(pipe: IO[bytes] | None, seconds: float) -> bytes:
    """The first line, or nothing where the other side ends or is silent for so long."""
    if pipe is None:
        return b""
    readable, _, _ = select.select([pipe], [], [], seconds)
    return pipe.readline() if readable else b""
