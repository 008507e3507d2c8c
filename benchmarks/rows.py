"""What a benchmark finds: rows, each a ratio measured in one run against a peer or a floor; as JSON and as a table."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

SCHEMA = 1
"""Of the JSON; raised with every change that makes earlier files another thing."""

SLACK = 0.05
"""Share of an earlier ratio within which a later one counts as the same, however small their spreads are."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a row is to show.

    Attributes:
        bound: The worst that will do.
        of: ``ratio``, or ``ours`` for our own measure in the row's unit.
    """

    bound: float
    of: str = "ratio"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured, ours beside a peer's or a floor.

    Attributes:
        name: ``benchmark.case``, followed by ``/peer`` where there are several.
        what: What was measured, with its size; rows of two runs are compared where both are equal.
        unit: Of ``ours`` and ``theirs``.
        ours: Our measure in each repeat.
        against: The peer or the floor.
        theirs: Its measure in each repeat: as many, in their order.
        more_is_better: Whether a larger measure is the better one.
        target: What it is to show; None where nothing was promised.
    """

    name: str
    what: str
    unit: str
    ours: tuple[float, ...]
    against: str
    theirs: tuple[float, ...]
    more_is_better: bool = False
    target: Target | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Of each repeat: how many times as good as the peer, or which share of what a floor allows."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return tuple(_over(*(pair if self.more_is_better else reversed(pair))) for pair in pairs)

    @property
    def ratio(self) -> float:
        """The median of ``ratios``."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        """Whether it shows what it is to; None where nothing was promised."""
        if self.target is None:
            return None
        if self.target.of == "ratio":
            return self.ratio >= self.target.bound
        ours = statistics.median(self.ours)
        return ours >= self.target.bound if self.more_is_better else ours <= self.target.bound

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """The row of ``asdict``."""
        lists = {name: tuple(known[name]) for name in ("ours", "theirs")}
        target = None if known["target"] is None else Target(**known["target"])
        return cls(**{**known, **lists, "target": target})


@dataclass(frozen=True, slots=True)
class Note:
    """Why a benchmark, or a peer in it, has no row."""

    name: str
    why: str


Found = Iterator[Row | Note]
Benchmark = Callable[[bool], Found]
"""What each benchmark's ``rows`` is: told whether it is to be quick, it yields what it finds."""


def _over(one: float, other: float) -> float:
    return one / other if other else float("inf") if one else 1.0


def as_json(rows: Iterable[Row], notes: Iterable[Note], about: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    found = [{**asdict(row), "ratio": round(row.ratio, 4)} for row in rows]
    return {"schema": SCHEMA, **about, "rows": found, "notes": [asdict(note) for note in notes]}


def rows_of(kept: Mapping[str, Any]) -> list[Row]:
    """The rows of a kept run.

    Raises:
        ValueError: It is of another schema.
    """
    if kept.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {kept.get('schema')!r}, and this program reads {SCHEMA}")
    return [Row.from_json({key: value for key, value in row.items() if key != "ratio"}) for row in kept["rows"]]


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown lines."""
    heads = ("measured", "ours", "beside", "theirs", "ratio (range)", "target")
    return [_line(heads), "|" + "---|" * len(heads), *(_line(_cells(row)) for row in rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> Iterator[str]:
    yield row.what
    yield quantity(statistics.median(row.ours), row.unit)
    yield row.against
    yield quantity(statistics.median(row.theirs), row.unit)
    spread = f" ({ratio(min(row.ratios))} to {ratio(max(row.ratios))})" if len(row.ratios) > 1 else ""
    yield f"{ratio(row.ratio)}{spread}"
    yield "" if row.target is None else f"{_promised(row, row.target)}: {'met' if row.met else '**missed**'}"


def _promised(row: Row, target: Target) -> str:
    sign = "≥" if target.of == "ratio" or row.more_is_better else "≤"
    return f"{sign} {ratio(target.bound) if target.of == 'ratio' else quantity(target.bound, row.unit)}"


def quantity(number: float, unit: str) -> str:
    """A number with three digits that count, and its unit."""
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2 if abs(number) >= 1 else 3
    return f"{number:,.{digits}f}".rstrip("0").rstrip(".") + f" {unit}" if digits else f"{number:,.0f} {unit}"


def ratio(number: float) -> str:
    """With as many digits as are read."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.3f}"


def worse(rows: Iterable[Row], before: Iterable[Row]) -> list[str]:
    """A line for each row whose ratio fell by more than its spread, then and now, and by more than SLACK."""
    known = {(row.name, row.what): row for row in before}
    lines = []
    for row in rows:
        earlier = known.get((row.name, row.what))
        if earlier is None:
            continue
        widths = (max(each.ratios) - min(each.ratios) for each in (row, earlier))
        if earlier.ratio - row.ratio > max(*widths, SLACK * earlier.ratio):
            lines.append(f"{row.name}: {ratio(row.ratio)} of {row.against}, and {ratio(earlier.ratio)} before")
    return lines
