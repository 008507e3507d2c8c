"""Arrays that are there already, brought to the size, the colours and the number that are wished."""

import hashlib

import numpy as np

from seedpod.reading import Reading
from seedpod.training.own.choosing import choose
from seedpod.training.pictures import Form, reshape
from seedpod.training.sources import Array, Arrays, Images


def shaped(arrays: Arrays, reading: Reading) -> Arrays:
    """The same images as a reading wants them; the very same where it wants nothing."""
    x_train, y_train, x_test, y_test = _fewer(arrays, reading.max_samples)
    before = _form(arrays)
    height, width = reading.image_size or (before.height, before.width)
    channels = {"grayscale": 1, "rgb": 3}.get(reading.color_mode, before.channels)
    after = Form(height, width, channels, before.dtype, before.black, before.white)
    if after != before:
        x_train = _reshaped(x_train, before, after)
        x_test = None if x_test is None else _reshaped(x_test, before, after)
    return Arrays(x_train, y_train, x_test, y_test, arrays.class_names, arrays.pixel_max)


def in_both(arrays: Arrays) -> int:
    """How many test images are the same, pixel by pixel, as a training image."""
    if arrays.x_test is None:
        return 0
    training = _hashes(arrays.x_train)
    return sum(each in training for each in map(_hash, np.asarray(arrays.x_test)))


def _fewer(arrays: Arrays, most: int) -> tuple[Images, Array, Images | None, Array | None]:
    x_train, y_train, x_test, y_test = arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test
    if not most:
        return x_train, y_train, x_test, y_test
    if x_test is None or y_test is None:
        chosen = choose(y_train, most)
        return x_train[chosen], y_train[chosen], None, None
    count = len(arrays.class_names)
    chosen = choose(np.concatenate([y_train, y_test + count]), most)
    train, test = chosen[chosen < len(y_train)], chosen[chosen >= len(y_train)] - len(y_train)
    return x_train[train], y_train[train], x_test[test], y_test[test]


def _form(arrays: Arrays) -> Form:
    below = arrays.x_train.dtype != np.uint8 and float(np.asarray(arrays.x_train).min()) < 0
    height, width, channels = arrays.x_train.shape[1:]
    black = -arrays.pixel_max if below else 0.0
    return Form(height, width, channels, str(arrays.x_train.dtype), black, arrays.pixel_max)


def _reshaped(x: Images, before: Form, after: Form) -> Array:
    return np.stack([reshape(pixels, before, after) for pixels in np.asarray(x)])


def _hashes(x: Images) -> set[bytes]:
    return {_hash(pixels) for pixels in np.asarray(x)}


def _hash(pixels: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
