"""The search space: which hyperparameters a trial may have, for images of a given size."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution

from seedpod.errors import ConfigError
from seedpod.hyperparameters import is_read, known, layer_of
from seedpod.search.space_file import SHIPPED, Definition, Parameter
from seedpod.search.values import Choices, Span, Values, rounded, show
from seedpod.trial import ParamValue

Params = dict[str, ParamValue]
Choose = Callable[[str, Values], ParamValue]

MIRRORED = frozenset({"fashion_mnist", "cifar10", "cifar100"})
"""Data sets whose labels are as true of an image in a mirror. Digits are not."""
_MANY_IMAGES = 10_000  # from here on larger batches are as good and faster
_ROOMY = 16  # pixels of a side from which a stride loses little: 28x28 in a third of the time (measured, MNIST)
_RATES = {"adam": 0.003, "adamw": 0.004, "rmsprop": 0.001, "sgd": 0.05, "lion": 0.0005}
_DECAYS = {"adamw": 0.01, "sgd": 0.0005, "lion": 0.05}
_FLAT = 64  # pixels of each filter beyond which a dense layer over all of them is not worth its weights


@dataclass(frozen=True, slots=True)
class Images:
    """What a search space must fit.

    Attributes:
        shape: Height, width, channels.
        train: Images that a trial trains on; no batch is larger.
        epochs: Fewest and most epochs of a trial.
        mirrored: Whether their labels are as true in a mirror.
    """

    shape: tuple[int, int, int]
    train: int
    epochs: tuple[int, int]
    mirrored: bool = False

    @property
    def side(self) -> int:
        """Pixels of the shorter side."""
        return min(self.shape[:2])


class SearchSpace:
    """The hyperparameters of one search, and the values that each may have. Every configuration of it can be built.

    Args:
        definition: The space as it was written.
        images: What it must fit; values that do not are left out.

    Raises:
        ConfigError: No value of a hyperparameter fits, and it was the user who chose them; one line for each.
    """

    def __init__(self, definition: Definition, images: Images) -> None:
        self.images = images
        self._definition = definition
        self._values: dict[str, Values | None] = {}
        complaints = []
        for name, parameter in definition.parameters.items():
            try:
                self._values[name] = None if parameter.values is None else _fitted(name, parameter, images)
            except ValueError as error:
                complaints.append(f"{parameter.origin}: {error}")
        if complaints:
            raise ConfigError("\n".join(complaints))

    @property
    def terms(self) -> dict[str, str]:
        """What must be equal for two runs to search alike, by name."""
        return self._definition.terms

    def suggest(self, trial: optuna.Trial) -> Params:
        """Ask for one value of each hyperparameter that the model reads."""
        return self.walk(lambda name, values: _ask(trial, name, values))

    def drawn_from(self, chosen: Params) -> dict[str, tuple[ParamValue, BaseDistribution]]:
        """What of a configuration there was a choice of, each with what Optuna draws it from."""
        drawn = {}

        def choose(name: str, values: Values) -> ParamValue:
            drawn[name] = chosen[name], values.distribution
            return chosen[name]

        self.walk(choose)
        return drawn

    def sensible(self) -> Params:
        """What one would try without a search: known-good values, or those of the space that are next to them."""
        return self.walk(self._sensible_of({}))

    def complete(self, suggested: Mapping[str, ParamValue]) -> Params:
        """All hyperparameters of a trial of which Optuna knows those that it was asked for."""
        return self.walk(lambda name, values: suggested.get(name, values.nearest(0)))

    def walk(self, choose: Choose) -> Params:
        """A configuration: ``choose`` picks a value wherever there is a choice."""
        chosen: Params = {}
        for name in self._values:
            values = self._values_of(name, chosen)
            if values is not None:
                chosen[name] = rounded(_only(values) if _is_single(values) else choose(name, values))
        return chosen

    def placed(self, params: Mapping[str, ParamValue]) -> tuple[Params, list[str]]:
        """Given hyperparameters as a configuration of this space, and what is wrong with them.

        Those that are not given are sensible; those that no model reads beside the others are let be.
        """
        wrong = [f"{name}: there is no such hyperparameter" for name in params if known(name) is None]
        sensible = self._sensible_of({})

        def choose(name: str, values: Values) -> ParamValue:
            return params.get(name, sensible(name, values))

        chosen: Params = {}
        for name in self._values:
            values = self._values_of(name, chosen)
            if values is None:
                continue
            value = rounded(choose(name, values))
            if name == "epochs" and self._values[name] is None:  # an earlier run's budget is not this one's
                value = sensible(name, values)
            elif name in params and not values.holds(value):
                wrong.append(f"{name}: {show(params[name])} is none of the values that are searched, {values}")
                value = sensible(name, values)
            chosen[name] = value
        return chosen, wrong

    def points(self, most: int, spread: int = 0) -> list[Params] | None:
        """All configurations; None where there are more than ``most`` or no end of them.

        Args:
            most: See above.
            spread: So many values stand for any range that has no end of them; 0 for none.
        """
        found: list[Params] = []
        try:
            for point in self._points({}, list(self._values), spread):
                found.append(point)
                if len(found) > most:
                    return None
        except _EndlessError:
            return None
        return found

    def _points(self, chosen: Params, names: list[str], spread: int) -> Iterator[Params]:
        for i, name in enumerate(names):
            values = self._values_of(name, chosen)
            if values is None:
                continue
            every = values.spread(spread) if spread and isinstance(values, Span) else values.points
            if every is None:
                raise _EndlessError
            if len(every) > 1:
                for value in every:
                    yield from self._points({**chosen, name: value}, names[i + 1 :], spread)
                return
            chosen = {**chosen, name: rounded(every[0])}
        yield chosen

    def _values_of(self, name: str, chosen: Params) -> Values | None:
        """The values that a hyperparameter may have beside those chosen before it; None where it is not read."""
        if not is_read(name, chosen):
            return None
        parameter, values = self._definition.parameters[name], self._values[name]
        if values is None or not all(
            other in chosen and allowed.holds(chosen[other]) for other, allowed in parameter.when
        ):
            return Choices((usual(name, chosen, self.images),))
        return values

    def _sensible_of(self, chosen: Params) -> Choose:
        """Chooses what is sensible beside what it has chosen before."""

        def choose(name: str, values: Values) -> ParamValue:
            default = self._definition.parameters[name].default
            wished = usual(name, chosen, self.images) if default is None else default
            chosen[name] = values.nearest(wished)
            return chosen[name]

        return choose


def usual(name: str, chosen: Mapping[str, ParamValue], images: Images) -> ParamValue:
    """What a hyperparameter is where nothing else is known: found by trials on MNIST and digits.

    Args:
        name: The hyperparameter.
        chosen: Those before it, as far as they are known.
        images: What it must fit.
    """
    side, optimizer = images.side, str(chosen.get("optimizer", "adamw"))
    inherent = known(name)
    if inherent is not None and inherent.name == "filters":
        return min((24 if side >= _ROOMY else 32) << layer_of(name), 128)
    blocks = min(max(2, side.bit_length() - 2), 5, side.bit_length() - 1)
    left = (images.shape[0] >> int(chosen.get("conv_blocks", blocks))) * (
        images.shape[1] >> int(chosen.get("conv_blocks", blocks))
    )
    batch = 128 if images.train >= _MANY_IMAGES else 32
    values: Params = {
        "conv_blocks": blocks,
        "convs_per_block": 2,
        "kernel_size": 3 if side >= 3 else 1,
        "activation": "relu",
        "initializer": "he_uniform",
        "normalization": "batch",
        "residual": False,
        "pooling": "strided" if side >= _ROOMY else "max",
        "global_pooling": left > _FLAT,
        "dense_layers": 0,
        "dense_units": 128,
        "dropout": 0.25,
        "optimizer": "adamw",
        "learning_rate": _RATES[optimizer],
        "momentum": 0.9,
        "weight_decay": _DECAYS.get(optimizer, 0.01),
        "schedule": "one_cycle",
        "warmup": 0.1,
        "batch_size": min(batch, images.train),
        "label_smoothing": 0.0,
        "augmentation": 0.4,
        "flip": images.mirrored,
        "epochs": images.epochs[1],
    }
    return values[inherent.name if inherent is not None else name]


class _EndlessError(Exception):
    """A hyperparameter has no end of values."""


def _fitted(name: str, parameter: Parameter, images: Images) -> Values:
    """The values of a hyperparameter that fit the images.

    Raises:
        ValueError: None does, and the user chose them; a space that comes with seedpod has the nearest one then.
    """
    values, limits = parameter.values, _limits(name, images)
    if values is None:
        raise AssertionError(f"the space says nothing of {name}")
    if name == "flip" and isinstance(values, Choices) and len(values.values) > 1 and not images.mirrored:
        return Choices((False,))  # whoever fixes it knows his labels
    if limits is None:
        return values
    low, high, why = limits
    fitting: Values | None
    if isinstance(values, Span):
        fitting = values.within(low, high)
    else:
        some = tuple(value for value in values.values if low <= float(value) <= high)
        fitting = Choices(some) if some else None
    if fitting is not None:
        return fitting
    if parameter.origin.split(":")[0] not in SHIPPED:
        raise ValueError(f"{values}: {why}")
    return Choices((int(min(max(low, float(values.nearest(low))), high)),))


def _limits(name: str, images: Images) -> tuple[float, float, str] | None:
    """Lowest and highest value that fits the images, and what is said of others."""
    height, width = images.shape[:2]
    if name == "conv_blocks":
        most = images.side.bit_length() - 1
        return 1, most, f"images of {height}x{width} pixels can be halved {most} times; it must be from 1 to {most}."
    if name == "kernel_size":
        return 1, images.side, f"images of {height}x{width} pixels have room for kernels up to {images.side}."
    if name == "batch_size":
        return 1, images.train, f"a trial trains on {images.train} images; no batch can be larger."
    if name == "epochs":
        low, high = images.epochs
        return low, high, f"min_epochs_per_trial={low} and max_epochs_per_trial={high} allow {low} to {high}."
    return None


def _ask(trial: optuna.Trial, name: str, values: Values) -> ParamValue:
    if isinstance(values, Choices):
        chosen = trial.suggest_categorical(name, values.values)
        if chosen is None:
            raise AssertionError(f"{name} has a choice that is nothing")
        return chosen
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), step=int(values.step or 1), log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _is_single(values: Values) -> bool:
    return isinstance(values, Choices) and len(values.values) == 1


def _only(values: Values) -> ParamValue:
    return values.values[0] if isinstance(values, Choices) else values.low
