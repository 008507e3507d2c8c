"""Hyperparameters -> compiled Keras model. Backend-neutral Keras 3; every seed is explicit.

The network: scaling to [0, 1], then blocks of convolutions, each with optional normalisation and activation, optionally
with the block's input added to its output, and 2x2 pooling or a stride of 2; then global average pooling or flattening;
then dense layers, each behind dropout; then a score for each class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from seedpod.training.network import Course, Network

STEPS_PER_EXECUTION = 16
"""Training steps between two returns to Python, at most: 0.90 of the time of single steps at batch 128, 0.85 at 32
(measured on 2 cores, TensorFlow 2.21). A stop is noticed between executions."""

BATCH_NORM_MOMENTUM = 0.9
"""Keras's own 0.99 needs hundreds of steps until validation sees the statistics of the data; digits has 36 an epoch."""

ONE_CYCLE_RISE = 0.2
"""Share of its steps in which the one-cycle schedule rises; Smith and Topin (2018, arXiv:1708.07120) have 0.45, which
leaves short trainings too little time to settle."""
FIRST_SHARE = 0.04
"""What a rising learning rate begins with, as a share of the highest: 1/25, as fast.ai's one-cycle has it."""


def build_model(
    network: Network, image_shape: tuple[int, int, int], classes: int, pixel_max: float, seed: int
) -> keras.Model:
    """Build the network: images (batch, height, width, channels) -> logits (batch, classes).

    Logits and not probabilities: from those, Keras computes a loss that is clipped at 16 under JAX and torch, so that a
    diverged trial would train on at chance to its last epoch (TensorFlow recovers the logits by itself).

    Args:
        network: From ``read_network``.
        image_shape: Height, width, channels.
        classes: Number of classes.
        pixel_max: The pixel value that stands for white; images are divided by it inside the model.
        seed: Seeds every initializer and dropout layer.
    """
    make = _Maker(network, seed)
    inputs = keras.Input(shape=image_shape)
    x = keras.layers.Rescaling(1.0 / pixel_max)(inputs)
    for block in range(len(network.filters)):
        x = _block(make, block, x)
    x = keras.layers.GlobalAveragePooling2D()(x) if network.global_pooling else keras.layers.Flatten()(x)
    for units in network.dense_units:
        x = keras.layers.Dropout(network.dropout, seed=make.seed())(x)
        x = keras.layers.Dense(units, kernel_initializer=make.kernel())(x)
        x = keras.layers.Activation(network.activation)(x)
    x = keras.layers.Dropout(network.dropout, seed=make.seed())(x)
    # The initializer of the last layer is not searched: no rectifier follows that wants a gain.
    last = keras.initializers.GlorotUniform(seed=make.seed())
    return keras.Model(inputs, keras.layers.Dense(classes, kernel_initializer=last)(x))


def compile_model(model: keras.Model, course: Course, steps: int, epochs: int, device: str) -> None:
    """Give the model its optimizer and loss. Labels are shares of each class, (batch, classes).

    Args:
        model: From ``build_model``.
        course: From ``read_course``.
        steps: Training steps of one epoch.
        epochs: Epochs that the learning rate's schedule spans.
        device: "cpu" or another; XLA makes these small networks 2.05 times slower on a CPU under TensorFlow (measured).
    """
    backend = keras.backend.backend()
    interpreted = backend == "torch" or (backend == "tensorflow" and device == "cpu")
    model.compile(
        optimizer=_optimizer(course, steps * epochs),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=1 if backend == "torch" else min(STEPS_PER_EXECUTION, steps),  # torch takes no more
        jit_compile=False if interpreted else "auto",
    )


class _Maker:
    """Makes the parts of one network, each with the next seed."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        seeds = np.random.SeedSequence(seed).generate_state(64) >> 1  # torch holds them as int32
        self.seed = iter(int(x) for x in seeds).__next__

    def kernel(self) -> Any:
        return _INITIALIZERS[self.network.initializer](seed=self.seed())

    def convolution(self, filters: int, size: int, strides: int, x: Any) -> Any:
        """A convolution and its normalisation."""
        network = self.network
        x = keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=not network.normalized,
            kernel_initializer=self.kernel(),
        )(x)
        if network.normalization == "batch":
            return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
        return keras.layers.LayerNormalization()(x) if network.normalization == "layer" else x


def _block(make: _Maker, block: int, x: Any) -> Any:
    network = make.network
    filters, before, stride = network.filters[block], x, 2 if network.strided else 1
    for conv in range(network.convs_per_block):
        x = make.convolution(filters, network.kernel_size, stride if conv == 0 else 1, x)
        if network.residual and conv == network.convs_per_block - 1:
            if network.projects(block, before.shape[-1]):
                before = make.convolution(filters, 1, stride, before)
            x = keras.layers.Add()([x, before])
        x = keras.layers.Activation(network.activation)(x)
    return x if network.strided else _POOLINGS[network.pooling](2)(x)


@dataclass(slots=True)
class _Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate at each step: a linear rise, and then a constant or half a cosine down to 0."""

    highest: float
    steps: int
    rise: float
    falls: bool

    def __call__(self, step: Any) -> Any:
        share = keras.ops.cast(step, "float32") / self.steps
        rate = keras.ops.ones_like(share)
        if self.falls:
            past = keras.ops.clip((share - self.rise) / (1.0 - self.rise), 0.0, 1.0)
            rate = 0.5 * (1.0 + keras.ops.cos(math.pi * past))
        if self.rise:
            rising = FIRST_SHARE + (1.0 - FIRST_SHARE) * share / self.rise
            rate = keras.ops.where(share < self.rise, rising, rate)
        return self.highest * rate

    def get_config(self) -> dict[str, Any]:
        return {"highest": self.highest, "steps": self.steps, "rise": self.rise, "falls": self.falls}


def _optimizer(course: Course, steps: int) -> Any:
    rise = ONE_CYCLE_RISE if course.schedule == "one_cycle" else course.warmup
    constant = course.schedule == "constant" and not rise
    rate = course.learning_rate if constant else _Rate(course.learning_rate, steps, rise, course.schedule != "constant")
    optimizer = _OPTIMIZERS[course.optimizer](rate, course)
    if course.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


_INITIALIZERS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "he_normal": keras.initializers.HeNormal,
    "he_uniform": keras.initializers.HeUniform,
}
_POOLINGS = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
_OPTIMIZERS: dict[str, Callable[[Any, Course], Any]] = {
    "adam": lambda rate, _: keras.optimizers.Adam(rate),
    "adamw": lambda rate, course: keras.optimizers.AdamW(rate, weight_decay=course.weight_decay),
    "rmsprop": lambda rate, _: keras.optimizers.RMSprop(rate),
    "sgd": lambda rate, course: keras.optimizers.SGD(
        rate,
        momentum=course.momentum,
        nesterov=course.momentum > 0,
        weight_decay=course.weight_decay or None,
    ),
    "lion": lambda rate, course: keras.optimizers.Lion(rate, weight_decay=course.weight_decay or None),
}
