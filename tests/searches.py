"""Searches as processes on an endpoint of their own, and the same search undisturbed."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from command_rig import SEARCH_ALONE
from seedpod.config import OptimizationConfig
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.optimizer import ModelOptimizer
from thread_backend import ThreadBackend

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, str(ROOT / "optimizer.py")]
FAULTS = [
    {"operation": "run", "kind": "latency", "seconds": 0.05, "seconds_high": 0.3},
    {"operation": "run", "kind": "status", "code": 503, "probability": 0.1},
    {"operation": "run", "kind": "drop", "applied": True, "probability": 0.02},
    {"operation": "status", "kind": "latency", "seconds": 0.02, "seconds_high": 0.2},
    {"operation": "status", "kind": "status", "code": 503, "probability": 0.05},
    {"operation": "status", "kind": "drop", "probability": 0.05},
]
"""Latency, and faults of one request in ten; a few submissions are taken and their answer is lost."""


@contextmanager
def served(cache_dir: Path, *, workers: int, concurrency: int, seconds: float = 1.0) -> Iterator[EmbeddedEndpoint]:
    environment = {
        "SEEDPOD_CACHE_DIR": str(cache_dir),
        "SEEDPOD_TRAINER": "stand_in_trainers:make_slow",
        "STAND_IN_SECONDS": str(seconds),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")]),
    }
    with EmbeddedEndpoint(workers=workers, concurrency=concurrency, environment=environment) as endpoint:
        endpoint.wait_for_workers()
        yield endpoint


def settings(cache_dir: Path, **more: Any) -> dict[str, Any]:
    return {
        "trials": 24,
        "startup_trials": 6,
        "max_epochs_per_trial": 4,
        "search_lag": 8,
        "run_name": "r",
        "cache_dir": str(cache_dir),
        **more,
    }


def remote(endpoint: EmbeddedEndpoint) -> dict[str, Any]:
    return {
        "use_runpod_service": "true",
        "runpod_service_endpoint": f"{endpoint.url}/{endpoint.endpoint_id}",
        "runpod_service_fallback_local": "false",
        "concurrent_workers": 6,
    }


def start(folder: Path, endpoint: EmbeddedEndpoint, **given: Any) -> subprocess.Popen[str]:
    """``optimizer.py`` on the endpoint, in a folder."""
    words = [f"{name}={value}" for name, value in {**given, **remote(endpoint)}.items()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEEDPOD_", "RUNPOD_"))}
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env={**kept, **SEARCH_ALONE, "RUNPOD_API_KEY": endpoint.key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def undisturbed(folder: Path, cache_dir: Path, **more: Any) -> str:
    """The table of the same search on this machine, one trial at a time."""
    config = OptimizationConfig(**settings(cache_dir, results_dir=str(folder / "undisturbed"), **more))
    make = lambda *, workers, cache_dir, jobs: ThreadBackend(at_once=workers)  # noqa: ARG005, E731 - the protocol's names
    ModelOptimizer(config, make_backend=make).run()
    return table(folder / "undisturbed" / "r")


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((run / "trials").glob("[0-9]*.json"))]


def table(run: Path) -> str:
    """Number, parameters, status and value of every trial, as bytes would be compared."""
    return "\n".join(
        json.dumps([r["number"], r["params"], r["status"], r["value"]], sort_keys=True) for r in records(run)
    )


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def noted(run: Path) -> list[dict[str, Any]]:
    path = run / "jobs.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def posted(run: Path) -> set[str]:
    return {fact["job"] for fact in noted(run) if fact["job"]}


def lost_intents(run: Path) -> Counter[str]:
    """By uid: attempts that were about to be posted and whose id nobody knows."""
    attempts: dict[tuple[str, int], bool] = {}
    for fact in noted(run):
        key = (fact["uid"], fact["attempt"])
        attempts[key] = attempts.get(key, False) or bool(fact["job"]) or fact.get("dropped", "").startswith("not ")
    return Counter(uid for (uid, _), known in attempts.items() if not known)


def live(endpoint: EmbeddedEndpoint) -> list[str]:
    jobs = endpoint.state()["jobs"]
    return [job for job, facts in jobs.items() if facts["status"] in {"IN_QUEUE", "IN_PROGRESS"}]
