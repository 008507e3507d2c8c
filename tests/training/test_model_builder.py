"""Every configuration becomes a network, or is refused by name. Keras is imported in other processes only."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from seedpod.errors import Cause, TrainingError
from seedpod.training.child import PoolLimits
from seedpod.training.datasets import prepare
from seedpod.training.pool import TrainerPool
from seedpod.training.runtime import configure_environment
from seedpod.trial import ParamValue, TrialProgress, TrialSpec

pytestmark = pytest.mark.processes

Params = dict[str, ParamValue]

TINY: Params = {
    "conv_layers": 1,
    "filters_0": 4,
    "kernel_size": 3,
    "activation": "relu",
    "batch_norm": False,
    "initializer": "he_normal",
    "pooling": "max",
    "global_pooling": False,
    "dropout": 0.2,
    "dense_layers": 0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 64,
}


def layers(conv: int, dense: int, **rest: ParamValue) -> Params:
    """TINY with other numbers of layers."""
    filters = {f"filters_{layer}": 4 * (layer + 1) for layer in range(conv)}
    units = {f"dense_units_{layer}": 8 * (layer + 1) for layer in range(dense)}
    return TINY | filters | units | rest | {"conv_layers": conv, "dense_layers": dense}


CHOICES: dict[str, list[ParamValue]] = {
    "activation": ["relu", "leaky_relu", "swish", "gelu"],
    "conv_layers": [1, 2, 3],
    "dense_layers": [0, 1, 2],
    "initializer": ["glorot_uniform", "he_normal", "he_uniform"],
    "optimizer": ["adam", "rmsprop", "sgd"],
    "pooling": ["max", "average"],
    "batch_norm": [False, True],
    "global_pooling": [False, True],
}
# The fewest networks found in which every value of each choice meets every value of each other one.
NETWORKS: list[tuple[ParamValue, ...]] = [
    ("relu", 1, 0, "he_normal", "adam", "average", True, False),
    ("relu", 2, 2, "he_uniform", "rmsprop", "max", False, False),
    ("relu", 3, 1, "glorot_uniform", "sgd", "max", True, True),
    ("leaky_relu", 1, 2, "glorot_uniform", "rmsprop", "average", True, False),
    ("leaky_relu", 2, 1, "glorot_uniform", "sgd", "max", False, True),
    ("leaky_relu", 3, 1, "he_uniform", "adam", "average", False, False),
    ("leaky_relu", 3, 0, "he_normal", "rmsprop", "average", True, False),
    ("swish", 1, 1, "he_normal", "rmsprop", "average", False, True),
    ("swish", 1, 2, "he_uniform", "sgd", "max", False, True),
    ("swish", 2, 0, "he_uniform", "rmsprop", "max", True, False),
    ("swish", 3, 0, "glorot_uniform", "adam", "max", True, True),
    ("gelu", 1, 0, "he_normal", "sgd", "max", False, False),
    ("gelu", 2, 2, "he_normal", "adam", "average", True, False),
    ("gelu", 3, 2, "he_uniform", "sgd", "average", True, True),
    ("gelu", 3, 1, "glorot_uniform", "rmsprop", "average", False, False),
]


@pytest.fixture(name="base", scope="module")
def base_spec(digits_cache: Path) -> TrialSpec:
    return TrialSpec(
        number=0,
        dataset="digits",
        fingerprint=prepare("digits", digits_cache).fingerprint,
        params=TINY,
        seed=42,
        split_seed=42,
        objective="val_accuracy",
        max_epochs=1,
        min_epochs=1,
        validation_split=0.8,
        max_parameters=1_000_000,
        max_seconds=0.0,
    )


@pytest.fixture(name="pool", scope="module")
def one_warm_process(digits_cache: Path) -> Iterator[TrainerPool]:
    with TrainerPool(1, digits_cache, limits=PoolLimits(trials=1000)) as pool:
        yield pool


@pytest.fixture(name="facts", scope="module")
def facts_of_models() -> Any:
    """What Keras says of some models, asked in a process of its own."""
    program = f"""
        import json
        from seedpod.training import runtime
        runtime.configure_backend()
        import numpy as np
        from seedpod.training.model_builder import build_model

        params = {layers(2, 1, batch_norm=True)!r}
        def build(seed):
            return build_model(params, (8, 8, 1), 10, 16.0, seed)
        def weights(seed):
            return [w.tolist() for w in build(seed).get_weights()]
        model = build(1)
        images = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1)).astype("uint8")
        scaled = build_model(params, (8, 8, 1), 10, 1.0, 1)
        print(json.dumps({{
            "same": weights(1) == weights(1),
            "other": weights(1) != weights(2),
            "trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
            "total": model.count_params(),
            "shape": list(model(images).shape),
            "deviation": float(np.abs(np.asarray(model.predict(images, verbose=0))
                                      - np.asarray(scaled.predict(images / np.float32(16), verbose=0))).max()),
            "layers": [type(layer).__name__ for layer in model.layers],
        }}))
    """
    environment = configure_environment(dict(os.environ))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ignore(_: TrialProgress) -> None:
    pass


def count(params: Mapping[str, Any], side: int = 8, channels: int = 1, classes: int = 10) -> int:
    """Trainable parameters, by hand."""
    total = 0
    for layer in range(params["conv_layers"]):
        filters = params[f"filters_{layer}"]
        # Batch normalisation has a scale and a shift for each filter, and replaces the bias.
        total += params["kernel_size"] ** 2 * channels * filters + filters * (2 if params["batch_norm"] else 1)
        side, channels = side // 2, filters
    width = channels if params["global_pooling"] else side * side * channels
    for layer in range(params["dense_layers"]):
        units = params[f"dense_units_{layer}"]
        total, width = total + (width + 1) * units, units
    return total + (width + 1) * classes


def test_networks_cover_the_choices() -> None:
    """The networks below hold every pair of values of two choices."""
    for (i, some), (j, others) in combinations(enumerate(CHOICES.values()), 2):
        assert {(network[i], network[j]) for network in NETWORKS} == set(product(some, others))


@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=() if i < 3 else (pytest.mark.slow,)) for i, n in enumerate(NETWORKS)],
    ids=str,
)
def test_every_choice_trains(pool: TrainerPool, base: TrialSpec, network: tuple[ParamValue, ...]) -> None:
    """Every value of every choice builds a network of the size that follows from it, and trains."""
    choice = dict(zip(CHOICES, network, strict=True))
    params = layers(int(choice["conv_layers"]), int(choice["dense_layers"]), **choice)
    result = pool.run(replace(base, params=params), ignore)
    assert result.epochs == 1
    assert result.parameters == count(params)


def test_parameters_of_one_network(pool: TrainerPool, base: TrialSpec) -> None:
    """Four 3x3 filters with bias, then ten classes over 4x4x4 values: 40 + 650 parameters."""
    assert pool.run(base, ignore).parameters == 690


def test_parameters_as_keras_counts_them(facts: Any) -> None:
    """What batch normalisation remembers, two numbers a filter, is not trainable."""
    assert facts["trainable"] == count(layers(2, 1, batch_norm=True))
    assert facts["total"] == facts["trainable"] + 2 * (4 + 8)


def test_seed_decides_the_weights(facts: Any) -> None:
    """The same seed gives the same weights, another one others."""
    assert facts["same"]
    assert facts["other"]


def test_model_scales_its_images(facts: Any) -> None:
    """Whole numbers up to pixel_max and the same images as numbers up to 1 give the same scores, one for each class."""
    assert facts["shape"] == [5, 10]
    assert facts["deviation"] < 1e-5


def test_order_of_the_layers(facts: Any) -> None:
    """Blocks of convolution, normalisation, activation and pooling; then dense layers with dropout; then the scores."""
    block = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    dense = ["Dense", "Activation", "Dropout"]
    assert facts["layers"] == ["InputLayer", "Rescaling", *block, *block, "Flatten", *dense, "Dense"]


def refusal(pool: TrainerPool, spec: TrialSpec) -> str:
    """What is said of an impossible configuration, which must not have trained."""
    seen: list[TrialProgress] = []
    with pytest.raises(TrainingError) as caught:
        pool.run(spec, seen.append)
    assert caught.value.cause is Cause.IMPOSSIBLE
    assert seen == []
    return caught.value.message


def test_too_many_poolings(pool: TrainerPool, base: TrialSpec) -> None:
    """Images of 8 by 8 pixels can be halved three times and no more."""
    assert pool.run(replace(base, params=layers(3, 0)), ignore).epochs == 1
    assert "conv_layers = 4" in refusal(pool, replace(base, params=layers(4, 0)))


@pytest.mark.parametrize("name", [*TINY, "dense_units_0"])
def test_missing_parameter(pool: TrainerPool, base: TrialSpec, name: str) -> None:
    """A parameter that is missing is named."""
    params = layers(1, 1)
    del params[name]
    assert f"'{name}' is missing" in refusal(pool, replace(base, params=params))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "softsign"),
        ("activation", 3),
        ("initializer", "zeros"),
        ("optimizer", "Adam"),
        ("pooling", ""),
        ("batch_norm", "no"),
        ("batch_norm", 1),
        ("global_pooling", 0.0),
        ("conv_layers", 0),
        ("conv_layers", 1.5),
        ("filters_0", -4),
        ("filters_0", "8"),
        ("filters_0", True),
        ("kernel_size", 0),
        ("dense_layers", 9),
        ("dense_units_0", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", 1e4),
        ("learning_rate", "fast"),
        ("batch_size", 0),
        ("batch_size", 32.5),
    ],
)
def test_impossible_value(pool: TrainerPool, base: TrialSpec, name: str, value: ParamValue) -> None:
    """A value that a parameter cannot have is refused with the parameter's name and the value."""
    assert f"{name} = {value!r}" in refusal(pool, replace(base, params=layers(1, 1) | {name: value}))


def test_batch_larger_than_the_images(pool: TrainerPool, base: TrialSpec) -> None:
    """A batch is at most all training images."""
    assert pool.run(replace(base, params=TINY | {"batch_size": 4096}), ignore).epochs == 1
