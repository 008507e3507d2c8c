"""What moves at the bottom of a terminal: AggregatedProgress as lines that fit its size. Pure."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seedpod.dashboard.wording import cost_line, duration, endpoint_line, left_line, standing_line
from seedpod.progress import AggregatedProgress, TrialRow

_WIDE = 110  # columns from which the table has room for longer bars and curves
_SPARKS = "▁▂▃▄▅▆▇█"
_WORKER = 8  # last characters of a worker's id that are shown
_FEWEST_ROWS = 1


def render(progress: AggregatedProgress, width: int, height: int) -> RenderableType:
    """The dashboard for a terminal of this size, at most ``height`` - 1 lines.

    Args:
        progress: The search.
        width: Columns.
        height: Lines of the whole terminal; the line that the cursor is on stays free.
    """
    head = list(_head(progress, width))
    room = max(_FEWEST_ROWS, height - 2 - len(head))
    shown = progress.rows if len(progress.rows) <= room else progress.rows[: max(1, room - 1)]
    parts: list[RenderableType] = [*head]
    if shown:
        parts.append(_table(shown, wide=width >= _WIDE))
    if len(shown) < len(progress.rows) and room > 1:
        parts.append(_line(f"  and {len(progress.rows) - len(shown)} more running trials", "dim"))
    return Group(*parts)


def spark_line(values: Sequence[float | None], width: int) -> str:
    """The latest values as a curve of ``width`` characters at most; a gap where there is no value."""
    latest = values[-width:]
    known = [value for value in latest if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    steps = len(_SPARKS) - 1
    span = (high - low) or 1.0
    return "".join(" " if value is None else _SPARKS[round((value - low) / span * steps)] for value in latest)


def _head(progress: AggregatedProgress, width: int) -> Iterator[RenderableType]:
    yield _bar(progress, wide=width >= _WIDE)
    yield _line(left_line(progress))
    money = cost_line(progress.costs)
    if money:
        yield _line(money)
    if progress.endpoint is not None:
        open_breaker = progress.endpoint.counters.breaker.state != "closed"
        yield _line(endpoint_line(progress.endpoint), "bold red" if open_breaker else "")


def _bar(progress: AggregatedProgress, *, wide: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    grid.add_row(
        "trials",
        ProgressBar(total=max(1, progress.total), completed=progress.ended, width=40 if wide else 20),
        f"{progress.ended}/{progress.total}",
        Text(standing_line(progress), overflow="ellipsis"),
    )
    return grid


def _table(rows: Sequence[TrialRow], *, wide: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True, style="bold")
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="dim")
    for row in rows:
        grid.add_row(
            f" #{row.number}",
            where(row),
            ProgressBar(total=row.max_epochs, completed=row.epoch, width=16 if wide else 8),
            f"{row.epoch}/{row.max_epochs}",
            "-" if row.value is None else f"{row.value:.4f}",
            spark_line(row.values, 24 if wide else 10),
            duration(row.age),
            "" if row.remaining is None else f"{duration(row.remaining)} left",
        )
    return grid


def where(row: TrialRow) -> str:
    """Backend, and the end of the worker's name."""
    again = f" try {row.attempt % 100}" if row.attempt % 100 > 1 else ""
    return f"{row.backend} {row.worker[-_WORKER:]}".rstrip() + again


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
