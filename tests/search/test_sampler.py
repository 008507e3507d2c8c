"""Draws belong to their trial: one seed, the same study, whatever the threads do."""

import gc
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend

from seedpod.errors import Cause, TrainingError
from seedpod.search.sampler import SeededSampler, make_sampler
from seedpod.search.space import SearchSpace
from seedpod.search.study import optimize
from seedpod.trial import check_value

optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = SearchSpace((8, 8, 1), 1000, (2, 9))


def never() -> bool:
    return False


def search(sampler: optuna.samplers.BaseSampler, jobs: int = 1, trials: int = 16) -> dict[int, dict[str, Any]]:
    """Params by trial number of a search whose trials end out of order."""

    def objective(trial: optuna.Trial) -> float:
        params = SPACE.suggest(trial)
        time.sleep(0.003 * ((trial.number * 7) % 3) * (jobs > 1))
        if trial.number % 5 == 3:
            raise TrainingError("does not fit", cause=Cause.TOO_LARGE)
        return check_value(1 / (1 + float(params["learning_rate"]) + int(params["conv_layers"])))

    study = optuna.create_study(direction="maximize", sampler=sampler)
    optimize(study, objective, trials=trials, jobs=jobs, timeout=None, stopping=never)
    return {trial.number: trial.params for trial in study.trials}


def test_random_draws_do_not_depend_on_the_threads() -> None:
    """With the random sampler, equal trial numbers get equal parameters at 1, 2 and 4 jobs."""
    alone = search(make_sampler("random", 7, 5))
    assert len(alone) == 16
    assert search(make_sampler("random", 7, 5), jobs=2) == alone
    assert search(make_sampler("random", 7, 5), jobs=4) == alone


def test_tpe_is_reproducible_one_at_a_time() -> None:
    """Two TPE searches of one seed are equal, trial by trial, also past the random start."""
    assert search(make_sampler("tpe", 7, 5)) == search(make_sampler("tpe", 7, 5))


def test_tpe_starts_with_the_same_random_trials_at_any_number_of_jobs() -> None:
    """Before TPE learns, equal trial numbers get equal parameters whatever the number of jobs."""
    alone = search(make_sampler("tpe", 7, 16), trials=8)
    assert search(make_sampler("tpe", 7, 16), jobs=4, trials=8) == alone


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_seeds_differ(name: str) -> None:
    """Another seed is another search, and within one search no two trials are drawn alike."""
    first, second = (search(make_sampler(name, seed, 10)) for seed in (1, 2))
    assert all(first[number] != second[number] for number in first)
    assert len({str(params) for params in first.values()}) == len(first)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=4, max_size=4))
def test_reseeding_changes_nothing(seed: int, reseed: list[bool]) -> None:
    """Optuna's reseeding before trials of its thread pool, at whichever moments, leaves the draws as they are."""

    def draws(reseed: list[bool]) -> list[dict[str, Any]]:
        sampler = make_sampler("random", seed, 1)
        study = optuna.create_study(sampler=sampler)
        found = []
        for now in reseed:
            if now:
                sampler.reseed_rng()
            found.append(SPACE.suggest(study.ask()))
        return found

    assert draws(reseed) == draws([False] * 4)


def test_random_draws_do_not_depend_on_earlier_results() -> None:
    """A trial's draw is the same whether the trials before it were told or are still running."""
    sampler = make_sampler("random", 3, 1)
    study = optuna.create_study(sampler=sampler)
    open_trials = [SPACE.suggest(study.ask()) for _ in range(5)]
    assert [search(make_sampler("random", 3, 1), trials=5)[number] for number in range(5)] == open_trials


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_inner_samplers_are_dropped(name: str) -> None:
    """After its trials, failed ones included, the sampler holds none of theirs: memory does not grow."""
    sampler = make_sampler(name, 1, 4)
    assert isinstance(sampler, SeededSampler)
    gc.collect()
    before = Counter(type(each).__name__ for each in gc.get_objects())
    search(sampler, jobs=2, trials=20)
    gc.collect()
    after = Counter(type(each).__name__ for each in gc.get_objects())
    for kind in ("TPESampler", "RandomSampler", "LazyRandomState"):
        assert after[kind] <= before[kind], kind


def test_draws_survive_a_restart(tmp_path: Path) -> None:
    """A search that goes on in a new process, with a new sampler, draws what it would have drawn."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    found = []
    for _ in range(4):
        study = optuna.create_study(
            study_name="s", storage=storage, load_if_exists=True, sampler=make_sampler("random", 3, 1)
        )
        found.append(SPACE.suggest(study.ask()))
    assert [search(make_sampler("random", 3, 1), trials=4)[number] for number in range(4)] == found
