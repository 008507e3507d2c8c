"""Runs one command and outlives everything but its purpose: ``python -m seedpod.endpoint.guardian COMMAND…``.

Standard input is a pipe that the server holds. When it closes, however the server died, the command's whole family is
killed: its process group, and on Linux every process that carries its marker, wherever it went (the SDK's ping child
and trainers may lead groups of their own). The same happens when the command itself ends, since an orphaned ping child
would keep naming lost jobs. The guardian must lead a session of its own, and writes the command's process id as a line.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARKER = "SEEDPOD_ENDPOINT_WORKER"
"""Environment variable with the worker's unique mark; all that it starts inherits it."""

_LOOK_EVERY = 0.1  # seconds
_SWEEPS = 50


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or the pipe closes; returns its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    owner = os.getppid()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True) as worker:
        try:
            sys.stdout.write(f"{worker.pid}\n")
            sys.stdout.flush()
            while worker.poll() is None and os.getppid() == owner and not _closed():
                pass
        finally:
            kill_family(worker.pid, os.environ.get(MARKER, ""))
    return worker.returncode


def kill_family(group: int, mark: str) -> None:
    """SIGKILL a process group and all processes that carry the mark; returns when none is left to be found."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for _ in range(_SWEEPS):
        found = list(carriers(f"{MARKER}={mark}")) if mark else []
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def carriers(variable: str) -> Iterator[int]:
    """Ids of the other processes of this user whose environment has ``NAME=value``; none where there is no /proc."""
    wanted = variable.encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        with suppress(OSError):
            if pid != os.getpid() and wanted in entry.read_bytes().split(b"\0"):
                yield pid


def _closed() -> bool:
    """Whether the pipe has closed, after at most ``_LOOK_EVERY`` seconds."""
    readable, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY)
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
