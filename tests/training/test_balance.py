"""Unequal classes: how they are weighed, and what that is worth on real images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import TINY, spec
from seedpod.training.balance import Imbalance, class_weights
from seedpod.training.datasets import attach, attach_test, prepare
from seedpod.training.pool import TrainerPool
from seedpod.trial import TrialProgress, TrialSpec

RARE = (8, 9)
"""Digits that look like others."""
KEPT = 12
"""Training images that are left of each of them, where the others have some 140."""


def ignore(_: TrialProgress) -> None:
    pass


def test_weights_of_a_small_example() -> None:
    """An image weighs n / (k * count), and one class too many changes nothing."""
    assert class_weights(np.array([0, 0, 0, 1]), 2).tolist() == pytest.approx([4 / 6, 2])
    assert class_weights(np.array([0, 0, 0, 2]), 4).tolist() == pytest.approx([4 / 6, 1, 2, 1])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200))
def test_every_class_weighs_the_same(labels: list[int]) -> None:
    """The classes' total weights are equal, and the mean weight of the images is 1."""
    found = np.array(labels)
    weights = class_weights(found, 6)
    totals = [weights[label] * (found == label).sum() for label in set(labels)]
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-5)
    assert weights[found].mean() == pytest.approx(1, rel=1e-5)


def test_imbalance_names_the_extremes() -> None:
    """Largest and smallest class are named with their images; about equal classes, and empty ones, are none."""
    assert Imbalance.of(("cat", "dog", "owl"), (10, 90, 40)) == Imbalance("dog", 90, "cat", 10)
    assert Imbalance.of(("cat", "dog"), (10, 40)) is None
    assert Imbalance.of(("cat", "dog", "owl"), (10, 40, 0)) is None
    assert Imbalance.of(("cat",), (0,)) is None


@pytest.mark.processes
def test_weights_help_the_rare_classes(digits_cache: Path, tmp_path: Path) -> None:
    """On digits with few 8s and 9s, class_weights=auto raises the mean recall of the classes: 0.90 for 0.71 after four
    epochs on TensorFlow; and it is another trial.
    """
    spec = replace(_unequal(digits_cache, tmp_path), class_weights="auto")
    plain = replace(spec, class_weights="none")
    assert plain.uid != spec.uid
    with TrainerPool(1, tmp_path, standby=0) as pool:
        weighed, unweighed = pool.run(spec, ignore), pool.run(plain, ignore)
    assert unweighed.history[0]["loss"] != weighed.history[0]["loss"]
    reached, otherwise = (result.history[-1]["balanced_accuracy"] for result in (weighed, unweighed))
    assert reached is not None
    assert otherwise is not None
    assert reached > otherwise + 0.05


def _unequal(digits_cache: Path, folder: Path) -> TrialSpec:
    """A spec of digits whose training images lack most of the rare classes."""
    fingerprint = prepare("digits", digits_cache).fingerprint
    digits, held_out = attach("digits", fingerprint, digits_cache), attach_test("digits", fingerprint, digits_cache)
    y = np.asarray(digits.y_train)
    ranks = np.zeros(len(y), int)
    for label in RARE:
        ranks[y == label] = np.arange((y == label).sum())
    kept = ranks < KEPT
    x = np.asarray(digits.x_train)[kept][..., 0]
    np.savez(folder / "unequal.npz", x_train=x, y_train=y[kept], x_test=held_out.x_test[..., 0], y_test=held_out.y_test)
    info = prepare(str(folder / "unequal.npz"), folder)
    return spec(
        dataset=info.id,
        fingerprint=info.fingerprint,
        params=TINY | {"dropout": 0.0, "learning_rate": 5e-3, "batch_size": 32},
        objectives=("balanced_accuracy",),
        max_epochs=5,
        min_epochs=5,
        validation_split=0.25,
        max_parameters=1_000_000,
        max_seconds=0.0,
    )
