"""Specs, results and strategies that many tests share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from seedpod.errors import Cause
from seedpod.health import COMPONENTS, Health, LayerHealth
from seedpod.objectives import OBJECTIVES
from seedpod.training.datasets import prepare
from seedpod.trial import (
    CLASS_WEIGHTS,
    MOST_FOLDS,
    ParamValue,
    Status,
    TrialFailure,
    TrialProgress,
    TrialResult,
    TrialSpec,
)

SPEC = TrialSpec(
    number=3,
    dataset="digits",
    fingerprint="0123456789abcdef",
    params={"conv_blocks": 2, "learning_rate": 0.001, "activation": "relu", "normalization": "batch"},
    seed=45,
    split_seed=42,
    objectives=("val_accuracy",),
    max_epochs=4,
    min_epochs=1,
    validation_split=0.2,
    max_parameters=1000,
    max_seconds=60.0,
)
TINY: dict[str, ParamValue] = {
    "conv_blocks": 1,
    "convs_per_block": 1,
    "filters_0": 4,
    "kernel_size": 3,
    "activation": "relu",
    "initializer": "he_normal",
    "normalization": "none",
    "residual": False,
    "pooling": "max",
    "global_pooling": False,
    "dense_layers": 0,
    "dropout": 0.2,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "batch_size": 64,
    "label_smoothing": 0.0,
    "augmentation": 0.0,
    "flip": False,
}
"""A network that trains in a moment."""
PROGRESS = TrialProgress(3, 2, 2, 4, 0.5, {"val_accuracy": 0.5, "loss": None}, 1.5)
RESULT = TrialResult(
    number=3,
    status=Status.COMPLETE,
    value=0.75,
    best_epoch=2,
    epochs=4,
    metrics={"val_accuracy": 0.75, "val_loss": None},
    history=({"val_accuracy": 0.5}, {"val_accuracy": 0.75}),
    parameters=1234,
    environment={"keras_backend": "tensorflow", "threads": 1},
    seconds=2.5,
)
HEALTH = Health(
    dict.fromkeys(COMPONENTS, 1.0) | {"live_units": 0.5},
    (LayerHealth("conv_1", 64, 32, 4, 0.1, 1e-3), LayerHealth("output", 0, 0, 0, 0.2, None)),
)
FAILURE = TrialFailure(Cause.DIVERGED, "the loss became nan in epoch 2", "last frames")


def spec(number: int = 0, **changes: Any) -> TrialSpec:
    return replace(SPEC, **{"number": number, "seed": 42 + number, **changes})


def on_digits(cache_dir: Path, **changes: Any) -> TrialSpec:
    """A spec that trains on the prepared digits."""
    real = {"number": 0, "seed": 42, "max_parameters": 1_000_000, "max_seconds": 0.0}
    return replace(SPEC, **{**real, "fingerprint": prepare("digits", cache_dir).fingerprint, **changes})


def complete(number: int, value: float) -> TrialResult:
    return replace(RESULT, number=number, value=value)


def failed(number: int, failure: TrialFailure = FAILURE) -> TrialResult:
    return TrialResult(number, Status.FAILED, error=failure)


_numbers = st.floats(-1e6, 1e6)
_names = st.text(min_size=1, max_size=12)
_values = st.booleans() | st.integers(-(2**53), 2**53) | _numbers | st.text(max_size=12)
_counts = st.integers(0, 2**40)
_metrics = st.dictionaries(_names, st.none() | _numbers, max_size=4)
_units = st.floats(0, 1)
_seconds = st.floats(0, 1e6)

_objectives = st.lists(st.sampled_from(sorted(OBJECTIVES)), min_size=1, unique=True).map(tuple)

specs = st.builds(
    TrialSpec,
    number=_counts,
    dataset=st.text("abXY01_-", min_size=1, max_size=12),
    fingerprint=st.text("0123456789abcdef", min_size=16, max_size=16),
    params=st.dictionaries(_names, _values, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    split_seed=st.integers(0, 2**32 - 1),
    objectives=_objectives,
    max_epochs=st.integers(1, 1000),
    min_epochs=st.integers(1, 1000),
    validation_split=st.floats(0.01, 0.5),
    max_parameters=st.integers(1, 10**12),
    max_seconds=st.floats(0, 7 * 24 * 3600),
    cv_folds=st.integers(1, MOST_FOLDS),
    max_model_mb=_seconds,
    min_accuracy=_units,
    min_accuracy_epochs=st.integers(1, 1000),
    class_weights=st.sampled_from(CLASS_WEIGHTS),
)
progresses = st.builds(
    TrialProgress,
    number=_counts,
    sequence=_counts,
    epoch=_counts,
    max_epochs=st.integers(1, 1000),
    value=st.none() | _numbers,
    metrics=_metrics,
    seconds=_seconds,
    attempt=st.integers(1, 9),
)
_described = {
    "number": _counts,
    "best_epoch": _counts,
    "epochs": _counts,
    "metrics": _metrics,
    "history": st.lists(_metrics, max_size=3).map(tuple),
    "parameters": _counts,
    "environment": st.dictionaries(_names, _values, max_size=3),
    "seconds": _seconds,
    "backend": _names,
    "cost": st.floats(0, 1e3),
    "attempts": st.integers(1, 9),
    "run": st.dictionaries(_names, _values, max_size=3),
}
_failures = st.builds(TrialFailure, st.sampled_from(Cause), st.text(max_size=30), st.text(max_size=30))
results = st.builds(
    TrialResult,
    status=st.just(Status.COMPLETE),
    value=_numbers,
    further=st.lists(_numbers, max_size=3).map(tuple),
    health=st.sampled_from([None, HEALTH]),
    **_described,
) | st.builds(
    TrialResult, status=st.sampled_from([s for s in Status if s is not Status.COMPLETE]), error=_failures, **_described
)
