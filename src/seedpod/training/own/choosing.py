"""How many images of each class are taken, where not all are wanted."""

from typing import Any

import numpy as np
import numpy.typing as npt

_SEED = 0  # the same images for every search


def choose(groups: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Take some, of each group its share and at least one; the same for the same arguments.

    Args:
        groups: (n,) of each image what it belongs to.
        most: How many to take; groups of one are taken beyond it where there are more groups than that.

    Returns:
        Their places, ascending.
    """
    if len(groups) <= most:
        return np.arange(len(groups))
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    take = _counts(counts, most)
    keys = np.random.Generator(np.random.PCG64(_SEED)).random(len(inverse))
    order = np.lexsort((keys, inverse))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < take[inverse[order]]]).astype(np.int64)


def _counts(counts: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """How many of each group; what rounding down leaves goes to the largest remainders."""
    exact = counts * (most / counts.sum())
    take = np.maximum(np.floor(exact).astype(np.int64), 1)
    by_remainder = np.argsort(-(exact - take), kind="stable")
    take[by_remainder[: max(0, most - int(take.sum()))]] += 1
    return np.asarray(np.minimum(take, counts), np.int64)
