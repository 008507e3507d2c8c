"""What predictions on labelled images are worth: accuracy with its interval, each class, the confusions. With NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""

_SMALLEST = 1e-12  # probability below which the loss is cut off: float32 knows exact zeros


def wilson_interval(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a share of ``right`` among ``n``; 95 % with the default ``z``.

    Its coverage is near the nominal one also for small samples and shares near 1, where the normal approximation's
    interval has no width at all.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927), 209 to
    212; recommended by L. D. Brown, T. T. Cai, A. DasGupta, "Interval Estimation for a Binomial Proportion",
    Statistical Science 16 (2001), 101 to 133.
    """
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula is exact but for rounding.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def confusion_matrix(labels: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """How often class i (row) was taken for class j (column), (k, k)."""
    counted = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counted.reshape(classes, classes).astype(np.int64)


def measure(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Everything that ``final.json`` holds under ``test`` but for the pictures; see docs/results.md.

    Args:
        labels: (n,) whole numbers, the truth; n is at least 1.
        probabilities: (n, k), each row summing to 1.
        class_names: The k names.
    """
    n, k = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, k)
    right = int(np.trace(matrix))
    low, high = wilson_interval(right, n)
    each = [_of_class(matrix, i, name) for i, name in enumerate(class_names)]
    seen = [found for found in each if found["images"]]
    chances = np.clip(probabilities[np.arange(n), labels].astype(np.float64), _SMALLEST, 1.0)
    return {
        "images": n,
        "right": right,
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "confidence": 0.95,
        "loss": float(-np.log(chances).mean()),
        "macro_f1": float(np.mean([found["f1"] for found in seen])),
        "balanced_accuracy": float(np.mean([found["recall"] for found in seen])),
        "classes": each,
        "confusion": matrix.tolist(),
    }


def worst(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], most: int) -> list[int]:
    """Positions of the wrongly classified images of whose class the model was surest, at most so many."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return [int(i) for i in wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:most]]


def _of_class(matrix: npt.NDArray[np.int64], i: int, name: str) -> dict[str, Any]:
    """Precision, recall and F1 of one class; 0 where they have no images to be measured on."""
    hits, images, called = int(matrix[i, i]), int(matrix[i].sum()), int(matrix[:, i].sum())
    return {
        "name": name,
        "images": images,
        "precision": hits / called if called else 0.0,
        "recall": hits / images if images else 0.0,
        "f1": 2 * hits / (images + called) if images + called else 0.0,
    }
