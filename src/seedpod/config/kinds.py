"""The kinds of value a setting can have: each reads text as people type it, checks a value, and writes it back.

For every kind and every valid value ``parse(unquoted(show(value))) == value``.
"""
# ruff: noqa: D102  # the overriding methods mean what Kind says

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from seedpod.config.wording import Refused, did_you_mean, joined, shown

Raw = str | tuple[str, ...]
"""A value before it is parsed: text, or the items of a YAML list."""

_WHOLE = re.compile(r"[+-]?\d+(_\d+)*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(_\d+)*(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LONGEST_NUMBER = 100  # characters; far under the 4300 digits at which int() gives up
_TRUTHS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_QUOTES = "'\""
_ASSIGNMENT = re.compile(r"[a-z_0-9]{1,40}=[A-Za-z0-9_.,:+ -]{1,200}", re.ASCII)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MEMORY = re.compile(rf"(?P<amount>\d{{1,9}}(\.\d{{1,9}})?)(?P<unit>{'|'.join(_UNITS)})", re.ASCII | re.IGNORECASE)
_LEAST_MEMORY = 100  # MB; no trainer process starts in less
_SHORTEST_QUOTED = 2  # characters: the two quotes


class Kind(ABC):
    """What values a setting takes. Immutable, so it is shared by every thread and every config."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """The values taken, as the end of the sentence "it must be ..."."""

    def parse(self, raw: Raw) -> Any:
        """The value that a text stands for, not yet checked for its range.

        Raises:
            Refused: The text does not stand for any value of this kind.
        """
        if isinstance(raw, tuple):
            raise Refused(f"takes one value, not a list; it must be {self.wanted}.")
        return self._parse(raw)

    def _parse(self, text: str) -> Any:
        return text

    @abstractmethod
    def check(self, value: object) -> None:
        """Raises Refused where ``value`` has the wrong type or is out of range."""

    def show(self, value: Any) -> str:
        """The value as one would type it after ``key=``."""
        return str(value)

    def to_yaml(self, value: Any) -> str:
        """The value as YAML, on one line."""
        return self.show(value)

    def _refuse(self, hint: str = "") -> Refused:
        return Refused(f"must be {self.wanted}.{hint}")


@dataclass(frozen=True, slots=True)
class Truth(Kind):
    """Yes or no."""

    @property
    def wanted(self) -> str:
        return "true or false"

    def _parse(self, text: str) -> bool:
        value = _TRUTHS.get(text.strip().casefold())
        if value is None:
            raise self._refuse(did_you_mean(text, _TRUTHS))
        return value

    def check(self, value: object) -> None:
        if not isinstance(value, bool):
            raise self._refuse()

    def show(self, value: Any) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Whole(Kind):
    """A whole number of some ``unit`` from ``low`` to ``high``, or one of a few ``words``."""

    low: int
    high: int
    unit: str = ""
    words: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        return joined((*self.words, f"a whole number{_span(self.unit, self.low, self.high)}"))

    def _parse(self, text: str) -> int | str:
        text = text.strip()
        if text.casefold() in self.words:
            return text.casefold()
        if len(text) <= _LONGEST_NUMBER and _WHOLE.fullmatch(text):
            return int(text)
        number = _parse_number(text)
        if number is None or not number.is_integer():
            raise self._refuse(did_you_mean(text, self.words))
        return int(number)

    def check(self, value: object) -> None:
        if isinstance(value, str) and value in self.words:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise self._refuse()


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A finite number of some ``unit`` from ``low`` to ``high``."""

    low: float
    high: float
    unit: str = ""

    @property
    def wanted(self) -> str:
        return f"a number{_span(self.unit, self.low, self.high)}"

    def _parse(self, text: str) -> float:
        number = _parse_number(text.strip())
        if number is None:
            raise self._refuse()
        return number

    def check(self, value: object) -> None:
        # NaN fails the comparison too.
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise self._refuse()

    def show(self, value: Any) -> str:
        return str(int(value)) if float(value).is_integer() else repr(float(value))


@dataclass(frozen=True, slots=True)
class Memory(Kind):
    """An amount of memory with its unit, such as ``8GB`` or ``1.5GiB``, or ``auto``."""

    @property
    def wanted(self) -> str:
        return f"auto, or {_LEAST_MEMORY}MB or more, such as 8GB or 1.5GiB"

    def _parse(self, text: str) -> str:
        word = "".join(text.split())
        if word.casefold() == "auto":
            return "auto"
        found = _MEMORY.fullmatch(word)
        if found is None:
            raise self._refuse()
        return f"{found['amount']}{_unit(found)}"

    def check(self, value: object) -> None:
        if value == "auto":
            return
        if not isinstance(value, str) or not _MEMORY.fullmatch(value) or (self.megabytes(value) or 0) < _LEAST_MEMORY:
            raise self._refuse()

    @staticmethod
    def megabytes(value: str) -> float | None:
        """The amount in 10^6 bytes; None for ``auto``."""
        found = _MEMORY.fullmatch(value)
        return None if found is None else float(found["amount"]) * _UNITS[_unit(found)] / 1e6


@dataclass(frozen=True, slots=True)
class Share(Number):
    """A part of a whole, as a number or with a percent sign."""

    @property
    def wanted(self) -> str:
        return f"a share from {self.low:g} to {self.high:g}, such as 0.05 or 5%"

    def _parse(self, text: str) -> float:
        number = text.strip().removesuffix("%")
        # Not super(): a dataclass with slots is another class than the one that the method was written in.
        value = Number._parse(self, number)  # noqa: SLF001
        return value / 100 if number != text.strip() else value


@dataclass(frozen=True, slots=True)
class ImageSize(Kind):
    """Height and width in pixels as ``64`` or ``64x48``; ``auto`` for what suits the images."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"auto, or pixels from {self.low} to {self.high}: a side such as 64, or height x width such as 64x48"

    def _parse(self, text: str) -> str:
        word = text.strip().casefold()
        sides = word.split("x")
        if len(sides) == 2 and all(map(_WHOLE.fullmatch, sides)) and int(sides[0]) == int(sides[1]):
            return str(int(sides[0]))
        return word

    def check(self, value: object) -> None:
        if value == "auto":
            return
        sides = value.split("x") if isinstance(value, str) else []
        if len(sides) not in {1, 2} or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
            raise self._refuse()
        if not all(self.low <= int(side) <= self.high for side in sides):
            raise self._refuse()

    @staticmethod
    def pixels(value: str) -> tuple[int, int] | None:
        """Height and width that a checked value stands for; None for ``auto``."""
        if value == "auto":
            return None
        height, _, width = value.partition("x")
        return int(height), int(width or height)


@dataclass(frozen=True, slots=True)
class Option:
    """One word that can be chosen.

    Attributes:
        name: The word.
        awaits: The work without which it is refused, with that reason.
        also: Other words that people write for it.
    """

    name: str
    awaits: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words, in any case."""

    options: tuple[Option, ...]

    @property
    def wanted(self) -> str:
        return joined(_built(self.options))

    def _parse(self, text: str) -> str:
        return _match(text, self.options)

    def check(self, value: object) -> None:
        _check_option(value, self.options, f"must be {self.wanted}.")


@dataclass(frozen=True, slots=True)
class Several(Kind):
    """Any number of different words out of a few, in the order given: ``a,b`` or ``[a, b]``; ``[]`` is none."""

    options: tuple[Option, ...]

    @property
    def wanted(self) -> str:
        return f"one or more of {joined(_built(self.options), 'and')}, with commas between"

    def parse(self, raw: Raw) -> tuple[str, ...]:
        items = self._split(raw) if isinstance(raw, str) else raw
        return tuple(_match(item, self.options) for item in items)

    def check(self, value: object) -> None:
        if not isinstance(value, tuple):
            raise Refused(f"must be a tuple holding {self.wanted}.")
        for item in value:
            _check_option(item, self.options, f"{shown(repr(item))} is not known; it must be {self.wanted}.")
        twice = next((item for item in value if value.count(item) > 1), None)
        if twice is not None:
            raise Refused(f"names {twice} more than once; keep one.")

    def show(self, value: Any) -> str:
        return ",".join(value) if value else "[]"

    def to_yaml(self, value: Any) -> str:
        return f"[{', '.join(value)}]"

    def _split(self, text: str) -> list[str]:
        inner = text.strip()
        if inner.startswith("[") != inner.endswith("]"):
            raise Refused(f"has one bracket without the other; it must be {self.wanted}.")
        if inner.startswith("["):
            inner = inner[1:-1].strip()
            if not inner:
                return []
        return [unquoted(item) for item in inner.split(",")]


@dataclass(frozen=True, slots=True)
class Joined(Kind):
    """One or more different words out of a few, as one text with commas between; a list is taken too."""

    options: tuple[Option, ...]

    @property
    def wanted(self) -> str:
        return self._several.wanted

    def parse(self, raw: Raw) -> str:
        return ",".join(self._several.parse(raw))

    def check(self, value: object) -> None:
        if not isinstance(value, str) or not value:
            raise self._refuse()
        self._several.check(tuple(value.split(",")))

    @property
    def _several(self) -> Several:
        return Several(self.options)


@dataclass(frozen=True, slots=True)
class Assignments(Kind):
    """Any number of ``NAME=VALUE``, each name once: in a file a list, and ``KEY.NAME=VALUE`` on the command line."""

    example: str

    @property
    def wanted(self) -> str:
        return f"NAME=VALUE, such as {self.example}, with semicolons between"

    def parse(self, raw: Raw) -> tuple[str, ...]:
        inner = raw.strip() if isinstance(raw, str) else ""
        if inner.startswith("[") and inner.endswith("]"):
            inner = inner[1:-1]
        items = [part for part in inner.split(";") if part.strip()] if isinstance(raw, str) else raw
        pairs = (item.partition("=") for item in items)
        return tuple(sorted(f"{name.strip()}{equals}{value.strip()}" for name, equals, value in pairs))

    def check(self, value: object) -> None:
        if not isinstance(value, tuple) or not all(
            isinstance(item, str) and _ASSIGNMENT.fullmatch(item) for item in value
        ):
            raise self._refuse()
        names = [item.partition("=")[0] for item in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Refused(f"names {twice} more than once; keep one.")

    def merged(self, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
        """Both; of a name that both have, the value of ``after``."""
        by_name = {item.partition("=")[0]: item for item in (*before, *after)}
        return tuple(sorted(by_name.values()))

    def show(self, value: Any) -> str:
        return ";".join(value) if value else "[]"

    def to_yaml(self, value: Any) -> str:
        return f"[{', '.join(repr(item) for item in value)}]"


def unquoted(text: str) -> str:
    """``text`` without the white space around it and one pair of matching quotes around that."""
    text = text.strip()
    if len(text) >= _SHORTEST_QUOTED and text[0] == text[-1] and text[0] in _QUOTES:
        return text[1:-1]
    return text


def _parse_number(text: str) -> float | None:
    """A finite number, or None; ``nan`` and ``inf`` are words and ``1e999`` is not finite."""
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _span(unit: str, low: float, high: float) -> str:
    return f"{f' of {unit}' if unit else ''} from {low:,} to {high:,}"


def _unit(found: re.Match[str]) -> str:
    """The unit of an amount of memory, in its own spelling."""
    return next(unit for unit in _UNITS if unit.casefold() == found["unit"].casefold())


def _built(options: tuple[Option, ...]) -> list[str]:
    return [option.name for option in options if not option.awaits]


def _match(text: str, options: tuple[Option, ...]) -> str:
    """The option's own spelling where ``text`` names one; else the text, for ``check`` to refuse."""
    word = text.strip().casefold()
    return next((option.name for option in options if word == option.name or word in option.also), text)


def _check_option(value: object, options: tuple[Option, ...], otherwise: str) -> None:
    option = next((option for option in options if option.name == value), None)
    if option is None:
        raise Refused(f"{otherwise}{did_you_mean(str(value), _built(options))}")
    if option.awaits:
        raise Refused(f"this version of seedpod does not have {option.name} yet; it awaits {option.awaits}.")
