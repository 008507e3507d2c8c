"""How one trial is examined over its epochs and folds, fed by hand: no model, no process."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.training.examiner import PATIENCE, Examiner, TrialOver, seed_of
from seedpod.trial import Status, TrialProgress, TrialResult, TrialSpec

ENVIRONMENT = {"reproducible": "bit for bit on this kind of CPU"}
KNOWN = {"model_size": 0.5, "training_time": 12.0, "inference_latency": 1.5}


def row(accuracy: float, loss: float | None = None) -> dict[str, float]:
    return {
        "loss": 1.0,
        "val_accuracy": accuracy,
        "val_loss": 1 - accuracy if loss is None else loss,
        "macro_f1": accuracy / 2,
        "balanced_accuracy": accuracy / 3,
    }


class Trial:
    """A trial whose folds are told epoch by epoch."""

    def __init__(self, **changes: Any) -> None:
        self.seen: list[TrialProgress] = []
        self.spec: TrialSpec = samples.spec(**{"max_epochs": 20, "max_seconds": 0.0, **changes})
        self.examiner = Examiner(self.spec, self.seen.append, lambda: None)

    def fold(self, *rows: dict[str, float]) -> int:
        """Train a fold on these epochs until it ends; how many it took."""
        self.examiner.begin_fold()
        for epoch, each in enumerate(rows, 1):
            if not self.examiner.epoch_ended(each):
                return epoch
        return len(rows)

    def pruned(self, *rows: dict[str, float]) -> TrialResult:
        """Train a fold on these epochs until a limit ends the trial."""
        with pytest.raises(TrialOver) as caught:
            self.fold(*rows)
        return self.examiner.pruned(caught.value, parameters=10, environment=ENVIRONMENT, seconds=1.0)

    def result(self) -> TrialResult:
        return self.examiner.result(KNOWN, parameters=10, environment=ENVIRONMENT, seconds=1.0)


def test_best_epoch_follows_the_objective() -> None:
    """The best epoch of a trial that is to have a low loss is that of the lowest loss, and all its metrics are too."""
    rows = [row(0.5, 0.9), row(0.9, 0.7), row(0.7, 0.3), row(0.8, 0.5)]
    for name, best in (("val_accuracy", 2), ("val_loss", 3), ("macro_f1", 2)):
        trial = Trial(objectives=(name,), max_epochs=4)
        trial.fold(*rows)
        result = trial.result()
        assert (result.best_epoch, result.value) == (best, rows[best - 1][name])
        assert result.metrics == rows[best - 1]
        assert [progress.value for progress in trial.seen] == [each[name] for each in rows]


def test_patience_follows_the_objective() -> None:
    """A loss that falls while the accuracy stays keeps a trial going that is to have a low loss, and no other."""
    rows = [row(0.5, 1 / epoch) for epoch in range(1, 11)]
    assert Trial(objectives=("val_accuracy",)).fold(*rows) == 1 + PATIENCE
    assert Trial(objectives=("val_loss",)).fold(*rows) == 10
    assert Trial(objectives=("model_size",)).fold(*rows) == 1 + PATIENCE


def test_several_values_are_of_one_epoch() -> None:
    """All values of a trial are those of one epoch: the best by the first objective that is known each epoch."""
    trial = Trial(objectives=("model_size", "val_loss", "val_accuracy"), max_epochs=3)
    trial.fold(row(0.5, 0.4), row(0.9, 0.6), row(0.8, 0.5))
    result = trial.result()
    assert result.values == (0.5, 0.4, 0.5)
    assert {progress.value for progress in trial.seen} == {None}


def test_measured_objectives_say_what_does_not_hold() -> None:
    """A trial judged by the clock says in its environment that its promise does not hold for that; others do not."""
    trial = Trial(objectives=("val_accuracy", "training_time", "inference_latency"), max_epochs=1)
    trial.fold(row(0.5))
    promised = trial.result().environment["reproducible"]
    assert promised == "bit for bit on this kind of CPU, but not training_time and inference_latency"
    plain = Trial(objectives=("val_accuracy", "model_size"), max_epochs=1)
    plain.fold(row(0.5))
    assert plain.result().environment == ENVIRONMENT


def test_folds_are_averaged() -> None:
    """The value is the mean of the folds' best epochs; each metric has its mean and its standard deviation."""
    trial = Trial(cv_folds=3, max_epochs=2)
    for first, second in ((0.5, 0.6), (0.9, 0.8), (0.4, 0.7)):
        assert trial.fold(row(first), row(second)) == 2
    result = trial.result()
    assert result.value == pytest.approx((0.6 + 0.9 + 0.7) / 3)
    assert result.metrics["val_accuracy"] == result.value
    assert result.metrics["val_accuracy_std"] == pytest.approx(statistics.pstdev([0.6, 0.9, 0.7]))
    assert (result.epochs, result.best_epoch) == (6, 2)
    assert [each["fold"] for each in result.history] == [1, 1, 2, 2, 3, 3]


def test_progress_counts_over_all_folds() -> None:
    """Steps count the epochs of all folds; after each fold the value is the mean of those that have ended."""
    trial = Trial(cv_folds=3, max_epochs=2)
    for first, second in ((0.5, 0.6), (0.9, 0.8), (0.4, 0.7)):
        trial.fold(row(first), row(second))
    assert [(each.epoch, each.sequence, each.max_epochs) for each in trial.seen] == [(n, n, 6) for n in range(1, 7)]
    assert [each.value for each in trial.seen] == pytest.approx([0.5, 0.6, 0.6, 0.75, 0.75, 2.2 / 3])
    assert trial.seen[-1].value == trial.result().value
    assert trial.seen[-1].values == tuple(each.value for each in trial.seen) == trial.spec.curve(trial.result().history)


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=8), min_size=2, max_size=5))
def test_last_value_told_is_the_result(folds: list[list[float]]) -> None:
    """Whatever the folds do, and wherever patience ends them, the last value that is told is the trial's."""
    most = max(map(len, folds))
    trial = Trial(cv_folds=len(folds), max_epochs=most)
    for accuracies in folds:
        padded = accuracies + [accuracies[-1]] * (most - len(accuracies))
        trial.fold(*map(row, padded))
    result = trial.result()
    assert trial.seen[-1].value == result.value
    assert trial.seen[-1].values == tuple(each.value for each in trial.seen) == trial.spec.curve(result.history)
    assert result.epochs == len(trial.seen) == len(result.history) <= trial.spec.total_epochs


def test_folds_have_seeds_of_their_own() -> None:
    """Each fold has a seed of 32 bits of its own, the first one the spec's, so that a single split is as it was."""
    seeds = [seed_of(samples.spec(5), fold) for fold in range(20)]
    assert seeds[0] == samples.spec(5).seed
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert not set(seeds[1:]) & {seed_of(samples.spec(6), fold) for fold in range(20)}


def test_hopeless_trial_is_pruned() -> None:
    """A trial that has not reached the threshold in so many epochs ends pruned, with its history and the reason."""
    trial = Trial(min_accuracy=0.5, min_accuracy_epochs=3)
    result = trial.pruned(row(0.1), row(0.49), row(0.2), row(0.9))
    assert (result.status, result.value, result.epochs, len(result.history)) == (Status.PRUNED, None, 3, 3)
    assert result.error is not None
    assert result.error.cause is Cause.HOPELESS
    assert "0.4900 after 3 epochs, under min_accuracy_threshold=0.5" in result.error.message
    assert [each.epoch for each in trial.seen] == [1, 2, 3]


@pytest.mark.parametrize(
    ("accuracies", "epochs"),
    [
        pytest.param([0.1, 0.5, 0.2, 0.2, 0.2], 5, id="reached it once"),
        pytest.param([0.1, 0.2, 0.5, 0.5, 0.5], 5, id="just in time"),
    ],
)
def test_trial_with_hope_goes_on(accuracies: list[float], epochs: int) -> None:
    """A trial that has reached the threshold by then is judged no more by it."""
    trial = Trial(min_accuracy=0.5, min_accuracy_epochs=3, max_epochs=5)
    assert trial.fold(*map(row, accuracies)) == epochs
    assert trial.result().status is Status.COMPLETE


def test_threshold_holds_for_each_fold() -> None:
    """With folds each of them is asked, after its own epochs, and the first that fails ends the trial."""
    trial = Trial(cv_folds=3, min_accuracy=0.5, min_accuracy_epochs=1, max_epochs=2)
    trial.fold(row(0.6), row(0.7))
    assert trial.pruned(row(0.3), row(0.9)).epochs == 3


def test_deadline_is_over_all_folds() -> None:
    """The time of a trial is that of all its folds together; what it had shown by then is in its result."""
    trial = Trial(cv_folds=2, max_epochs=2, max_seconds=1e-9)
    trial.fold(row(0.5), row(0.5))
    trial.fold(row(0.75))
    with pytest.raises(TrialOver) as caught:
        trial.examiner.between_batches()
    result = trial.examiner.pruned(caught.value)
    assert (result.status, result.value, result.epochs) == (Status.PRUNED, None, 3)
    assert [each["val_accuracy"] for each in result.history] == [0.5, 0.5, 0.75]
    assert result.error is not None
    assert result.error.cause is Cause.DEADLINE
    assert result.error.message == "3 of 4 epochs after 1e-09 s (max_training_time_minutes)"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite_ends_the_trial(loss: float) -> None:
    """A loss that is not finite, of a batch or of the validation images, is a divergence and never a value."""
    trial = Trial(objectives=("val_loss",))
    trial.examiner.begin_fold()
    for judged in (lambda: trial.examiner.check_loss(loss), lambda: trial.examiner.epoch_ended(row(0.5, loss))):
        with pytest.raises(TrainingError) as caught:
            judged()
        assert caught.value.cause is Cause.DIVERGED
    assert trial.seen == []


def test_stop_comes_out() -> None:
    """A stop between two batches comes out as it is."""

    def check() -> None:
        raise TrialCancelled("enough")

    examiner = Examiner(samples.spec(), lambda _: None, check)
    with pytest.raises(TrialCancelled, match="enough"):
        examiner.between_batches()
