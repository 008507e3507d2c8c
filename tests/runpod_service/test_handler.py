"""The worker's handler on real SDK workers, with a stand-in for the trainer alone."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from endpoint_client import Client, eventually
from seedpod.endpoint.embedded import EmbeddedEndpoint, default_handler
from seedpod.errors import Cause
from seedpod.training.datasets import attach, prepare
from seedpod.training.packing import pack
from seedpod.trial import (
    SCHEMA,
    ParamValue,
    Status,
    TrialProgress,
    TrialRequest,
    TrialResult,
    TrialSpec,
    WorkerReport,
    _packed,
    probe_wire,
)
from store_rig import s3_server, save_images, store_at

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[1]
STAND_IN = {"SEEDPOD_TRAINER": "stand_in_trainers:make", "PYTHONPATH": str(TESTS)}


def request(
    number: int = 0, *, time_limit: float = 60.0, attempt: int = 1, max_epochs: int = 4, **params: ParamValue
) -> TrialRequest:
    spec = TrialSpec(
        number=number,
        dataset="digits",
        fingerprint="f" * 16,
        params=params,
        seed=42 + number,
        split_seed=42,
        objectives=("val_accuracy",),
        max_epochs=max_epochs,
        min_epochs=1,
        validation_split=0.2,
        max_parameters=1000,
        max_seconds=0.0,
    )
    return TrialRequest(spec, attempt, time_limit)


def trainers_of(worker: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child] if "seedpod.training.process" in child.cmdline() else []
    return found


class Service(Client):
    """A client of an endpoint whose workers run our handler."""

    def submit(self, asked: TrialRequest | Any) -> str:
        data = asked.to_wire() if isinstance(asked, TrialRequest) else asked
        return str(self.call("POST", "run", {"input": data})[1]["id"])

    def result(self, job: str) -> TrialResult:
        view = self.ended(job)
        assert view["status"] == "COMPLETED", view
        return TrialResult.from_wire(view["output"]["result"])

    def probe(self) -> WorkerReport:
        return WorkerReport.from_wire(self.ended(self.submit(probe_wire()))["output"]["probe"])

    def running(self, job: str) -> None:
        """Wait until the job's first epoch is over: its process is at work."""
        self.when(job, lambda view: view["status"] == "IN_PROGRESS" and "output" in view)

    def worker(self) -> psutil.Process:  # type: ignore[override]
        return psutil.Process(self.endpoint.state()["processes"][0]["pid"])

    def trainers(self) -> set[int]:
        return {process.pid for process in trainers_of(self.worker())}

    def marks(self, job: str, what: str) -> list[dict[str, Any]]:
        return [mark for mark in self.endpoint.trace(job) if mark["what"] == what]

    def at(self, job: str, what: str) -> float:
        return float(self.marks(job, what)[-1]["at"])


def handler() -> Any:
    """The worker's program as a module."""
    found = importlib.util.spec_from_file_location("handler", default_handler())
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@contextmanager
def serving(
    digits_cache: Path, concurrency: int, workers: int = 1, variables: dict[str, str] | None = None, **settings: float
) -> Iterator[Service]:
    environment = {**STAND_IN, "SEEDPOD_CACHE_DIR": str(digits_cache), **(variables or {})}
    with EmbeddedEndpoint(
        workers=workers, concurrency=concurrency, environment=environment, settings=settings
    ) as endpoint:
        endpoint.wait_for_workers()
        yield Service(endpoint)


@pytest.fixture(scope="module")
def six(digits_cache: Path) -> Iterator[Service]:
    """One worker that holds six jobs."""
    with serving(digits_cache, 6) as service:
        yield service


@pytest.fixture(scope="module")
def one(digits_cache: Path) -> Iterator[Service]:
    """One worker that holds one job; lost after 4.5 s in which no ping names it."""
    with serving(digits_cache, 1, heartbeat_timeout=4.5, claim_grace=1.0) as service:
        yield service


def test_a_job_completes_with_a_result_that_the_optimizer_reads(six: Service) -> None:
    """The answer is a complete result of this very trial, marked with its backend and its attempt."""
    result = six.result(six.submit(request(3, attempt=2)))
    assert (result.status, result.number, result.backend, result.attempts) == (Status.COMPLETE, 3, "runpod", 2)
    assert len(result.history) == 4


def test_progress_carries_its_sequence_and_attempt(six: Service) -> None:
    """Every epoch but the last, whose progress would race with the result, is told with sequence and attempt."""
    job = six.submit(request(attempt=3, pause=0.1))
    six.ended(job)
    told = [TrialProgress.from_wire(mark["detail"]) for mark in six.marks(job, "progress")]
    assert sorted(progress.sequence for progress in told) == [1, 2, 3]
    assert {progress.attempt for progress in told} == {3}


def changed(path: str, value: Any) -> Any:
    """A request's wire form with one field replaced; ``...`` takes it away."""
    data = request().to_wire()
    inside = request().spec.to_wire() if path.startswith("spec.") else data
    name = path.removeprefix("spec.")
    inside[name] = value
    if value is ...:
        del inside[name]
    return {**data, "spec": _packed(inside)} if path.startswith("spec.") else inside


INVALID: list[tuple[str, Any]] = [
    ("schema", SCHEMA + 1),
    ("uid", 7),
    ("uid", "0123456789abcdef"),
    ("attempt", 0),
    ("time_limit", "long"),
    ("spec", ...),
    ("spec", "not packed"),
    ("data", "http://elsewhere/x.tar"),
    ("data", f"https://elsewhere/{'f' * 64}.zip"),
    ("callback", "http://elsewhere"),
    ("spec.schema", None),
    ("spec.number", -1),
    ("spec.dataset", "../../etc/passwd"),
    ("spec.dataset", ""),
    ("spec.fingerprint", 5),
    ("spec.params", {"do": ["train"]}),
    ("spec.seed", 2**32),
    ("spec.split_seed", 1.5),
    ("spec.objectives", ["colour"]),
    ("spec.fingerprint", "0123"),
    ("spec.params", {"x" * 300: 1}),
    ("spec.max_epochs", True),
    ("spec.max_epochs", 1001),
    ("spec.min_epochs", 0),
    ("spec.validation_split", 0.9),
    ("spec.max_parameters", None),
    ("spec.max_seconds", 1e9),
    ("spec.max_seconds", -1.0),
    ("spec.cv_folds", ...),
    ("spec.code", "print()"),
]


def test_every_invalid_field_is_answered_with_its_name(six: Service) -> None:
    """A request that breaks the contract is a completed job with a failed result that names the field."""
    jobs = [(path, six.submit(changed(path, value))) for path, value in INVALID]
    for path, job in jobs:
        result = six.result(job)
        assert result.status is Status.FAILED
        assert result.error is not None
        assert result.error.cause is Cause.CONTRACT
        assert path.removeprefix("spec.") in result.error.message
    assert "Redeploy" in str(six.result(jobs[0][1]).error)


@pytest.mark.parametrize(
    ("do", "cause", "said"),
    [
        ("diverge", Cause.DIVERGED, "nan"),
        ("raise", Cause.EXCEPTION, "ValueError: a shape that fits nothing"),
        ("kill", Cause.PROCESS_DIED, "SIGKILL"),
        ("exit", Cause.PROCESS_DIED, "code 3"),
    ],
)
def test_a_failed_trial_is_a_failed_result_of_a_completed_job(six: Service, do: str, cause: Cause, said: str) -> None:
    """What fails inside the trial fails neither the job nor the worker, and comes with its cause."""
    result = six.result(six.submit(request(do=do)))
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.cause is cause
    assert said in result.error.message


@pytest.mark.parametrize("do", ["nan", "infinity"])
def test_numbers_that_json_cannot_hold_come_as_null(six: Service, do: str) -> None:
    """NaN and infinity in metrics are null in progress and result, and lose neither."""
    job = six.submit(request(do=do, pause=0.1))
    result = six.result(job)
    assert result.status is Status.COMPLETE
    assert result.metrics["val_loss"] is None
    assert all(row["val_loss"] is None for row in result.history)
    assert all(mark["detail"]["metrics"]["val_loss"] is None for mark in six.marks(job, "progress"))
    assert six.status(job).get("retries") is None


def test_late_progress_never_follows_the_result(six: Service) -> None:
    """Of trials that report as fast as they can, no progress arrives after the result."""
    jobs = [six.submit(request(number, max_epochs=30)) for number in range(8)]
    for job in jobs:
        six.result(job)
    time.sleep(0.5)
    assert not [mark for job in jobs for mark in six.marks(job, "stale progress")]
    assert all(len(six.marks(job, "progress")) == 29 for job in jobs)


def test_a_neighbour_that_begins_to_send_loses_no_result() -> None:
    """A job's end waits for its own progress, and does not fail over that of another job, which is just being sent."""
    ended = threading.Event()

    def _thread_target() -> None:
        """Named as the SDK names what sends a progress."""

    def neighbour() -> None:
        while not ended.is_set():
            threading.Thread(target=_thread_target).start()

    drain = handler().drain_progress
    sending = threading.Thread(target=neighbour)
    sending.start()
    try:
        for _ in range(100_000):
            drain()
    finally:
        ended.set()
        sending.join()


def test_a_job_delivered_twice_runs_twice_without_mixing(six: Service) -> None:
    """Two deliveries of one job to one worker run side by side; the second result is ignored, others are untouched."""
    six.endpoint.set_faults([{"operation": "take", "kind": "duplicate", "times": 1}])
    double = six.submit(request(1, pause=0.2))
    other = six.submit(request(2, pause=0.2))
    assert six.result(double).number == 1
    assert six.result(other).number == 2
    six.endpoint.set_faults([])
    assert len(six.marks(double, "duplicate")) == 1
    eventually(lambda: len(six.marks(double, "stale result")) == 1)
    assert six.at(double, "duplicate") < six.at(double, "COMPLETED")


def test_the_time_limit_kills_a_hanging_trial(six: Service) -> None:
    """A trial over its job's limit is a failed result with cause deadline, and its process is gone."""
    before = six.trainers()
    result = six.result(six.submit(request(do="hang", time_limit=1.5)))
    assert result.error is not None
    assert result.error.cause is Cause.DEADLINE
    eventually(lambda: bool(before - six.trainers()))


def test_a_cancelled_trials_process_is_killed_and_the_next_job_runs(one: Service) -> None:
    """Cancelling a job whose trainer listens to nobody ends its process within seconds, and frees the worker."""
    before = one.trainers()
    job = one.submit(request(do="hang"))
    one.running(job)
    one.call("POST", f"cancel/{job}")
    eventually(lambda: bool(before - one.trainers()))
    assert one.result(one.submit(request(1))).status is Status.COMPLETE


def test_a_cancelled_trial_that_listens_keeps_its_process(one: Service) -> None:
    """A trainer that stops between batches stays warm for the next trial."""
    eventually(lambda: len(one.trainers()) == 2)
    before = one.trainers()
    job = one.submit(request(pause=0.3, max_epochs=100))
    one.running(job)
    one.call("POST", f"cancel/{job}")
    assert one.result(one.submit(request(1))).status is Status.COMPLETE
    assert one.trainers() == before


def test_six_jobs_that_burn_cpu_neither_pause_pings_nor_delay_a_cancel(six: Service) -> None:
    """With all six places taken by trials that never yield, pings go on and a cancel ends its process."""
    eventually(lambda: len(six.trainers()) == 7)
    jobs = [six.submit(request(number, do="burn")) for number in range(6)]
    for job in jobs:
        six.running(job)
    (name,) = six.endpoint.state()["workers"]
    first = six.endpoint.state()["workers"][name]["pings"]
    eventually(lambda: six.endpoint.state()["workers"][name]["pings"] >= first + 2)
    for job in jobs:
        before = six.trainers()
        six.call("POST", f"cancel/{job}")
        eventually(lambda before=before: bool(before - six.trainers()))  # type: ignore[misc]
    assert six.result(six.submit(request(1))).status is Status.COMPLETE


def test_the_next_job_is_taken_early(one: Service) -> None:
    """The SDK takes the next job while the last epoch still trains."""
    earlier, later = [one.submit(request(number, pause=0.5)) for number in range(2)]
    one.result(later)
    assert one.at(later, "taken") < one.at(earlier, "COMPLETED")


def test_a_job_cancelled_before_it_begins_is_never_trained(one: Service) -> None:
    """A job that is cancelled while it waits in the worker itself neither trains nor keeps its place."""
    running, waiting = [one.submit(request(number, pause=0.8)) for number in range(2)]
    one.when(waiting, lambda view: view["status"] == "IN_PROGRESS")
    assert one.status(running)["status"] == "IN_PROGRESS"
    one.call("POST", f"cancel/{waiting}")
    one.result(running)
    assert one.result(one.submit(request(2))).status is Status.COMPLETE
    assert not [mark for mark in one.endpoint.trace(waiting) if str(mark["what"]).startswith("stale")]


class Signals:
    """A stop channel that says what it is told, a list of job ids each time."""

    def __init__(self, *lists: list[str]) -> None:
        self._lists = iter(lists)

    async def fetch(self, _session: object) -> list[str]:
        return next(self._lists)


def test_a_stop_signal_waits_for_its_job_and_is_forgotten_in_time() -> None:
    """Jobs that have begun are stopped, all that there are of one; the others as they begin, unless long after."""
    module = handler()
    now = [100.0]
    stops = module.StopSignals(Signals(["early", "late"], ["begun"], []).fetch, lambda: now[0])

    async def job(name: str) -> str:
        with stops.heeding(name):
            await asyncio.sleep(60)
        return name

    async def follow() -> None:
        twins = [asyncio.create_task(job("begun")) for _ in range(2)]
        other = asyncio.create_task(job("other"))
        await asyncio.sleep(0)
        assert [await stops.fetch(None) for _ in range(3)] == [[""], [""], []]
        for twin in twins:
            with pytest.raises(asyncio.CancelledError):
                await twin
        assert not other.done()
        other.cancel()
        for _ in range(2):  # it may have been delivered twice
            with pytest.raises(asyncio.CancelledError):
                await job("early")
        now[0] += module.EARLY_SECONDS
        late = asyncio.create_task(job("late"))
        await asyncio.sleep(0)
        assert not late.done()
        late.cancel()

    asyncio.run(follow())


def test_a_job_delivered_twice_and_cancelled_is_stopped_twice(six: Service) -> None:
    """Of a job that runs twice on one worker nothing goes on once it is cancelled: all six places are free."""
    six.endpoint.set_faults([{"operation": "take", "kind": "duplicate", "times": 1}])
    job = six.submit(request(1, pause=0.2, max_epochs=1000))
    six.running(job)
    eventually(lambda: bool(six.marks(job, "duplicate")))
    six.endpoint.set_faults([])
    six.call("POST", f"cancel/{job}")
    jobs = [six.submit(request(number, pause=0.2, max_epochs=1000)) for number in range(6)]
    for other in jobs:
        six.running(other)
    for other in jobs:
        six.call("POST", f"cancel/{other}")


def test_progress_of_a_trial_over_its_limit_never_follows_the_answer(one: Service) -> None:
    """Of trials that report faster than it can be sent and are cut off, no progress arrives after the result."""
    for number in range(3):
        job = one.submit(request(number, max_epochs=1000, pause=0.002, time_limit=1.5))
        assert one.result(job).status is Status.FAILED
        one.result(one.submit(request(9)))  # which waits for all progress that is on its way
        assert not one.marks(job, "stale progress")


@pytest.mark.slow
def test_a_last_epoch_that_takes_long_does_not_lose_the_trial(one: Service) -> None:
    """Pings name the trial again soon after its place was offered, so that it is not taken for lost."""
    job = one.submit(request(pause=0.1, last_pause=6.0))
    assert one.result(job).status is Status.COMPLETE
    assert not one.marks(job, "lost")


@pytest.mark.slow
def test_a_job_taken_early_is_not_lost_with_its_worker(one: Service) -> None:
    """When the worker is killed in the last epoch, the trial and the one that was taken early both run again."""
    one.endpoint.set_settings(heartbeat_timeout=2.5)
    jobs = [one.submit(request(number, pause=0.8)) for number in range(2)]
    one.when(jobs[1], lambda view: view["status"] == "IN_PROGRESS")
    assert one.status(jobs[0])["status"] == "IN_PROGRESS"
    one.endpoint.kill_worker(0)
    for job in jobs:
        assert one.result(job).status is Status.COMPLETE
        assert one.status(job)["retries"] == 1


def test_sigterm_ends_the_worker_after_its_trial_and_leaves_no_trainer(digits_cache: Path) -> None:
    """A worker that is asked to stop finishes what it runs, then nothing of it is left."""
    with serving(digits_cache, 1, take_hold=0.5, stop_hold=0.5) as service:
        job = service.submit(request(pause=0.3))
        service.running(job)
        worker = service.worker()
        family = [worker, *worker.children(recursive=True)]
        worker.terminate()
        assert service.result(job).status is Status.COMPLETE
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive


def where(result: TrialResult) -> dict[str, Any]:
    """What a result says of where it ran, but for the memory that its process held, which every worker tells."""
    told = dict(result.run)
    assert float(told.pop("peak_memory_mb")) > 1
    return told


def test_a_worker_tells_its_gpu(digits_cache: Path, tmp_path: Path) -> None:
    """Probe and results, failed ones too, carry the GPU's name as the driver's tool tells it; a CPU has none."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4'\n", "utf-8")
    tool.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "0"}
    with serving(digits_cache, 1, variables=variables) as service:
        report = service.probe()
        assert (report.gpu, report.devices) == ("NVIDIA L4", 1)
        assert where(service.result(service.submit(request()))) == {"gpu": "NVIDIA L4"}
        assert where(service.result(service.submit(request(do="fail")))) == {"gpu": "NVIDIA L4"}


def test_a_worker_without_a_gpu_tells_none(six: Service) -> None:
    """On a CPU no name is told."""
    assert six.probe().gpu == ""
    assert where(six.result(six.submit(request()))) == {}


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*environment.pop("before", "").split(), sys.executable, str(default_handler())],
        env={**os.environ, **STAND_IN, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("SEEDPOD_WORKER_CONCURRENCY", "7", "a whole number from 1 to 6"),
        ("SEEDPOD_CACHE_GB", "much", "a number of GB, such as 20"),
    ],
)
def test_a_wrong_variable_ends_the_worker_with_a_sentence(name: str, value: str, wanted: str) -> None:
    """A value that cannot be is refused with the variable's name, before anything starts."""
    process = start(**{name: value})
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip() == f"{name}={value}: must be {wanted}."


def test_sigterm_ends_a_containers_first_process_while_it_warms_up(tmp_path: Path) -> None:
    """As process 1, for which Python has no default action, a worker that is still warming up obeys SIGTERM."""
    inside = "unshare --user --map-root-user --pid --fork --kill-child"
    if subprocess.run([*inside.split(), "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a process namespace")
    (tmp_path / "slow_trainer.py").write_text("import time\ntime.sleep(60)\n")
    deployed = {"RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:9/job-take/$ID?", "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}
    trainer = {"SEEDPOD_TRAINER": "slow_trainer:make", "PYTHONPATH": str(tmp_path)}
    process = start(before=inside, RUNPOD_SKIP_GPU_CHECK="true", **deployed, **trainer)
    outside = psutil.Process(process.pid)
    eventually(lambda: bool(trainers_of(outside)))
    trainers = trainers_of(outside)
    worker = outside.children()[0]
    worker.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert not [trainer for trainer in trainers if trainer.is_running()]


def test_a_worker_fetches_the_images_that_a_job_brings(tmp_path: Path) -> None:
    """Two jobs at once on a worker that lacks the images make one download; one whose address has run out is a failed
    result that may be tried again; the next job needs no address any more.
    """
    home, away = tmp_path / "home", tmp_path / "away"
    info = prepare(str(save_images(tmp_path / "own.npz")), home)
    packed = pack(info.id, home)

    def asked(number: int, url: str = "", dataset: str = info.id) -> TrialRequest:
        spec = replace(request(number).spec, dataset=dataset, fingerprint=info.fingerprint)
        return TrialRequest(spec, 1, 60.0, url)

    with s3_server(tmp_path / "s3") as server, serving(away, 2) as service:
        store = store_at(server.url)
        expired = store.url(packed.name, 1)
        store.upload(packed, lambda _: None)
        jobs = [service.submit(asked(number, store.url(packed.name, 60))) for number in range(2)]
        assert [service.result(job).status for job in jobs] == [Status.COMPLETE] * 2
        assert server.asked("GET", packed.name) == ["200"]
        assert service.result(service.submit(asked(2))).status is Status.COMPLETE
        time.sleep(1.0)
        failed = service.result(service.submit(asked(3, expired, dataset=f"{info.id}x")))
        assert failed.error is not None
        assert failed.error.cause is Cause.TRANSFER
        assert "expired" in failed.error.message
        assert service.probe().datasets == {info.id: info.fingerprint}
    assert attach(info.id, info.fingerprint, away).info == info
