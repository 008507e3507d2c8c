"""One trainer process as its pool sees it: messages in, messages out, an end that is always told."""

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from seedpod.errors import Cause, TrainingError, TrialCancelled, TrialStopped
from seedpod.training.memory import oom_kills, private_mb
from seedpod.training.tasks import Task, task_to_wire
from seedpod.trial import PEAK, Report, TrialProgress, TrialResult, TrialSpec, Wire

TAIL_BYTES = 4000
"""How much of a process's last output is kept."""

_BAD_ALLOC = "bad_alloc"  # how C++ ends where it gets no memory
_TERMINAL = frozenset({"result", "failed", "stopped", "ended"})


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """When a pool loses patience with a process.

    Attributes:
        trials: Trials after which a process is replaced; each leaves 10 to 15 MB behind (measured, TensorFlow 2.21).
        memory_mb: Resident memory of a process, after a trial, above which it is replaced.
        grace: Seconds that a process has to stop between batches before it is killed.
        start: Seconds that a process has to become ready.
        overtime: Seconds past a trial's own ``max_seconds`` after which its process is killed: it hangs.
    """

    trials: int = 40
    memory_mb: float = 2500.0
    grace: float = 3.0
    start: float = 180.0
    overtime: float = 20.0


class OutOfMemory(TrainingError):
    """The process was ended because memory had run out, which others may have used up: alone it might have fitted."""

    beside_others = False


class NeverStarted(Exception):
    """The process ended before it began the trial, which may run in another one."""


class TrainerProcess:
    """A running ``seedpod.training.process``.

    ``run`` is called by one thread at a time; ``cancel``, ``kill`` and ``retire`` by any.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.
        limits: See PoolLimits.
        tell: Called by the reading thread with ("ready" or "ended").
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        limits: PoolLimits,
        tell: Callable[["TrainerProcess", str], None],
    ) -> None:
        self._limits = limits
        self._tell = tell
        self._inbox: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._tail = b""
        self._turn = 0
        self._busy = False
        self._memory_mb = 0.0
        self._peak_mb = 0.0  # of the trial; written by whoever looks and by the trial's thread, an assignment is atomic
        self._short = False
        self._kills = 0
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The terminal's Ctrl-C goes to the optimizer alone. No session of its own: between sessions Linux's
            # autogroups share out the cores whatever the priorities, and a standby is to give way to the others.
            process_group=0,
        )
        self.pid = self._popen.pid
        self._threads = [
            threading.Thread(target=target, daemon=True, name=f"trainer-{self.pid}-{name}")
            for name, target in (("output", self._read_output), ("messages", self._read_messages))
        ]

    def listen(self) -> None:
        """Begin to read the process's messages; apart from the constructor, so that ``tell`` finds the pool ready."""
        for thread in self._threads:
            thread.start()

    def run(self, spec: TrialSpec, report: Report, key: str) -> TrialResult:
        """Run one trial to its end; see TrainerPool.run. NeverStarted: the process ended before it began."""
        result = TrialResult.from_wire(self._ask({"run": spec.to_wire()}, spec.max_seconds, report, key))
        return replace(result, run={**result.run, **self._memory()})

    def perform(self, task: Task, report: Report, key: str) -> Wire:
        """Perform one task to its end; see TrainerPool.perform. NeverStarted: as with ``run``."""
        return self._ask({"perform": task_to_wire(task)}, 0.0, report, key)

    def _ask(self, command: Wire, max_seconds: float, report: Report, key: str) -> Wire:
        """Send a command and follow it to its answer; no ``max_seconds`` is no limit."""
        self._turn += 1
        self._busy = True
        self._peak_mb, self._kills = 0.0, oom_kills()
        self._send({**command, "turn": self._turn})
        message = self._next_message(time.monotonic() + self._limits.start, key)
        if message["kind"] == "ended":
            raise NeverStarted
        deadline = time.monotonic() + max_seconds + self._limits.overtime if max_seconds else float("inf")
        while True:
            match message["kind"]:
                case "progress":
                    self._report(TrialProgress.from_wire(message["progress"]), report)
                case "cancel":
                    self._stop()
                    raise TrialCancelled("cancelled")
                case "timeout":
                    self.kill()
                    raise TrainingError(
                        "the trainer process no longer answered and was killed.",
                        cause=Cause.DEADLINE,
                        detail=self.tail(),
                    )
                case kind if kind in _TERMINAL:
                    return self._outcome(message)
            message = self._next_message(deadline, key)

    def cancel(self, key: str) -> None:
        """Stop the trial of this key, if it is the running one."""
        self._inbox.put({"kind": "cancel", "key": key})

    def kill(self) -> None:
        """End the process now; nothing happens where it is gone already."""
        self._popen.kill()

    def look(self, *, short: bool) -> float:
        """MB that the process holds for itself.

        Args:
            short: Whether memory is about to run out: should the process be killed next, that is why.
        """
        held = private_mb(self.pid)
        self._peak_mb, self._short = max(self._peak_mb, held), short
        return held

    @property
    def peak_mb(self) -> float:
        """The most that it has held during its latest trial, as far as that is known; 0 where it is not."""
        return self._peak_mb

    def retire(self) -> None:
        """Let the process end by itself: the end of its input."""
        with contextlib.suppress(BrokenPipeError):
            if self._popen.stdin is not None:
                self._popen.stdin.close()

    def bury(self) -> None:
        """Collect an ended process: no zombie, no thread, no descriptor is left."""
        self._popen.wait()
        for thread in self._threads:
            thread.join()
        self.retire()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def tail(self) -> str:
        """The end of what the process printed."""
        return self._tail.decode(errors="replace").strip()

    @property
    def worn(self) -> bool:
        """Whether it should be replaced: enough trials, too much memory, or a trial left in the middle."""
        return self._busy or self._turn >= self._limits.trials or self._memory_mb > self._limits.memory_mb

    def _report(self, progress: TrialProgress, report: Report) -> None:
        try:
            report(progress)
        except TrialStopped as stopped:
            self._stop()
            stopped.run = {**stopped.run, **self._memory()}
            raise

    def _stop(self) -> None:
        """Ask for a stop between batches; kill after the grace. Returns when the trial has ended."""
        self._send({"stop": self._turn})
        deadline = time.monotonic() + self._limits.grace
        while True:
            message = self._next_message(deadline)
            if message["kind"] in _TERMINAL:
                self._busy = False
                self._told_peak(message)
                return
            if message["kind"] == "timeout":
                self.kill()
                return

    def _outcome(self, message: Mapping[str, Any]) -> Wire:
        self._told_peak(message)
        if message["kind"] == "ended":
            raise self._death(self._popen.wait())
        # Memory that could not be had once is often not to be had again in the same process.
        self._busy = message.get("cause") == Cause.OUT_OF_MEMORY
        if message["kind"] == "failed":
            error = TrainingError(message["message"], cause=Cause(message["cause"]), detail=message["detail"])
            error.run = self._memory()
            raise error
        if message["kind"] == "stopped":
            raise TrialCancelled("stopped")
        self._memory_mb = message["memory_mb"]
        return dict(message["result"])

    def _told_peak(self, message: Mapping[str, Any]) -> None:
        self._peak_mb = max(self._peak_mb, message.get("peak_mb", 0.0))

    def _memory(self) -> dict[str, bool | int | float | str]:
        return {PEAK: round(self._peak_mb)} if self._peak_mb else {}

    def _death(self, code: int) -> TrainingError:
        """What to say of the process, which ended in the middle of a trial."""
        tail = self.tail()
        killed = code == -signal.SIGKILL and (self._short or oom_kills() > self._kills)
        if killed or (code == -signal.SIGABRT and _BAD_ALLOC in tail):
            error: TrainingError = OutOfMemory(_out_of_memory(self._peak_mb), cause=Cause.OUT_OF_MEMORY, detail=tail)
        else:
            error = TrainingError(
                f"the trainer process {_how(code)} in the middle of the trial.", cause=Cause.PROCESS_DIED, detail=tail
            )
        error.run = self._memory()
        return error

    def _next_message(self, deadline: float, key: str = "") -> dict[str, Any]:
        """The next message; cancellations of other trials, which came too late, are dropped."""
        while True:
            remaining = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
            try:
                message = self._inbox.get(timeout=remaining)
            except Empty:
                return {"kind": "timeout"}
            if message["kind"] != "cancel" or message["key"] == key:
                return message

    def _send(self, command: dict[str, Any]) -> None:
        # A dead or retired process: its end is in the inbox, or on the way to it.
        with contextlib.suppress(BrokenPipeError, ValueError):
            if self._popen.stdin is not None:
                self._popen.stdin.write(json.dumps(command, allow_nan=False).encode() + b"\n")
                self._popen.stdin.flush()

    def _read_messages(self) -> None:
        with contextlib.suppress(ValueError):  # a process that dies in the middle of a line
            for line in self._popen.stdout or ():
                message = json.loads(line)
                if message["kind"] == "ready":
                    self._tell(self, "ready")
                else:
                    self._inbox.put(message)
        self._popen.wait()
        self._threads[0].join()  # the last output is complete before anybody is told
        self._inbox.put({"kind": "ended"})
        self._tell(self, "ended")

    def _read_output(self) -> None:
        stream: Any = self._popen.stderr
        while chunk := stream.read1(65536):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}"


def _out_of_memory(peak_mb: float) -> str:
    held = f"; it held {peak_mb:,.0f} MB" if peak_mb else ""
    return (
        f"the trainer process was ended for lack of memory in the middle of the trial{held}. Let smaller models be "
        f"tried (max_parameters, a lower batch_size), give the machine or its container more memory, or let fewer "
        f"trials run at once (local_workers; SEEDPOD_WORKER_CONCURRENCY on a worker)."
    )
