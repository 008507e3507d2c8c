"""A trainer of small real Keras networks that are ill in one way, as the parameters say. Runs inside trainer processes.

Parameters: ``activation``, ``learning_rate``, ``epochs``, ``batch_size``, ``images`` to learn from, ``noise`` for
labels by chance and no dropout, ``depth`` for so many dense layers and no convolution, ``harm`` for what is done to the
network once it is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seedpod.training.datasets import Dataset, attach, split
from seedpod.trial import Report, Status, TrialResult, TrialSpec

UNITS = 32
HARMED = 24


def make(cache_dir: Path, schedulers: int) -> "IllTrainer":
    from seedpod.training import runtime

    runtime.configure_backend(schedulers)
    return IllTrainer(cache_dir)


@dataclass(frozen=True)
class Fitted:
    """A network as it was before any harm, and how its training went."""

    model: Any
    weights: list[np.ndarray]
    ratios: Any
    history: list[dict[str, float]]


class IllTrainer:
    """Trains each network once: networks that differ by their harm alone are one, harmed or not."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._fitted: dict[str, Fitted] = {}

    def train(self, spec: TrialSpec, _report: Report, _check: Callable[[], None]) -> TrialResult:
        from seedpod.training.health import health_of
        from seedpod.training.probe import look, probe_rows

        data = attach(spec.dataset, spec.fingerprint, self._cache_dir)
        train, validation = split(data.y_train, spec.validation_split, spec.split_seed)
        unharmed = str({**spec.params, "harm": ""})
        if unharmed not in self._fitted:
            self._fitted[unharmed] = fit(spec, data, train[: int(spec.params["images"])], validation)
        fitted = self._fitted[unharmed]
        fitted.model.set_weights(fitted.weights)
        if spec.params["harm"]:
            globals()[str(spec.params["harm"])](fitted.model)
        rows = probe_rows(validation, spec.split_seed)
        layers = look(fitted.model, data.x_train[rows], data.y_train[rows], fitted.ratios)
        assert layers == look(fitted.model, data.x_train[rows], data.y_train[rows], fitted.ratios)
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            fitted.history[-1]["val_accuracy"],
            history=tuple(fitted.history),
            health=health_of(layers, fitted.history, 10),
        )


def fit(spec: TrialSpec, data: Dataset, train: np.ndarray, validation: np.ndarray) -> Fitted:
    import keras

    from seedpod.training.probe import StepWatch

    x, y = np.asarray(data.x_train, "float32"), np.asarray(data.y_train)
    if spec.params["noise"]:
        y = np.random.default_rng(1).permutation(y)
    keras.utils.set_random_seed(spec.seed)
    depth = int(spec.params["depth"])
    activation = str(spec.params["activation"])
    model = deep(depth, activation) if depth else convolutional(activation, 0.0 if spec.params["noise"] else 0.2)
    model.compile(
        keras.optimizers.Adam(float(spec.params["learning_rate"])),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    watch = StepWatch()
    held = x[validation], y[validation]
    fitted = model.fit(
        x[train],
        y[train],
        int(spec.params["batch_size"]),
        int(spec.params["epochs"]),
        0,
        callbacks=[watch],
        validation_data=held,
    )
    columns = fitted.history
    history = [{name: column[epoch] for name, column in columns.items()} for epoch in range(len(columns["loss"]))]
    return Fitted(model, model.get_weights(), watch.ratios, history)


def convolutional(activation: str, dropout: float) -> Any:
    from keras import Input, Model, layers

    x = inputs = Input((8, 8, 1))
    x = layers.Rescaling(1 / 16)(x)
    for filters in (16, UNITS):
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(layers.Activation(activation)(x))
    x = layers.Activation(activation)(layers.Dense(UNITS, kernel_initializer="he_normal")(layers.Flatten()(x)))
    return Model(inputs, layers.Dense(10)(layers.Dropout(dropout)(x)))


def deep(depth: int, activation: str) -> Any:
    from keras import Input, Model, layers

    inputs = Input((8, 8, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 16)(inputs))
    for _ in range(depth):
        x = layers.Activation(activation)(layers.Dense(UNITS)(x))
    return Model(inputs, layers.Dense(10)(x))


def no_bias_lets_them_fire(model: Any) -> None:
    """Most channels of the second convolution never fire."""
    layer = [layer for layer in model.layers if layer.name.startswith("conv2d")][1]
    kernel, bias = layer.get_weights()
    bias[:HARMED] = -1e4
    layer.set_weights([kernel, bias])


def far_out(model: Any) -> None:
    """Most neurons of the dense layer work where tanh is flat."""
    layer = next(layer for layer in model.layers if layer.name.startswith("dense"))
    kernel, bias = layer.get_weights()
    kernel[:, :HARMED] *= 1e3
    layer.set_weights([kernel, bias])


def all_far_out(model: Any) -> None:
    """All neurons of every hidden layer do; by their bias, for larger weights would carry the gradient again."""
    for layer in [layer for layer in model.layers if layer.name.startswith("dense")][:-1]:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias + 5])
