"""Looks into a trained network: its units, its gradients, its steps. The one part of health that needs Keras.

The probe is ``IMAGES`` validation images, the same for all trials of a search. Dropout is off and normalisations use
what they have learned, so that nothing is drawn: on a CPU the same weights show the same to the last bit.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from seedpod.health import LayerHealth

IMAGES = 128
"""Images of the probe: enough to see a unit fire that serves one class of ten, and a training batch in memory."""
CONSTANT = 1e-6
"""A unit is dead where what it gives varies by less than this share of the largest output of its layer."""
FLAT = 0.05
"""Slope of an activation below which it passes nearly no gradient."""
SELDOM = 0.05
"""Share of the images below which a unit seldom passes one."""
_STEP = 1e-3  # of the numerical slope, by the size of the input: far above the rounding of float32
_DIGITS = 4  # significant ones that are kept of norms


@dataclass(frozen=True, slots=True)
class Part:
    """A layer with a kernel, by the name that people know it by, and the activation behind it."""

    name: str
    layer: Any
    activation: Any = None


class StepWatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures how large the steps of each layer are beside its kernel.

    Over an epoch, ``n`` steps from kernel ``a`` to kernel ``b`` count as ``|b - a| / (|b| sqrt(n))`` each: the steps of
    mini-batches are mostly noise and add up like a random walk. Of all epochs the middle one counts (the median), for a
    schedule that lets the rate rise from 0, or fall to 0, would make every first or last step look ill.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: list[np.ndarray] = []
        self._ratios: dict[str, list[float]] = {}

    def on_train_begin(self, logs: object = None) -> None:  # noqa: ARG002, D102 - Keras calls it so
        self._before = self._kernels()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002, D102 - Keras calls it so
        now, steps = self._kernels(), int(self.params["steps"])
        for part, old, new in zip(parts_of(self.model), self._before, now, strict=True):
            ratio = _norm(new - old) / (_norm(new) or 1.0) / steps**0.5
            self._ratios.setdefault(part.name, []).append(ratio)
        self._before = now

    @property
    def ratios(self) -> dict[str, float]:
        """The ratio of each layer, by name."""
        return {name: statistics.median(ratios) for name, ratios in self._ratios.items()}

    def _kernels(self) -> list[np.ndarray]:
        # A copy: under JAX and torch the array may be the very memory that the next step overwrites.
        return [_numpy(keras.ops.copy(part.layer.kernel)) for part in parts_of(self.model)]


def probe_rows(validation: np.ndarray, seed: int) -> np.ndarray:
    """Which images are looked at: ``IMAGES`` of the validation images, or all of them, in order."""
    return np.sort(np.random.default_rng([seed, IMAGES]).permutation(validation)[:IMAGES])


def look(model: keras.Model, images: np.ndarray, labels: np.ndarray, steps: Mapping[str, float]) -> list[LayerHealth]:
    """What the layers of a trained network show.

    Args:
        model: Images (n, height, width, channels) -> logits (n, classes), of layers with kernels and ``Activation``s.
        images: The probe.
        labels: The right classes, (n,).
        steps: See ``StepWatch.ratios``.
    """
    parts = parts_of(model)
    seen = [part for part in parts if part.activation is not None]
    ends = [tensor for part in seen for tensor in (part.activation.input, part.activation.output)]
    # One pass for all: between layers the probe has as many numbers as a training batch.
    gradients, answers = _pass(keras.Model(model.inputs[0], [model.outputs[0], *ends]), images, labels)
    units = {
        part.name: _count(part.activation.activation, before, after)
        for part, before, after in zip(seen, answers[::2], answers[1::2], strict=True)
    }
    return [
        LayerHealth(
            part.name,
            *units.get(part.name, (0, 0, 0)),
            gradient=_kept(_norm(*(gradients[weight.path] for weight in part.layer.trainable_weights))),
            update=_kept(steps[part.name]),
        )
        for part in parts
    ]


def parts_of(model: keras.Model) -> list[Part]:
    """The layers with a kernel, in order: ``conv_1``, ``dense_1`` and so on up to ``output``.

    Where several come before one activation, the further ones bring a block's input to its end: ``conv_2_shortcut``.
    """
    parts: list[Part] = []
    waiting: list[Any] = []
    counts = {"conv": 0, "dense": 0}
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            waiting.append(layer)
        elif isinstance(layer, keras.layers.Activation) and waiting:
            kind = "dense" if isinstance(waiting[0], keras.layers.Dense) else "conv"
            counts[kind] += 1
            name = f"{kind}_{counts[kind]}"
            parts += [Part(name, waiting[0], layer), *(Part(f"{name}_shortcut", each) for each in waiting[1:])]
            waiting = []
    return [*parts, *(Part("output", layer) for layer in waiting)]


def _count(activation: Any, before: np.ndarray, after: np.ndarray) -> tuple[int, int, int]:
    """Units, dead and saturated ones, by what goes into an activation and what comes out, (n, ..., units) each."""
    places = tuple(range(1, after.ndim - 1))
    lowest, highest = after.min(axis=(0, *places)), after.max(axis=(0, *places))
    dead = highest - lowest <= CONSTANT * np.abs(after).max()
    step = np.float32(_STEP) * np.maximum(np.float32(1.0), np.abs(before))
    slope = np.abs(_numpy(activation(before + step)) - after) / step
    seldom = np.mean(slope.max(axis=places) >= FLAT, axis=0) < SELDOM
    return len(dead), int(dead.sum()), int((seldom & ~dead).sum())


def _pass(probe: keras.Model, images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """One pass forth and back.

    Returns:
        The gradient of the mean cross-entropy by each trainable weight, by the weight's path; and what ``probe``
        answers beside the logits, which come first.
    """
    weights = probe.trainable_variables
    values = [weight.value for weight in weights]
    backend = keras.backend.backend()

    def loss(logits: Any) -> Any:
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits, *others = probe(images, training=False)
            told = loss(logits)
        found = tape.gradient(told, values)
    elif backend == "jax":
        import jax

        fixed = [weight.value for weight in probe.non_trainable_variables]

        def answer(trained: Any) -> Any:
            (logits, *rest), _ = probe.stateless_call(trained, fixed, images, training=False)
            return loss(logits), rest

        found, others = jax.jit(jax.grad(answer, has_aux=True))(values)
    else:
        import torch

        logits, *others = probe(images, training=False)
        found = torch.autograd.grad(loss(logits), values)
    gradients = {weight.path: _numpy(gradient) for weight, gradient in zip(weights, found, strict=True)}
    return gradients, [_numpy(each) for each in others]


def _norm(*arrays: np.ndarray) -> float:
    """Euclidean norm of all numbers together, summed as doubles."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays) ** 0.5)


def _kept(norm: float) -> float | None:
    """The norm to so many digits as say something; None where it is not finite."""
    return float(f"{norm:.{_DIGITS}g}") if np.isfinite(norm) else None


def _numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = keras.ops.convert_to_numpy(tensor)
    return array
