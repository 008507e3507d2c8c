"""Searches for other objectives than the accuracy, and for several, over trials that train nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seedpod.config import OptimizationConfig, load, to_yaml
from seedpod.errors import ConfigError
from seedpod.events import Summary
from seedpod.objectives import OBJECTIVES
from seedpod.optimizer import ModelOptimizer
from seedpod.trial import Report, TrialResult, TrialSpec
from thread_backend import ThreadBackend, Train, stand_in, wait_for_stop

Check = Callable[[], None]
BOTH = "val_accuracy,model_size"


def configure(folder: Path, cache_dir: Path, **settings: Any) -> OptimizationConfig:
    known = {
        "trials": 10,
        "startup_trials": 3,
        "search_lag": 3,
        "pruner": "none",
        "max_epochs_per_trial": 2,
        "run_name": "r",
    }
    return OptimizationConfig(
        **{**known, "results_dir": str(folder / "results"), "cache_dir": str(cache_dir), **settings}
    )


def search(config: OptimizationConfig, train: Train = stand_in) -> Summary:
    make = lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers)  # noqa: ARG005, E731 - the protocol's names
    return ModelOptimizer(config, make_backend=make).run()


def records(config: OptimizationConfig) -> list[dict[str, Any]]:
    paths = sorted((Path(config.results_dir) / "r" / "trials").iterdir())
    return [json.loads(path.read_text("utf-8")) for path in paths]


def table(config: OptimizationConfig) -> list[Any]:
    return [(r["number"], r["params"], r["status"], r["value"], r["values"]) for r in records(config)]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_best_goes_the_right_way(tmp_path: Path, digits_cache: Path, name: str) -> None:
    """For each objective the best trial is the one with the highest or lowest value, in summary, file and study."""
    config = configure(tmp_path, digits_cache, optimize_for=name)
    summary = search(config)
    found = {r["number"]: r["value"] for r in records(config)}
    ordered = sorted(found, key=lambda n: (found[n] if OBJECTIVES[name].better_is == "lower" else -found[n], n))
    assert summary.best is not None
    assert summary.best.spec.number == ordered[0]
    assert summary.front == ()
    folder = Path(config.results_dir) / "r"
    written = yaml.safe_load((folder / "best.yaml").read_text("utf-8"))
    assert (written["trial"], written[name]) == (ordered[0], found[ordered[0]])
    assert not (folder / "front.yaml").exists()
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    assert optuna.load_study(study_name="r", storage=storage).best_value == found[ordered[0]]


GP = pytest.param("gp", marks=pytest.mark.skipif(find_spec("torch") is None, reason="sampler=gp needs torch"))


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", GP])
def test_front_is_everywhere(tmp_path: Path, digits_cache: Path, sampler: str) -> None:
    """The front of two objectives is Optuna's, and the same in summary, summary.json, front.yaml and the event log."""
    config = configure(tmp_path, digits_cache, optimize_for=BOTH, sampler=sampler, trials=16, random_seed=3)
    summary = search(config)
    folder = Path(config.results_dir) / "r"
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    numbers = sorted(trial.number for trial in optuna.load_study(study_name="r", storage=storage).best_trials)
    assert len(numbers) > 1
    saved = json.loads((folder / "summary.json").read_text("utf-8"))
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]
    assert [trial.spec.number for trial in summary.front] == numbers
    assert [each["trial"] for each in saved["front"]] == numbers
    assert yaml.safe_load((folder / "front.yaml").read_text("utf-8")) == saved["front"]
    assert events[-1]["front"] == numbers
    assert events[0]["objectives"] == {"val_accuracy": "maximize", "model_size": "minimize"}
    told = {fact["trial"]: fact["values"] for fact in events if fact["event"] == "trial_finished"}
    assert told == {r["number"]: list(r["values"].values()) for r in records(config)}
    assert saved["best"]["val_accuracy"] == max(r["value"] for r in records(config))


@pytest.mark.parametrize(("sampler", "workers"), [("tpe", 2), ("tpe", 3), ("nsga2", 3)])
def test_front_is_the_same_at_any_number_of_workers(
    tmp_path: Path, digits_cache: Path, sampler: str, workers: int
) -> None:
    """Same seed, same trials and values of two objectives, whatever the number of workers; with nsga2 also in the
    generations behind the first one.
    """
    settings = {"optimize_for": BOTH, "sampler": sampler, "startup_trials": 4, "trials": 16}
    one = configure(tmp_path / "one", digits_cache, **settings)
    many = configure(tmp_path / "many", digits_cache, **settings, local_workers=workers)
    search(one)
    search(many)
    assert table(many) == table(one)


def test_front_goes_on(tmp_path: Path, digits_cache: Path) -> None:
    """A search of two objectives that was stopped and goes on ends with the trials and front of one that was not."""
    whole = configure(tmp_path / "whole", digits_cache, optimize_for=BOTH)
    parts = configure(tmp_path / "parts", digits_cache, optimize_for=BOTH, local_workers=2)
    undisturbed = search(whole)

    def until(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 7:
            optimizer.stop("interrupted")
            return wait_for_stop(spec, report, check)
        return stand_in(spec, report, check)

    make = lambda *, workers, cache_dir, jobs: ThreadBackend(until, workers)  # noqa: ARG005, E731 - the protocol's names
    optimizer = ModelOptimizer(parts, make_backend=make)
    assert optimizer.run().outcome == "interrupted"
    (Path(parts.results_dir) / "r" / "trials" / "0002.json").unlink()  # its record is lost; the study knows its values
    gone_on = search(parts)
    again = table(parts)
    assert again == table(whole)
    fronts = [[(t.spec.number, t.result.values) for t in each.front] for each in (gone_on, undisturbed)]
    assert fronts[0] == fronts[1]


@pytest.mark.parametrize("other", ["val_accuracy", "model_size,val_accuracy", "val_accuracy,val_loss"])
def test_run_does_not_go_on_for_other_objectives(tmp_path: Path, digits_cache: Path, other: str) -> None:
    """Other objectives, or another order of them, would be another study and are refused by name."""
    search(configure(tmp_path, digits_cache, optimize_for=BOTH, trials=2))
    with pytest.raises(ConfigError, match=f"optimize_for={other}: run r was begun with optimize_for={BOTH}"):
        search(configure(tmp_path, digits_cache, optimize_for=other, trials=2))


@pytest.mark.parametrize("wrong", [(1.5, 1.0), (0.5, -1.0), (0.5,), (0.5, 1.0, 2.0)])
def test_value_out_of_range_fails_its_trial(tmp_path: Path, digits_cache: Path, wrong: tuple[float, ...]) -> None:
    """A backend that answers a value that its objective cannot have, or too few or many, fails that trial alone."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        result = stand_in(spec, report, check)
        return replace(result, value=wrong[0], further=wrong[1:]) if spec.number == 1 else result

    config = configure(tmp_path, digits_cache, optimize_for=BOTH, trials=3)
    summary = search(config, train)
    assert (summary.trials["complete"], summary.trials["failed"]) == (2, 1)
    assert [(group.cause, group.example) for group in summary.failures] == [("bad_value", 1)]


def test_progress_out_of_range_is_no_value(tmp_path: Path, digits_cache: Path) -> None:
    """A value that is told during a trial and is none of its objective's becomes null in the event log."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        return stand_in(spec, lambda progress: report(replace(progress, value=7.0)), check)

    config = configure(tmp_path, digits_cache, trials=1)
    search(config, train)
    lines = (Path(config.results_dir) / "r" / "events.jsonl").read_text("utf-8").splitlines()
    told = [fact["value"] for fact in map(json.loads, lines) if fact["event"] == "trial_progress"]
    assert told
    assert set(told) == {None}


def test_hopeless_trials_are_pruned_and_no_failures(tmp_path: Path, digits_cache: Path) -> None:
    """A trial that its trainer gave up is pruned for board, study and record, with the reason, and is no failure."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        hopeless = spec.number % 2 == 1
        result = stand_in(replace(spec, params={**spec.params, "do": "hopeless"}) if hopeless else spec, report, check)
        return replace(result, number=spec.number)

    config = configure(tmp_path, digits_cache, max_failures=1, trials=8)
    summary = search(config, train)
    assert (summary.outcome, summary.trials["pruned"], summary.trials["failed"]) == ("done", 4, 0)
    assert summary.failures == ()
    assert [(group.cause, group.count, group.example) for group in summary.limits] == [("hopeless", 4, 1)]
    pruned = [r for r in records(config) if r["status"] == "pruned"]
    assert {r["error"]["cause"] for r in pruned} == {"hopeless"}
    assert all(r["history"] for r in pruned)
    storage = JournalStorage(JournalFileBackend(str(Path(config.results_dir) / "r" / "study.journal")))
    states = [trial.state.name for trial in optuna.load_study(study_name="r", storage=storage).trials]
    assert states == ["COMPLETE", "PRUNED"] * 4


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy"])
def test_pruner_goes_the_right_way(tmp_path: Path, digits_cache: Path, name: str) -> None:
    """The trials that are pruned end worse than the best one, where lower is better as where higher is."""
    given = {"pruner": "asha", "trials": 16, "max_epochs_per_trial": 8, "optimize_for": name}
    config = configure(tmp_path, digits_cache, **given)
    best = search(config).best
    assert best is not None
    assert best.result.value is not None
    shown = [r["history"][-1][name] for r in records(config) if r["status"] == "pruned"]
    assert shown
    assert not any(OBJECTIVES[name].better(value, best.result.value) for value in shown)


def test_several_objectives_are_never_pruned(tmp_path: Path, digits_cache: Path) -> None:
    """A pruner compares single values: of several objectives every trial trains to its end."""
    summary = search(configure(tmp_path, digits_cache, optimize_for=BOTH, pruner="asha", max_epochs_per_trial=8))
    assert summary.trials["complete"] == 10


@pytest.mark.parametrize("given", [BOTH, "[val_accuracy, model_size]", " Val_Accuracy , MODEL_SIZE"])
def test_several_are_read_as_people_write_them(given: str) -> None:
    """Several objectives are taken with commas, brackets and in any case, and written back as one text."""
    config = load([f"optimize_for={given}"], {}).config
    assert config.optimize_for == BOTH
    assert f"optimize_for: {BOTH}\n" in to_yaml(config)
    assert [objective.name for objective in config.objectives] == BOTH.split(",")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("val_acuracy", "Did you mean val_accuracy"),
        ("val_loss,val_loss", "names val_loss more than once"),
        ("[]", "must be one or more of"),
        ("val_loss,", "must be one or more of"),
    ],
)
def test_what_is_no_objective_is_refused(given: str, said: str) -> None:
    """A word that is no objective, one twice, and none at all are refused with what there is."""
    with pytest.raises(ConfigError, match=said):
        load([f"optimize_for={given}"], {})
