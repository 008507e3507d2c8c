"""TrainerPool: warm trainer processes, one trial in each at a time. Killing a process is cancelling its trial.

::

    trial threads                    TrainerPool                          trainer processes
    ─────────────                    ───────────                          ─────────────────
    run(spec, report) ── borrow ──▶  Guarded[_State]                      python -m seedpod.training.process
                                          ▲ ready, ended ──────────────┐
        TrainerProcess.run ───────── {"run": spec} ──▶ stdin ─────────▶│  train(spec)
        report(progress) ◀── inbox ◀── reading thread ◀── stdout ◀─────┤  progress, result, failed, stopped
        result, or the error          ◀── tail thread ◀── stderr ◀─────┘  whatever libraries print
                                     keeper thread: spawns up to processes + standby, buries the dead
                                     memory thread: how many of them fit

Every process is made by the keeper thread, because Linux's parent-death signal follows the thread that forked. One
reading thread a process turns its messages, its end and cancellations into items of one inbox, so that a trial thread
waits in one place for all of them.
"""

import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.guarded import Guarded
from seedpod.training.child import NeverStarted, OutOfMemory, PoolLimits, TrainerProcess
from seedpod.training.headroom import LATEST, Fit, Holdings, fit, short
from seedpod.training.helper import finding_us
from seedpod.training.memory import Room, room
from seedpod.training.process import STANDBY as STANDBY_PROCESS
from seedpod.training.runtime import configure_environment, usable_cores
from seedpod.training.tasks import Task
from seedpod.trial import Report, TrialResult, TrialSpec, Wire

KERAS_TRAINER = "seedpod.training.process:keras_trainer"
STANDBY = 1
"""Processes kept warm beyond those that may run: the next one after a death or a recycling costs no import. They load
once all others are ready, at the lowest priority, so that trials which run meanwhile lose no time; one that dies before
its standby has loaded is replaced by a process that does not wait."""
FAILED_STARTS = 3
"""Processes in a row that may die before they are ready; then the pool gives up. Standbys do not count, for no trial
needs one: after as many the pool does without."""

LOOK_SECONDS = 0.5
"""Between two looks at the memory, each of which costs some 0.1 ms a process."""

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Seat:
    """What the pool knows of one process; guarded by the pool's lock."""

    process: TrainerProcess
    device: str  # the GPU that it sees; empty where none was given out
    key: str = ""  # of the trial that runs in it
    shared: bool = False  # whether another trial ran beside it at any time: one shortage may end them all
    ready: bool = False
    ended: bool = False
    retired: bool = False  # its end is wanted
    standby: bool = False  # made to wait; it may take long to be ready, for it gives way to all others

    @property
    def idle(self) -> bool:
        return not (self.key or self.ended or self.retired)

    @property
    def loading(self) -> bool:
        return self.standby and not self.ready


@dataclass(slots=True)
class _State:
    seats: list[_Seat] = field(default_factory=list)
    failed_starts: int = 0
    failed_standbys: int = 0  # of those that are made to wait, in a row; none is needed
    broken: str | None = None  # the last output of a process that never became ready
    closed: bool = False
    waiting: dict[str, int] = field(default_factory=dict)  # threads that wait for a process, by their trials' keys
    fitting: int = 0  # processes that fit into memory
    peaks: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))  # MB, of the latest trials
    alone: str = ""  # the trial that runs without any other, or waits until it can

    def stop_waiting(self, key: str) -> None:
        if self.waiting.get(key, 0) > 1:
            self.waiting[key] -= 1
        else:
            self.waiting.pop(key, None)

    @property
    def running(self) -> int:
        return sum(bool(seat.key) for seat in self.seats)

    def seat_of(self, process: TrainerProcess) -> _Seat:
        # One that is buried as the pool closes may still be in the hands of a thread.
        return next((seat for seat in self.seats if seat.process is process), _Seat(process, ""))


class TrainerPool:
    """Runs trials in warm processes. Thread-safe; ``run`` blocks its caller.

    Args:
        processes: Trials at once.
        cache_dir: Where the prepared data sets are.
        limits: When to recycle, stop waiting and kill.
        trainer: ``module:factory`` of what the processes run.
        environment: Environment variables of the processes; the caller's own by default.
        devices: What CUDA calls the GPUs to share out, each process seeing the one that the fewest others see; by
            default every process sees what the caller sees.
        standby: Processes kept warm beyond those that may run.
        memory_mb: MB that the processes together may hold; None for what the machine or its container has.
        measure: Tells what that is.
    """

    def __init__(
        self,
        processes: int,
        cache_dir: Path,
        *,
        limits: PoolLimits | None = None,
        trainer: str = KERAS_TRAINER,
        environment: Mapping[str, str] | None = None,
        devices: Sequence[str] = (),
        standby: int = STANDBY,
        memory_mb: float | None = None,
        measure: Callable[[], Room] = room,
    ) -> None:
        self._target = processes
        self._memory_mb = memory_mb
        self._measure = measure
        self._standby = standby
        self._limits = limits or PoolLimits()
        schedulers = max(1, usable_cores() // processes)
        self._command = [sys.executable, "-m", "seedpod.training.process", trainer, str(cache_dir), str(schedulers)]
        self._environment = configure_environment(finding_us(os.environ if environment is None else environment))
        self._devices = tuple(devices)
        self._state = Guarded(_State(fitting=processes + standby))
        self._look()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="trainer-memory")
        self._watcher.start()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="trainer-keeper")
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, spec: TrialSpec, report: Report, key: str = "") -> TrialResult:
        """Run one trial in a process of its own; waits for a free one.

        Args:
            spec: What to train.
            report: Gets its progress, in the calling thread.
            key: What ``cancel`` calls this trial; its uid by default.

        Raises:
            TrainingError: The trial failed: its own reason, or PROCESS_DIED, DEADLINE, PROCESS_START.
            TrialStopped: ``report`` raised it, or ``cancel``, ``cancel_all`` or ``close`` was called.
        """
        key = key or spec.uid
        try:
            return self._in_a_process(key, lambda process: process.run(spec, report, key))
        except OutOfMemory as error:
            if not error.beside_others:
                raise
            log.warning(
                "trial %d was ended for lack of memory while others ran beside it; it runs again, without them",
                spec.number,
            )
            return self._in_a_process(key, lambda process: process.run(spec, report, key), alone=True)

    def perform(self, task: Task, report: Report, key: str = "task") -> Wire:
        """Perform one task in a process of its own; waits for a free one.

        Args:
            task: What to do.
            report: Gets its progress, in the calling thread; a task that trains nothing has none.
            key: What ``cancel`` calls it.

        Returns:
            What ``seedpod.training.trainer.Trainer.perform`` has answered.

        Raises:
            TrainingError, TrialStopped: As ``run`` does.
        """
        return self._in_a_process(key, lambda process: process.perform(task, report, key))

    def _in_a_process(self, key: str, use: Callable[[TrainerProcess], Answer], *, alone: bool = False) -> Answer:
        while True:
            process = self._borrow(key, alone=alone)
            try:
                return use(process)
            except NeverStarted:
                continue  # _borrow raises once processes keep dying at their start
            except OutOfMemory as error:
                error.beside_others = self._was_shared(process)
                raise
            except TrainingError as error:
                if error.cause is Cause.PROCESS_DIED and self._closed():
                    raise TrialCancelled("the trainer pool was closed") from error
                raise
            finally:
                self._give_back(process)

    def cancel(self, key: str) -> None:
        """Stop the trial of this key, between batches or by force, also while it waits; returns at once."""
        with self._state.locked() as state:
            state.waiting.pop(key, None)
            processes = [seat.process for seat in state.seats if seat.key == key]
        for process in processes:
            process.cancel(key)

    def cancel_all(self) -> None:
        """Stop every running trial and refuse new ones; returns at once."""
        with self._state.locked() as state:
            state.closed = True
            running = [(seat.process, seat.key) for seat in state.seats if seat.key]
        for process, key in running:
            process.cancel(key)

    def close(self) -> None:
        """End every process, running trials included; returns when no process is left."""
        with self._state.locked() as state:
            state.closed = True
            processes = [seat.process for seat in state.seats]
        for process in processes:
            process.kill()
        self._keeper.join()
        self._watcher.join()

    def pids(self, *, running: bool = False) -> list[int]:
        """Process ids of the living processes, or of those alone that run a trial."""
        with self._state.locked() as state:
            return [seat.process.pid for seat in state.seats if seat.key or not (running or seat.ended)]

    def wait_until_ready(self, timeout: float, *, standby: bool = False) -> bool:
        """Block until a process is ready for each trial that may run; False where that took longer, or cannot be.

        Args:
            timeout: Seconds to wait at most.
            standby: Wait for those that are kept warm beyond them, too.
        """

        def settled(state: _State) -> bool | None:
            ready = sum(seat.ready and not seat.ended for seat in state.seats)
            wanted = min(self._target + self._standby, max(1, state.fitting)) if standby else self._at_once(state)
            return ready >= wanted if state.broken is not None or ready >= wanted else None

        return bool(self._state.wait_for(settled, timeout))

    def _closed(self) -> bool:
        with self._state.locked() as state:
            return state.closed

    def _was_shared(self, process: TrainerProcess) -> bool:
        with self._state.locked() as state:
            return state.seat_of(process).shared

    def _at_once(self, state: _State) -> int:
        """Trials that may run at once: as many as wished, or as fit into memory."""
        return max(1, min(self._target, state.fitting))

    def _borrow(self, key: str, *, alone: bool) -> TrainerProcess:
        with self._state.locked() as state:
            state.waiting[key] = state.waiting.get(key, 0) + 1

        def take(state: _State) -> _Seat | str | None:
            if state.closed or key not in state.waiting:
                return "cancelled"
            if state.broken is not None:
                return state.broken
            if alone and not state.alone:
                state.alone = key  # from now on nobody begins
            at_once = 1 if alone else self._at_once(state)
            idle = [seat for seat in state.seats if seat.idle and not seat.loading]
            if not idle or state.alone not in ("", key) or state.running >= at_once:
                return None
            seat = next((seat for seat in idle if seat.ready), idle[0])
            seat.key, seat.shared = key, False
            state.stop_waiting(key)
            together = [seat for seat in state.seats if seat.key]
            for each in together:
                each.shared = each.shared or len(together) > 1
            return seat

        found = self._state.wait_for(take)
        if isinstance(found, _Seat):
            return found.process
        with self._state.locked() as state:
            state.stop_waiting(key)
            state.alone = "" if state.alone == key else state.alone
        if found == "cancelled":
            raise TrialCancelled("cancelled before it began")
        raise TrainingError(
            f"no trainer process starts: {FAILED_STARTS} in a row died before they were ready. The end of the last "
            f"one's output: {' '.join(str(found).split())[-300:] or 'nothing'}.",
            cause=Cause.PROCESS_START,
            detail=str(found),
        )

    def _give_back(self, process: TrainerProcess) -> None:
        worn = process.worn
        with self._state.locked() as state:
            seat = state.seat_of(process)
            state.alone = "" if state.alone == seat.key else state.alone
            seat.key = ""
            seat.retired = seat.retired or worn
            if process.peak_mb:
                state.peaks.append(process.peak_mb)
        if worn:
            process.kill()
        self._look()  # what it has taken decides how many may run from now on

    def _heard(self, process: TrainerProcess, what: str) -> None:
        with self._state.locked() as state:
            seat = state.seat_of(process)
            if what == "ready":
                seat.ready, state.failed_starts = True, 0
                state.failed_standbys = 0 if seat.standby else state.failed_standbys
                return
            seat.ended = True
            if seat.ready or seat.retired or state.closed:
                return
            if seat.standby:
                state.failed_standbys += 1
            else:
                state.failed_starts += 1
                if state.failed_starts >= FAILED_STARTS:
                    state.broken = process.tail()

    def _keep(self) -> None:
        """Keep ``processes`` + a standby alive until the pool is closed and the last of them is gone."""
        while (task := self._state.wait_for(self._next_task)) != "done":
            if isinstance(task, _Seat) and not task.ended:
                task.process.kill()
            elif isinstance(task, _Seat):
                task.process.bury()
                with self._state.locked() as state:
                    state.seats.remove(task)
            else:
                self._spawn(standby=task == "stand by")

    def _watch(self) -> None:
        """Keep count of the processes that fit into memory, until the pool is closed and the last of them is gone."""
        told = before = self._target
        while not self._state.wait_for(lambda state: (state.closed and not state.seats) or None, LOOK_SECONDS):
            found = self._look()
            at_once = min(self._target, found.processes)
            if at_once == before != told:  # it has come to stay
                told = at_once
                log.warning(
                    "memory: up to %d of %d trials at a time from now on; one may take %.0f MB of %.0f MB (%s)",
                    at_once,
                    self._target,
                    found.each,
                    found.budget,
                    found.where,
                )
            before = at_once

    def _look(self) -> Fit:
        with self._state.locked() as state:
            processes = [seat.process for seat in state.seats if not seat.ended]
            peaks, now = list(state.peaks), state.fitting
        measured = self._measure()
        holdings = Holdings([process.look(short=short(measured)) for process in processes], peaks)
        found = fit(self._target + self._standby, now, holdings, measured, self._memory_mb)
        with self._state.locked() as state:
            state.fitting = found.processes
        return found

    def _next_task(self, state: _State) -> _Seat | str | None:
        # Who has borrowed one may never give it back: Ctrl-C can come to a thread before it has begun to use it.
        gone = next((seat for seat in state.seats if seat.ended and (state.closed or not seat.key)), None)
        if gone is not None:
            return gone
        if state.closed:
            return None if state.seats else "done"
        lasting = [seat for seat in state.seats if not (seat.retired or seat.ended)]
        serving, fitting = sum(not seat.loading for seat in lasting), max(1, state.fitting)
        spares = sorted((seat for seat in lasting if seat.idle), key=lambda seat: not seat.loading)
        if spares and len(lasting) > fitting:
            spares[0].retired = True
            return spares[0]
        if state.broken is not None:
            return None
        if serving < min(self._target, fitting):
            return "spawn"
        # A standby's import must not slow the first trials.
        wanted = state.failed_standbys < FAILED_STARTS and len(lasting) < min(self._target + self._standby, fitting)
        return "stand by" if wanted and all(seat.ready for seat in lasting) else None

    def _spawn(self, *, standby: bool) -> None:
        with self._state.locked() as state:
            seen = Counter(seat.device for seat in state.seats)
        device = min(self._devices, key=lambda name: seen[name], default="")
        environment = {**self._environment, **({"CUDA_VISIBLE_DEVICES": device} if device else {})}
        command = [*self._command, str(os.getpid()), *([STANDBY_PROCESS] if standby else [])]
        try:
            process = TrainerProcess(command, environment, self._limits, self._heard)
        except OSError as error:
            with self._state.locked() as state:
                if standby:
                    state.failed_standbys = FAILED_STARTS
                else:
                    state.broken = f"cannot start a process: {error}"
            return
        with self._state.locked() as state:
            state.seats.append(_Seat(process, device, standby=standby))
            closed = state.closed
        process.listen()
        if closed:
            process.kill()
