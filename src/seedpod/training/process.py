"""The main program of a trainer process: ``python -m seedpod.training.process``, started by ``TrainerPool``.

Speaks JSON lines, one object a line. Standard input brings ``{"run": <spec>, "turn": n}``, or ``perform`` and a task in
its place, and ``{"stop": n}``; its end ends the process, also in the middle of a trial, so that no trainer outlives its
pool. Standard output carries ``ready``, ``started``, ``progress``, ``result``, ``stopped`` and ``failed``. Whatever
libraries print goes to standard error, of which the pool keeps the end for the record of a process that dies.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol

from seedpod.errors import Cause, TrialCancelled, TrialError, TrialStopped
from seedpod.training.memory import Peak, give_way
from seedpod.training.tasks import Task, task_from_wire
from seedpod.trial import ParamValue, Report, TrialProgress, TrialResult, TrialSpec

STANDBY = "standby"
"""The last argument of a process that is to wait for its turn."""
FRAMES = 6
"""Frames of a traceback that go into a failure's detail."""


class TrainerLike(Protocol):
    """What a trainer process runs: ``seedpod.training.trainer.Trainer``, or a small stand-in of a test."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See ``seedpod.training.trainer.Trainer.train``."""

    def perform(self, task: Task, report: Report, check: Callable[[], None]) -> dict[str, Any]:
        """See ``seedpod.training.trainer.Trainer.perform``."""


class Wire:
    """Writes messages; used by one thread only."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, kind: str, **body: Any) -> None:
        """Write one message and flush it."""
        self._stream.write(json.dumps({"kind": kind, **body}, allow_nan=False).encode() + b"\n")
        self._stream.flush()


class Commands:
    """Reads standard input in a thread of its own, so that a stop is seen while a trial runs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._asked: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._turn = 0
        # Written by the reading thread, read by the training one: an attribute's assignment is atomic. A turn and not a
        # flag, so that a stop can neither hit the trial after the one it was meant for nor be lost before it begins.
        self._stopped_turn = 0
        threading.Thread(target=self._read, daemon=True, name="commands").start()

    def next_command(self) -> dict[str, Any]:
        """Block until the pool asks for something: ``run`` with a spec or ``perform`` with a task, in wire form."""
        command = self._asked.get()
        self._turn = command["turn"]
        return command

    def check(self) -> None:
        """Raise TrialCancelled where the pool has asked the running trial to stop."""
        if self._stopped_turn == self._turn:
            raise TrialCancelled("stopped by the pool")

    def _read(self) -> None:
        # A pipe that breaks in the middle of a line ends like one that was closed.
        with contextlib.suppress(ValueError, OSError):
            for line in self._stream:
                command = json.loads(line)
                if "stop" in command:
                    self._stopped_turn = command["stop"]
                else:
                    self._asked.put(command)
        # The pool is gone or has retired this process: nothing here is worth a slow goodbye.
        os._exit(0)


def obey(trainer: TrainerLike, command: dict[str, Any], commands: Commands, wire: Wire) -> None:
    """Train one spec or perform one task, and send how it ended."""

    def report(progress: TrialProgress) -> None:
        wire.send("progress", progress=progress.to_wire())
        commands.check()

    peak = Peak()
    peak.begin()

    def send(kind: str, **body: Any) -> None:
        wire.send(kind, **body, peak_mb=peak.mb())

    try:
        wire.send("started")
        if "perform" in command:
            answer = trainer.perform(task_from_wire(command["perform"]), report, commands.check)
        else:
            answer = trainer.train(TrialSpec.from_wire(command["run"]), report, commands.check).to_wire()
    except TrialStopped:
        send("stopped")
    except TrialError as error:
        send("failed", cause=error.cause, message=error.message, detail=error.detail)
    except Exception as error:  # noqa: BLE001 - a library's exception fails its trial alone and is told in full
        send("failed", cause=Cause.EXCEPTION, message=_one_line(error), detail=_last_frames(error))
    else:
        send("result", result=answer, memory_mb=resident_mb())


def resident_mb() -> float:
    """Resident memory of this process in MB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the pool's process dies, even while it hangs in native code."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _last_frames(error: Exception) -> str:
    return "".join(traceback.format_exception(error, limit=-FRAMES))[-4000:]


def _trainer(name: str, cache_dir: str, schedulers: int) -> TrainerLike:
    """Make the trainer named ``module:factory``; the factory takes the cache folder and the schedulers.

    What it imports stays for good, so that Python need not look for garbage in it: not while it is imported, for which
    the real trainer takes 2.1 s of a core instead of 2.7 s, nor after each trial, 0.15 s (both measured).
    """
    module, _, factory = name.partition(":")
    gc.disable()
    made: TrainerLike = getattr(importlib.import_module(module), factory)(Path(cache_dir), schedulers)
    gc.enable()
    gc.freeze()
    return made


def _make_way() -> None:
    """Give this thread the lowest priority: 15 of 1 039 parts of a core that a trainer keeps busy. Linux alone has one
    for each thread, and TensorFlow alone starts none while it is imported: JAX's would train with it (measured).
    """
    if sys.platform == "linux" and os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def keras_trainer(cache_dir: Path, schedulers: int) -> TrainerLike:
    """The real trainer; imports Keras, 2 to 4 seconds."""
    from seedpod.training import runtime

    environment: dict[str, ParamValue] = runtime.configure_backend(schedulers)
    from seedpod.training.trainer import Trainer

    return Trainer(cache_dir, environment)


def main(arguments: list[str]) -> None:
    """Run until standard input ends.

    Args:
        arguments: The trainer's name, the cache folder, schedulers, the pool's pid, and ``STANDBY`` for a process that
            is to take no time from those that train until it is ready.
    """
    name, cache_dir, schedulers, parent, *standby = arguments
    die_with_parent(int(parent))
    give_way()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's to handle
    wire = Wire(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    commands = Commands(sys.stdin.buffer)
    if standby == [STANDBY]:
        # In a thread of its own, for a priority that was lowered cannot be raised again, and trials run in this one.
        with ThreadPoolExecutor(1, initializer=_make_way) as thread:
            trainer = thread.submit(_trainer, name, cache_dir, int(schedulers)).result()
    else:
        trainer = _trainer(name, cache_dir, int(schedulers))
    wire.send("ready")
    while True:
        obey(trainer, commands.next_command(), commands, wire)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:  # noqa: BLE001 - the reading thread holds standard input: leave without a shutdown
        traceback.print_exception(error, limit=-FRAMES)
        sys.stderr.flush()
        os._exit(1)
