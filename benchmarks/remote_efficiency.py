"""How close remote trials come to their own time: ours, and the same jobs by a bare loop over the official SDK.

    uv run --extra endpoint --extra worker benchmarks/remote_efficiency.py [trials=48] [seconds=10] [workers=1,2,4,6,16]

Real SDK workers on the embedded endpoint run the real handler with a trainer that sleeps. The floor is the trials' own
time: rounds of as many trials as there are workers. Efficiency is floor / measured, both of one run. Prints a Markdown
table, and JSON behind it.
"""

import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from seedpod.backends.runpod import RunPodBackend
from seedpod.clock import SystemClock
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.remote.client import EndpointClient
from seedpod.remote.gate import Gate
from seedpod.remote.secret import Secret
from seedpod.training.datasets import prepare
from seedpod.trial import TrialRequest, TrialSpec

HERE = Path(__file__).resolve().parent
EPOCHS = 5


def spec(number: int, seconds: float) -> TrialSpec:
    """A trial of so many seconds."""
    return TrialSpec(
        number=number,
        dataset="digits",
        fingerprint="0" * 16,
        params={"pause": seconds / EPOCHS, "epochs": EPOCHS},
        seed=number,
        split_seed=0,
        objectives=("val_accuracy",),
        max_epochs=EPOCHS,
        min_epochs=1,
        validation_split=0.2,
        max_parameters=1,
        max_seconds=0.0,
    )


def ours(endpoint: EmbeddedEndpoint, trials: int, seconds: float, workers: int) -> float:
    """Seconds for all trials through RunPodBackend, in a search's threads: one a place, and one that waits for it."""
    client = EndpointClient(endpoint.url, endpoint.endpoint_id, Secret(endpoint.key), 2 * workers)
    backend = RunPodBackend(Gate(client, SystemClock(), random.Random()), most_at_once=workers)
    began = time.monotonic()
    with ThreadPoolExecutor(2 * workers) as threads:
        results = list(threads.map(lambda n: backend.run(spec(n, seconds), lambda _: None), range(trials)))
    took = time.monotonic() - began
    backend.close()
    assert len(results) == trials
    return took


def bare_sdk(endpoint: EmbeddedEndpoint, trials: int, seconds: float, workers: int) -> float:
    """Seconds for the same jobs by the official SDK's client: run, then ``output``, which polls every second."""
    import runpod

    runpod.api_key = endpoint.key
    runpod.endpoint_url_base = endpoint.url
    theirs = runpod.Endpoint(endpoint.endpoint_id)

    def one(number: int) -> object:
        return theirs.run(TrialRequest(spec(number, seconds), 1, 600.0).to_wire()).output(timeout=600)

    began = time.monotonic()
    with ThreadPoolExecutor(workers) as threads:
        outputs = list(threads.map(one, range(trials)))
    took = time.monotonic() - began
    assert all(isinstance(output, dict) and "result" in output for output in outputs), outputs
    return took


def measure(trials: int, seconds: float, workers: int, how: Callable[..., float]) -> dict[str, float]:
    """One row: a fresh endpoint, warm workers, then the clock."""
    environment = {"SEEDPOD_TRAINER": "fixed_time_trainer:make", "PYTHONPATH": str(HERE)}
    with TemporaryDirectory() as cache_dir:
        prepare("digits", Path(cache_dir))  # as the image has it
        environment["SEEDPOD_CACHE_DIR"] = cache_dir
        with EmbeddedEndpoint(workers=workers, environment=environment) as endpoint:
            endpoint.wait_for_workers(workers, timeout=300)
            took = how(endpoint, trials, seconds, workers)
    floor = math.ceil(trials / workers) * seconds
    return {"workers": workers, "floor_s": floor, "took_s": round(took, 2), "efficiency": round(floor / took, 4)}


def main() -> None:
    """Read the arguments, measure, print."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    trials, seconds = int(given.get("trials", 48)), float(given.get("seconds", 10))
    counts = [int(count) for count in given.get("workers", "1,2,4,6,16").split(",")]
    ways = {"seedpod": ours, "bare loop over the SDK": bare_sdk}
    rows = []
    print(f"{trials} trials of {seconds:g} s; {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(
        "| workers | floor | seedpod | efficiency | bare SDK loop | efficiency |\n|---|---|---|---|---|---|", flush=True
    )
    for workers in counts:
        row = {name: measure(trials, seconds, workers, way) for name, way in ways.items()}
        mine, theirs = row.values()
        rows.append(row)
        print(
            f"| {workers} | {mine['floor_s']:g} s | {mine['took_s']:g} s | {mine['efficiency']:.1%} "
            f"| {theirs['took_s']:g} s | {theirs['efficiency']:.1%} |",
            flush=True,
        )
    print("\n" + json.dumps({"trials": trials, "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
