"""A search of 12 local and 12 remote trials on real backends, watched by callbacks of every temper."""

import json
import logging
import time
from pathlib import Path

import pytest

from runpod_rig import TESTS, backend_on, serving
from seedpod.backends.local import LocalBackend
from seedpod.backends.runpod import RunPodBackend
from seedpod.config import OptimizationConfig
from seedpod.optimizer import ModelOptimizer
from seedpod.progress import AggregatedProgress
from seedpod.trial import Report, TrialBackend, TrialResult, TrialSpec

TRIALS = 24
PRICE = 0.01


class BothPlaces:
    """Runs every second trial on an endpoint, and the others on this machine."""

    name = "runpod"
    at_once = 6

    def __init__(self, local: LocalBackend, remote: RunPodBackend) -> None:
        self._places = (local, remote)

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        return self._places[spec.number % 2].run(spec, report)

    def cancel_all(self) -> None:
        for place in self._places:
            place.cancel_all()

    def close(self) -> None:
        for place in self._places:
            place.close()


class Watcher:
    """Sleeps, notes what it was told, and perhaps raises."""

    def __init__(self, pause: float, *, raising: bool) -> None:
        self.told: list[AggregatedProgress] = []
        self._pause = pause
        self._raising = raising

    def __call__(self, progress: AggregatedProgress) -> None:
        time.sleep(self._pause)
        self.told.append(progress)
        if self._raising:
            raise ZeroDivisionError


@pytest.mark.slow
def test_twelve_local_and_twelve_remote_trials(
    tmp_path: Path, digits_cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a callback that sleeps, one that raises and a slow one all trials end well, and every count is right."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # the trainer processes find their stand-in there
    watchers = {
        "sleeps": Watcher(0.05, raising=False),
        "raises": Watcher(0.0, raising=True),
        "slow": Watcher(2.0, raising=False),
    }
    with serving(digits_cache, 3, pause=0.05) as endpoint:
        for name, watcher in watchers.items():
            config = OptimizationConfig(
                trials=TRIALS,
                sampler="random",
                max_epochs_per_trial=4,
                run_name=name,
                results_dir=str(tmp_path),
                cache_dir=str(digits_cache),
                gpu_price_per_second=PRICE,
            )

            def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
                local = LocalBackend(3, cache_dir, trainer="stand_in_trainers:make")
                return BothPlaces(local, backend_on(endpoint, at_once=3))

            with caplog.at_level(logging.ERROR):
                summary = ModelOptimizer(config, progress_callback=watcher, make_backend=make).run()
            assert summary.trials["complete"] == TRIALS, summary.failures
            versions = [progress.version for progress in watcher.told]
            assert versions == sorted(versions)
            for progress in watcher.told:
                assert progress.queued + progress.running + progress.ended == TRIALS
                assert len(progress.rows) == progress.running
            assert watcher.told[-1].completed == TRIALS
            records = [json.loads(path.read_text("utf-8")) for path in sorted((tmp_path / name / "trials").iterdir())]
            assert [record["backend"] for record in records] == ["local", "runpod"] * 12
            assert all((record["cost"] > 0) == (record["backend"] == "runpod") for record in records)
            assert summary.cost == pytest.approx(sum(record["cost"] for record in records))
            assert summary.idle > 0
    assert [record.getMessage() for record in caplog.records] == ["the progress callback raised; the search goes on"]
