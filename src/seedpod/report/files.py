"""The charts that are not Optuna's as PNG files, drawn by Matplotlib: values, curves, timeline, confusion matrix."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seedpod.report.charts import bright, history, lanes, natural
from seedpod.report.facts import Facts
from seedpod.trial import Status

_COLOURS = {
    Status.COMPLETE: "tab:green",
    Status.PRUNED: "tab:orange",
    Status.FAILED: "tab:red",
    Status.CANCELLED: "tab:gray",
}
_MOST_CLASSES = 25  # whose names can be read


def draw_files(facts: Facts, folder: Path) -> None:
    """Write them into a folder.

    Raises:
        ImportError: Matplotlib is not installed.
        OSError: A file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no window, on no machine
    from matplotlib import pyplot as plt

    for name, figure in _drawn(facts, plt):
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        plt.close(figure)


def _drawn(facts: Facts, plt: Any) -> Iterator[tuple[str, Any]]:
    if (figure := history(facts)) is not None:
        yield "history", _history(facts, figure, plt)
    if facts.curves:
        yield "curves", _curves(facts, plt)
    if facts.trials:
        yield "timeline", _timeline(facts, plt)
    if facts.final is not None:
        yield "confusion", _confusion(facts.final["test"], plt)


def _history(facts: Facts, drawn: Mapping[str, Any], plt: Any) -> Any:
    figure, axes = plt.subplots(figsize=(10, 5))
    for trace in drawn["data"]:
        if trace["mode"] == "lines":
            axes.step(trace["x"], trace["y"], where="post", label=trace["name"])
        else:
            axes.scatter(trace["x"], trace["y"], s=24, marker=trace["marker"].get("symbol", "o"), label=trace["name"])
    axes.set(xlabel="trial", ylabel=facts.objective_label, title="History")
    axes.legend()
    return figure


def _curves(facts: Facts, plt: Any) -> Any:
    figure, axes = plt.subplots(figsize=(10, 5))
    shown = bright(facts)
    for number, rows in facts.curves.items():
        values = [row.get(facts.objective) for row in rows]
        look = (
            {"label": f"#{number}", "zorder": 2} if number in shown else {"color": "0.7", "linewidth": 0.8, "zorder": 1}
        )
        axes.plot(range(1, len(rows) + 1), [float("nan") if v is None else v for v in values], **look)
    axes.set(xlabel="epoch", ylabel=facts.objective_label, title="Learning curves")
    if shown:
        axes.legend()
    return figure


def _timeline(facts: Facts, plt: Any) -> Any:
    bars = lanes(facts.trials)
    order = sorted({bar.lane for bar in bars}, key=natural)
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.35 * len(order)))
    first = min(bar.trial.started_at for bar in bars)
    for status, colour in _COLOURS.items():
        mine = [bar for bar in bars if bar.trial.result.status is status]
        if mine:
            axes.barh(
                [order.index(bar.lane) for bar in mine],
                [bar.trial.ended_at - bar.trial.started_at for bar in mine],
                left=[bar.trial.started_at - first for bar in mine],
                color=colour,
                edgecolor="white",
                label=str(status),
            )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title="Who ran what when")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _confusion(test: Mapping[str, Any], plt: Any) -> Any:
    names, rows = [each["name"] for each in test["classes"]], test["confusion"]
    figure, axes = plt.subplots(figsize=(7, 6))
    shares = [[count / max(1, sum(row)) for count in row] for row in rows]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="taken for", ylabel="is", title="Confusion on the test images")
    if len(names) <= _MOST_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_yticks(range(len(names)), names)
        for i, row in enumerate(rows):
            for j, count in enumerate(row):
                if count:
                    dark = shares[i][j] > 0.5
                    axes.text(j, i, str(count), ha="center", va="center", color="white" if dark else "black")
    return figure
