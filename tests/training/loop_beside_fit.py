"""Trains twice, by our loop and by Keras's ``fit``: for a process of its own, in which the backend is configured."""

import hashlib
import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from samples import TINY
from seedpod.training import loop
from seedpod.training.model_builder import build_model, compile_model
from seedpod.training.network import read_course, read_network
from seedpod.trial import ParamValue

SHAPE, CLASSES, EPOCHS = (8, 8, 1), 4, 3
Parts = tuple[np.ndarray, ...]


class Batches:
    """Random images, labels and weights, others in each epoch; the number of batches is no multiple of an execution."""

    def __init__(self, count: int = 35, size: int = 12) -> None:
        self._count, self._size, self._epoch = count, size, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Parts:
        draw = np.random.default_rng((self._epoch, index))
        images = draw.integers(0, 255, (self._size, *SHAPE)).astype(np.uint8)
        labels = np.eye(CLASSES, dtype=np.float32)[draw.integers(0, CLASSES, self._size)]
        return images, labels, draw.uniform(0.5, 2.0, self._size).astype(np.float32)

    def begin_epoch(self, epoch: int, _logs: object = None) -> None:
        self._epoch = epoch


class Told(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps what an epoch comes to, and ends the training after the last epoch but one."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epochs.append({name: float(value) for name, value in (logs or {}).items()})
        self.model.stop_training = epoch == EPOCHS - 2


def fit(model: keras.Model, batches: Batches, callbacks: list[keras.callbacks.Callback]) -> None:
    """What our loop is for, in Keras's own words."""
    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0])
    every = tf.data.Dataset.from_generator(
        lambda: (batches[i] for i in range(len(batches))), output_signature=signature
    )
    every = every.apply(tf.data.experimental.assert_cardinality(len(batches)))
    model.fit(every, epochs=EPOCHS, callbacks=callbacks, shuffle=False, verbose=0)


def trained(params: dict[str, ParamValue], by: str) -> dict[str, Any]:
    """What training comes to."""
    keras.utils.set_random_seed(1)
    batches, told = Batches(), Told()
    model = build_model(read_network(params, SHAPE), SHAPE, CLASSES, 255.0, 1)
    compile_model(model, read_course(params), len(batches), EPOCHS, "cpu")
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=batches.begin_epoch), told]
    if by == "fit":
        fit(model, batches, callbacks)
    else:
        loop.run_epochs(model, batches, EPOCHS, callbacks)
    values = [*model.get_weights(), *(np.asarray(variable) for variable in model.optimizer.variables)]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(value).tobytes() for value in values)).hexdigest()
    return {"weights": digest, "epochs": told.epochs}


def main(params: dict[str, ParamValue], execution_bytes: int) -> None:
    """Print both as JSON."""
    loop.EXECUTION_BYTES = execution_bytes
    print(json.dumps({by: trained(TINY | params, by) for by in ("loop", "fit")}))
