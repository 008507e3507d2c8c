"""Starts real SDK workers, each under its guardian, and replaces those that die."""

import asyncio
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seedpod.endpoint.fleet import Fleet
from seedpod.endpoint.guardian import MARKER, kill_family
from seedpod.endpoint.job import Json
from seedpod.errors import ConfigError

CONCURRENCY = "SEEDPOD_WORKER_CONCURRENCY"
"""Environment variable that tells a handler how many jobs its worker may hold at one time."""

PING_INTERVAL_MS = 1000
"""The SDK's ping process crashes on anything shorter (``// 1000`` becomes its time-out)."""

_INHERITED = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "NVIDIA_VISIBLE_DEVICES")
_INHERITED_PREFIXES = ("SEEDPOD_", "KERAS_", "TF_", "CUDA_", "OMP_", "LC_")
_NOT_INHERITED = ("SEEDPOD_ENDPOINT_KEY",)

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}
_PAUSE = (0.2, 5.0)  # seconds before a dead worker is replaced: the first, and the longest in a crash loop


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How workers are started.

    Attributes:
        command: The handler's command line.
        base: ``http://127.0.0.1:PORT/v2/ENDPOINT``.
        endpoint_id: The endpoint's id.
        key: The endpoint's key.
        concurrency: Jobs that one worker may hold.
        inherited: What workers get of this process's environment.
    """

    command: tuple[str, ...]
    base: str
    endpoint_id: str
    key: str
    concurrency: int
    inherited: Mapping[str, str]

    def __repr__(self) -> str:
        return f"WorkerPlan({self.base}, concurrency={self.concurrency})"

    def environment(self, worker: str, mark: str, home: Path) -> dict[str, str]:
        """The environment in which the SDK finds its endpoint.

        ``$ID`` is the worker's id in the take URL and the job's in the others. ``home`` must hold no ``.runpod``.
        """
        return {
            **self.inherited,
            MARKER: mark,
            CONCURRENCY: str(self.concurrency),
            "HOME": str(home),
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            "RUNPOD_AI_API_KEY": self.key,
            "RUNPOD_ENDPOINT_ID": self.endpoint_id,
            "RUNPOD_POD_ID": worker,
            "RUNPOD_POD_HOSTNAME": worker,
            "RUNPOD_LOG_LEVEL": "INFO",
            "RUNPOD_PING_INTERVAL": str(PING_INTERVAL_MS),
            # The checks dial 8.8.8.8 and end the process on a small machine.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
            "RUNPOD_WEBHOOK_GET_JOB": f"{self.base}/job-take/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{self.base}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{self.base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_PING": f"{self.base}/ping/$RUNPOD_POD_ID",
        }


def inherited(environment: Mapping[str, str], also: Sequence[str] = ()) -> dict[str, str]:
    """The part of an environment that a worker may see: no keys, no proxy, no ``RUNPOD_*`` of the account's owner."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_INHERITED
        and (name in _INHERITED or name in also or name.startswith(_INHERITED_PREFIXES))
        and name != MARKER
    }


@dataclass(frozen=True, slots=True)
class _Running:
    worker: str
    group: int  # the worker's process id, and its group's


class WorkerPool:
    """The worker processes of one endpoint, in numbered slots."""

    def __init__(self, fleet: Fleet, scratch: Path) -> None:
        self._fleet = fleet
        self._scratch = scratch
        self._running: dict[int, _Running] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, plan: WorkerPlan, count: int) -> None:
        """Start ``count`` workers; they are replaced until ``close``."""
        (self._scratch / "home").mkdir(parents=True, exist_ok=True)
        self._tasks = [asyncio.create_task(self._keep(plan, slot)) for slot in range(count)]

    async def close(self) -> None:
        """Kill every worker with its family."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def act(self, slot: int, action: str) -> None:
        """See ``control_api.Hands``."""
        running = self._running.get(slot)
        if running is None or action not in _SIGNALS:
            raise ConfigError(f"there is no worker {slot} to {action}; {len(self._running)} are running.")
        with suppress(ProcessLookupError):
            os.killpg(running.group, _SIGNALS[action])

    def wire(self) -> list[Json]:
        """See ``control_api.Hands``."""
        return [
            {"slot": slot, "worker": one.worker, "pid": one.group, "log": str(self._log(slot))}
            for slot, one in sorted(self._running.items())
        ]

    def _log(self, slot: int) -> Path:
        return self._scratch / f"worker-{slot}.log"

    async def _keep(self, plan: WorkerPlan, slot: int) -> None:
        """Keep one worker alive in this slot. Each gets a new id, as RunPod's do."""
        generation, pause = 0, _PAUSE[0]
        while True:
            generation += 1
            born = asyncio.get_running_loop().time()
            await self._live(plan, slot, f"w{slot}-{generation}")
            lived = asyncio.get_running_loop().time() - born
            pause = _PAUSE[0] if lived > 2 * _PAUSE[1] else min(2 * pause, _PAUSE[1])
            await asyncio.sleep(pause)

    async def _live(self, plan: WorkerPlan, slot: int, worker: str) -> None:
        """One worker's life, from its start to the death of its family."""
        self._fleet.started(worker)
        mark = uuid.uuid4().hex
        guardian = await self._guardian(plan, slot, worker, mark)
        group = 0
        try:
            group = int(await _reader(guardian).readline() or 0)
            if group:
                self._running[slot] = _Running(worker, group)
                await guardian.wait()
        finally:
            self._running.pop(slot, None)
            await _bury(guardian, group, mark)
            self._fleet.gone(worker)

    async def _guardian(self, plan: WorkerPlan, slot: int, worker: str, mark: str) -> Process:
        with self._log(slot).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "seedpod.endpoint.guardian", *plan.command),
                env=plan.environment(worker, mark, self._scratch / "home"),
                cwd=self._scratch,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
            )


def _reader(guardian: Process) -> asyncio.StreamReader:
    if guardian.stdout is None:
        raise AssertionError("the guardian was started without a pipe")
    return guardian.stdout


async def _bury(guardian: Process, group: int, mark: str) -> None:
    """Close the pipe, wait for the guardian to do its duty, and do it ourselves where it was killed."""
    if guardian.stdin is not None:
        guardian.stdin.close()
    try:
        status = await asyncio.wait_for(guardian.wait(), 5.0)
    except TimeoutError:
        guardian.kill()
        status = await guardian.wait()
    if group and status < 0:
        kill_family(group, mark)
