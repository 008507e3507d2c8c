"""How near 10 s trials on an endpoint come to their own time, 1 to 64 in flight, beside the official SDK's client.

``python benchmarks/run.py remote_efficiency``; needs the extras endpoint and worker. Real SDK workers on the embedded
endpoint run the real handler with a trainer that sleeps; ours submits by RunPodBackend, the bare loop by the SDK's own
client. The floor is the trials' own time: rounds of as many trials as there are workers.
"""

import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from apart import CACHE, HERE, apart
from rows import Found, Row, Target

from seedpod.backends.runpod import RunPodBackend
from seedpod.clock import SystemClock
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.remote.client import EndpointClient
from seedpod.remote.gate import Gate
from seedpod.remote.secret import Secret
from seedpod.training.datasets import prepare
from seedpod.trial import TrialRequest, TrialSpec

EPOCHS = 5
STARTING = 900.0  # seconds that 64 workers may take to start on two cores
LOOK, IDLE = 3.0, 0.5
"""Seconds between two looks at what the workers use, and cores that they may use while they wait for jobs."""
SIZES = ((1, 48), (2, 48), (4, 48), (6, 48), (16, 48), (64, 192))
"""In flight, and trials in all."""
BESIDE_SDK = (4, 16, 64)
"""In flight where the SDK's client is measured too: what it loses is a second a trial, at any number."""
QUICK_SIZES = ((4, 16),)


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """For each number in flight, beside the floor and beside the bare loop."""
    seconds = 3.0 if quick else 10.0
    for workers, trials in QUICK_SIZES if quick else SIZES:
        given = {"workers": workers, "trials": trials, "seconds": seconds}
        ours = apart("remote_efficiency:ours", **given)
        floor = math.ceil(trials / workers) * seconds
        what = f"{trials} trials of {seconds:g} s on an endpoint, {workers} in flight"
        bound = 0.97 if workers <= 6 else 0.95
        promised = None if workers in {1, 16} or quick else Target(bound)
        yield Row(f"remote_efficiency.{workers}", what, "s", (ours,), "floor", (floor,), target=promised)
        if workers in BESIDE_SDK:
            theirs = apart("remote_efficiency:bare_sdk", **given)
            yield Row(f"remote_efficiency.{workers}/sdk", what, "s", (ours,), "loop over the SDK's client", (theirs,))


@contextmanager
def endpoint_of(workers: int, cache_dir: Path) -> Iterator[EmbeddedEndpoint]:
    """An endpoint with warm workers whose trials sleep."""
    prepare("digits", cache_dir)  # as the image has it
    environment = {
        "SEEDPOD_TRAINER": "fixed_time_trainer:make",
        "PYTHONPATH": str(HERE),
        "SEEDPOD_CACHE_DIR": str(cache_dir),
    }
    with EmbeddedEndpoint(workers=workers, environment=environment) as endpoint:
        endpoint.wait_for_workers(workers, timeout=STARTING)
        _settle()
        yield endpoint


def _settle() -> None:
    """Wait until the workers' standby processes have loaded too: on an endpoint they would do so on its machines."""
    before, end = -math.inf, time.monotonic() + STARTING
    while time.monotonic() < end:
        used = sum(sum(process.cpu_times()[:2]) for process in psutil.Process().children(recursive=True))
        if used - before < IDLE * LOOK:
            return
        before = used
        time.sleep(LOOK)


def backend_of(endpoint: EmbeddedEndpoint, workers: int) -> RunPodBackend:
    """Ours, as a search makes it."""
    client = EndpointClient(endpoint.url, endpoint.endpoint_id, Secret(endpoint.key), 2 * workers)
    return RunPodBackend(Gate(client, SystemClock(), random.Random()), most_at_once=workers)


def ours(workers: int, trials: int, seconds: float) -> float:
    """Seconds for all trials through RunPodBackend, in a search's threads: one a place, and one that waits for it."""
    with endpoint_of(workers, Path(CACHE)) as endpoint:
        backend, specs = backend_of(endpoint, workers), _specs(trials, seconds)
        began = time.monotonic()
        with ThreadPoolExecutor(2 * workers) as threads:
            results = list(threads.map(lambda spec: backend.run(spec, lambda _: None), specs))
        took = time.monotonic() - began
        backend.close()
    if len(results) != trials:
        raise RuntimeError(f"{len(results)} of {trials} trials")
    return took


def bare_sdk(workers: int, trials: int, seconds: float) -> float:
    """Seconds for the same jobs by the official SDK's client: run, then ``output``, which polls every second."""
    import runpod

    with endpoint_of(workers, Path(CACHE)) as endpoint:
        runpod.api_key = endpoint.key
        runpod.endpoint_url_base = endpoint.url
        theirs = runpod.Endpoint(endpoint.endpoint_id)

        def one(spec: TrialSpec) -> object:
            return theirs.run(TrialRequest(spec, 1, 600.0).to_wire()).output(timeout=600)

        specs = _specs(trials, seconds)
        began = time.monotonic()
        with ThreadPoolExecutor(workers) as threads:
            outputs = list(threads.map(one, specs))
        took = time.monotonic() - began
    if not all(isinstance(output, dict) and "result" in output for output in outputs):
        raise RuntimeError(str(outputs))
    return took


def _specs(trials: int, seconds: float) -> list[TrialSpec]:
    """Made before the clock starts: what is imported for them, 0.27 s, a search has long loaded."""
    from searching import spec

    return [spec(number, epochs=EPOCHS, pause=seconds / EPOCHS) for number in range(trials)]
