"""What predictions are worth, checked against sources and plain counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.training.measuring import confusion_matrix, measure, wilson_interval, worst


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 857 to 872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published(right: int, n: int, low: float, high: float) -> None:
    """The interval is the one in Newcombe's comparison, to its four digits."""
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(counts: tuple[int, int]) -> None:
    """Whatever was counted, the interval is within 0 and 1, holds the share, and mirrors that of the errors."""
    right, n = counts
    low, high = wilson_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert wilson_interval(n - right, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_measures_are_what_counting_gives() -> None:
    """Accuracy, each class's precision, recall and F1, and their means, for a small case counted by hand."""
    labels = np.array([0, 0, 0, 1, 1])
    found = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.4, 0.6, 0], [0.3, 0.7, 0], [1.0, 0.0, 0]])
    got = measure(labels, found, ["a", "b", "never"])
    assert got["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (got["right"], got["images"], got["accuracy"]) == (3, 5, 0.6)
    assert got["classes"][0] == {
        "name": "a",
        "images": 3,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
    }
    assert got["classes"][2] == {"name": "never", "images": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert got["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # of the classes that have images
    assert got["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isfinite(got["loss"])  # also where a probability is an exact 0


def test_worst_are_the_surest_errors() -> None:
    """Wrong ones alone, the surest first."""
    labels = np.array([0, 0, 1, 1])
    found = np.array([[0.2, 0.8], [0.9, 0.1], [0.95, 0.05], [0.6, 0.4]])
    assert worst(labels, found, 2) == [2, 0]
    assert worst(labels, found, 9) == [2, 0, 3]
    assert confusion_matrix(labels, found.argmax(1), 2).sum() == 4
