"""What a trial is suggested belongs to it: same seed, same study, whatever the workers, the timing or the kills."""

import gc
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage

from seedpod.errors import ConfigError, TrialCancelled
from seedpod.search.sampler import MAKERS, LaggedSampler, make_sampler
from seedpod.search.study import Trial
from studies import go_on, killed_at, proposed, restless, run, study_of, table, value_of

TRIALS = 24
SAMPLERS = [
    pytest.param(name, marks=pytest.mark.skipif(name == "gp" and find_spec("torch") is None, reason="needs torch"))
    for name in MAKERS
    if name != "grid"  # whose points are the proposals' business
]


def searched(name: str, jobs: int, *, lag: int = 8, seed: int = 7, trials: int = TRIALS) -> Any:
    study = study_of(None, make_sampler(name, seed, 5, lag))
    run(study, restless(jobs), trials=trials, jobs=jobs)
    return table(study)


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_study_at_any_number_of_jobs(name: str) -> None:
    """With random trial times, failing trials and a conditional space, 1, 2, 4, 6 and 8 jobs give one study."""
    alone = searched(name, 1)
    assert [row[0] for row in alone] == list(range(TRIALS))
    assert {row[2] for row in alone} == {"COMPLETE", "FAIL"}
    for jobs in (2, 4, 6, 8):
        assert searched(name, jobs) == alone, jobs


@pytest.mark.parametrize("lag", [1, 2, 3, 7])
def test_same_study_at_the_boundary_of_the_lag(lag: int) -> None:
    """As many jobs as the lag, and even more, give what one job gives."""
    alone = searched("tpe", 1, lag=lag)
    assert searched("tpe", lag, lag=lag) == alone
    assert searched("tpe", lag + 3, lag=lag) == alone


def test_lag_decides() -> None:
    """Another lag is another study as soon as the sampler has learned something, and the same one before."""
    first, second = searched("tpe", 1, lag=2), searched("tpe", 1, lag=8)
    assert first != second
    assert first[:5] == second[:5]


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_seeds_differ(name: str) -> None:
    """Another seed is another search but for trial 0, and within one search no two trials are drawn alike."""
    first, second = (searched(name, 1, seed=seed, trials=16) for seed in (1, 2))
    assert all(mine[1] != theirs[1] for mine, theirs in zip(first[1:], second[1:], strict=True))
    assert len({str(row[1]) for row in first}) == len(first)


def test_tpe_learns() -> None:
    """The lagged TPE gets better than random search on the same objective and seed."""
    means = {}
    for name in ("tpe", "random"):
        rows = searched(name, 4, trials=48)
        means[name] = sum(row[3] for row in rows[-20:] if row[3] is not None)
    assert means["tpe"] > means["random"]


def test_trials_in_between_count_as_running() -> None:
    """Trial k sees trials 0 to k - lag as they ended, and those up to k - 1 as running with their parameters alone."""
    seen: dict[int, list[tuple[int, str, bool]]] = {}

    class Recording(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            shown = study.get_trials(deepcopy=False)
            seen[trial.number] = [(t.number, t.state.name, t.value is None) for t in shown]
            assert all(t.params for t in shown)

    study = study_of(None, LaggedSampler(Recording, 1, 3))
    run(study, lambda trial: value_of(proposed(trial)), trials=8, jobs=2)
    for number, shown in seen.items():
        assert [row[0] for row in shown] == list(range(number))
        assert [row[1] for row in shown] == ["COMPLETE" if n <= number - 3 else "RUNNING" for n in range(number)]
        assert all(none == (state == "RUNNING") for _, state, none in shown)


@pytest.mark.parametrize("name", ["gp", "cmaes"])
def test_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler whose package is not installed says which one it is and how to get it."""
    package = {"gp": "torch", "cmaes": "cmaes"}[name]
    monkeypatch.setitem(sys.modules, package, None)  # as an import of it would find
    with pytest.raises(ConfigError, match=f"sampler={name} needs {package}, not installed"):
        make_sampler(name, 1, 1, 8)


def test_reseeding_changes_nothing() -> None:
    """Optuna's reseeding before trials of its thread pool leaves the draws as they are."""
    alone = searched("tpe", 1)
    study = study_of(None, make_sampler("tpe", 7, 5, 8))
    objective = restless(1)

    def reseeding(trial: Trial) -> float:
        study.sampler.reseed_rng()
        return objective(trial)

    run(study, reseeding, trials=TRIALS)
    assert table(study) == alone


def test_waiting_ends_with_what_it_waits_for() -> None:
    """A trial beyond the lag starts with the end of the one it waits for, and not before."""
    study = study_of(None, make_sampler("random", 1, 1, 1))
    first = study.ask()
    proposed(first)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(study.ask)
        time.sleep(0.1)
        assert not second.done()
        study.tell(first, 0.5)
        second.result(10)


@pytest.mark.parametrize("jobs", [2, 6])
def test_stop_ends_all_waiting(jobs: int) -> None:
    """``stop`` ends every wait at once, with TrialCancelled, and lets nobody begin to wait."""
    sampler = make_sampler("random", 1, 1, 1)
    assert isinstance(sampler, LaggedSampler)
    study = study_of(None, sampler)
    proposed(study.ask())
    with ThreadPoolExecutor(jobs) as threads:
        waiting = [threads.submit(study.ask) for _ in range(jobs)]
        time.sleep(0.1)
        assert not any(each.done() for each in waiting)
        sampler.stop()
        for each in waiting:
            with pytest.raises(TrialCancelled):
                each.result(10)
    with pytest.raises(TrialCancelled):
        study.ask()


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_inner_samplers_are_dropped(name: str) -> None:
    """After its trials, failed ones included, the sampler holds none of theirs: memory does not grow."""
    study = study_of(None, make_sampler(name, 1, 4, 8))
    gc.collect()
    before = Counter(type(each).__name__ for each in gc.get_objects())
    run(study, restless(1), trials=20, jobs=2)
    gc.collect()
    after = Counter(type(each).__name__ for each in gc.get_objects())
    for kind in ("TPESampler", "RandomSampler", "LazyRandomState", "StudyView"):
        assert after[kind] <= before[kind], kind


def test_asynchronous_sampler_is_optunas_own() -> None:
    """Without a lag the sampler is Optuna's, which learns from whatever has ended."""
    assert isinstance(make_sampler("tpe", 1, 4, None), optuna.samplers.TPESampler)
    assert isinstance(make_sampler("random", 1, 4, None), optuna.samplers.RandomSampler)


@cache
def undisturbed() -> Any:
    return searched("tpe", 1)


def with_kills(kept: Path | InMemoryStorage, moments: list[int], jobs: list[int]) -> Any:
    dying = killed_at(moments)
    for at_once in jobs:
        study = study_of(kept, make_sampler("tpe", 7, 5, 8))
        go_on(study, dying(restless(at_once, 0.001)), TRIALS, at_once)
    return table(study)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), max_size=5), st.lists(st.sampled_from([1, 2, 4]), min_size=7, max_size=7))
def test_kills_change_nothing(moments: list[int], jobs: list[int]) -> None:
    """A study that is killed at any moments, with half suggested trials, and goes on with any jobs ends the same."""
    assert with_kills(InMemoryStorage(), moments, jobs) == undisturbed()


def test_kills_change_nothing_in_a_journal(tmp_path: Path) -> None:
    """The same through the journal, where every start reads the study from the file."""
    assert with_kills(tmp_path / "j", [3, 11, 12], [4, 2, 4, 1]) == undisturbed()


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_no_deadlock_where_a_trial_has_a_bug(jobs: int) -> None:
    """A bug in the trial that all others wait for ends the search at once, at any number of jobs."""
    study = study_of(None, make_sampler("tpe", 1, 1, 1))

    def objective(trial: Trial) -> float:
        proposed(trial)
        time.sleep(0.05)  # the others are waiting by then
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(study, objective, trials=20, jobs=jobs)
