"""Some rows of a large array, without a copy of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_PIECE = 1 << 25  # bytes at once


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some images of a larger array, in an order, without a copy of them.

    Attributes:
        base: (n, h, w, c), memory-mapped.
        places: (m,) of ``base``.
    """

    base: Array
    places: npt.NDArray[np.int64]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As an array's."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        return (len(self.places), *self.base.shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> "Rows":
        return Rows(self.base, self.places[chosen])


def pieces(rows: Array | Rows) -> Iterator[Array]:
    """The rows in their order, as arrays of some megabytes each."""
    count = max(1, _PIECE // max(1, rows.dtype.itemsize * int(np.prod(rows.shape[1:]))))
    for start in range(0, len(rows), count):
        stop = start + count
        yield rows[start:stop] if isinstance(rows, np.ndarray) else rows.base[rows.places[start:stop]]
