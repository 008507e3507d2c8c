"""How near remote searches come to their floor: our backend, and a bare loop over the official SDK client, on one rig.

``python benchmarks/remote_efficiency.py trials=48 seconds=10 workers=1,2,4,6,16 json=FILE``; needs the extras endpoint
and worker. The endpoint, the SDK workers and the handler are those of production; only the trainer sleeps. The
ideal is whole rounds: ``ceil(trials / workers) * seconds``. Efficiency is ideal / measured.
"""

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seedpod.backends.runpod import RunPodBackend
from seedpod.clock import SystemClock
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.remote.client import EndpointClient
from seedpod.remote.gate import Gate
from seedpod.remote.secret import Secret
from seedpod.trial import TrialRequest, TrialSpec

EPOCHS = 10
SDK_POLL = 1.0  # seconds: what its own ``run_sync`` and ``output`` wait between two looks
REST = 2.0  # seconds between two runs: every worker's take is open again
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Row:
    """One way at one number of workers; times in seconds."""

    way: str
    workers: int
    trials: int
    seconds: float
    ideal: float
    measured: float
    efficiency: float
    speed_up: float  # against one trial after another without any loss
    requests: Mapping[str, int]


def spec_of(number: int, seconds: float) -> TrialSpec:
    """A trial of so many seconds."""
    return TrialSpec(
        number=number,
        dataset="none",
        fingerprint="0",
        params={"seconds": seconds},
        seed=number,
        split_seed=0,
        objective="val_accuracy",
        max_epochs=EPOCHS,
        min_epochs=1,
        validation_split=0.2,
        max_parameters=1,
        max_seconds=0.0,
    )


def by_backend(endpoint: EmbeddedEndpoint, workers: int) -> tuple[Callable[[TrialSpec], Any], Callable[[], None]]:
    """Our way: one trial, and what closes it."""
    client = EndpointClient(endpoint.url, endpoint.endpoint_id, Secret(endpoint.key), workers)
    backend = RunPodBackend(Gate(client, SystemClock(), random.Random(0)), most_at_once=workers)

    def run(spec: TrialSpec) -> None:
        backend.run(spec, lambda _: None)

    return run, backend.close


def by_sdk(endpoint: EmbeddedEndpoint) -> Callable[[TrialSpec], Any]:
    """The official client in the plainest way: submit, look once a second."""
    import runpod

    runpod.api_key = endpoint.key
    runpod.endpoint_url_base = endpoint.url

    def run(spec: TrialSpec) -> None:
        job = runpod.Endpoint(endpoint.endpoint_id).run({"input": TrialRequest(spec, 1, 600.0).to_wire()})
        while job.status() not in {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}:
            time.sleep(SDK_POLL)
        if job.status() != "COMPLETED":
            raise RuntimeError(f"the job ended {job.status()}")

    return run


def timed(run: Callable[[TrialSpec], Any], specs: Sequence[TrialSpec], workers: int) -> float:
    """Seconds for all trials, as many at once as there are workers: what ``n_jobs`` does."""
    begun = time.monotonic()
    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(run, specs):
            pass
    return time.monotonic() - begun


def requests_of(endpoint: EmbeddedEndpoint) -> dict[str, int]:
    """Client requests so far, by operation."""
    counts = endpoint.state()["requests"]
    return {name: sum(counts.get(name, {}).values()) for name in ("run", "status", "cancel")}


def measure(way: str, run: Callable[[TrialSpec], Any], endpoint: EmbeddedEndpoint, plan: tuple[int, int, float]) -> Row:
    """One row; ``plan`` is workers, trials, seconds."""
    workers, trials, seconds = plan
    before = requests_of(endpoint)
    measured = timed(run, [spec_of(number, seconds) for number in range(trials)], workers)
    after = requests_of(endpoint)
    ideal = -(-trials // workers) * seconds
    return Row(
        way,
        workers,
        trials,
        seconds,
        ideal,
        round(measured, 3),
        round(ideal / measured, 4),
        round(trials * seconds / measured, 3),
        {name: after[name] - before[name] for name in after},
    )


def rows(trials: int, seconds: float, workers: int) -> list[Row]:
    """Both ways on one endpoint, ours first and the SDK's second."""
    environment = {"SEEDPOD_TRAINER": "fixed_time_trainer:make", "PYTHONPATH": str(HERE)}
    with EmbeddedEndpoint(workers=workers, environment=environment) as endpoint:
        endpoint.wait_for_workers(timeout=120.0)
        time.sleep(REST)
        run, close = by_backend(endpoint, workers)
        try:
            ours = measure("seedpod", run, endpoint, (workers, trials, seconds))
        finally:
            close()
        time.sleep(REST)
        return [ours, measure("sdk loop", by_sdk(endpoint), endpoint, (workers, trials, seconds))]


def table(found: Sequence[Row]) -> str:
    """The rows, aligned."""
    head = f"{'workers':>7}  {'way':9}{'ideal s':>9}{'measured':>10}{'efficiency':>12}{'speed-up':>10}  requests"
    lines = [
        f"{row.workers:7}  {row.way:9}{row.ideal:9.1f}{row.measured:10.2f}{row.efficiency:12.1%}{row.speed_up:9.2f}x  "
        + ", ".join(f"{count} {name}" for name, count in row.requests.items() if count)
        for row in found
    ]
    return "\n".join([head, *lines])


def main(words: Sequence[str]) -> None:
    """Measure, print a table, write JSON where asked to."""
    given = {"trials": "48", "seconds": "10", "workers": "1,2,4,6,16", "json": ""}
    for word in words:
        name, _, value = word.partition("=")
        if name not in given:
            sys.exit(f"{word}: takes {', '.join(given)} as key=value.")
        given[name] = value
    trials, seconds = int(given["trials"]), float(given["seconds"])
    found: list[Row] = []
    print(f"{trials} trials of {seconds:g} s, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    for workers in map(int, given["workers"].split(",")):
        found += rows(trials, seconds, workers)
        print(table(found[-2:]), flush=True)
    ours = statistics.mean(row.efficiency for row in found if row.way == "seedpod")
    print(f"mean efficiency of seedpod: {ours:.1%}")
    record = json.dumps({"cores": os.cpu_count(), "rows": [asdict(row) for row in found]}, indent=2)
    if given["json"]:
        Path(given["json"]).write_text(record + "\n", encoding="utf-8")
    else:
        print(record)


if __name__ == "__main__":
    main(sys.argv[1:])
