"""What a model's answers on the validation images are worth. NumPy alone: the same on every Keras backend.

Loss is the plain cross-entropy, whatever a trial trains on: label smoothing, or weights for classes, would make the
losses of two trials numbers of different things.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def score(logits: Array, labels: Array) -> dict[str, float]:
    """Loss, accuracy, macro F1 and balanced accuracy, by the names that they have in a trial's history.

    Args:
        logits: A score for each class, (images, classes); those of a diverged model may be NaN or infinite.
        labels: The right classes, (images,), 0 to classes - 1.
    """
    counts = confusion(np.argmax(logits, axis=1), labels, logits.shape[1])
    return {
        "val_loss": cross_entropy(logits, labels),
        "val_accuracy": accuracy(counts),
        "macro_f1": macro_f1(counts),
        "balanced_accuracy": balanced_accuracy(counts),
    }


def confusion(predicted: Array, labels: Array, classes: int) -> Array:
    """How many images of each class (rows) were taken for which (columns): (classes, classes) of int64."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def cross_entropy(logits: Array, labels: Array) -> float:
    """Mean over the images of -log softmax(logits)[label], in nats, with doubles. NaN where a score is not finite."""
    scores = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = scores - scores.max(axis=1, keepdims=True)
        right = scores[np.arange(len(labels)), labels]
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - right))


def accuracy(counts: Array) -> float:
    """Share of the images on the diagonal."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: Array) -> float:
    """Mean of the classes' F1 = 2 TP / (2 TP + FP + FN): arithmetic mean of F1 over classes, not F1 of the means (Opitz
    and Burst, "Macro F1 and Macro F1", 2019), as scikit-learn's ``f1_score(average="macro")`` has it.

    A class that is neither there nor predicted has no F1 and is left out; one that is only predicted counts as 0.
    """
    right = np.diag(counts)
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    known = seen > 0
    return float(np.mean(2 * right[known] / seen[known]))


def balanced_accuracy(counts: Array) -> float:
    """Mean of the classes' recalls TP / (TP + FN) (Brodersen et al., "The balanced accuracy and its posterior
    distribution", 2010), as scikit-learn's ``balanced_accuracy_score`` has it.

    A class that is not there has no recall and is left out.
    """
    images = counts.sum(axis=1)
    there = images > 0
    return float(np.mean(np.diag(counts)[there] / images[there]))
