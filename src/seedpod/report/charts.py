"""The charts that are not Optuna's, as Plotly figures in JSON: values, learning curves, who ran what when."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.report.facts import Facts
from seedpod.trial import Status

Figure = dict[str, Any]

BRIGHT = 5
"""Trials whose curves have a colour; the others are grey, and one trace, so that a thousand draw as fast as ten."""

_FEW_VALUES = 8  # under so many none is called an outlier
_EACH_EPOCH = 12  # epochs of which each has a tick of its own
_PAUSE = 600.0  # seconds without any trial after which a search was not going on

_STATUS_COLOURS = {
    Status.COMPLETE: "var(--good)",
    Status.PRUNED: "var(--warn)",
    Status.FAILED: "var(--bad)",
    Status.CANCELLED: "var(--muted)",
}

_DOTS = {
    Status.COMPLETE: {"color": "var(--c1)", "size": 7},
    Status.PRUNED: {"color": "var(--warn)", "size": 7, "symbol": "x"},
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A trial on the timeline.

    Attributes:
        lane: Who ran it: a worker, or a place of this machine.
        trial: The trial.
    """

    lane: str
    trial: FinishedTrial


def history(facts: Facts) -> Figure | None:
    """Each trial's value, the latest one of those that were pruned, and the best so far; None without a value."""
    kinds = {status: [(t.spec.number, _latest(facts, t)) for t in _with(facts, status)] for status in _DOTS}
    known = {kind: [(n, value) for n, value in found if value is not None] for kind, found in kinds.items()}
    data = [_dots(kind, found) for kind, found in known.items() if found]
    if steps := _steps(facts):
        last = max(facts.trials[-1].spec.number, steps[-1][0])
        line = {"color": "var(--accent)", "width": 2, "shape": "hv"}
        x, y = [n for n, _ in steps] + [last], [value for _, value in steps] + [steps[-1][1]]
        data.append({"type": "scatter", "mode": "lines", "name": "best so far", "x": x, "y": y, "line": line})
    layout = {"xaxis": {"title": {"text": "trial"}}} | _values(
        facts, [value for found in known.values() for _, value in found]
    )
    return {"data": data, "layout": layout} if data else None


def learning_curves(facts: Facts) -> Figure | None:
    """The objective of every trial after each epoch; None where no epoch is known."""
    if not facts.curves:
        return None
    objective = facts.objective
    shown = bright(facts)
    grey_x: list[float | None] = []
    grey_y: list[float | None] = []
    for number, rows in facts.curves.items():
        if number not in shown:
            grey_x += [*range(1, len(rows) + 1), None]
            grey_y += [*(row.get(objective) for row in rows), None]
    data = [
        {"type": "scatter", "mode": "lines", "name": "others", "x": grey_x, "y": grey_y, "hoverinfo": "skip"}
        | {"line": {"color": "var(--muted)", "width": 1}, "opacity": 0.45}
    ]
    data = data if grey_x else []
    for number in reversed(shown):
        rows = facts.curves[number]
        data.append(_curve(f"#{number}", [row.get(objective) for row in rows]))
    values = [row.get(objective) for rows in facts.curves.values() for row in rows]
    axes = {"xaxis": _epochs(facts.curves.values())} | _values(facts, [each for each in values if each is not None])
    return {"data": data, "layout": {**axes, "legend": {"traceorder": "reversed"}}}  # the best is drawn last, on top


def _values(facts: Facts, values: Sequence[float]) -> Figure:
    """The axis of the objective, and how many values are not on it: so much worse that the others would be one line.

    They are Tukey's outliers (Exploratory Data Analysis, 1977): over 1.5 times the quartiles' distance beyond the worse
    quartile.
    """
    axis: Figure = {"title": {"text": facts.objective_label}}
    if len(values) < _FEW_VALUES:
        return {"yaxis": axis}
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    rising = facts.trials[0].spec.goals[0].better(1.0, 0.0)
    fence = lower - 1.5 * (upper - lower) if rising else upper + 1.5 * (upper - lower)
    shown = [value for value in values if (value >= fence if rising else value <= fence)]
    low, high = min(shown), max(shown)
    if len(shown) == len(values) or low == high:
        return {"yaxis": axis}
    margin = 0.08 * (high - low)
    where = "below" if rising else "above"
    note = {"text": f"{len(values) - len(shown)} of {len(values)} lie {where}; a double click shows all"}
    place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0 if rising else 1, "xanchor": "right", "showarrow": False}
    place |= {"yanchor": "bottom" if rising else "top"}
    return {"yaxis": axis | {"range": [low - margin, high + margin]}, "annotations": [note | place]}


def bright(facts: Facts) -> list[int]:
    """The trials whose curves have a colour: the best ones, best first."""
    complete = [t for t in facts.trials if t.result.value is not None and t.spec.number in facts.curves]
    return [t.spec.number for t in sorted(complete, key=lambda t: _rank(facts, t))[:BRIGHT]]


def best_curve(facts: Facts) -> Figure | None:
    """Loss for training and validation of the best trial: where the two part it learns by heart."""
    rows = facts.curves.get(facts.best.spec.number, ()) if facts.best else ()
    names = [name for name in ("loss", "val_loss") if any(row.get(name) is not None for row in rows)]
    if not names:
        return None
    called = {"loss": "training", "val_loss": "validation"}
    data = [_curve(called[name], [row.get(name) for row in rows]) for name in names]
    return {"data": data, "layout": {"xaxis": _epochs([rows]), "yaxis": {"title": {"text": "loss"}}}}


def lanes(trials: Iterable[FinishedTrial]) -> list[Bar]:
    """Give each trial a lane: its worker's, and as many of them as it ran at once; this machine's are numbered."""
    free: dict[str, list[float]] = {}
    bars = []
    for trial in sorted(trials, key=lambda t: (t.started_at, t.spec.number)):
        who = str(trial.result.run.get("worker", "")) or f"{trial.result.backend}"
        ends = free.setdefault(who, [])
        place = next((i for i, end in enumerate(ends) if end <= trial.started_at + 0.05), len(ends))
        ends[place : place + 1] = [trial.ended_at]
        bars.append(Bar(f"{who} {place + 1}", trial))
    return bars


def timeline(facts: Facts) -> Figure | None:
    """Who ran what when; gaps are idle."""
    bars = lanes(facts.trials)
    if not bars:
        return None
    order = sorted({bar.lane for bar in bars}, key=natural)
    data = []
    for status, colour in _STATUS_COLOURS.items():
        mine = [bar for bar in bars if bar.trial.result.status is status]
        if mine:
            data.append(
                _bars(
                    str(status),
                    [(bar.lane, bar.trial.started_at, bar.trial.ended_at) for bar in mine],
                    [_hover(bar.trial) for bar in mine],
                    colour,
                )
            )
    if facts.final is not None:
        began = datetime.fromisoformat(facts.final["times"]["began_at"]).timestamp()
        seconds = facts.final["times"]["seconds"]
        order.append("final model")
        data.append(
            _bars("final model", [("final model", began, began + seconds)], [f"{seconds:.1f} s"], "var(--accent)")
        )
    height = 110 + 26 * len(order)
    axis = {"categoryorder": "array", "categoryarray": order[::-1], "automargin": True}
    layout = {"barmode": "overlay", "height": height, "xaxis": {"type": "date"}, "yaxis": axis, "bargap": 0.25}
    return {"data": data, "layout": layout}


def busy_share(trials: Sequence[FinishedTrial]) -> float | None:
    """Share of the lanes' time in which a trial ran, pauses of the search left out; None where nothing is known."""
    bars = lanes(trials)
    if not bars:
        return None
    span = max(t.ended_at for t in trials) - min(t.started_at for t in trials) - sum(pauses(trials))
    places = len({bar.lane for bar in bars})
    busy = sum(t.ended_at - t.started_at for t in trials)
    return min(1.0, busy / (span * places)) if span > 0 else None


def pauses(trials: Iterable[FinishedTrial]) -> list[float]:
    """Seconds of each stretch without any trial that is too long for a search that was going on."""
    found: list[float] = []
    last = None
    for trial in sorted(trials, key=lambda t: t.started_at):
        if last is not None and trial.started_at - last > _PAUSE:
            found.append(trial.started_at - last)
        last = trial.ended_at if last is None else max(last, trial.ended_at)
    return found


def _with(facts: Facts, status: Status) -> list[FinishedTrial]:
    return [trial for trial in facts.trials if trial.result.status is status]


def _latest(facts: Facts, trial: FinishedTrial) -> float | None:
    """A trial's value, or that after its latest epoch."""
    if trial.result.value is not None:
        return trial.result.value
    rows = facts.curves.get(trial.spec.number, ())
    return rows[-1].get(facts.objective) if rows else None


def _steps(facts: Facts) -> list[tuple[int, float]]:
    """Number and value of each trial that was better than all before it."""
    steps: list[tuple[int, float]] = []
    for trial in _with(facts, Status.COMPLETE):
        value = trial.result.value
        if value is not None and (not steps or trial.spec.goals[0].better(value, steps[-1][1])):
            steps.append((trial.spec.number, value))
    return steps


def _dots(status: Status, found: Sequence[tuple[int, float]]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": str(status),
        "x": [number for number, _ in found],
        "y": [value for _, value in found],
        "marker": _DOTS[status],
        "hovertemplate": "#%{x}: %{y:.4f}<extra></extra>",
    }


def _rank(facts: Facts, trial: FinishedTrial) -> tuple[bool, float]:
    """Nearest to the best value first, whichever way is better."""
    best = facts.best.result.value if facts.best and facts.best.result.value is not None else 0.0
    return trial is not facts.best, abs((trial.result.value or 0.0) - best)


def _curve(name: str, values: Sequence[float | None]) -> Figure:
    x = list(range(1, len(values) + 1))
    return {"type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": list(values), "marker": {"size": 4}}


def _epochs(curves: Iterable[Sequence[object]]) -> Figure:
    most = max(map(len, curves), default=0)
    step = {"dtick": 1} if most <= _EACH_EPOCH else {}  # Plotly would halve few epochs
    return {"title": {"text": "epoch"}, "rangemode": "tozero", **step}


def _bars(name: str, spans: Sequence[tuple[str, float, float]], hover: Sequence[str], colour: str) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [lane for lane, _, _ in spans],
        "base": [_date(start) for _, start, _ in spans],
        "x": [1000 * (end - start) for _, start, end in spans],  # milliseconds, on an axis of dates
        "text": list(hover),
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "line": {"color": "var(--card)", "width": 1}},
    }


def _hover(trial: FinishedTrial) -> str:
    result = trial.result
    ended = f"{result.value:.4f}" if result.value is not None else str(result.error.cause) if result.error else ""
    return f"#{trial.spec.number} {result.status} {ended}<br>{trial.ended_at - trial.started_at:.1f} s"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def natural(lane: str) -> tuple[str, int]:
    """A key that sorts lanes as people do, the tenth after the second."""
    name, _, place = lane.rpartition(" ")
    return name, int(place)
