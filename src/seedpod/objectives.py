"""What a trial may be judged by: each objective once, with its direction, range, unit and meaning."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from seedpod.errors import Cause, TrainingError


class Direction(StrEnum):
    """Which way is better, in Optuna's words."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


@dataclass(frozen=True, slots=True)
class Objective:
    """One thing to make as good as possible.

    Attributes:
        name: As in ``optimize_for=``, and the metric's name in a trial's history where it is known each epoch.
        label: What people call it.
        meaning: Its definition, in a line.
        direction: Which way is better.
        high: Largest possible value; the smallest is 0.
        unit: Empty for a number without one.
        digits: Decimals that are shown.
        each_epoch: Whether it is known after every epoch; else once, at the trial's end.
        measured: Whether it is a time by the clock: another run of the same trial gives another value.
    """

    name: str
    label: str
    meaning: str
    direction: Direction
    high: float = sys.float_info.max
    unit: str = ""
    digits: int = 4
    each_epoch: bool = True
    measured: bool = False

    def check(self, value: object) -> float:
        """Return ``value`` if it is a number from 0 to ``high``.

        Raises:
            TrainingError: It is anything else: NaN, infinity, text, null, a truth value, out of range.
        """
        if isinstance(value, int | float) and self.takes(value):
            return float(value)
        most = f"from 0 to {self.high:g}" if self.high < sys.float_info.max else "of 0 or more, and finite"
        raise TrainingError(
            f"the trial answered {value!r:.80} as its {self.name}; it must be a number {most}.", cause=Cause.BAD_VALUE
        )

    def takes(self, value: float) -> bool:
        """Whether it is a possible value: not NaN, not infinite, no truth value, in range."""
        # The comparison is false for NaN, and exact for whole numbers that no float can hold.
        return not isinstance(value, bool) and 0 <= value <= self.high

    def better(self, value: float, than: float) -> bool:
        """Whether one value is better than another."""
        return value > than if self.direction is Direction.MAXIMIZE else value < than

    def show(self, value: float) -> str:
        """The value with its unit, for people."""
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    @property
    def better_is(self) -> str:
        """``higher`` or ``lower``."""
        return "higher" if self.direction is Direction.MAXIMIZE else "lower"


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            "val_accuracy",
            "validation accuracy",
            "share of the validation images that are named rightly",
            Direction.MAXIMIZE,
            1.0,
        ),
        Objective(
            "val_loss",
            "validation loss",
            "mean cross-entropy of the validation images in nats, whatever loss the trial trains on",
            Direction.MINIMIZE,
        ),
        Objective(
            "macro_f1",
            "macro F1",
            "mean of the classes' F1 scores on the validation images",
            Direction.MAXIMIZE,
            1.0,
        ),
        Objective(
            "balanced_accuracy",
            "balanced accuracy",
            "mean of the classes' recalls on the validation images",
            Direction.MAXIMIZE,
            1.0,
        ),
        Objective(
            "inference_latency",
            "inference latency",
            "median time of the trained model for one image, where it was trained",
            Direction.MINIMIZE,
            unit="ms",
            digits=2,
            each_epoch=False,
            measured=True,
        ),
        Objective(
            "model_size",
            "model size",
            "the model's weights, 4 bytes each, in 10^6 bytes",
            Direction.MINIMIZE,
            unit="MB",
            digits=3,
            each_epoch=False,
        ),
        Objective(
            "training_time",
            "training time",
            "seconds from building the model to the end of its training",
            Direction.MINIMIZE,
            unit="s",
            digits=1,
            each_epoch=False,
            measured=True,
        ),
    )
}
"""Every objective, by name. How each is computed: ``seedpod.training.scoring`` and ``seedpod.training.trainer``."""

DEFAULT = "val_accuracy"
"""The objective of a search that asks for none, and what chooses the best epoch where no other can."""


def objectives_of(names: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives of these names, in this order."""
    return tuple(OBJECTIVES[name] for name in names)


def guide_of(objectives: Sequence[Objective]) -> Objective:
    """What chooses a trial's best epoch and ends it early: the first that is known each epoch, or the accuracy."""
    return next((objective for objective in objectives if objective.each_epoch), OBJECTIVES[DEFAULT])


def checked(objectives: Sequence[Objective], values: Sequence[object]) -> tuple[float, ...]:
    """The values, one for each objective; raises TrainingError where one is no possible value of its objective."""
    if len(values) != len(objectives):
        names = ", ".join(objective.name for objective in objectives)
        raise TrainingError(
            f"the trial answered {len(values)} values where it was asked for {names}.", cause=Cause.BAD_VALUE
        )
    return tuple(objective.check(value) for objective, value in zip(objectives, values, strict=True))


def dominates(objectives: Sequence[Objective], values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether values are better in one objective and in none worse (Pareto dominance)."""
    pairs = list(zip(objectives, values, others, strict=True))
    return any(o.better(a, b) for o, a, b in pairs) and not any(o.better(b, a) for o, a, b in pairs)


def precedes(objectives: Sequence[Objective], values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether values are better in the first objective in which they differ; such a best one is never dominated."""
    for objective, a, b in zip(objectives, values, others, strict=True):
        if a != b:
            return objective.better(a, b)
    return False
