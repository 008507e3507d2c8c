"""Hyperparameters read: a network and its training as plain values, and how large the network is. Without Keras."""

from collections.abc import Mapping
from dataclasses import dataclass

from seedpod.errors import Cause, TrainingError
from seedpod.hyperparameters import is_read, known
from seedpod.trial import ParamValue

STRIDED = "strided"
_MOVING = 2  # numbers that batch normalisation remembers of a channel: mean and variance
_NORMALIZED = 2  # trainable numbers of a normalised channel: scale and shift


@dataclass(frozen=True, slots=True)
class Network:
    """What a classifier is made of; the fields are those hyperparameters, see ``seedpod.hyperparameters``."""

    filters: tuple[int, ...]
    convs_per_block: int
    kernel_size: int
    activation: str
    initializer: str
    normalization: str
    residual: bool
    pooling: str
    global_pooling: bool
    dense_units: tuple[int, ...]
    dropout: float

    @property
    def normalized(self) -> bool:
        """Whether there is a normalisation, which replaces the convolutions' bias."""
        return self.normalization != "none"

    @property
    def strided(self) -> bool:
        """Whether a block halves the image by its first convolution."""
        return self.pooling == STRIDED

    def halved(self, side: int) -> int:
        """Pixels of a side behind a block."""
        return (side + 1) // 2 if self.strided else side // 2

    def projects(self, block: int, channels: int) -> bool:
        """Whether a block's input, of so many channels, must be projected to be added to its output."""
        return self.residual and (self.strided or channels != self.filters[block])

    def parameters(self, image_shape: tuple[int, int, int], classes: int) -> int:
        """Trainable parameters, from the shapes alone: nothing is allocated."""
        height, width, channels = image_shape
        beside = _NORMALIZED if self.normalized else 1  # numbers of a channel beside its kernel
        total = 0
        for block, filters in enumerate(self.filters):
            if self.projects(block, channels):
                total += channels * filters + beside * filters
            for _ in range(self.convs_per_block):
                total += self.kernel_size**2 * channels * filters + beside * filters
                channels = filters
            height, width = self.halved(height), self.halved(width)
        features = channels if self.global_pooling else height * width * channels
        for units in (*self.dense_units, classes):
            total, features = total + (features + 1) * units, units
        return total

    def weights(self, image_shape: tuple[int, int, int], classes: int) -> int:
        """All weights of the model: its parameters, and the moving statistics of batch normalisation, two a channel."""
        if self.normalization != "batch":
            return self.parameters(image_shape, classes)
        channels = image_shape[2]
        normalized = 0
        for block, filters in enumerate(self.filters):
            normalized += filters * (self.convs_per_block + self.projects(block, channels))
            channels = filters
        return self.parameters(image_shape, classes) + _MOVING * normalized


@dataclass(frozen=True, slots=True)
class Course:
    """How a network is trained; the fields are those hyperparameters, those that are not read 0."""

    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    batch_size: int
    label_smoothing: float
    augmentation: float
    flip: bool


def read_network(params: Mapping[str, ParamValue], image_shape: tuple[int, int, int]) -> Network:
    """The network that hyperparameters describe, for images of this height, width and number of channels.

    Raises:
        TrainingError: IMPOSSIBLE, where it does not fit the images, or a hyperparameter is missing or has a value that
            it does not take.
    """
    read = _Reader(params)
    blocks = read.whole("conv_blocks")
    if min(image_shape[:2]) >> blocks < 1:
        raise TrainingError(
            f"hyperparameter conv_blocks = {blocks}: images of {image_shape[0]}x{image_shape[1]} pixels cannot be "
            f"halved so often.",
            cause=Cause.IMPOSSIBLE,
        )
    return Network(
        filters=tuple(read.whole(f"filters_{block}") for block in range(blocks)),
        convs_per_block=read.whole("convs_per_block"),
        kernel_size=read.whole("kernel_size"),
        activation=read.word("activation"),
        initializer=read.word("initializer"),
        normalization=read.word("normalization"),
        residual=read.truth("residual"),
        pooling=read.word("pooling"),
        global_pooling=read.truth("global_pooling"),
        dense_units=tuple(read.whole(f"dense_units_{layer}") for layer in range(read.whole("dense_layers"))),
        dropout=read.number("dropout"),
    )


def read_course(params: Mapping[str, ParamValue]) -> Course:
    """The training that hyperparameters describe; raises TrainingError as ``read_network`` does."""
    read = _Reader(params)
    optimizer, schedule = read.word("optimizer"), read.word("schedule")
    return Course(
        optimizer=optimizer,
        learning_rate=read.number("learning_rate"),
        momentum=read.number("momentum") if is_read("momentum", params) else 0.0,
        weight_decay=read.number("weight_decay") if is_read("weight_decay", params) else 0.0,
        schedule=schedule,
        warmup=read.number("warmup") if is_read("warmup", params) else 0.0,
        batch_size=read.whole("batch_size"),
        label_smoothing=read.number("label_smoothing"),
        augmentation=read.number("augmentation"),
        flip=read.truth("flip"),
    )


class _Reader:
    """Reads hyperparameters by name; every complaint names the hyperparameter."""

    def __init__(self, params: Mapping[str, ParamValue]) -> None:
        self._params = params

    def whole(self, name: str) -> int:
        return int(self._get(name))

    def number(self, name: str) -> float:
        return float(self._get(name))

    def word(self, name: str) -> str:
        return str(self._get(name))

    def truth(self, name: str) -> bool:
        return bool(self._get(name))

    def _get(self, name: str) -> ParamValue:
        if name not in self._params:
            raise TrainingError(f"hyperparameter {name!r} is missing.", cause=Cause.IMPOSSIBLE)
        value, found = self._params[name], known(name)
        if found is None or not found.kind.takes(value):
            wanted = found.kind.wanted if found else "absent"
            raise TrainingError(f"hyperparameter {name} = {value!r}; it must be {wanted}.", cause=Cause.IMPOSSIBLE)
        return value
