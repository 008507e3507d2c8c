"""What trials are judged by: ranges, directions, and the front of several."""

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection

import samples
from seedpod.board import TrialBoard
from seedpod.errors import Cause, TrainingError
from seedpod.objectives import OBJECTIVES, checked, dominates, guide_of, objectives_of
from seedpod.trial import Status, TrialResult

HUGE = 10**400
NO_VALUES: list[Any] = [math.nan, math.inf, -math.inf, "0.98", None, -0.1, True, False, [], {}, HUGE]
EVERY = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=str)
BOTH = ("val_accuracy", "model_size")


@EVERY
@pytest.mark.parametrize("value", NO_VALUES, ids=lambda x: repr(x)[:12])
def test_no_such_thing_becomes_a_value(objective: Any, value: object) -> None:
    """NaN, infinity, text, null, truth values and negative numbers are no value of any objective, which is named."""
    with pytest.raises(TrainingError, match=f"as its {objective.name}; it must be a number") as caught:
        objective.check(value)
    assert caught.value.cause is Cause.BAD_VALUE


@pytest.mark.parametrize("name", ["val_accuracy", "macro_f1", "balanced_accuracy"])
def test_a_share_is_at_most_one(name: str) -> None:
    """What is a share of something ends at 1."""
    assert OBJECTIVES[name].check(1) == 1.0
    with pytest.raises(TrainingError, match="from 0 to 1"):
        OBJECTIVES[name].check(1.0000001)


@pytest.mark.parametrize("values", [(0.5,), (0.5, 1.0, 2.0), ()])
def test_a_value_for_each_objective(values: tuple[float, ...]) -> None:
    """More or fewer values than objectives are refused, and told with the objectives' names."""
    with pytest.raises(TrainingError, match=f"{len(values)} values where it was asked for val_accuracy, model_size"):
        checked(objectives_of(BOTH), values)


@EVERY
def test_better_goes_the_objective_s_way(objective: Any) -> None:
    """Of two values the better one is higher or lower, as the objective says; none is better than itself."""
    assert objective.better(0.5, 0.25) == (objective.better_is == "higher")
    assert objective.better(0.25, 0.5) == (objective.better_is == "lower")
    assert not objective.better(0.5, 0.5)


def test_best_epoch_s_guide() -> None:
    """A trial's best epoch goes by the first objective that is known each epoch, or by the accuracy."""
    assert guide_of(objectives_of(("model_size", "val_loss", "macro_f1"))).name == "val_loss"
    assert guide_of(objectives_of(("model_size", "training_time"))).name == "val_accuracy"


_few = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few, so that many are equal


@given(st.permutations([name for name in OBJECTIVES if name != "training_time"]), st.data())
def test_front_is_optuna_s(names: list[str], data: st.DataObject) -> None:
    """The board's front is Optuna's best_trials, in any order of the trials' ends, and its best trial is on it."""
    chosen = tuple(names[: data.draw(st.integers(2, 4))])
    values = data.draw(st.lists(st.tuples(*[_few] * len(chosen)), min_size=1, max_size=12))
    directions = [StudyDirection[objective.direction.name] for objective in objectives_of(chosen)]
    study = optuna.create_study(directions=directions)
    for each in values:
        study.tell(study.ask(), list(each))
    board = TrialBoard(len(values), 0.0)
    for number in data.draw(st.permutations(range(len(values)))):
        board.start(samples.spec(number, objectives=chosen), 0.0)
        first, *further = values[number]
        board.finish(TrialResult(number, Status.COMPLETE, first, further=tuple(further)), 1.0)
    snapshot = board.snapshot()
    assert [trial.spec.number for trial in snapshot.front] == sorted(trial.number for trial in study.best_trials)
    assert snapshot.best in snapshot.front


def test_one_objective_has_no_front() -> None:
    """Where there is one objective there is a best trial and no front; the lowest loss is the best."""
    board = TrialBoard(3, 0.0)
    for number, value in enumerate([0.5, 0.2, 0.2]):
        board.start(samples.spec(number, objectives=("val_loss",)), 0.0)
        board.finish(samples.complete(number, value), 1.0)
    snapshot = board.snapshot()
    assert snapshot.front == ()
    assert snapshot.best is not None
    assert snapshot.best.spec.number == 1


def test_dominance() -> None:
    """One is better in nothing worse and something better; equal ones do not dominate each other."""
    judges = objectives_of(BOTH)
    assert dominates(judges, (0.9, 1.0), (0.9, 2.0))
    assert not dominates(judges, (0.9, 2.0), (0.9, 2.0))
    assert not dominates(judges, (0.95, 3.0), (0.9, 2.0))
