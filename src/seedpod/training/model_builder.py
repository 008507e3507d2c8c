"""Hyperparameters -> compiled Keras model. Backend-neutral Keras 3; every seed is explicit.

The network: scaling to [0, 1], then ``conv_layers`` blocks of convolution, optional batch normalisation, activation and
2x2 pooling, then global average pooling or flattening, then dense layers with dropout, then a score for each class.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from seedpod.errors import Cause, TrainingError
from seedpod.trial import ParamValue

STEPS_PER_EXECUTION = 16
"""Training steps between two returns to Python: 0.90 of the time of single steps at batch 128, 0.85 at 32 (measured on
2 cores, TensorFlow 2.21). A stop is noticed between executions."""

BATCH_NORM_MOMENTUM = 0.9
"""Keras's own 0.99 needs hundreds of steps until validation sees the statistics of the data; digits has 36 an epoch."""


def build_model(
    params: Mapping[str, ParamValue],
    image_shape: tuple[int, int, int],
    classes: int,
    pixel_max: float,
    seed: int,
) -> keras.Model:
    """Build the network that ``params`` describe: images (batch, height, width, channels) -> logits (batch, classes).

    Logits and not probabilities: from those, Keras computes a loss that is clipped at 16 under JAX and torch, so that a
    diverged trial would train on at chance to its last epoch (TensorFlow recovers the logits by itself).

    Args:
        params: See ``seedpod.search.space``, which suggests them.
        image_shape: Height, width, channels.
        classes: Number of classes.
        pixel_max: The pixel value that stands for white; images are divided by it inside the model.
        seed: Seeds every initializer and dropout layer.

    Raises:
        TrainingError: IMPOSSIBLE, where the configuration does not fit the images, or a parameter is missing or has a
            value that is not known.
    """
    read = _Params(params)
    seeds = np.random.SeedSequence(seed).generate_state(32) >> 1  # torch holds them as int32
    next_seed = iter(int(x) for x in seeds).__next__
    side = min(image_shape[:2])
    conv_layers = read.integer("conv_layers", 1, 4)
    if side >> conv_layers < 1:
        raise TrainingError(
            f"hyperparameter conv_layers = {conv_layers}: so many poolings do not fit images of "
            f"{image_shape[0]}x{image_shape[1]} pixels.",
            cause=Cause.IMPOSSIBLE,
        )
    kernel_size = read.integer("kernel_size", 1, 11)
    activation = read.text("activation")
    batch_norm = read.truth("batch_norm")
    initializer = read.text("initializer")
    pool = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[read.text("pooling")]

    def kernel() -> Any:
        return _INITIALIZERS[initializer](seed=next_seed())

    inputs = keras.Input(shape=image_shape)
    x = keras.layers.Rescaling(1.0 / pixel_max)(inputs)
    for layer in range(conv_layers):
        filters = read.integer(f"filters_{layer}", 1, 1024)
        x = keras.layers.Conv2D(
            filters, kernel_size, padding="same", use_bias=not batch_norm, kernel_initializer=kernel()
        )(x)
        x = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x) if batch_norm else x
        x = keras.layers.Activation(activation)(x)
        x = pool(2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if read.truth("global_pooling") else keras.layers.Flatten()(x)
    dropout = read.number("dropout", 0.0, 0.95)
    for layer in range(read.integer("dense_layers", 0, 4)):
        x = keras.layers.Dense(read.integer(f"dense_units_{layer}", 1, 4096), kernel_initializer=kernel())(x)
        x = keras.layers.Activation(activation)(x)
        x = keras.layers.Dropout(dropout, seed=next_seed())(x)
    # The initializer of the last layer is not searched: no rectifier follows that wants a gain.
    last = keras.initializers.GlorotUniform(seed=next_seed())
    outputs = keras.layers.Dense(classes, kernel_initializer=last)(x)
    return keras.Model(inputs, outputs)


def compile_model(model: keras.Model, params: Mapping[str, ParamValue], steps: int, device: str) -> None:
    """Give the model its optimizer and loss.

    Args:
        model: From ``build_model``.
        params: The same hyperparameters.
        steps: Training steps of one epoch.
        device: "cpu" or another; XLA makes these small networks 2.05 times slower on a CPU under TensorFlow (measured).
    """
    read = _Params(params)
    rate = read.number("learning_rate", 1e-9, 100.0)
    name = read.text("optimizer")
    backend = keras.backend.backend()
    interpreted = backend == "torch" or (backend == "tensorflow" and device == "cpu")
    model.compile(
        optimizer=_OPTIMIZERS[name](rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=1 if backend == "torch" else min(STEPS_PER_EXECUTION, steps),  # torch takes no more
        jit_compile=False if interpreted else "auto",
    )


def read_batch_size(params: Mapping[str, ParamValue]) -> int:
    """Images a training step; raises TrainingError, IMPOSSIBLE, as ``build_model`` does."""
    return _Params(params).integer("batch_size", 1, 65536)


class _Params:
    """Typed reading of hyperparameters; every complaint names the parameter."""

    def __init__(self, params: Mapping[str, ParamValue]) -> None:
        self._params = params

    def _get(self, name: str) -> ParamValue:
        if name not in self._params:
            raise TrainingError(f"hyperparameter {name!r} is missing.", cause=Cause.IMPOSSIBLE)
        return self._params[name]

    def number(self, name: str, low: float, high: float) -> float:
        value = self._get(name)
        if isinstance(value, bool | str) or not low <= value <= high:
            raise TrainingError(
                f"hyperparameter {name} = {value!r}; it must be from {low} to {high}.", cause=Cause.IMPOSSIBLE
            )
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.number(name, low, high)
        if not value.is_integer():
            raise TrainingError(
                f"hyperparameter {name} = {value!r}; it must be a whole number.", cause=Cause.IMPOSSIBLE
            )
        return int(value)

    def text(self, name: str) -> str:
        value = self._get(name)
        known = _CHOICES[name]
        if value not in known:
            raise TrainingError(
                f"hyperparameter {name} = {value!r}; it must be one of {', '.join(known)}.", cause=Cause.IMPOSSIBLE
            )
        return str(value)

    def truth(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise TrainingError(f"hyperparameter {name} = {value!r}; it must be true or false.", cause=Cause.IMPOSSIBLE)
        return value


_INITIALIZERS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "he_normal": keras.initializers.HeNormal,
    "he_uniform": keras.initializers.HeUniform,
}
_OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
_CHOICES = {
    "activation": ("relu", "leaky_relu", "swish", "gelu"),
    "initializer": tuple(_INITIALIZERS),
    "optimizer": tuple(_OPTIMIZERS),
    "pooling": ("max", "average"),
}
