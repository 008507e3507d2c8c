"""The values that a search may give a hyperparameter, and how people write them.

::

    relu                one value
    relu, gelu          one of several; in a file also [relu, gelu]
    1..4                a whole number or a number from 1 to 4, as the hyperparameter has it
    16..64:16           in steps of 16
    1e-4..1e-2:log      as likely between 1e-4 and 1e-3 as between 1e-3 and 1e-2
"""

import math
from dataclasses import dataclass, replace

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from seedpod.config.wording import Refused, did_you_mean, shown
from seedpod.hyperparameters import Kind, Truth, Whole, Word
from seedpod.trial import ParamValue

DIGITS = 4
"""Significant digits of a trial's numbers: enough for every result, and short enough for a request and a screen."""
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values; a single one is fixed."""

    values: tuple[ParamValue, ...]

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        return CategoricalDistribution(self.values)

    @property
    def points(self) -> tuple[ParamValue, ...]:
        """All values."""
        return self.values

    def holds(self, value: ParamValue) -> bool:
        """Whether ``value`` is one of them; true is not 1."""
        return any(_same(value, each) for each in self.values)

    def nearest(self, value: ParamValue) -> ParamValue:
        """``value``, or the number next to it, or the first one."""
        held = next((each for each in self.values if _same(value, each)), None)
        if held is not None:
            return held
        numbers = [each for each in self.values if _is_number(each)]
        if not _is_number(value) or not numbers:
            return self.values[0]
        return min(numbers, key=lambda each: abs(float(each) - float(value)))

    def __str__(self) -> str:
        return ",".join(map(show, self.values))


@dataclass(frozen=True, slots=True)
class Span:
    """A number from ``low`` to ``high``.

    Attributes:
        low: The smallest.
        high: The largest.
        step: Between two values; None where any number will do. At least 1 for whole numbers.
        log: Whether equal factors are equally likely, and not equal differences.
        whole: Whether these are whole numbers.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def within(self, low: float, high: float) -> "Span | Choices | None":
        """Those of its values that are not below ``low`` nor above ``high``; None where there is none."""
        low, high = max(low, self.low), min(high, self.high)
        if self.step is not None:
            low = self.low + math.ceil((low - self.low) / self.step - 1e-9) * self.step
            high = self.low + math.floor((high - self.low) / self.step + 1e-9) * self.step
        if low < high:
            return replace(self, low=low, high=high)
        return Choices((int(low) if self.whole else rounded(low),)) if low == high else None

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    @property
    def points(self) -> tuple[ParamValue, ...] | None:
        """All values in order; None where there is no end of them."""
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        values = (self.low + self.step * i for i in range(count))
        return tuple(int(value) if self.whole else rounded(value) for value in values)

    def holds(self, value: ParamValue) -> bool:
        """Whether ``value`` is one of them, as far as its digits go."""
        if not _is_number(value) or not self.low <= float(value) <= self.high:
            return False
        return self.step is None or _same(value, self.nearest(value))

    def nearest(self, value: ParamValue) -> ParamValue:
        """The value next to ``value``; the smallest where that is no number."""
        number = min(max(float(value), self.low), self.high) if _is_number(value) else self.low
        if self.step is None:
            return rounded(number)
        steps = min(round((number - self.low) / self.step), math.floor((self.high - self.low) / self.step + 1e-9))
        number = self.low + self.step * steps
        return int(number) if self.whole else rounded(number)

    def spread(self, count: int) -> tuple[ParamValue, ...]:
        """So many values from end to end, evenly."""
        if self.points is not None:
            return self.points
        shares = [i / (count - 1) for i in range(count)]
        if self.log:
            return tuple(rounded(self.low * (self.high / self.low) ** share) for share in shares)
        return tuple(rounded(self.low + (self.high - self.low) * share) for share in shares)

    def __str__(self) -> str:
        plain = self.step is None or (self.whole and self.step == 1)
        return f"{show(self.low)}..{show(self.high)}" + (":log" if self.log else "" if plain else f":{show(self.step)}")


Values = Choices | Span


def read_values(text: str | list[str], kind: Kind, before: Values | None = None) -> Values:
    """The values that a text stands for.

    Args:
        text: See above; a list is several.
        kind: What the hyperparameter takes.
        before: The values that these are to replace: a span without a scale of its own keeps theirs.

    Raises:
        Refused: The text stands for none, or for one that the hyperparameter does not take.
    """
    items = [part.strip() for part in text.split(",")] if isinstance(text, str) else text
    if len(items) == 1 and ".." in items[0]:
        return _span(items[0], kind, before)
    values = tuple(_value(item, kind) for item in items)
    twice = next((value for i, value in enumerate(values) if any(_same(value, other) for other in values[:i])), None)
    if twice is not None:
        raise Refused(f"names {show(twice)} more than once; keep one.")
    return Choices(values)


def rounded(value: ParamValue) -> ParamValue:
    """``value``; a number with a fraction to its significant digits."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def show(value: ParamValue | None) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _span(text: str, kind: Kind, before: Values | None) -> Span:
    if not isinstance(kind, Whole) and isinstance(kind, Word | Truth):
        raise Refused(f"{shown(text)} is a range; it must be {kind.wanted}, or several of them with commas between.")
    ends, _, scale = text.partition(":")
    first, _, last = ends.partition("..")
    low, high = _value(first.strip(), kind), _value(last.strip(), kind)
    whole = isinstance(kind, Whole)
    span = Span(float(low), float(high), 1.0 if whole else None, log=False, whole=whole)
    if not span.low < span.high:
        raise Refused(f"{shown(text)} ends before it begins; write the lower number first.")
    span = _scaled(span, scale.strip(), text) if scale.strip() else _scale_of(span, before)
    if span.log and span.low <= 0:
        raise Refused(f"{shown(text)} cannot be logarithmic: it must begin above 0.")
    return span


def _scaled(span: Span, scale: str, text: str) -> Span:
    if scale == "log":
        return replace(span, log=True)
    if scale == "linear":
        return span
    try:
        step = float(scale)
    except ValueError:
        step = 0.0
    if not 0 < step <= span.high - span.low or (span.whole and not step.is_integer()):
        raise Refused(f"{shown(text)}: behind the colon stands log, linear or a step, such as 16..64:16.")
    return _whole_steps(replace(span, step=step))


def _scale_of(span: Span, before: Values | None) -> Span:
    if not isinstance(before, Span):
        return span
    if before.log and span.low > 0:
        return replace(span, log=True)
    fits = before.step is not None and before.step <= span.high - span.low
    return _whole_steps(replace(span, step=before.step)) if fits else span


def _whole_steps(span: Span) -> Span:
    """The span up to its last step."""
    points = span.points
    return replace(span, high=float(points[-1])) if points else span


def _value(text: str, kind: Kind) -> ParamValue:
    value = _parsed(text, kind)
    if value is None or not kind.takes(value):
        hint = did_you_mean(text, kind.words) if isinstance(kind, Word) else ""
        raise Refused(f"{shown(text)} is not taken; it must be {kind.wanted}.{hint}")
    return value


def _parsed(text: str, kind: Kind) -> ParamValue | None:
    if isinstance(kind, Word):
        return text.casefold()
    if isinstance(kind, Truth):
        return _TRUTHS.get(text.casefold())
    try:
        number = float(text)
    except ValueError:
        return None
    if isinstance(kind, Whole):
        return int(number) if math.isfinite(number) and number.is_integer() else None
    return rounded(number)


def _same(one: ParamValue, other: ParamValue) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _is_number(value: ParamValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
