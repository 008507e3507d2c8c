"""The endpoint as a process: options, start, the ready line, and an end by signal or by its owner's death."""

import argparse
import asyncio
import json
import os
import secrets
import shlex
import signal
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from seedpod.clock import SystemClock
from seedpod.endpoint.app import LOOPBACK, application, listen
from seedpod.endpoint.control_api import state_of
from seedpod.endpoint.service import Service
from seedpod.endpoint.settings import KEY, Settings
from seedpod.endpoint.workers import WorkerPlan, WorkerPool, inherited
from seedpod.errors import ConfigError

LAST_STATE = "state.json"
"""File among the workers' logs with all that the endpoint has seen (``control_api.state_of``), once it has ended."""

_LOOK_EVERY = 0.25  # seconds between looks at the parent


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    command: tuple[str, ...]
    workers: int
    concurrency: int
    port: int
    endpoint_id: str
    scratch: Path
    pass_on: tuple[str, ...]
    settings: Settings
    key: str = field(repr=False)


def options(arguments: Sequence[str], scratch: Path) -> Options:
    """Parse a command line; raises ConfigError."""
    parser = argparse.ArgumentParser(prog="python -m seedpod.endpoint", description="A RunPod endpoint on loopback.")
    parser.add_argument("--workers", type=int, default=2, help="SDK worker processes (default 2)")
    parser.add_argument("--concurrency", type=int, default=1, help="jobs that one worker may hold (default 1)")
    parser.add_argument("--handler", required=True, help="Python file that starts the handler, or a command line")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--id", default=f"local{secrets.token_hex(4)}", help="its id (default: a random one)")
    logs = f"folder for worker-N.log, and {LAST_STATE} at the end (default: a temporary one)"
    parser.add_argument("--log-dir", type=Path, default=None, help=logs)
    parser.add_argument("--pass-on", action="append", default=[], metavar="NAME", help="variable that workers inherit")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting, e.g. take_tick=0")
    given = parser.parse_args(arguments)
    if not (0 <= given.workers <= 512 and 1 <= given.concurrency <= 64 and 0 <= given.port <= 65535):
        raise ConfigError("the endpoint takes 0 to 512 workers, concurrency 1 to 64 and port 0 to 65535.")
    return Options(
        command=handler_command(given.handler),
        workers=given.workers,
        concurrency=given.concurrency,
        port=given.port,
        endpoint_id=given.id,
        scratch=(given.log_dir or scratch).resolve(),
        pass_on=tuple(given.pass_on),
        settings=Settings().updated(dict(_setting(text) for text in given.set)),
        key=os.environ.get(KEY) or secrets.token_urlsafe(24),
    )


def handler_command(handler: str) -> tuple[str, ...]:
    """The command line of a handler: a Python file, or a command."""
    if Path(handler).is_file():
        return (sys.executable, "-u", str(Path(handler).resolve()))
    words = shlex.split(handler)
    if len(words) < 2:
        raise ConfigError(
            f"there is no handler at {handler}; give the path of a Python file that calls runpod's start."
        )
    return tuple(words)


async def serve(chosen: Options) -> None:
    """Serve until SIGTERM, SIGINT or the owner's end. Prints one line of JSON when it listens."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    owner = asyncio.create_task(_owner_gone(stop))
    endpoint_id = chosen.endpoint_id
    service = Service(endpoint_id, chosen.key, SystemClock(), chosen.settings)
    pool = WorkerPool(service.fleet, chosen.scratch)
    try:
        runner, port = await listen(application(service, pool), chosen.port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {LOOPBACK}:{chosen.port}: {error.strerror}. Choose another port."
        ) from None
    url = f"http://{LOOPBACK}:{port}/v2"
    plan = WorkerPlan(
        command=chosen.command,
        base=f"{url}/{endpoint_id}",
        endpoint_id=endpoint_id,
        key=chosen.key,
        concurrency=chosen.concurrency,
        inherited=inherited(os.environ, chosen.pass_on),
    )
    try:
        pool.start(plan, chosen.workers)
        ready = {"url": url, "endpoint_id": endpoint_id, "key": chosen.key, "logs": str(chosen.scratch)}
        with suppress(BrokenPipeError):
            sys.stdout.write(f"{json.dumps(ready)}\n")
            sys.stdout.flush()
        await stop.wait()
    finally:
        owner.cancel()
        await pool.close()
        await runner.cleanup()
        (chosen.scratch / LAST_STATE).write_text(json.dumps(state_of(service, pool)), encoding="utf-8")


async def _owner_gone(stop: asyncio.Event) -> None:
    """Where standard input is a pipe, somebody owns us: their end is ours.

    The parent's id is looked at too, since another child of the owner may have inherited the pipe's other end. (Not
    prctl's death signal: that comes when the thread that started us ends.)
    """
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return
    loop, parent = asyncio.get_running_loop(), os.getppid()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), read)
    while os.getppid() == parent:  # noqa: ASYNC110  # nothing tells of a new parent
        await asyncio.sleep(_LOOK_EVERY)
    stop.set()


def _setting(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        wrong = "has no value" if not separator else f"is {value!r}; it must be a number, true or false"
        raise ConfigError(f"endpoint setting {name!r} {wrong}.") from None


def main(arguments: Sequence[str]) -> int:
    """Run the endpoint; exit code 2 and one sentence on a configuration that cannot be run."""
    with tempfile.TemporaryDirectory(prefix="seedpod-endpoint-", ignore_cleanup_errors=True) as folder:
        try:
            asyncio.run(serve(options(arguments, Path(folder))))
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    return 0
