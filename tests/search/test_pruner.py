"""A pruner's decisions belong to their trial: the same study and the same prunings at any number of jobs."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from seedpod.errors import TrialCancelled, TrialPruned
from seedpod.search.attempts import begin_again, report
from seedpod.search.pruner import LaggedPruner
from seedpod.search.sampler import make_sampler
from seedpod.search.study import Trial, left_to_run, take_up_open
from studies import proposed, run, study_of, value_of

LAG, STEPS, TRIALS = 6, 9, 30

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: MedianPruner(n_startup_trials=3, n_warmup_steps=1),
    "halving": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "halving auto": SuccessiveHalvingPruner,
    "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=STEPS, reduction_factor=3),
    "hyperband auto": HyperbandPruner,
}


def searched(pruner: BasePruner, jobs: int, storage: BaseStorage | None = None) -> list[tuple[Any, ...]]:
    study = study_of(storage, make_sampler("tpe", 3, 5, LAG))
    study.pruner = pruner
    chance = random.Random(jobs)

    def objective(trial: Trial) -> float:
        value = value_of(proposed(trial))
        for step in range(STEPS):
            time.sleep(chance.uniform(0, 0.0015))
            trial.report(value * (step + 1) / STEPS + ((trial.number * 7 + step) % 5) / 100, step)
            if trial.should_prune():
                raise TrialPruned("enough")
        return value

    run(study, objective, trials=TRIALS, jobs=jobs)
    return [(t.number, t.params, t.state.name, t.value, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize("name", PRUNERS)
def test_same_prunings_at_any_number_of_jobs(name: str) -> None:
    """Median, successive halving and Hyperband prune the same trials at the same steps with 1, 2, 4 and 6 jobs."""
    alone = searched(LaggedPruner(PRUNERS[name], LAG), 1)
    assert {row[2] for row in alone} == {"COMPLETE", "PRUNED"}
    for jobs in (2, 4, 6):
        assert searched(LaggedPruner(PRUNERS[name], LAG), jobs) == alone, jobs


class SlowToEnd(InMemoryStorage):
    """A storage that takes its time to note the end of a trial."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state.is_finished():
            time.sleep(0.05)
        return super().set_trial_state_values(trial_id, state, values)


def test_slow_storage_changes_no_pruning() -> None:
    """Where a storage notes a trial's end long after the next one has begun, the study is the same one."""
    alone = searched(LaggedPruner(PRUNERS["halving"], LAG), 1)
    assert searched(LaggedPruner(PRUNERS["halving"], LAG), LAG + 2, SlowToEnd()) == alone


def test_decision_sees_the_lagged_trials_alone() -> None:
    """A pruner is shown trials 0 to k - lag, all ended, in order, with their intermediate values, and nothing else."""
    seen: dict[int, list[int]] = {}

    class Recording(BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            shown = study.get_trials(deepcopy=False)
            assert all(t.state.is_finished() and len(t.intermediate_values) == STEPS for t in shown)
            seen[trial.number] = [t.number for t in shown]
            return False

    searched(LaggedPruner(Recording, LAG), 4)
    assert seen == {number: list(range(max(0, number - LAG + 1))) for number in range(TRIALS)}


def interrupted(pruner: BasePruner, killed: dict[int, int], jobs: int) -> list[tuple[Any, ...]]:
    """The search of ``searched`` whose trials are begun anew: first attempts end at the given step, by number.

    Odd ones lose their worker and go on in the same process; even ones end it, and another one takes them up. What the
    first attempts report is far too good, or far too bad: wherever it counted, decisions would differ.
    """
    study = study_of(None, make_sampler("tpe", 3, 5, LAG))
    study.pruner = pruner
    left = dict(killed)

    def objective(trial: Trial) -> float:
        value = value_of(proposed(trial))
        if trial.number in left:
            last = left.pop(trial.number)
            for step in range(last):
                report(trial, 100.0 if trial.number % 4 < 2 else -100.0, step)
                trial.should_prune()
            if trial.number % 2 == 0:
                raise TrialCancelled("killed")
            begin_again(trial)
        for step in range(STEPS):
            report(trial, value * (step + 1) / STEPS + ((trial.number * 7 + step) % 5) / 100, step)
            if trial.should_prune():
                raise TrialPruned("enough")
        return value

    for _ in range(len(killed) + 1):
        if any(not trial.state.is_finished() for trial in study.trials) or len(study.trials) < TRIALS:
            take_up_open(study, {}, lambda _: False)
            study.sampler = make_sampler("tpe", 3, 5, LAG)
            with suppress(TrialCancelled):
                run(study, objective, trials=left_to_run(study, TRIALS), jobs=jobs)
    assert not left
    return [(t.number, t.params, t.state.name, t.value) for t in study.trials]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("name", PRUNERS)
def test_attempts_that_did_not_end_decide_nothing(name: str, jobs: int) -> None:
    """Trials that are killed, or lose their worker, after any step and run again prune as if that had never been."""
    killed = {3: 1, 6: STEPS, 7: STEPS, 12: 4, 13: 5, 20: 2, 25: STEPS}
    alone = [row[:4] for row in searched(LaggedPruner(PRUNERS[name], LAG), 1)]
    assert interrupted(LaggedPruner(PRUNERS[name], LAG), killed, jobs) == alone


def test_pruner_without_its_sampler_is_a_bug() -> None:
    """A lag that is shorter than the sampler's is seen, and not by a study that differs."""
    study = study_of(None, make_sampler("random", 1, 1, None))
    study.pruner = LaggedPruner(MedianPruner, 1, patience=0.1)
    proposed(study.ask())
    second = study.ask()
    second.report(0.5, 1)
    with pytest.raises(AssertionError, match="trial 1 is judged before trial 0 has ended"):
        second.should_prune()
