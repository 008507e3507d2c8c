"""A search that is watched: by callbacks of every temper, by the event log, by an observer."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedpod.config import OptimizationConfig
from seedpod.events import Summary
from seedpod.optimizer import ModelOptimizer
from seedpod.progress import AggregatedProgress, ProgressCallback
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.view import EndpointView
from seedpod.trial import Report, TrialBackend, TrialProgress, TrialResult, TrialSpec
from thread_backend import ThreadBackend, stand_in, wait_for_stop

TRIALS = 24
Run = Callable[..., Summary]


@pytest.fixture(name="run")
def runner(tmp_path: Path, digits_cache: Path) -> Run:
    def run(callback: ProgressCallback | None = None, backend: TrialBackend | None = None, **settings: Any) -> Summary:
        config = OptimizationConfig(
            **{
                "trials": TRIALS,
                "sampler": "random",
                "pruner": "none",
                "max_epochs_per_trial": 4,
                "run_name": "r",
                "results_dir": str(tmp_path),
                "cache_dir": str(digits_cache),
                **settings,
            }
        )

        def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
            return backend or ThreadBackend(stand_in, 4)

        return ModelOptimizer(config, progress_callback=callback, make_backend=make).run()

    return run


class TwoPlaces(ThreadBackend):
    """Every second trial says that it runs on an endpoint, where it is billed."""

    name = "runpod"

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        remote = spec.number % 2 == 1

        def where(progress: TrialProgress) -> None:
            time.sleep(0.005)
            report(replace(progress, backend="runpod" if remote else "local", worker="w1" if remote else ""))

        result = super().run(spec, where)
        return replace(result, run={"worker": "w1", "billed_seconds": 1.0}) if remote else result

    def view(self) -> EndpointView:
        return EndpointView(GateCounters.of({}, BreakerView(BreakerState.CLOSED, 0.0, None, 0)), None, 1, 4)


def raising(_progress: AggregatedProgress) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.5], ids=["quick", "sleeps", "slow"])
def test_callback_of_any_pace(run: Run, pause: float) -> None:
    """12 local and 12 remote trials wait for no call, and states missed are counted; the last state is the end."""
    told: list[AggregatedProgress] = []

    def callback(progress: AggregatedProgress) -> None:
        time.sleep(pause)
        told.append(progress)

    summary = run(callback, TwoPlaces(stand_in, 8), gpu_price_per_second=0.01)
    assert summary.trials["complete"] == TRIALS
    versions = [progress.version for progress in told]
    assert versions == sorted(versions)
    assert {progress.queued + progress.running + progress.ended for progress in told} == {TRIALS}
    last = told[-1]
    assert (last.completed, last.running, last.queued, last.remaining) == (TRIALS, 0, 0, 0.0)
    assert last.costs.spent == pytest.approx(0.12)
    assert last.endpoint is not None
    if pause:
        assert last.skipped > len(told)


def test_raising_callback(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises every time costs one line and none of 12 local and 12 remote trials."""
    with caplog.at_level(logging.ERROR):
        summary = run(raising, TwoPlaces(stand_in, 8), gpu_price_per_second=0.01)
    assert summary.trials["complete"] == TRIALS
    assert [record.getMessage() for record in caplog.records] == ["the progress callback raised; the search goes on"]


def test_callback_may_stop_the_search(tmp_path: Path, digits_cache: Path) -> None:
    """The callback runs outside every lock: it may look at the optimizer and stop it."""
    config = OptimizationConfig(
        trials=5, sampler="random", run_name="r", results_dir=str(tmp_path), cache_dir=str(digits_cache)
    )

    def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return ThreadBackend(wait_for_stop, 2)

    def callback(progress: AggregatedProgress) -> None:
        if progress.running == 2:
            optimizer.stop("interrupted")

    optimizer = ModelOptimizer(config, progress_callback=callback, make_backend=make)
    assert optimizer.run().outcome == "interrupted"


def events(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "r" / "events.jsonl").read_text("utf-8").splitlines()]


def test_event_log_of_a_search(run: Run, tmp_path: Path) -> None:
    """The log starts and ends with the search; each trial starts, advances by epochs and finishes, in this order."""
    run(backend=TwoPlaces(stand_in, 4), gpu_price_per_second=0.01)
    found = events(tmp_path)
    assert (found[0]["event"], found[-1]["event"]) == ("search_started", "search_ended")
    assert found[-1]["spent"] == pytest.approx(0.12)
    for number in range(TRIALS):
        own = [line for line in found if line.get("trial") == number]
        assert [own[0]["event"], own[-1]["event"]] == ["trial_started", "trial_finished"]
        epochs = [line["epoch"] for line in own[1:-1]]
        assert epochs == list(range(1, len(epochs) + 1))
        assert {line["backend"] for line in own[1:-1]} == {"runpod" if number % 2 else "local"}
    assert [line["breaker"] for line in found if line["event"] == "endpoint"] == ["closed"]


def test_event_log_goes_on_with_the_run(run: Run, tmp_path: Path) -> None:
    """A run that goes on appends to its log, and a stop is in it."""
    run(trials=4, gpu_price_per_second=0.01, max_cost=0.015, backend=TwoPlaces(stand_in, 1))
    run(trials=4, gpu_price_per_second=0.01, backend=TwoPlaces(stand_in, 1))
    names = [line["event"] for line in events(tmp_path) if not line["event"].startswith("trial_")]
    assert [name for name in names if name != "endpoint"] == [
        "search_started",
        "stopping",
        "search_ended",
        "search_started",
        "search_ended",
    ]
    ended = [line["trial"] for line in events(tmp_path) if line["event"] == "trial_finished"]
    assert ended == list(range(4))
