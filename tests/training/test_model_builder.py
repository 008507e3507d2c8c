"""Every configuration becomes a network, or is refused by name. Keras is imported in other processes only."""

import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from samples import TINY, on_digits
from seedpod.config import OptimizationConfig
from seedpod.errors import Cause, TrainingError
from seedpod.hyperparameters import HYPERPARAMETERS, Truth, Word
from seedpod.search.sampler import make_sampler
from seedpod.search.space import Images, SearchSpace
from seedpod.search.space_file import read_definition
from seedpod.training.child import PoolLimits
from seedpod.training.network import read_course, read_network
from seedpod.training.pool import TrainerPool
from seedpod.training.runtime import configure_environment
from seedpod.trial import ParamValue, TrialProgress, TrialSpec

pytestmark = pytest.mark.processes

Params = dict[str, ParamValue]


def layers(conv: int, dense: int, **rest: ParamValue) -> Params:
    """TINY with other numbers of layers, and what some of its optimizers read."""
    filters = {f"filters_{layer}": 4 * (layer + 1) for layer in range(conv)}
    units = {f"dense_units_{layer}": 8 * (layer + 1) for layer in range(dense)}
    read = {"momentum": 0.9, "weight_decay": 0.01}
    return TINY | filters | units | read | rest | {"conv_blocks": conv, "dense_layers": dense}


# Every word and every truth comes at least once, and with different others.
NETWORKS: list[Params] = [
    layers(2, 1, normalization="batch", pooling="strided", residual=True, optimizer="adamw", schedule="one_cycle"),
    layers(1, 0, normalization="layer", pooling="average", activation="gelu", optimizer="sgd", schedule="cosine"),
    layers(3, 2, convs_per_block=2, residual=True, activation="swish", optimizer="lion", global_pooling=True),
    layers(1, 1, augmentation=0.7, label_smoothing=0.1, optimizer="rmsprop", schedule="cosine", warmup=0.2),
    layers(2, 0, augmentation=1.0, flip=True, initializer="glorot_uniform", activation="leaky_relu", warmup=0.3),
    layers(
        3,
        0,
        pooling="strided",
        normalization="layer",
        initializer="he_uniform",
        residual=True,
        momentum=0.0,
        optimizer="sgd",
    ),
]


@pytest.fixture(name="base", scope="module")
def base_spec(digits_cache: Path) -> TrialSpec:
    return on_digits(digits_cache, params=TINY, max_epochs=1, validation_split=0.5)


@pytest.fixture(name="pool", scope="module")
def one_warm_process(digits_cache: Path) -> Iterator[TrainerPool]:
    with TrainerPool(1, digits_cache, limits=PoolLimits(trials=1000), standby=0) as pool:
        yield pool


def random_configurations() -> list[tuple[Params, tuple[int, int, int]]]:
    """Of the wide space, for several images' shapes."""
    space = read_definition(OptimizationConfig(search_space="wide"))
    cases = []
    for seed, shape in enumerate([(8, 8, 1), (28, 28, 1), (5, 40, 1), (33, 17, 3), (2, 2, 1), (64, 48, 3)] * 2):
        study = optuna.create_study(sampler=make_sampler("random", seed, 1, None))
        cases.append((SearchSpace(space, Images(shape, 999, (1, 1), mirrored=True)).suggest(study.ask()), shape))
    return cases


@pytest.fixture(name="said", scope="module")
def said_by_keras() -> Any:
    """What Keras says of one network and of random ones, asked in a process of its own."""
    program = f"""
        import json
        from seedpod.training import runtime
        runtime.configure_backend()
        import keras
        import numpy as np
        from seedpod.training.model_builder import build_model, compile_model
        from seedpod.training.network import read_course, read_network

        params = {layers(2, 1, normalization="batch")!r}
        network = read_network(params, (8, 8, 1))
        def build(seed):
            return build_model(network, (8, 8, 1), 10, 16.0, seed)
        def rates(**changes):
            compiled = build(1)
            compile_model(compiled, read_course(params | changes), 10, 10, "cpu")
            rate = compiled.optimizer._learning_rate
            return [float(rate(step)) if callable(rate) else float(rate) for step in range(101)]
        def weights(seed):
            return [w.tolist() for w in build(seed).get_weights()]
        model = build(1)
        images = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1)).astype("uint8")
        scaled = build_model(network, (8, 8, 1), 10, 1.0, 1)
        facts = {{
            "same": weights(1) == weights(1),
            "other": weights(1) != weights(2),
            "trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
            "total": model.count_params(),
            "shape": list(model(images).shape),
            "deviation": float(np.abs(np.asarray(model.predict(images, verbose=0))
                                      - np.asarray(scaled.predict(images / np.float32(16), verbose=0))).max()),
            "layers": [type(layer).__name__ for layer in model.layers],
            "constant": rates(schedule="constant", learning_rate=0.5),
            "rising": rates(schedule="constant", warmup=0.2, learning_rate=0.5),
            "cosine": rates(schedule="cosine", learning_rate=0.5),
            "one_cycle": rates(schedule="one_cycle", learning_rate=0.5),
        }}

        counted = []
        for i, (params, shape) in enumerate({random_configurations()!r}):
            network, course = read_network(params, shape), read_course(params)
            model = build_model(network, shape, 7, 255.0, 1)
            built = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
            loss = 0.0
            if i < 6:  # a step of each image's size
                compile_model(model, course, 1, 1, "cpu")
                model.run_eagerly = True  # the same step without a graph, which costs seconds for each of these
                images = np.random.default_rng(i).integers(0, 256, (4, *shape)).astype("uint8")
                loss = float(model.train_on_batch(images, np.eye(7, dtype="float32")[[0, 1, 2, 3]])[0])
            held = sum(int(np.prod(weight.shape)) for weight in model.weights)
            counted.append([built, network.parameters(shape, 7), loss, held, network.weights(shape, 7)])
            keras.backend.clear_session()
        print(json.dumps([facts, counted]))
    """
    environment = configure_environment(dict(os.environ))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(name="facts", scope="module")
def facts_of_one_network(said: Any) -> Any:
    """What Keras says of one network."""
    return said[0]


@pytest.fixture(name="counted", scope="module")
def counted_by_keras(said: Any) -> Any:
    """Of random configurations: what Keras says that their models have, and we."""
    return said[1]


def ignore(_: TrialProgress) -> None:
    pass


def count(params: Params, side: int = 8) -> int:
    return read_network(params, (side, side, 1)).parameters((side, side, 1), 10)


@pytest.mark.parametrize(
    "params", [pytest.param(n, marks=() if i < 3 else (pytest.mark.slow,)) for i, n in enumerate(NETWORKS)]
)
def test_every_choice_trains(pool: TrainerPool, base: TrialSpec, params: Params) -> None:
    """Every word and truth builds a network of the size that follows from it, and trains, the same each time."""
    result = pool.run(replace(base, params=params), ignore)
    assert result.epochs == 1
    assert result.parameters == count(params)
    assert pool.run(replace(base, params=params), ignore).history == result.history


def test_networks_hold_every_choice() -> None:
    """The networks above have every word and both truths of every hyperparameter."""
    for each in HYPERPARAMETERS:
        wanted = set(each.kind.words) if isinstance(each.kind, Word) else {True, False}
        if isinstance(each.kind, Word | Truth):
            assert {network[each.name] for network in NETWORKS} == wanted, each.name


def test_parameters_of_one_network(pool: TrainerPool, base: TrialSpec) -> None:
    """Four 3x3 filters with bias, then ten classes over 4x4x4 values: 40 + 650 parameters."""
    assert pool.run(base, ignore).parameters == 690


def test_parameters_are_counted_as_keras_counts_them(counted: list[list[float]]) -> None:
    """The size that is known before anything is allocated is that of Keras's model, for any configuration."""
    assert [row[0] for row in counted] == [row[1] for row in counted]
    assert [row[3] for row in counted] == [row[4] for row in counted]


def test_any_configuration_takes_a_training_step(counted: list[list[float]]) -> None:
    """Configurations of the wide space take a step on images of 2x2 to 64x48 pixels, square or not."""
    assert all(math.isfinite(row[2]) for row in counted)
    assert all(row[2] > 0 for row in counted[:6])


def test_what_is_remembered_is_not_trainable(facts: Any) -> None:
    """What batch normalisation remembers, two numbers a filter, is not counted."""
    assert facts["trainable"] == count(layers(2, 1, normalization="batch"))
    assert facts["total"] == facts["trainable"] + 2 * (4 + 8)


def test_too_large_networks_are_never_built(pool: TrainerPool, base: TrialSpec) -> None:
    """A network of 10^9 parameters is refused at once, before its weights would take the memory."""
    huge = layers(1, 1, dense_units_0=4096) | {"filters_0": 1024, "convs_per_block": 4, "kernel_size": 11}
    with pytest.raises(TrainingError, match="trainable parameters, over max_parameters=1,000,000") as caught:
        pool.run(replace(base, params=huge), ignore)
    assert caught.value.cause is Cause.TOO_LARGE
    with pytest.raises(TrainingError, match="MB of weights, over max_model_mb=20"):
        pool.run(replace(base, params=huge, max_parameters=10**12, max_model_mb=20.0), ignore)


def test_schedules(facts: Any) -> None:
    """Constant rates stay, warm-up rises from 1/25 of the rate, cosines end at 0, and one cycle does both."""
    assert set(facts["constant"]) == {0.5}
    assert facts["rising"][0] == pytest.approx(0.02)
    assert facts["rising"][20:] == [0.5] * 81
    assert facts["cosine"][0] == 0.5
    assert facts["cosine"][50] == pytest.approx(0.25)
    assert facts["cosine"][100] == pytest.approx(0, abs=1e-6)
    assert facts["one_cycle"][0] == pytest.approx(0.02)
    assert max(facts["one_cycle"]) == facts["one_cycle"][20] == 0.5
    assert facts["one_cycle"][100] == pytest.approx(0, abs=1e-6)


def test_seed_decides_the_weights(facts: Any) -> None:
    """The same seed gives the same weights, another one others."""
    assert facts["same"]
    assert facts["other"]


def test_model_scales_its_images(facts: Any) -> None:
    """Whole numbers up to pixel_max and the same images as numbers up to 1 give the same scores, one for each class."""
    assert facts["shape"] == [5, 10]
    assert facts["deviation"] < 1e-5


def test_order_of_the_layers(facts: Any) -> None:
    """Blocks of convolution, normalisation, activation and pooling; then dense layers, each behind dropout."""
    block = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    dense = ["Dropout", "Dense", "Activation"]
    assert facts["layers"] == ["InputLayer", "Rescaling", *block, *block, "Flatten", *dense, "Dropout", "Dense"]


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
    assert "conv_blocks = 4" in refusal(pool, replace(base, params=layers(4, 0)))


def test_a_trial_lacks_a_parameter(pool: TrainerPool, base: TrialSpec) -> None:
    """A trial that cannot be is refused by its trainer as by those who only read it."""
    params = layers(1, 1)
    del params["batch_size"]
    assert refusal(pool, replace(base, params=params)) == misreading(params)


def misreading(params: Params) -> str:
    """What is said of hyperparameters that cannot be."""

    def read() -> None:
        read_course(params)
        read_network(params, (8, 8, 1))

    with pytest.raises(TrainingError) as caught:
        read()
    assert caught.value.cause is Cause.IMPOSSIBLE
    return caught.value.message


@pytest.mark.parametrize("name", [*TINY, "dense_units_0"])
def test_missing_parameter(name: str) -> None:
    """A parameter that is missing is named."""
    params = layers(1, 1)
    del params[name]
    assert f"'{name}' is missing" in misreading(params)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "softsign"),
        ("activation", 3),
        ("initializer", "zeros"),
        ("optimizer", "Adam"),
        ("pooling", ""),
        ("normalization", True),
        ("residual", "no"),
        ("residual", 1),
        ("schedule", "linear"),
        ("warmup", 0.9),
        ("label_smoothing", -0.1),
        ("augmentation", 1.5),
        ("flip", 0),
        ("global_pooling", 0.0),
        ("conv_blocks", 0),
        ("conv_blocks", 1.5),
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
def test_impossible_value(name: str, value: ParamValue) -> None:
    """A value that a parameter cannot have is refused with the parameter's name and the value."""
    assert f"{name} = {value!r}" in misreading(layers(1, 1) | {name: value})


def test_batch_larger_than_the_images(pool: TrainerPool, base: TrialSpec) -> None:
    """A batch is at most all training images."""
    assert pool.run(replace(base, params=TINY | {"batch_size": 4096}), ignore).epochs == 1
