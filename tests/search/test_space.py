"""Whatever the space suggests can be built and trained, whatever the images."""

from collections.abc import Mapping

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedpod.search.sampler import make_sampler
from seedpod.search.space import (
    ACTIVATIONS,
    BATCH_SIZES,
    INITIALIZERS,
    MOST_CONV_LAYERS,
    OPTIMIZERS,
    POOLINGS,
    SearchSpace,
)
from seedpod.trial import ParamValue, canonical_json

optuna.logging.set_verbosity(optuna.logging.ERROR)

ALWAYS = {
    "conv_layers",
    "kernel_size",
    "activation",
    "initializer",
    "batch_norm",
    "pooling",
    "global_pooling",
    "dense_layers",
    "dropout",
    "optimizer",
    "learning_rate",
    "batch_size",
    "epochs",
}
"""What ``build_model``, ``compile_model`` and the trainer read in every trial."""
CHOICES = {
    "activation": ACTIVATIONS,
    "initializer": INITIALIZERS,
    "optimizer": OPTIMIZERS,
    "pooling": POOLINGS,
    "batch_norm": (False, True),
    "global_pooling": (False, True),
}


def suggestions(space: SearchSpace, seed: int, count: int = 1) -> list[dict[str, ParamValue]]:
    study = optuna.create_study(sampler=make_sampler("random", seed, 1, None))
    return [space.suggest(study.ask()) for _ in range(count)]


def names_of(params: Mapping[str, ParamValue]) -> set[str]:
    filters = {f"filters_{layer}" for layer in range(int(params["conv_layers"]))}
    return ALWAYS | filters | {f"dense_units_{layer}" for layer in range(int(params["dense_layers"]))}


def complaints(params: Mapping[str, ParamValue], space: SearchSpace) -> list[str]:
    """What ``build_model`` and the trainer would refuse: their rules, without Keras."""
    side = min(space.image_shape[:2])
    layers = int(params["conv_layers"])
    low, high = space.epochs
    rules = {
        "names": set(params) == names_of(params),
        "poolings": 1 <= layers <= MOST_CONV_LAYERS and side >> layers >= 1,
        "kernel": 1 <= int(params["kernel_size"]) <= side,
        "filters": all(1 <= int(params[f"filters_{layer}"]) <= 1024 for layer in range(layers)),
        "units": all(1 <= int(params[name]) <= 4096 for name in params if name.startswith("dense_units_")),
        "dropout": 0 <= float(params["dropout"]) <= 0.95,
        "rate": 1e-9 <= float(params["learning_rate"]) <= 100,
        "batch": 1 <= int(params["batch_size"]) <= space.train_images,
        "epochs": low <= int(params["epochs"]) <= high,
        "choices": all(params[name] in values for name, values in CHOICES.items()),
        "types": all(isinstance(params[name], bool) for name in ("batch_norm", "global_pooling")),
    }
    return [name for name, holds in rules.items() if not holds]


spaces = st.builds(
    SearchSpace,
    image_shape=st.tuples(st.integers(2, 64), st.integers(2, 64), st.sampled_from([1, 3])),
    train_images=st.integers(1, 300) | st.just(60_000),
    epochs=st.tuples(st.integers(1, 20), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    activations=st.lists(st.sampled_from(ACTIVATIONS), min_size=1, unique=True),
)


@settings(deadline=None)
@given(spaces, st.integers(0, 2**32 - 1))
def test_every_suggestion_can_be_built(space: SearchSpace, seed: int) -> None:
    """For any image from 2x2 to 64x64, square or not, and any number of images, no suggestion breaks a rule."""
    for params in suggestions(space, seed, 3):
        assert complaints(params, space) == []
        assert params["activation"] in space.activations


@pytest.mark.parametrize(
    ("side", "most"), [(2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3), (16, 4), (28, 4), (32, 4), (224, 4)]
)
def test_depth_follows_from_the_smaller_side(side: int, most: int) -> None:
    """As many convolutions are searched as the smaller side can be halved, four at most, and all depths occur."""
    for shape in ((side, side, 1), (side, 300, 1), (300, side, 3)):
        depths = {params["conv_layers"] for params in suggestions(SearchSpace(shape, 1000, (1, 2)), 1, 60)}
        assert depths == set(range(1, most + 1))


@pytest.mark.parametrize("side", [2, 3, 4, 5, 8])
def test_kernels_fit_the_images(side: int) -> None:
    """No kernel is larger than the image, and images of two pixels still have one."""
    kernels = {params["kernel_size"] for params in suggestions(SearchSpace((side, 64, 1), 1000, (1, 2)), 1, 40)}
    assert kernels == ({1} if side < 3 else {3} if side < 5 else {3, 5})


@pytest.mark.parametrize("images", [1, 2, 31, 32, 63, 100, 256, 60_000])
def test_batches_fit_the_training_set(images: int) -> None:
    """No batch is larger than the training set; a tiny one is a single batch."""
    sizes = {params["batch_size"] for params in suggestions(SearchSpace((8, 8, 1), images, (1, 2)), 1, 60)}
    assert sizes == ({size for size in BATCH_SIZES if size <= images} or {images})


@pytest.mark.parametrize("override", [("relu",), ("gelu", "swish")])
def test_activation_override_is_honoured(override: tuple[str, ...]) -> None:
    """Where the user names activations, no other one is suggested, and each of them is."""
    space = SearchSpace((8, 8, 1), 1000, (1, 2), activations=override)
    assert {params["activation"] for params in suggestions(space, 1, 40)} == set(override)


def test_every_choice_occurs() -> None:
    """All choices of all categories are really searched."""
    found = suggestions(SearchSpace((28, 28, 1), 60_000, (1, 9)), 1, 200)
    for name, values in {**CHOICES, "batch_size": BATCH_SIZES, "dense_layers": (0, 1, 2)}.items():
        assert {params[name] for params in found} == set(values), name


def test_single_number_of_epochs() -> None:
    """Where fewest and most epochs are equal, that is what every trial gets."""
    assert {params["epochs"] for params in suggestions(SearchSpace((8, 8, 1), 99, (7, 7)), 1, 9)} == {7}


def test_suggestions_are_plain_data() -> None:
    """Suggestions are plain Python values that JSON holds exactly."""
    for params in suggestions(SearchSpace((8, 8, 1), 99, (1, 7)), 1, 20):
        assert all(type(value) in {bool, int, float, str} for value in params.values())
        canonical_json(params)


@pytest.mark.parametrize("side", [2, 3, 8, 28, 64])
@pytest.mark.parametrize("train_images", [5, 100, 50_000])
def test_sensible_choice_lies_in_the_space(side: int, train_images: int) -> None:
    """What trial 0 tries can be suggested: every value of it is taken as it is, and none is missing."""
    space = SearchSpace((side, side, 1), train_images, (3, 7), ("gelu", "relu"))
    study = optuna.create_study()
    study.enqueue_trial(space.sensible())
    assert space.suggest(study.ask()) == space.sensible()
