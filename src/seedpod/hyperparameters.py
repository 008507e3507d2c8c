"""Every hyperparameter that the model and its training read: what values it takes, and in which trials it is read.

The one list that the search space, the model builder and the trainer share; knows neither Optuna nor Keras.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from seedpod.trial import ParamValue


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        """The end of the sentence "it must be ..."."""
        return f"a whole number from {self.low} to {self.high}"

    def takes(self, value: ParamValue) -> bool:
        """Whether ``value`` is one."""
        return _is_number(value) and self.low <= float(value) <= self.high and float(value).is_integer()


@dataclass(frozen=True, slots=True)
class Real:
    """A number from ``low`` to ``high``."""

    low: float
    high: float

    @property
    def wanted(self) -> str:
        """The end of the sentence "it must be ..."."""
        return f"a number from {self.low:g} to {self.high:g}"

    def takes(self, value: ParamValue) -> bool:
        """Whether ``value`` is one."""
        return _is_number(value) and self.low <= float(value) <= self.high


@dataclass(frozen=True, slots=True)
class Word:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        """The end of the sentence "it must be ..."."""
        return f"one of {', '.join(self.words)}"

    def takes(self, value: ParamValue) -> bool:
        """Whether ``value`` is one."""
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True, slots=True)
class Truth:
    """Yes or no."""

    @property
    def wanted(self) -> str:
        """The end of the sentence "it must be ..."."""
        return "true or false"

    def takes(self, value: ParamValue) -> bool:
        """Whether ``value`` is one."""
        return isinstance(value, bool)


Kind = Whole | Real | Word | Truth


class Only(NamedTuple):
    """A hyperparameter is read only where another one has one of these values."""

    name: str
    values: tuple[ParamValue, ...]


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One hyperparameter.

    Attributes:
        name: How trials call it; one for each layer has the layer's number behind it: ``filters_0``.
        kind: The values that the model can be built and trained with.
        help: What it is.
        each: The hyperparameter that says how many of this one there are; empty where there is one.
        only: Where it is read; everywhere where that is None.
    """

    name: str
    kind: Kind
    help: str
    each: str = ""
    only: Only | None = None


DECAYING = ("adamw", "sgd", "lion")
"""The optimizers that take a weight decay."""

HYPERPARAMETERS = (
    Hyperparameter("conv_blocks", Whole(1, 8), "blocks of convolutions, each of which halves the image"),
    Hyperparameter("convs_per_block", Whole(1, 4), "convolutions in a block"),
    Hyperparameter("filters", Whole(1, 1024), "filters of each convolution in a block", each="conv_blocks"),
    Hyperparameter("kernel_size", Whole(1, 11), "pixels of a kernel's side"),
    Hyperparameter("activation", Word(("relu", "leaky_relu", "swish", "gelu")), "what follows each hidden layer"),
    Hyperparameter("initializer", Word(("glorot_uniform", "he_normal", "he_uniform")), "of all kernels but the last"),
    Hyperparameter("normalization", Word(("none", "batch", "layer")), "between convolution and activation"),
    Hyperparameter("residual", Truth(), "whether a block's input is added to its output"),
    Hyperparameter(
        "pooling",
        Word(("max", "average", "strided")),
        "how a block halves the image; strided: by its first convolution",
    ),
    Hyperparameter("global_pooling", Truth(), "one mean for each filter after the blocks; false: every pixel"),
    Hyperparameter("dense_layers", Whole(0, 4), "hidden dense layers"),
    Hyperparameter("dense_units", Whole(1, 4096), "units of a hidden dense layer", each="dense_layers"),
    Hyperparameter("dropout", Real(0.0, 0.95), "share of values dropped before each dense layer, the last included"),
    Hyperparameter(
        "optimizer", Word(("adam", "adamw", "rmsprop", "sgd", "lion")), "the optimizer; sgd has Nesterov momentum"
    ),
    Hyperparameter("learning_rate", Real(1e-9, 100.0), "the highest learning rate"),
    Hyperparameter("momentum", Real(0.0, 0.999), "the momentum of sgd", only=Only("optimizer", ("sgd",))),
    Hyperparameter(
        "weight_decay",
        Real(0.0, 1.0),
        "decoupled decay of kernels, times the learning rate",
        only=Only("optimizer", DECAYING),
    ),
    Hyperparameter("schedule", Word(("constant", "cosine", "one_cycle")), "how the learning rate goes over a trial"),
    Hyperparameter(
        "warmup",
        Real(0.0, 0.5),
        "share of all steps in which the learning rate rises",
        only=Only("schedule", ("constant", "cosine")),
    ),
    Hyperparameter("batch_size", Whole(1, 65536), "images a training step"),
    Hyperparameter("label_smoothing", Real(0.0, 0.5), "share of a label that is spread over all classes"),
    Hyperparameter("augmentation", Real(0.0, 1.0), "how far training images are shifted, turned and zoomed"),
    Hyperparameter("flip", Truth(), "whether training images are mirrored left to right"),
    Hyperparameter("epochs", Whole(1, 1000), "epochs of a trial"),
)
NAMES = tuple(each.name for each in HYPERPARAMETERS)
_BY_NAME = {each.name: each for each in HYPERPARAMETERS}


def known(name: str) -> Hyperparameter | None:
    """The hyperparameter of that name; ``filters_2`` is one of ``filters``. None where there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    stem, _, layer = name.rpartition("_")
    found = _BY_NAME.get(stem)
    if found is None or not found.each or not (layer.isascii() and layer.isdigit()) or str(int(layer)) != layer:
        return None
    count = _BY_NAME[found.each].kind
    return found if isinstance(count, Whole) and int(layer) < count.high else None


def layer_of(name: str) -> int:
    """The layer that a hyperparameter for one layer is for: 2 for ``filters_2``."""
    return int(name.rpartition("_")[2])


def is_read(name: str, values: Mapping[str, ParamValue]) -> bool:
    """Whether a model with ``values`` reads the hyperparameter; those that it depends on are among them where read."""
    each = known(name)
    if each is None:
        return False
    if each.each:
        return layer_of(name) < int(values[each.each])
    return each.only is None or values.get(each.only.name) in each.only.values


def expanded(name: str) -> tuple[str, ...]:
    """The names that trials know a hyperparameter by: ``filters`` is ``filters_0`` to ``filters_7``."""
    each = _BY_NAME[name]
    if not each.each:
        return (name,)
    count = _BY_NAME[each.each].kind
    return tuple(f"{name}_{layer}" for layer in range(count.high)) if isinstance(count, Whole) else ()


def _is_number(value: ParamValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
