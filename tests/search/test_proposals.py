"""What each trial tries: known-good first, then what was enqueued, nothing twice, and an end where nothing is left."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from seedpod.config import OptimizationConfig, load
from seedpod.errors import ConfigError
from seedpod.search.enqueued import place, read_enqueued
from seedpod.search.proposals import Proposals
from seedpod.search.sampler import MAKERS, make_sampler
from seedpod.search.space import Images, Params, SearchSpace
from seedpod.search.space_file import read_definition
from seedpod.search.study import Trial, suggest
from seedpod.trial import canonical_json
from studies import half_suggest, proposed, run, study_of, table

SIX = "kernel_size: [3, 5]\nactivation: [relu, gelu, swish]\n"
CONDITIONAL = """
optimizer: [adam, sgd]
momentum: {values: 0.8..0.95:0.05, when: {optimizer: sgd}}
dense_layers: 0..2
dense_units: 32..96:32
"""
IMAGES = Images((8, 8, 1), 1000, (1, 3))
NAMES = [name for name in MAKERS if name != "gp"]


@pytest.fixture(name="six")
def six_points(tmp_path: Path) -> SearchSpace:
    return space_of(tmp_path, SIX)


def space_of(folder: Path, text: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return SearchSpace(read_definition(OptimizationConfig(search_space=str(path))), IMAGES)


def value_of(params: Params) -> float:
    """Some value that follows from all hyperparameters."""
    return sum(canonical_json(params).encode()) % 997 / 997


def tried(proposals: Proposals, trial: Trial) -> float:
    return value_of(suggest(proposals, trial))


def searched(
    space: SearchSpace,
    name: str,
    jobs: int,
    *,
    trials: int = 20,
    lag: int | None = 4,
    enqueued: tuple[Params, ...] = (),
) -> list[Any]:
    """The rows of a search with its own proposals."""
    proposals = Proposals(space, sampler=name, seed=7, trials=trials, enqueued=enqueued)
    study = study_of(None, make_sampler(name, 7, 3, lag))
    total = trials if proposals.total is None else min(trials, proposals.total)
    run(study, partial(tried, proposals), trials=total, jobs=jobs)
    return table(study)


@pytest.mark.parametrize("name", NAMES)
def test_six_points_are_six_trials(six: SearchSpace, name: str) -> None:
    """Of a space of 6 points and 20 trials, each sampler trains each point once and ends; at 1 and 4 jobs alike."""
    alone = searched(six, name, 1)
    assert len(alone) == 6
    assert len({(row[1]["kernel_size"], row[1]["activation"]) for row in alone}) == 6
    assert searched(six, name, 4) == alone


@pytest.mark.parametrize("name", NAMES)
def test_nothing_twice_in_a_conditional_space(tmp_path: Path, name: str) -> None:
    """All 65 configurations of a conditional space come once, whatever the sampler proposes."""
    space = space_of(tmp_path, CONDITIONAL)
    rows = searched(space, name, 2, trials=200)
    assert len(rows) == (1 + 4) * (1 + 3 + 9)
    assert len({canonical_json(space.complete(row[1])) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_twice_without_a_lag(six: SearchSpace, name: str) -> None:
    """Asynchronous searches try nothing twice either, one trial at a time."""
    rows = searched(six, name, 1, lag=None)
    assert len({str(row[1]) for row in rows}) == len(rows) == 6


def test_first_trials(tmp_path: Path) -> None:
    """Trial 0 is the sensible choice, then come those enqueued, each once, and the sensible one not again."""
    space = space_of(tmp_path, CONDITIONAL)
    sgd, _ = space.placed({"optimizer": "sgd", "momentum": 0.85, "dense_layers": 1})
    for name in NAMES:
        rows = searched(space, name, 4, enqueued=(sgd, space.sensible(), sgd))
        assert space.complete(rows[0][1]) == space.sensible()
        assert space.complete(rows[1][1]) == sgd
        assert len({canonical_json(space.complete(row[1])) for row in rows}) == len(rows) == 20


def test_grid_is_every_point(tmp_path: Path) -> None:
    """A grid is a space's points and five values of each endless range, in an order that the seed decides."""
    space = space_of(tmp_path, "learning_rate: 1e-4..1e-2:log\nkernel_size: [3, 5]\n")
    rows = searched(space, "grid", 3)
    assert len(rows) == 1 + 10  # the sensible choice is none of them
    assert {row[1]["learning_rate"] for row in rows[1:]} == {1e-4, 3.162e-4, 1e-3, 3.162e-3, 1e-2}
    with pytest.raises(ConfigError, match="sampler=grid: this search space has more than 10,000 points"):
        Proposals(SearchSpace(read_definition(OptimizationConfig()), IMAGES), sampler="grid")


def test_a_killed_search_goes_on_to_the_same_end(six: SearchSpace) -> None:
    """Trials that another start of the search has run are not run again by the next one."""
    storage = InMemoryStorage()
    for total in (2, 5, 6):
        study = study_of(storage, make_sampler("tpe", 7, 3, 4))
        proposals = Proposals(six, seed=7, trials=20)
        left = total - len(study.trials)
        run(study, partial(tried, proposals), trials=left, jobs=2)
    assert table(study) == searched(six, "tpe", 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("- {kernel_size: 5}\n- {activation: gelu, kernel_size: 3}\n", 2),
        ('[{"kernel_size": 5, "activation": "swish"}]', 1),
        ("kernel_size: 5\n", 1),
        ("trial: 3\nval_accuracy: 0.9\nparams: {kernel_size: 5, activation: gelu}\n", 1),
    ],
)
def test_what_can_be_enqueued(six: SearchSpace, tmp_path: Path, text: str, count: int) -> None:
    """A list of sets in YAML or JSON, one set, and the best.yaml of an earlier run."""
    path = tmp_path / "first"
    path.write_text(text, encoding="utf-8")
    found = place(read_enqueued(OptimizationConfig(enqueue=str(path))), six, "first")
    assert len(found) == count
    assert {params["kernel_size"] for params in found} <= {3, 5}


def test_a_run_is_enqueued_by_folder_or_name(six: SearchSpace, tmp_path: Path) -> None:
    """The best of a run, by its folder's path, or by its name in results_dir."""
    folder = tmp_path / "results" / "earlier"
    folder.mkdir(parents=True)
    (folder / "best.yaml").write_text("params:\n  kernel_size: 5\n  epochs: 99\n", encoding="utf-8")
    by_path = read_enqueued(OptimizationConfig(enqueue=str(folder)))
    by_name = read_enqueued(OptimizationConfig(enqueue="earlier", results_dir=str(tmp_path / "results")))
    assert by_path == by_name == [{"kernel_size": 5, "epochs": 99}]
    placed = place(by_path, six, "")[0]
    assert (placed["kernel_size"], placed["epochs"]) == (5, 3)  # as long as this run's trials


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {kernel_size: 4}", "enqueue=FILE: set 1: kernel_size: 4 is none of the values that are searched, 3,5"),
        ("- {}\n- {dropout: 0.5}", "set 2: dropout: 0.5 is none of the values that are searched, 0.25"),
        ("- {kernelsize: 3}", "set 1, line 1: kernelsize: there is no such hyperparameter. Did you mean kernel_size?"),
        ("- {filters: 3}", "filters: there is one for each layer; name each, such as filters_0"),
        ("- {kernel_size: 1..9}", "kernel_size: one value is tried at a time"),
        ("- {kernel_size: [3, 5]}", "one value is tried at a time"),
        ("- kernel_size", ":1: it must be a list of sets"),
        ("", "it must be a list of sets"),
        ("a: [", "this is not valid YAML"),
    ],
)
def test_mistakes_in_what_is_enqueued(six: SearchSpace, tmp_path: Path, text: str, said: str) -> None:
    """A set that is no use is refused with its number, the hyperparameter and what is searched."""
    path = tmp_path / "first"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        place(read_enqueued(OptimizationConfig(enqueue=str(path))), six, "FILE")
    assert said in str(caught.value)


def test_enqueued_file_that_is_not_there() -> None:
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"enqueue=nowhere\.yaml: there is no such file"):
        read_enqueued(OptimizationConfig(enqueue="nowhere.yaml"))


def test_assignments_of_all_layers(tmp_path: Path) -> None:
    """Each name is a key of its own: the command line adds to the file's, and wins over it."""
    (tmp_path / "c.yaml").write_text("fix: [dropout=0.1, pooling=max]\nspace: [optimizer=adam]\n", encoding="utf-8")
    arguments = [f"config={tmp_path / 'c.yaml'}", "fix.dropout=0.2", "space.filters=8..16", "fix.residual=true"]
    config = load(arguments, {"SEEDPOD_FIX": "pooling=average"}).config
    assert config.fix == ("dropout=0.2", "pooling=average", "residual=true")
    assert config.space == ("filters=8..16", "optimizer=adam")
    with pytest.raises(ConfigError, match=r"fix.dropout is given twice; keep one"):
        load(["fix.dropout=0.1", "fix.dropout=0.2"], {})


class Stubborn(RandomSampler):
    """Proposes the same for every trial."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, values: BaseDistribution) -> Any:
        return RandomSampler(self._seed).sample_independent(study, trial, name, values)


def test_half_suggested_trial_is_not_remembered_by_its_half() -> None:
    """What another optimizer of a shared study was about to try, when this one last looked, is not tried again.

    Without a lag: with one, nobody proposes before the trials below are suggested whole.
    """
    storage = InMemoryStorage()
    theirs, ours = study_of(storage, Stubborn(2)), study_of(storage, Stubborn(1))
    first = theirs.ask()
    proposed(first)
    theirs.tell(first, 0.5)
    second, third = ours.ask(), theirs.ask()
    half_suggest(third)
    assert 0 < len(third.params) < len(first.params)
    proposed(second)  # looks, because it does not know the first one
    tried_by_them = proposed(third)
    theirs.tell(third, 0.5)
    ours.tell(second, 0.5)
    ours.sampler = Stubborn(2)
    assert proposed(ours.ask()) != tried_by_them
