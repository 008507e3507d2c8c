"""How near 10 s trials on an endpoint come to their own time, 1 to 64 in flight, beside the official SDK's client.

``python benchmarks/run.py remote_efficiency``; needs the extras endpoint and worker. Real SDK workers on the embedded
endpoint run the real handler with a trainer that sleeps. Ours is the whole search with its crash-safe journal, ledger
and records, from when its first trial could begin to its last one's end; the bare loop is the SDK's own client, with
no search about it. The floor is the trials' own time: rounds of as many trials as there are workers.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from apart import CACHE, HERE, apart
from fixed_time_trainer import PAUSE
from rows import Found, Row, Target
from searching import TRAINER, Watch, spec

from seedpod.assembly import make_backend
from seedpod.config import OptimizationConfig
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.optimizer import ModelOptimizer
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
def endpoint_of(workers: int, cache_dir: Path, pause: float = 0.0) -> Iterator[EmbeddedEndpoint]:
    """An endpoint with warm workers whose trials sleep, ``pause`` seconds an epoch unless they say another."""
    prepare("digits", cache_dir)  # as the image has it
    environment = {
        "SEEDPOD_TRAINER": TRAINER,
        PAUSE: str(pause),
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


def ours(workers: int, trials: int, seconds: float) -> float:
    """Seconds of a search's trials."""
    with endpoint_of(workers, Path(CACHE), seconds / EPOCHS) as endpoint:
        config = OptimizationConfig(
            trials=trials,
            sampler="random",
            pruner="none",
            max_epochs_per_trial=EPOCHS,
            use_runpod_service=True,
            runpod_service_endpoint=f"{endpoint.url}/{endpoint.endpoint_id}",
            runpod_service_fallback_local=False,
            concurrent_workers=workers,
            search_lag=max(8, 2 * workers),  # as README has it; so the next trial is known before one has ended
            results_dir=".",
            cache_dir=CACHE,
            final_model="none",
            report="none",
        )
        watch = Watch()
        backend = partial(make_backend, config, Secret(endpoint.key), print)
        summary = ModelOptimizer(config, observer=watch, make_backend=backend).run()
    if summary.trials["complete"] != trials:
        raise RuntimeError(f"{summary.trials} of {trials} trials")
    return watch.last - watch.first


def bare_sdk(workers: int, trials: int, seconds: float) -> float:
    """Seconds for the same jobs by the official SDK's client: run, then ``output``, which polls every second."""
    import runpod

    with endpoint_of(workers, Path(CACHE), seconds / EPOCHS) as endpoint:
        runpod.api_key = endpoint.key
        runpod.endpoint_url_base = endpoint.url
        theirs = runpod.Endpoint(endpoint.endpoint_id)

        def one(trial: TrialSpec) -> object:
            return theirs.run(TrialRequest(trial, 1, 600.0).to_wire()).output(timeout=600)

        specs = [spec(number, epochs=EPOCHS) for number in range(trials)]
        began = time.monotonic()
        with ThreadPoolExecutor(workers) as threads:
            outputs = list(threads.map(one, specs))
        took = time.monotonic() - began
    if not all(isinstance(output, dict) and "result" in output for output in outputs):
        raise RuntimeError(str(outputs))
    return took
