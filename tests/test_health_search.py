"""Searches for the objective and the health together, over trials that train nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seedpod.config import OptimizationConfig
from seedpod.errors import ConfigError
from seedpod.events import Summary
from seedpod.health import COMPONENTS, Health
from seedpod.optimizer import ModelOptimizer
from seedpod.trial import TrialResult
from stand_in_trainers import value_of
from thread_backend import ThreadBackend, Train, stand_in


def configure(folder: Path, cache_dir: Path, **settings: Any) -> OptimizationConfig:
    known = {"trials": 12, "mode": "health", "health_weight": 0.8, "pruner": "none", "run_name": "r"}
    places = {"results_dir": str(folder / "results"), "cache_dir": str(cache_dir)}
    return OptimizationConfig(**{**known, "max_epochs_per_trial": 2, **places, **settings})


def with_health(*arguments: Any) -> TrialResult:
    """A trial whose health is the better the worse its value is."""
    result = stand_in(*arguments)
    return replace(result, health=Health(dict.fromkeys(COMPONENTS, 1 - value_of(arguments[0]))))


def search(config: OptimizationConfig, train: Train = with_health) -> Summary:
    make = lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers)  # noqa: ARG005, E731 - the protocol's names
    return ModelOptimizer(config, make_backend=make).run()


def records(config: OptimizationConfig) -> dict[int, dict[str, Any]]:
    paths = (Path(config.results_dir) / "r" / "trials").iterdir()
    return {record["number"]: record for record in (json.loads(path.read_text("utf-8")) for path in paths)}


def told(config: OptimizationConfig) -> dict[int, float | None]:
    storage = JournalStorage(JournalFileBackend(str(Path(config.results_dir) / "r" / "study.journal")))
    return {trial.number: trial.value for trial in optuna.load_study(study_name="r", storage=storage).trials}


@pytest.mark.parametrize(("mode", "weight"), [("health", 0.8), ("health", 0.0), ("simple", 0.8)])
def test_both_count(tmp_path: Path, digits_cache: Path, mode: str, weight: float) -> None:
    """The study is told (1 - weight) of the value and weight of the health, by which the best and the worst trial are
    chosen; the records keep both apart. Under mode=simple the value alone counts, and the health is reported.
    """
    config = configure(tmp_path, digits_cache, mode=mode, health_weight=weight)
    summary = search(config)
    found, counts = records(config), weight if mode == "health" else 0.0
    both = {n: (1 - counts) * r["value"] + counts * r["health"]["overall"] for n, r in found.items()}
    assert told(config) == pytest.approx(both)
    assert all(r["values"] == {"val_accuracy": r["value"]} for r in found.values())
    assert all(r["health"]["overall"] == pytest.approx(1 - r["value"]) for r in found.values())
    best, worst = max(both, key=lambda n: both[n]), min(both, key=lambda n: both[n])
    assert summary.best is not None
    assert summary.best.spec.number == best
    assert [(each.which, each.trial.spec.number) for each in summary.advice] == [("best", best), ("worst", worst)]
    folder = Path(config.results_dir) / "r"
    written = yaml.safe_load((folder / "best.yaml").read_text("utf-8"))
    assert (written["val_accuracy"], written["health"]) == (found[best]["value"], found[best]["health"]["overall"])
    advice = json.loads((folder / "summary.json").read_text("utf-8"))["advice"]
    assert [(each["which"], each["trial"]) for each in advice] == [("best", best), ("worst", worst)]
    assert all(bool(each["lines"]) == (each["health"] < 0.75) for each in advice)


def test_no_health_no_trial(tmp_path: Path, digits_cache: Path) -> None:
    """A trial that brings no health fails where health is asked for, and by name."""
    summary = search(configure(tmp_path, digits_cache, trials=2), stand_in)
    (group,) = summary.failures
    assert (group.cause, group.count) == ("bad_value", 2)
    assert "no health, by which mode=health judges" in group.message
    assert summary.advice == ()


def test_goes_on(tmp_path: Path, digits_cache: Path) -> None:
    """A search that goes on tells what it would have told in one go, and refuses another weight by name."""
    whole, parts = (configure(tmp_path / name, digits_cache, trials=8) for name in ("whole", "parts"))
    search(whole)
    search(replace(parts, trials=4))
    search(parts)
    assert told(parts) == told(whole)
    with pytest.raises(ConfigError, match=r"health_weight=0.5: run r was begun with health_weight=0.8"):
        search(replace(parts, health_weight=0.5))


def test_pruned_trials_have_none(tmp_path: Path, digits_cache: Path) -> None:
    """Pruned trials have no health, all others do."""
    config = configure(tmp_path, digits_cache, trials=30, pruner="asha", max_epochs_per_trial=4)
    search(config)
    statuses = {n: r["status"] for n, r in records(config).items()}
    assert "pruned" in statuses.values()
    assert all((r["health"] is None) == (r["status"] == "pruned") for r in records(config).values())
