"""The metrics of validation images, compared with scikit-learn's, and their handling of absent classes."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, log_loss

from seedpod.training.scoring import balanced_accuracy, confusion, macro_f1, score

cases = st.integers(2, 12).flatmap(
    lambda classes: st.tuples(
        st.just(classes), st.integers(1, 60), st.integers(0, classes - 1), st.integers(0, 2**32 - 1)
    )
)


def sample(classes: int, images: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of every class, and labels of the classes 0 to ``most`` alone, so that some are absent."""
    chance = np.random.default_rng(seed)
    return chance.normal(0, 3, (images, classes)).astype(np.float32), chance.integers(0, most + 1, images)


@given(cases)
def test_metrics_are_those_of_scikit_learn(case: tuple[int, int, int, int]) -> None:
    """Accuracy, macro F1, balanced accuracy and loss are scikit-learn's, also where classes are absent."""
    logits, labels = sample(*case)
    predicted = logits.argmax(axis=1)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    found = score(logits, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and not there
        expected = {
            "val_accuracy": accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro", zero_division=0),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "val_loss": log_loss(labels, probabilities, labels=np.arange(case[0])),
        }
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert np.array_equal(
        confusion(predicted, labels, case[0]), confusion_matrix(labels, predicted, labels=range(case[0]))
    )


def test_absent_classes_by_hand() -> None:
    """Class 2 is neither there nor predicted and counts nowhere; class 1 is predicted alone: F1 of 0, no recall."""
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert balanced_accuracy(counts) == 0.75
    assert macro_f1(counts) == pytest.approx((2 * 3 / (2 * 3 + 1) + 0) / 2)


@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_no_loss(wild: float) -> None:
    """A model that answers NaN or infinity has a loss of NaN, which ends its trial; nothing is raised or warned of."""
    logits = np.array([[wild, 0.0], [1.0, 0.0]], np.float32)
    assert math.isnan(score(logits, np.array([0, 1]))["val_loss"])


def test_scores_of_any_size_have_a_loss() -> None:
    """Scores far beyond what an exponential can hold give a finite loss: 0 where right, their distance where not."""
    logits = np.array([[3e4, 0.0], [3e4, 0.0]], np.float32)
    assert score(logits, np.array([0, 1]))["val_loss"] == 15_000.0
