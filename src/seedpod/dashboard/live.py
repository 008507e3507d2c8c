"""What moves at the bottom of a terminal: AggregatedProgress as lines that fit its size. Pure."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from seedpod.dashboard.wording import cost_parts, duration, endpoint_parts, laid_out, left_parts, standing_line
from seedpod.progress import AggregatedProgress, TrialRow

_WIDE = 110  # columns from which the table has room for longer bars and curves
_LOW = 16  # lines below which every fact has one line at most
_SPARKS = "▁▂▃▄▅▆▇█"
_WORKER = 8  # last characters of a worker's id that are shown
_FEWEST_ROWS = 1


def render(progress: AggregatedProgress, width: int, height: int) -> Text:
    """The dashboard for a terminal of this size, at most ``height`` - 1 lines.

    Lines of text with columns of fixed width: rich's tables would measure every cell of every picture, for ten times
    the time.

    Args:
        progress: The search.
        width: Columns.
        height: Lines of the whole terminal; the line that the cursor is on stays free.
    """
    wide = width >= _WIDE
    lines = list(_head(progress, width, height, wide=wide))
    room = max(_FEWEST_ROWS, height - 2 - len(lines))
    shown = progress.rows if len(progress.rows) <= room else progress.rows[: max(1, room - 1)]
    lines += [_row(row, wide=wide) for row in shown]
    if len(shown) < len(progress.rows) and room > 1:
        more = len(progress.rows) - len(shown)
        lines.append(_line(f"  and {more} more running trial{'s' if more > 1 else ''}", "dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def spark_line(values: Sequence[float | None], width: int) -> str:
    """The latest values as a curve of ``width`` characters at most; a gap where there is no value."""
    latest = values[-width:]
    known = [value for value in latest if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    steps = len(_SPARKS) - 1
    span = (high - low) or 1.0
    return "".join(" " if value is None else _SPARKS[round((value - low) / span * steps)] for value in latest)


def _head(progress: AggregatedProgress, width: int, height: int, *, wide: bool) -> Iterator[Text]:
    yield Text.assemble(
        "trials ",
        *bar(progress.ended, progress.total, 40 if wide else 20),
        f" {progress.ended}/{progress.total}  ",
        (standing_line(progress), "bold"),
    )
    most = 1 if height < _LOW else 2
    yield from map(_line, laid_out("time", left_parts(progress), width, 1))
    yield from map(_line, laid_out("cost", cost_parts(progress.costs), width, most))
    if progress.endpoint is not None:
        style = "" if progress.endpoint.counters.breaker.state == "closed" else "bold red"
        for line in laid_out("runpod", endpoint_parts(progress.endpoint), width, most):
            yield _line(line, style)


def _row(row: TrialRow, *, wide: bool) -> Text:
    curve = 24 if wide else 10
    value = "-" if row.value is None else f"{row.value:.4f}"
    left = f"{duration(row.remaining)} left" if row.remaining is not None else "" if row.epoch else "starting"
    return Text.assemble(
        (f"{f'#{row.number}':>5} ", "bold"),
        f"{where(row):<{22 if wide else 15}} ",
        *bar(row.epoch, row.max_epochs, 16 if wide else 6),
        f" {f'{row.epoch}/{row.max_epochs}':<5} {value:>6} ",
        (f"{spark_line(row.values, curve):<{curve}}", "cyan"),
        f" {duration(row.age):>8} ",
        (f"{left:>12}", "dim"),
    )


def bar(done: int, total: int, width: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two styled texts of ``width`` characters together: what is done, and what is not."""
    full = min(width, width * done // max(1, total))
    return ("━" * full, "green"), ("─" * (width - full), "dim")


def where(row: TrialRow) -> str:
    """Backend, and the end of the worker's name."""
    again = f" try {row.attempt % 100}" if row.attempt % 100 > 1 else ""
    return f"{row.backend} {row.worker[-_WORKER:]}".rstrip() + again


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style)
