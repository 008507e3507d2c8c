"""A trial is judged epoch by epoch, however its epochs come to be known."""

import random
from collections.abc import Callable

import pytest

from seedpod.errors import TrialPruned
from seedpod.search.judging import Judge
from seedpod.search.pruner import make_pruner
from seedpod.search.sampler import make_sampler
from seedpod.search.study import Trial
from studies import proposed, run, study_of

LAG, EPOCHS, TRIALS = 4, 9, 24
Hear = Callable[[Judge, list[float | None]], None]


def one_by_one(judge: Judge, curve: list[float | None]) -> None:
    for epoch in range(1, len(curve) + 1):
        judge.heard(curve[:epoch])


def at_the_end(judge: Judge, curve: list[float | None]) -> None:
    judge.heard(curve)


def now_and_then(judge: Judge, curve: list[float | None]) -> None:
    """Twice, late and with gaps."""
    chance = random.Random(len(curve))
    for epoch in [*sorted(chance.choices(range(len(curve) + 1), k=5)), 2, len(curve)]:
        judge.heard(curve[:epoch])
        judge.heard(curve[: epoch // 2])


def searched(pruner: str, hear: Hear, jobs: int = 1) -> list[tuple[object, ...]]:
    study = study_of(None, make_sampler("tpe", 3, 5, LAG))
    study.pruner = make_pruner(pruner, (1, EPOCHS), LAG)

    def objective(trial: Trial) -> float:
        proposed(trial)
        chance = random.Random(trial.number)
        end = chance.random()
        curve: list[float | None] = [end * min(1, (epoch + 1) / 3) + chance.random() / 20 for epoch in range(EPOCHS)]
        if trial.number == 7:
            curve[3] = None
        hear(Judge(trial), curve)
        return end

    run(study, objective, trials=TRIALS, jobs=jobs)
    return [(t.number, t.params, t.state.name, t.value, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize("pruner", ["hyperband", "asha", "median", "patient"])
def test_same_decisions_however_epochs_are_heard_of(pruner: str) -> None:
    """Epochs told in turn, all at the end, or late, twice and with gaps, with 1 or 4 trials at once: one study."""
    expected = searched(pruner, one_by_one)
    assert {row[2] for row in expected} == {"COMPLETE", "PRUNED"}
    for hear in (at_the_end, now_and_then):
        for jobs in (1, 4):
            assert searched(pruner, hear, jobs) == expected, (hear, jobs)


def test_none_prunes_nothing_and_the_study_knows_the_curves() -> None:
    """pruner=none ends no trial; every epoch that has a number is in the study, for Optuna's own plots."""
    rows = searched("none", at_the_end)
    assert {row[2] for row in rows} == {"COMPLETE"}
    assert [len(row[4]) for row in rows] == [8 if number == 7 else 9 for number in range(TRIALS)]  # type: ignore[arg-type]


def test_pruned_where_it_was_decided() -> None:
    """The judge knows at which epoch the trial ended and what it had shown by then, and nothing of what came after."""
    study = study_of(None, make_sampler("random", 1, 1, None))
    study.pruner = make_pruner("asha", (1, EPOCHS), None)
    ended: list[tuple[float | None, ...]] = []

    def objective(trial: Trial) -> float:
        judge = Judge(trial)
        level = 1 - trial.number / 10
        try:
            judge.heard([level] * EPOCHS)
        except TrialPruned:
            ended.append(judge.values)
            raise
        return level

    run(study, objective, trials=4)
    assert ended
    assert all(0 < len(values) < EPOCHS for values in ended)
