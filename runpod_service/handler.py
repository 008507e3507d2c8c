"""The RunPod worker: ``python handler.py``; what it reads from the environment is in ``WorkerSettings``.

Each job is one trial in one warm trainer process, so jobs run side by side and the SDK's event loop never blocks.

What reaches the SDK is JSON that any parser takes: the SDK drops a result that is not, and the job is then paid twice
(measured on runpod 1.12.0). A trial that failed is a completed job with a failed result inside; a job fails only where
the worker itself does.
"""

import asyncio
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import runpod
from runpod.serverless.modules import rp_scale
from runpod.serverless.modules.worker_state import JobsProgress

from seedpod import __version__
from seedpod.errors import Cause, ConfigError, ContractMismatch, TrainingError, TrialCancelled, TrialError
from seedpod.training.child import PoolLimits
from seedpod.training.datasets import NAMES, available, prepare
from seedpod.training.download import send as bring
from seedpod.training.gpu import devices_of, gpu_name
from seedpod.training.pool import KERAS_TRAINER, TrainerPool
from seedpod.training.shelf import Shelf
from seedpod.training.tasks import FinalTask
from seedpod.trial import (
    KeepModel,
    Report,
    Status,
    TrialProgress,
    TrialRequest,
    TrialResult,
    Wire,
    WorkerReport,
    probe_wire,
)

MOST_JOBS = 6
"""Jobs that one worker may run side by side."""

REFILL_SECONDS = 1.2
"""How long before a trial's end the SDK is told that its place is free. When all places are taken it sleeps a second
before it looks again, so that a worker idles half a second between jobs on average (measured, 2 workers, trials of 3 s:
77 % of the ideal without this, 95 to 99 % with it)."""

HIDDEN_SECONDS = 3.0
"""How long that lasts at most. The SDK's pings do not name the job meanwhile, and one that no ping names for some 40 s
is lost: a last epoch that takes far longer than the one before must not lose its trial."""

WARM_UP_SECONDS = 600.0
"""How long a worker waits for its trainers before it takes jobs all the same, which then say what is wrong."""

KILL_GRACE = 0.5
"""Seconds that a cancelled trial has to stop between batches, which keeps its process warm, before it is killed."""

CACHE_GB = 10
"""GB that data sets that requests brought take at most, as the container's disk is 20 by default."""

VOLUME = Path("/runpod-volume")
"""Where RunPod mounts an endpoint's network volume."""

EARLY_SECONDS = 86_400.0
"""How long a stop signal is kept for a job that has not begun: it may wait in the SDK's queue for as long as the last
epoch of the one before takes. The id of a job that was stopped does not come again."""

FRAMES = 6
"""Frames of a traceback that an error text carries."""

Answer = TypeVar("Answer")

log = logging.getLogger("seedpod.worker")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a container's environment decides, once.

    Attributes:
        concurrency: SEEDPOD_WORKER_CONCURRENCY, jobs at once, 1 to 6, by default 1. A constant: the SDK stops taking
            jobs until the worker is empty when it changes.
        cache_dir: SEEDPOD_CACHE_DIR, where the prepared data sets are.
        cache_bytes: SEEDPOD_CACHE_GB, what data sets that requests brought may take there, by default 10.
        volume: SEEDPOD_VOLUME, where a network volume is mounted, if one is; by default where RunPod mounts it.
        trainer: SEEDPOD_TRAINER, ``module:factory`` of what the processes run.
        devices: CUDA_VISIBLE_DEVICES, or all GPUs that the driver lists; shared out among the processes.
        gpu: What the driver calls them; empty for a CPU.
    """

    concurrency: int
    cache_dir: Path
    trainer: str
    devices: tuple[str, ...]
    gpu: str = ""
    cache_bytes: float = CACHE_GB * 1e9
    volume: Path = VOLUME

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the environment; raises ConfigError naming the variable."""
        text = environment.get("SEEDPOD_WORKER_CONCURRENCY", "1")
        if not text.isdecimal() or not 1 <= int(text) <= MOST_JOBS:
            raise ConfigError(f"SEEDPOD_WORKER_CONCURRENCY={text}: must be a whole number from 1 to {MOST_JOBS}.")
        space = environment.get("SEEDPOD_CACHE_GB", str(CACHE_GB))
        if not space.replace(".", "", 1).isdecimal():
            raise ConfigError(f"SEEDPOD_CACHE_GB={space}: must be a number of GB, such as 20.")
        devices = devices_of(environment)
        cache_dir = environment.get("SEEDPOD_CACHE_DIR", "~/.cache/seedpod")
        return cls(
            concurrency=int(text),
            cache_dir=Path(cache_dir).expanduser(),
            trainer=environment.get("SEEDPOD_TRAINER", KERAS_TRAINER),
            devices=devices,
            gpu=gpu_name() if devices else "",
            cache_bytes=float(space) * 1e9,
            volume=Path(environment.get("SEEDPOD_VOLUME", VOLUME)),
        )


class Worker:
    """The warm pool of one container and the jobs on it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._pool = TrainerPool(
            settings.concurrency,
            settings.cache_dir,
            limits=PoolLimits(grace=KILL_GRACE),
            trainer=settings.trainer,
            devices=settings.devices,
        )
        self._shelf = Shelf(settings.cache_dir, settings.cache_bytes, settings.volume)
        self._keys = map(str, itertools.count())
        self._verified: set[str] = set()
        self._endings: set[asyncio.Task[None]] = set()
        # More threads than jobs: a cancelled trial holds its thread until its process has ended.
        self._threads = ThreadPoolExecutor(2 * settings.concurrency + 2, thread_name_prefix="trial")

    def report(self) -> WorkerReport:
        """What this worker is."""
        return WorkerReport(
            version=__version__,
            concurrency=self.settings.concurrency,
            devices=len(self.settings.devices),
            datasets=available(self.settings.cache_dir),
            gpu=self.settings.gpu,
        )

    def wait_until_ready(self, seconds: float) -> bool:
        """Block until every process is warm."""
        return self._pool.wait_until_ready(seconds)

    async def train(
        self, request: TrialRequest, send: Callable[[TrialProgress], None], spare: Callable[[float], None]
    ) -> TrialResult:
        """Train one request in a process of its own; cancelling the task, or its time limit, kills the process.

        Args:
            request: What to train.
            send: Sends progress on.
            spare: Told the seconds until the probable end, when that is near.
        """
        return await self._in_a_process(
            request, send, spare, lambda report, key, _: self._pool.run(request.spec, report, key)
        )

    async def keep(self, request: TrialRequest, keep: KeepModel, send: Callable[[TrialProgress], None]) -> Wire:
        """Train the final model, send its file, and tell of it what ``train_final`` tells; otherwise as ``train``."""

        def work(report: Report, key: str, stopping: Callable[[], bool]) -> Wire:
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / "model.keras"
                task = FinalTask(request.spec, keep.epochs, keep.on_all, str(path), measured=False)
                found = self._pool.perform(task, report, key)
                bring(path, keep.model, stopping)
                return found

        return await self._in_a_process(request, send, lambda _: None, work)

    async def _in_a_process(
        self,
        request: TrialRequest,
        send: Callable[[TrialProgress], None],
        spare: Callable[[float], None],
        work: Callable[[Report, str, Callable[[], bool]], Answer],
    ) -> Answer:
        loop = asyncio.get_running_loop()
        key = next(self._keys)  # the same spec, and even the same job, may run here twice
        epoch_began = [0.0]

        def report(progress: TrialProgress) -> None:
            if unwanted[0]:  # its time limit is over, and it has been answered: what comes after that would undo it
                return
            send(replace(progress, attempt=request.attempt))
            epoch, epoch_began[0] = progress.seconds - epoch_began[0], progress.seconds
            left = (progress.max_epochs - progress.epoch) * epoch
            if left <= epoch + REFILL_SECONDS:  # after the next epoch it would be too late
                loop.call_soon_threadsafe(spare, left)

        def run() -> Answer:
            spec = request.spec
            self._have_data(spec.dataset)
            with self._shelf.having(spec.dataset, spec.fingerprint, request.data, lambda: unwanted[0]):
                loop.call_soon_threadsafe(there.set)
                return work(report, key, lambda: unwanted[0])

        there, unwanted = asyncio.Event(), [False]
        trial = asyncio.ensure_future(loop.run_in_executor(self._threads, run))
        trial.add_done_callback(lambda _: there.set())
        try:
            await there.wait()  # the first job of a worker does not pay for the download with its training's time
            return await asyncio.wait_for(asyncio.shield(trial), request.time_limit)
        except TimeoutError as error:
            raise TrainingError(
                f"not done after the job's time limit of {request.time_limit:g} s; its process was ended.",
                cause=Cause.DEADLINE,
            ) from error
        finally:
            unwanted[0] = True
            if not trial.done():
                ending = loop.create_task(self._end(trial, key))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)

    async def _end(self, trial: asyncio.Future[Any], key: str) -> None:
        """Cancel until it has ended: the pool does not know a trial yet whose data is still being prepared."""
        while not trial.done():
            self._pool.cancel(key)
            await asyncio.wait([trial], timeout=0.2)
        with suppress(asyncio.CancelledError):
            trial.exception()  # nobody asks any more

    def _have_data(self, dataset: str) -> None:
        """Prepare a known data set that the image lacks, and verify the others once; files must have been brought."""
        if dataset in NAMES and dataset not in self._verified:
            prepare(dataset, self.settings.cache_dir)
            self._verified.add(dataset)

    def close(self) -> None:
        """End every process."""
        self._pool.close()
        self._threads.shutdown(wait=False)


_worker: Worker | None = None


def worker() -> Worker:
    """This container's worker, made at its first use.

    Not before the SDK has forked its ping process: a trainer that is being started in that moment leaves the write end
    of a pipe in the fork, its pool then waits for ever, and the first trainer that ends is never replaced.
    """
    global _worker  # noqa: PLW0603 - the SDK calls plain functions
    if _worker is None:
        _worker = Worker(WorkerSettings.read(os.environ))
    return _worker


async def runpod_handler(job: dict[str, Any]) -> Wire:
    """What the SDK calls: ``handler``, with every error as one string, for the SDK mistakes other types."""
    try:
        with _stops.heeding(job["id"]):
            return await handler(job)
    except Exception as error:  # noqa: BLE001 - the worker goes on; the job says what happened
        return {"error": _text(error)}


async def handler(job: dict[str, Any]) -> Wire:
    """Run one job: validate its input, train, answer ``{"result": …}``; or say what this worker is.

    A request that breaks the contract is answered, not raised: it would break it again on every retry.
    """
    asked = job.get("input")
    if asked == probe_wire():
        return {"probe": worker().report().to_wire()}
    try:
        request = TrialRequest.from_wire(asked)
    except ContractMismatch as error:
        return _answer(TrialResult.ended(0, Status.FAILED, error, backend="runpod"))
    if request.keep is not None:
        return await _keep_model(job, request, request.keep)
    return _answer(await start_training(job, request))


async def _keep_model(job: dict[str, Any], request: TrialRequest, keep: KeepModel) -> Wire:
    """Train the final model: what was found is the job's output, the model is at the address that was given."""

    def send(progress: TrialProgress) -> None:
        if progress.epoch < progress.max_epochs:
            runpod.serverless.progress_update(job, progress.to_wire())

    try:
        found = await worker().keep(request, keep, send)
    except TrialCancelled as error:
        raise RuntimeError("the worker is shutting down") from error
    except (TrialError, ConfigError) as error:
        failure = error if isinstance(error, TrialError) else TrainingError(str(error), cause=Cause.DATA)
        return _answer(TrialResult.ended(request.spec.number, Status.FAILED, failure, backend="runpod"))
    await asyncio.get_running_loop().run_in_executor(None, drain_progress)
    return {"final": found}


async def start_training(job: dict[str, Any], request: TrialRequest) -> TrialResult:
    """Train one request and send its progress; a trial that fails is a failed result.

    Raises:
        asyncio.CancelledError: The endpoint cancelled the job; its process is being ended.
    """
    values: list[float | None] = []

    def send(progress: TrialProgress) -> None:
        values[:] = progress.values
        # The last epoch's progress would race with the result, and a progress that comes after it undoes it.
        if progress.epoch < progress.max_epochs:
            runpod.serverless.progress_update(job, progress.to_wire())

    place = _Place(job)
    spec = request.spec
    try:
        result = await worker().train(request, send, place.spare)
    except TrialCancelled as error:
        # The pool was closed under it: the container is going down, and the endpoint may run the job elsewhere.
        raise RuntimeError("the worker is shutting down") from error
    except (TrialError, ConfigError) as error:
        failure = error if isinstance(error, TrialError) else TrainingError(str(error), cause=Cause.DATA)
        # What was not polled in time: a pruner may have ended the trial before it failed.
        rows = tuple({spec.objectives[0]: value} for value in values)
        result = TrialResult.ended(spec.number, Status.FAILED, failure, epochs=len(rows), history=rows, run=failure.run)
    finally:
        place.close()
    await asyncio.get_running_loop().run_in_executor(None, drain_progress)
    # Of failed trials too: they are paid by the GPU as well.
    gpu = worker().settings.gpu
    told = {**result.run, "gpu": gpu} if gpu else result.run
    return replace(result, backend="runpod", attempts=request.attempt, run=told)


def adjust_concurrency(_current: int) -> int:
    """Jobs at once: a constant, see WorkerSettings. The SDK asks before it takes jobs, so the first call warms up."""
    if _worker is None:
        _warm_up(WARM_UP_SECONDS)
    return worker().settings.concurrency


def _warm_up(seconds: float) -> None:
    """Block until the trainers are ready; SIGTERM ends the process meanwhile, though the SDK only notes it."""
    noted = signal.signal(signal.SIGTERM, _end_process)
    if not worker().wait_until_ready(seconds):
        log.warning("the trainer processes are not ready; jobs will say why")
    signal.signal(signal.SIGTERM, noted)


def _end_process(number: int, _frame: object) -> None:
    """Nothing has been taken yet, so nothing is to be finished; the trainers die with their parent."""
    os._exit(128 + number)


class _Place:
    """One job's place in the SDK's count of what it runs, by which it takes new jobs and which its pings name."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._timers: list[asyncio.TimerHandle] = []
        self._closed = False

    def spare(self, seconds: float) -> None:
        """The job will probably end in so many seconds: offer its place shortly before, for a short while."""
        if self._timers or self._closed:  # a place that is counted again after its end would be taken for ever
            return
        begin = max(0.0, seconds - REFILL_SECONDS)
        later = asyncio.get_running_loop().call_later
        self._timers = [
            later(begin, JobsProgress().remove, self._job),
            later(begin + HIDDEN_SECONDS, JobsProgress().add, self._job),
        ]

    def close(self) -> None:
        """The training has ended; the SDK itself frees the place when the result is sent."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()


class StopSignals:
    """Stops the jobs that the endpoint wants stopped, in place of the SDK, which loses some of them.

    The SDK (1.12.0) drops the signal for a job that still waits in its queue: the job then runs in full, unwanted and
    paid. A signal between a job's task and its first step takes the job's place in the worker for ever. And of a job
    that was delivered twice it stops one. So jobs are stopped here, and those that have not begun find their signal
    when they begin. Used by the SDK's event loop only.

    Args:
        fetch: The SDK's fetcher: waits on the endpoint's stop channel and returns job ids.
        now: Tells seconds.
    """

    def __init__(self, fetch: Callable[[Any], Awaitable[list[str]]], now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._begun: dict[str, list[asyncio.Task[Any]]] = {}
        self._early: dict[str, float] = {}  # until when each is kept

    async def fetch(self, session: Any) -> list[str]:
        """Stop what has begun and note the others.

        What it returns names no job, so that the SDK stops none; after an empty list, which means that there was no
        signal, it would wait a second before it listens again.
        """
        ids = await self._fetch(session)
        for task in [task for job_id in ids for task in self._begun.get(job_id, ())]:
            task.cancel()
        self._early = {job_id: until for job_id, until in self._early.items() if until > self._now()}
        self._early.update((job_id, self._now() + EARLY_SECONDS) for job_id in ids if job_id not in self._begun)
        return [""] if ids else []

    @contextmanager
    def heeding(self, job_id: str) -> Iterator[None]:
        """While the current task runs a job; raises CancelledError, as the SDK does, where its signal came before."""
        if self._early.get(job_id, 0.0) > self._now():
            raise asyncio.CancelledError
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._begun.setdefault(job_id, []).append(task)
        try:
            yield
        finally:
            self._begun[job_id].remove(task)
            if not self._begun[job_id]:
                del self._begun[job_id]


_stops = StopSignals(rp_scale.get_stop_signals)


def _answer(result: TrialResult) -> Wire:
    """The job's output. ``error`` would be taken out of it at the top level, so the result lies one level down."""
    # Through JSON and back: plain data alone, and better a failed job with a reason than a result that the SDK drops.
    answer: Wire = json.loads(json.dumps({"result": result.to_wire()}, allow_nan=False))
    return answer


def drain_progress(seconds: float = 2.0) -> None:
    """Wait for progress that is still on its way; what arrives after the result would undo it (runpod-python #250)."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if "_thread_target" in thread.name:  # the SDK sends each progress in a thread of its own
            with suppress(RuntimeError):  # another job's, which is just being started; this job's have all begun
                thread.join(max(0.0, end - time.monotonic()))


def _text(error: Exception) -> str:
    frames = "".join(traceback.format_exception(error, limit=-FRAMES))
    return f"{type(error).__name__}: {error}\n{frames}"[-4000:]


def main() -> None:
    """Take jobs until the container stops."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # As a container's first process, Python has no default action for it; the SDK sets its own when its loop starts.
    signal.signal(signal.SIGTERM, _end_process)
    try:
        WorkerSettings.read(os.environ)
    except ConfigError as error:
        sys.exit(str(error))
    rp_scale.get_stop_signals = _stops.fetch  # what its loop takes when it starts; no setting of the SDK does it
    try:
        runpod.serverless.start({"handler": runpod_handler, "concurrency_modifier": adjust_concurrency})
    finally:
        if _worker is not None:
            _worker.close()


if __name__ == "__main__":
    main()
