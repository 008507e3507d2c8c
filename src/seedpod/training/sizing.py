"""How large a model is and how fast it answers."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras

from seedpod.errors import Cause, TrainingError
from seedpod.trial import TrialSpec

BYTES = 4
"""Of a weight: they are float32."""
WARM_UP = 10
"""Answers before those that are timed: the first one compiles."""
REPEATS = 50
"""Answers that are timed."""


def count_parameters(model: keras.Model) -> int:
    """How many numbers training changes."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def megabytes(model: keras.Model) -> float:
    """The size of all weights, moving statistics of normalisations included, in 10^6 bytes; the same on every machine.

    A saved ``model.keras`` holds some kilobytes more, for its architecture, and twice to three times as much where the
    optimizer's state is saved with it.
    """
    return float(sum(math.prod(weight.shape) for weight in model.weights) * BYTES / 1e6)


def check_parameters(parameters: int, spec: TrialSpec) -> None:
    """Raises TrainingError where a model has more trainable parameters than its spec allows."""
    if parameters > spec.max_parameters:
        raise TrainingError(
            f"{parameters:,} trainable parameters, over max_parameters={spec.max_parameters:,}.",
            cause=Cause.TOO_LARGE,
        )


def check_size(weights: int, spec: TrialSpec) -> None:
    """Raises TrainingError where a model of so many weights is larger than its spec allows."""
    size = weights * BYTES / 1e6
    if spec.max_model_mb and size > spec.max_model_mb:
        raise TrainingError(
            f"{size:.4g} MB of weights, over max_model_mb={spec.max_model_mb:g}.", cause=Cause.TOO_LARGE
        )


def latency(model: keras.Model, image: Any, between: Callable[[], None]) -> float:
    """Milliseconds from one image, (1, h, w, c), to its scores: the median of ``REPEATS`` after ``WARM_UP``.

    Timed is ``predict_on_batch``, so Keras's own share of each call is in it, and with it whatever else the machine
    does: it can be compared within a search on one kind of idle worker, and no seed repeats it.

    Args:
        model: The trained model.
        image: One image as it lies in the data set.
        between: Called now and then; what it raises comes out.
    """
    seconds = []
    for _ in range(WARM_UP + REPEATS):
        between()
        began = time.perf_counter()
        model.predict_on_batch(image)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:]) * 1000
