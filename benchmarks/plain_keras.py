"""A small CNN by plain Keras, as its examples have it: ``fit`` on arrays in memory, with Keras's own thread counts."""

import time
from typing import Any

import numpy as np

FILTERS = (16, 32)
KERNEL = 3
SEED = 7


def images_of(source: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Images (n, h, w, 1), labels (n,), and the value of white: of ``digits``, or of an .npz with x_train, y_train."""
    if source == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        return found.images[..., None].astype("float32"), found.target, 16.0
    with np.load(source) as arrays:
        return arrays["x_train"][..., None], arrays["y_train"], 255.0


def fit(images: str, batch_size: int, epochs: int, held_out: float = 0.2) -> dict[str, float]:
    """Train; training images a second, of all epochs with the compilation, and of those after the first."""
    import keras

    x, y, white = images_of(images)
    keras.utils.set_random_seed(SEED)
    ends: list[float] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's names
            ends.append(time.monotonic())

    began = time.monotonic()
    layers = [keras.Input(x.shape[1:]), keras.layers.Rescaling(1 / white)]
    for filters in FILTERS:
        layers += [
            keras.layers.Conv2D(filters, KERNEL, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
        ]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=batch_size, epochs=epochs, validation_split=held_out, callbacks=[Clock()], verbose=0)
    return rates(began, ends, int(len(x) * (1 - held_out)))


def rates(began: float, ends: list[float], images: int) -> dict[str, float]:
    """Training images a second, from when training began and each epoch ended: of all epochs, and after the first."""
    steady = (len(ends) - 1) * images / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    return {"whole": len(ends) * images / (ends[-1] - began), "steady": steady}
