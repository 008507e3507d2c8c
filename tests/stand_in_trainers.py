"""A small real trainer without Keras: it does what a spec's ``do`` parameter says. Runs inside trainer processes."""

import ctypes
import hashlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seedpod.errors import Cause, TrainingError
from seedpod.training.tasks import FinalTask, Task
from seedpod.trial import Report, Status, TrialFailure, TrialProgress, TrialResult, TrialSpec


def make(cache_dir: Path, schedulers: int) -> "StandInTrainer":
    return StandInTrainer(cache_dir, schedulers)


def make_slow(cache_dir: Path, schedulers: int) -> "StandInTrainer":
    """Trials that take 0.3 to 1 s, or so many times that; each always the same. STAND_IN_TOO_LARGE of them, the first
    ones, are refused.
    """
    longest, too_large = os.environ.get("STAND_IN_SECONDS", "1"), os.environ.get("STAND_IN_TOO_LARGE", "0")
    return StandInTrainer(cache_dir, schedulers, longest=float(longest), too_large=int(too_large))


def make_late(cache_dir: Path, schedulers: int) -> "StandInTrainer":
    """One that a standby, which loads in a thread of its own, never makes."""
    while threading.current_thread() is not threading.main_thread():
        time.sleep(0.05)
    return StandInTrainer(cache_dir, schedulers)


def make_alone(cache_dir: Path, schedulers: int) -> "StandInTrainer":
    """One that a standby dies of, as of the system's want of memory, and of which it leaves a file."""
    if threading.current_thread() is not threading.main_thread():
        (cache_dir / str(os.getpid())).touch()
        os._exit(1)
    return StandInTrainer(cache_dir, schedulers)


def make_noting(cache_dir: Path, schedulers: int) -> "StandInTrainer":
    """One that notes the priority at which it is made."""
    priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    (cache_dir / str(os.getpid())).write_text(str(priority), encoding="ascii")
    return StandInTrainer(cache_dir, schedulers)


def broken(_cache_dir: Path, _schedulers: int) -> "StandInTrainer":
    message = "no such accelerator"
    raise OSError(message)


PARAMETERS = 90
"""Of what it has instead of a network."""


class StandInTrainer:
    """Trains nothing; its value is a pure function of the spec's seed and parameters."""

    def __init__(self, cache_dir: Path, schedulers: int, longest: float = 0.0, too_large: int = 0) -> None:
        self._longest = longest
        self._too_large = too_large
        self._cache_dir = cache_dir
        self._schedulers = schedulers

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        if spec.number < self._too_large or spec.max_parameters < PARAMETERS:
            message = "more parameters than are wanted"
            raise TrainingError(message, cause=Cause.TOO_LARGE)
        do = str(spec.params.get("do", "train"))
        epochs = int(spec.params.get("epochs", spec.max_epochs))
        slow = self._longest * (0.3 + 0.7 * value_of(spec)) / epochs
        pause = float(spec.params.get("pause", os.environ.get("SEEDPOD_STAND_IN_PAUSE", slow)))
        last_pause = float(spec.params.get("last_pause", pause))
        self._megabytes = int(spec.params.get("megabytes", 0))
        history, curve = [], list[float | None]()
        for epoch in range(1, epochs + 1):
            self._pass_time(last_pause if epoch == epochs else pause, check)
            value = value_of(spec) * (epoch / epochs)
            loss = math.nan if do == "nan" else math.inf if do == "infinity" else 1 - value
            history.append({"loss": 1 - value, "val_accuracy": value, "val_loss": loss})
            told = known(spec, value)[0] if spec.goals[0].each_epoch else None
            curve.append(told)
            report(TrialProgress(spec.number, epoch, epoch, epochs, told, history[-1], pause * epoch, tuple(curve)))
            if do == "hopeless":
                failure = TrialFailure(Cause.HOPELESS, "it will not get better")
                return TrialResult(
                    spec.number,
                    Status.PRUNED,
                    epochs=epoch,
                    history=tuple(history),
                    parameters=PARAMETERS,
                    error=failure,
                )
            if epoch == max(1, epochs // 2):
                getattr(self, f"_{do}", self._train)()
        value, *further = known(spec, value_of(spec))
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            value=value,
            further=tuple(further),
            best_epoch=epochs,
            epochs=epochs,
            metrics=history[-1],
            history=tuple(history),
            parameters=PARAMETERS,
            environment={"pid": os.getpid(), "device": os.environ.get("CUDA_VISIBLE_DEVICES", "")},
            seconds=pause * epochs,
        )

    def perform(self, task: Task, report: Report, check: Callable[[], None]) -> dict[str, Any]:
        """The final model: a file that says whose it is, told as ``train_final`` tells it."""
        assert isinstance(task, FinalTask)
        for epoch in range(1, task.epochs + 1):
            self._pass_time(float(task.spec.params.get("pause", 0.0)), check)
            report(TrialProgress(task.spec.number, epoch, epoch, task.epochs, None, {"loss": 1 / epoch}, 0.1 * epoch))
        if task.spec.params.get("do") == "diverge":
            self._diverge()
        model = f"{task.spec.uid} {task.epochs} {task.on_all}".encode()
        Path(task.path).write_bytes(model)
        return {
            "form": {},
            "class_names": ["a", "b"],
            "train_images": 2,
            "history": [{"loss": 1 / epoch} for epoch in range(1, task.epochs + 1)],
            "parameters": PARAMETERS,
            "model": {"bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()},
            "environment": {},
            "seconds": 0.1,
        }

    def _pass_time(self, seconds: float, check: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while True:
            check()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.01))

    def _train(self) -> None:
        pass

    def _exit(self) -> None:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)

    def _segfault(self) -> None:
        ctypes.string_at(0)

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _hang(self) -> None:
        time.sleep(3600)

    def _hang_in_native_code(self) -> None:
        # PyDLL keeps the interpreter's lock: no other thread of this process runs any more.
        ctypes.PyDLL(None).sleep(3600)

    def _burn(self) -> None:
        while True:  # holds a core and listens to nobody
            pass

    def _hold(self) -> None:
        held = bytearray(b"x") * (self._megabytes * 10**6)
        time.sleep(0.3)
        del held

    def _bad_alloc(self) -> None:
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
        os.abort()

    def _raise(self) -> None:
        message = "a shape that fits nothing"
        raise ValueError(message)

    def _diverge(self) -> None:
        message = "the loss became nan"
        raise TrainingError(message, cause=Cause.DIVERGED)

    def _shout(self) -> None:
        for _ in range(2000):
            print("x" * 1000)
            print("y" * 1000, file=sys.stderr)


def known(spec: TrialSpec, accuracy: float) -> tuple[float, ...]:
    """What is answered for each objective of the spec; sizes and times by its uid, as the accuracy is."""
    size = 1 + int(value_of(spec) * 7) * 10 + int(spec.uid[8:], 16) % 10  # the better, the larger
    values = {"val_loss": 1 - accuracy, "model_size": size, "inference_latency": size / 2, "training_time": size * 10}
    return tuple(float(values.get(objective.name, accuracy)) for objective in spec.goals)


def value_of(spec: TrialSpec) -> float:
    """What a spec's training answers: in [0, 1], by its uid alone."""
    return int(spec.uid[:8], 16) / 0xFFFFFFFF
