"""How unequal classes are, and weights that let every class count alike in training. NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

MOST_BETWEEN = 4.0
"""How many times the images of its smallest class a data set's largest may have before a search warns. With two classes
that is 80 % for the larger one: a model that has learned nothing then looks good by its accuracy."""


def class_weights(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float32]:
    """What an image of each class weighs in a loss so that all classes weigh the same: n / (k * count), (classes,).

    n is the number of images, k that of the classes which have any, as in scikit-learn's ``class_weight="balanced"``
    (after King and Zeng, "Logistic Regression in Rare Events Data", 2001). The mean over the images is 1, so that a
    learning rate means what it means without. A class without images weighs 1.

    Args:
        labels: (n,) whole numbers from 0 to classes - 1, of the images that train; n is at least 1.
        classes: How many there are.
    """
    counts = np.bincount(labels, minlength=classes)
    there = counts > 0
    weights = np.ones(classes)
    weights[there] = len(labels) / (there.sum() * counts[there])
    return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Imbalance:
    """The largest and the smallest of the classes that have training images.

    Attributes:
        largest: Name of the one; the first of several.
        most: Its images.
        smallest: Name of the other.
        fewest: Its images.
    """

    largest: str
    most: int
    smallest: str
    fewest: int

    @classmethod
    def of(cls, names: Sequence[str], counts: Sequence[int]) -> Self | None:
        """That of a data set; None where its classes are about equally large.

        Args:
            names: The classes.
            counts: Training images of each.
        """
        there = [(count, name) for name, count in zip(names, counts, strict=True) if count]
        if not there:
            return None
        (most, largest), (fewest, smallest) = max(there, key=_count), min(there, key=_count)
        return cls(largest, most, smallest, fewest) if most > MOST_BETWEEN * fewest else None

    @property
    def times(self) -> float:
        """How many times as many images."""
        return self.most / self.fewest


def _count(pair: tuple[int, str]) -> int:
    return pair[0]
