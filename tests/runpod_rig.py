"""What tests of the remote way share: endpoints whose workers train nothing, backends in a hurry, a worker by hand."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import samples
from endpoint_client import Client, eventually
from seedpod.backends.runpod import JobRules, RunPodBackend
from seedpod.clock import SystemClock
from seedpod.endpoint.control import Control
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.guarded import Guarded
from seedpod.remote.breaker import BreakerRules
from seedpod.remote.client import EndpointClient, Timeouts
from seedpod.remote.gate import Gate, GateRules
from seedpod.remote.policy import Backoff, Operation
from seedpod.remote.secret import Secret
from seedpod.trial import ParamValue, Status, TrialProgress, TrialRequest, TrialResult, TrialSpec
from stand_in_trainers import value_of

TESTS = Path(__file__).parent
STAND_IN = {"SEEDPOD_TRAINER": "stand_in_trainers:make", "PYTHONPATH": str(TESTS)}
HURRY = Backoff(base=0.01, longest=0.05, total=3.0)
NEVER_OPEN = BreakerRules(consecutive=10_000, least=10_000)
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
_cases = itertools.count()


@contextmanager
def serving(
    cache_dir: Path, workers: int, concurrency: int = 1, pause: float = 0.0, **settings: float
) -> Iterator[EmbeddedEndpoint]:
    """An endpoint with real SDK workers that run our handler on a stand-in for the trainer.

    Its epochs take ``pause`` seconds where a spec does not say otherwise.
    """
    environment = {**STAND_IN, "SEEDPOD_CACHE_DIR": str(cache_dir), "SEEDPOD_STAND_IN_PAUSE": str(pause)}
    with EmbeddedEndpoint(
        workers=workers, concurrency=concurrency, environment=environment, settings=settings
    ) as endpoint:
        endpoint.wait_for_workers()
        yield endpoint


def gate_to(control: Control, connections: int = 8, breaker: BreakerRules = NEVER_OPEN) -> Gate:
    """A gate that retries within hundredths of a second."""
    client = EndpointClient(
        control.url, control.endpoint_id, Secret(control.key), connections, timeouts=Timeouts(connect=2.0, read=10.0)
    )
    rules = GateRules(backoff=dict.fromkeys(Operation, HURRY), breaker=breaker)
    return Gate(client, SystemClock(), random.Random(1), rules)


class Lines:
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self._lines: Guarded[list[str]] = Guarded([])

    def __call__(self, line: str) -> None:
        with self._lines.locked() as lines:
            lines.append(line)

    def having(self, text: str) -> list[str]:
        with self._lines.locked() as lines:
            return [line for line in lines if text in line]

    def all(self) -> list[str]:
        """But for the last word on an endpoint, which counts its requests."""
        return [line for line in self.having("") if not line.startswith("Endpoint: ")]


def backend_on(
    control: Control,
    say: Callable[[str], None] = lambda _: None,
    *,
    at_once: int = 8,
    breaker: BreakerRules = NEVER_OPEN,
    **rules: float,
) -> RunPodBackend:
    """A backend in a hurry."""
    known: dict[str, Any] = {"timeout": 60.0, **rules}
    return RunPodBackend(gate_to(control, at_once, breaker), most_at_once=at_once, rules=JobRules(**known), say=say)


def new_spec(number: int = 0, *, max_seconds: float = 0.0, **params: ParamValue) -> TrialSpec:
    """A spec that no other test has: its uid counts its executions alone."""
    return samples.spec(number, params={"case": next(_cases), **params}, max_seconds=max_seconds)


def ignore(_: TrialProgress) -> None:
    pass


def executions(control: Control, spec: TrialSpec) -> int:
    """How often the endpoint has handed this trial to a worker."""
    return int(control.state()["executions"].get(spec.uid, 0))


def jobs_of(control: Control, spec: TrialSpec) -> dict[str, dict[str, Any]]:
    """The endpoint's jobs of this trial, by id."""
    return {job: view for job, view in control.state()["jobs"].items() if view["uid"] == spec.uid}


def live(control: Control) -> list[str]:
    """Jobs that wait or run."""
    return [job for job, view in control.state()["jobs"].items() if view["status"] not in ENDED]


def well(result: TrialResult, spec: TrialSpec) -> bool:
    """Whether the trial is complete with the value that its spec decides."""
    return (result.number, result.status, result.value) == (spec.number, Status.COMPLETE, value_of(spec))


@contextmanager
def trials(backend: Any, specs: Sequence[TrialSpec]) -> Iterator[list[Future[TrialResult]]]:
    """All trials at once, each in a thread of its own; ended when this ends."""
    with ThreadPoolExecutor(len(specs)) as threads:
        yield [threads.submit(backend.run, spec, ignore) for spec in specs]


def working(control: Control, count: int) -> None:
    """Wait until so many jobs run."""
    eventually(lambda: sum(v["status"] == "IN_PROGRESS" for v in control.state()["jobs"].values()) == count)


Act = Callable[["HandWorker", str, Any], None]


class HandWorker:
    """A worker without the SDK: takes jobs and does to each what it is told, the last thing for ever.

    Args:
        control: The endpoint.
        acts: Called in turn with the client side, the job's id and its input.
        name: Its id.
    """

    def __init__(self, control: Control, acts: Sequence[Act], name: str = "hand") -> None:
        self.name = name
        self.control = control
        self.client = Client(control)
        self._acts = list(acts)
        self._ended = Guarded([False])
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._ended.locked() as ended:
            ended[0] = True
        self._thread.join(20)

    def done(self, job: str, **body: Any) -> None:
        self.client.done(job, self.name, **body)

    def progress(self, job: str, progress: Any) -> None:
        self.client.done(job, self.name, status="IN_PROGRESS", output=progress)

    def _work(self) -> None:
        while not self._over():
            job = self.client.take(self.name)
            if job is None:
                continue
            act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
            act(self, job["id"], job["input"])

    def _over(self) -> bool:
        with self._ended.locked() as ended:
            return ended[0]


def completes(worker: HandWorker, job: str, asked: Any) -> None:
    """What our handler answers to a request."""
    worker.done(job, output={"result": result_of(asked).to_wire()})


def answers(**body: Any) -> Act:
    """Ends each job with this body."""
    return lambda worker, job, _: worker.done(job, **body)


def sleeps(seconds: float) -> Act:
    """Takes the job and says nothing of it."""
    return lambda *_: time.sleep(seconds)


def result_of(asked: Any) -> TrialResult:
    request = TrialRequest.from_wire(asked)
    value = value_of(request.spec)
    return TrialResult(request.spec.number, Status.COMPLETE, value, 1, 1, backend="runpod", attempts=request.attempt)
