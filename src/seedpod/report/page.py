"""Facts and figures -> one HTML page: self-contained, light and dark, for wide screens and phones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.events import SURE, FailureGroup
from seedpod.health import COMPONENTS, HEALTHY, advice
from seedpod.reading import called
from seedpod.report.charts import BRIGHT, busy_share, pauses
from seedpod.report.facts import Facts
from seedpod.trial import Status

_HERE = Path(__file__).parent
_MOST_ROWS = 100  # trials in the table
_MOST_FILES = 200  # in the table of those that were left out
_MOST_CLASSES = 25  # in a matrix that can be read


@dataclass(frozen=True, slots=True)
class Charts:
    """What is drawn, and by what.

    Attributes:
        figures: Plotly figures by name, in JSON form.
        library: Plotly's own script; empty where it is not installed, and then there are no figures.
    """

    figures: Mapping[str, Mapping[str, Any]]
    library: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """How to have the same once more.

    Attributes:
        command: For the same search.
        studies: For Optuna's dashboard.
        predict: For what the final model sees in pictures.
    """

    command: str
    studies: str
    predict: str


def render(facts: Facts, charts: Charts, repeat: Repeat) -> str:
    """The page."""
    sections = [
        _outcome(facts),
        _chosen(facts),
        _final_model(facts),
        _chart(
            charts,
            "history",
            "History",
            "Each trial's value, and the best one so far. Of pruned trials, the last value that they had.",
        ),
        _chart(charts, "front", "Pareto front", "No other trial is better in every objective than one of these."),
        _chart(
            charts,
            "curves",
            "Learning curves",
            f"After each epoch; the best {min(BRIGHT, facts.count(Status.COMPLETE))} trials have a colour.",
        ),
        _chart(charts, "best_curve", "The best trial's loss", "Where the two part, it begins to learn by heart."),
        _chart(charts, "importances", "What mattered", _weight_of_shares(facts)),
        _chart(
            charts,
            "slices",
            "Slices",
            "The value over each hyperparameter; the stronger the colour, the later the trial.",
        ),
        _chart(charts, "parallel", "Together", "A line is a trial; the stronger its colour, the higher its value."),
        _health(facts),
        _saved(facts),
        _timeline(facts, charts),
        _costs(facts),
        _groups("Failures", facts.failures),
        _groups("Pruned by a limit", facts.limits),
        _left_out(facts),
        _trials(facts),
        _again(facts, repeat),
    ]
    # No text of a trial ends the script that holds it.
    figures = json.dumps(charts.figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    library = f"<script>{charts.library}</script>" if charts.library else ""
    script = (_HERE / "page.js").read_text("utf-8")
    draw = f'<script type="application/json" id="figures">{figures}</script>{library}<script>{script}</script>'
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing is fetched from anywhere.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data: blob:\">"
        f"<title>{escape(facts.run)} · seedpod</title>"
        f"<style>{(_HERE / 'page.css').read_text('utf-8')}</style></head>"
        f"<body><main>{''.join(sections)}</main>{draw if charts.library else ''}</body></html>\n"
    )


def _section(title: str, body: str, note: str = "", wide: str = "") -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="{wide}"><h2>{escape(title)}</h2>{said}{body}</section>'


def _chart(charts: Charts, name: str, title: str, note: str) -> str:
    if name not in charts.figures:
        return ""
    return _section(title, f'<div class="scroll"><div class="chart" data-figure="{name}"></div></div>', note)


def _health(facts: Facts) -> str:
    """The best trial's health by component and by layer, and advice."""
    health = None if facts.best is None else facts.best.result.health
    if facts.best is None or health is None:
        return ""
    parts = [[name, f"{value:.2f}", COMPONENTS[name]] for name, value in health.components.items()]
    layers = [
        [
            layer.name,
            *([f"{layer.units}", f"{layer.dead}", f"{layer.saturated}"] if layer.units else ["", "", ""]),
            *("not finite" if norm is None else f"{norm:.2g}" for norm in (layer.gradient, layer.update)),
        ]
        for layer in health.layers
    ]
    said = "; ".join(advice(health, facts.best.spec.params)) or HEALTHY
    note = f"Of trial {facts.best.spec.number}, the best: {health.overall:.2f} of 1. {said[0].upper()}{said[1:]}."
    tables = [
        _table(["component", "value", "what it is"], parts),
        _table(["layer", "units", "dead", "saturated", "gradient", "step / weights"], layers),
    ]
    return _section("Health", f'<div class="beside">{"".join(tables)}</div>', note)


def _tile(name: str, value: str, more: str = "", kind: str = "") -> str:
    return (
        f'<div class="tile {kind}"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
    )


def _outcome(facts: Facts) -> str:
    tiles = []
    if facts.final is not None:
        test = facts.final["test"]
        tiles.append(
            _tile(
                "Test accuracy",
                f"{test['accuracy']:.4f}",
                f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f} with 95 % confidence, "
                f"{test['images']:,} images",
                "lead",
            )
        )
    if facts.best is not None and facts.best.result.value is not None:
        result = facts.best.result
        more = f"trial {facts.best.spec.number}, epoch {result.best_epoch}, {result.parameters:,} parameters"
        shown = facts.best.spec.goals[0].show(facts.best.result.value)
        tiles.append(_tile(f"Best {facts.objective_label}", shown, more))
    counts = {status: facts.count(status) for status in (Status.COMPLETE, Status.PRUNED, Status.FAILED)}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    tiles.append(_tile("Trials", f"{len(facts.trials)}", told))
    tiles.append(_tile("Time", _duration(_seconds(facts)), f"{facts.epochs:,} epochs trained"))
    cost = _cost(facts)
    tiles.append(_tile("Cost", f"{cost:.2f} USD" if cost >= 1 or not cost else f"{cost:.4f} USD", _where(facts)))
    head = f'<header><p class="brand">seedpod</p><h1>{escape(facts.run)}</h1><p>{escape(_told(facts))}</p></header>'
    return f'{head}<div class="tiles">{"".join(tiles)}</div>'


def _chosen(facts: Facts) -> str:
    """The best trial's hyperparameters."""
    if facts.best is None:
        return ""
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd></div>"
        for name, value in facts.best.spec.params.items()
    )
    note = f"Those of trial {facts.best.spec.number}; best.yaml has them too, for enqueue={facts.run}."
    return _section("The best hyperparameters", f'<dl class="chosen">{pairs}</dl>', note)


def _weight_of_shares(facts: Facts) -> str:
    """What the shares are, and that they are but a hint where few trials tell them."""
    what = "Each hyperparameter's share in the differences of the value"
    count = facts.count(Status.COMPLETE)
    return f"{what}, from {count} complete trials{': a hint' if count < SURE else ''}."


def _told(facts: Facts) -> str:
    """The outcome in a sentence."""
    data = called(facts.trials[0].spec.dataset) if facts.trials else "its data set"
    if facts.summary is None:
        return f"A search on {data} that has not ended: {len(facts.trials)} trials so far."
    outcome = {
        "done": "It ran to its end.",
        "timeout": "It was ended by timeout_hours.",
        "max_cost": "It was ended by max_cost.",
        "exhausted": "It ended when its space was used up.",
        "interrupted": "It was interrupted.",
    }.get(str(facts.summary["outcome"]), f"It ended by: {facts.summary['outcome']}.")
    model = "" if facts.final is None else f" The final model is trial {facts.final['trial']}'s, in model.keras."
    nothing = "" if facts.best is not None else " No trial succeeded; see below why."
    return f"A search on {data}. {outcome}{model}{nothing}"


def _final_model(facts: Facts) -> str:
    if facts.final is None:
        return ""
    test = facts.final["test"]
    parts = []
    if len(test["classes"]) <= _MOST_CLASSES:
        parts.append(_matrix(test))
    rows = [
        [each["name"], f"{each['images']:,}", *(f"{each[name]:.4f}" for name in ("precision", "recall", "f1"))]
        for each in sorted(test["classes"], key=lambda each: each["f1"])[:_MOST_CLASSES]
    ]
    parts.append(_table(["class", "images", "precision", "recall", "F1"], rows, "Worst class first."))
    pairs = _pairs(test)
    if pairs:
        parts.append(_table(["is", "taken for", "images"], pairs, "What is mixed up most."))
    how = (
        f"Trained on {facts.final['train_images']:,} images for {facts.final['epochs']} epochs, then measured on "
        f"{test['images']:,} test images that no trial and no choice had seen."
    )
    return _section("Final model", f'<div class="beside">{"".join(parts)}</div>{_pictures(test)}', how)


def _matrix(test: Mapping[str, Any]) -> str:
    names = [each["name"] for each in test["classes"]]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = []
    for i, row in enumerate(test["confusion"]):
        most = max(1, sum(row))
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" style="--share:{count / most:.3f}">{count or ""}</td>'
            for j, count in enumerate(row)
        )
        body.append(f"<tr><th>{escape(names[i])}</th>{cells}</tr>")
    return (
        '<figure class="scroll"><table class="matrix"><thead><tr><th></th>' + head + "</tr></thead><tbody>"
        f"{''.join(body)}</tbody></table><figcaption>Rows are what images are, columns what they are taken for."
        "</figcaption></figure>"
    )


def _pairs(test: Mapping[str, Any]) -> list[list[str]]:
    names = [each["name"] for each in test["classes"]]
    found = [
        (count, names[i], names[j])
        for i, row in enumerate(test["confusion"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return [[one, other, f"{count:,}"] for count, one, other in sorted(found, reverse=True)[:10]]


def _pictures(test: Mapping[str, Any]) -> str:
    if not test["worst"]:
        return '<p class="note">No test image is classified wrongly.</p>'
    figures = "".join(
        f'<figure><img src="{escape(each["picture"])}" alt="a {escape(each["is"])}">'
        f"<figcaption><b>{escape(each['is'])}</b> taken for <b>{escape(each['taken_for'])}</b><br>"
        f"{100 * each['probability']:.1f} % sure</figcaption></figure>"
        for each in test["worst"]
    )
    return f'<h3>The surest mistakes</h3><div class="pictures">{figures}</div>'


def _saved(facts: Facts) -> str:
    found = dict[str, list[int]]()
    for trial in facts.trials:
        limited = "a limit" if trial.result.error else "pruning"
        by = {Status.PRUNED: limited, Status.COMPLETE: "early stopping"}.get(trial.result.status)
        if by and facts.saved(trial):
            found.setdefault(by, []).append(facts.saved(trial))
    if not found:
        return ""
    given = facts.epochs + sum(map(sum, found.values()))
    rows = [
        [by, str(len(found[by])), f"{sum(found[by]):,}", f"{sum(found[by]) / given:.0%}"]
        for by in ("pruning", "a limit", "early stopping")
        if by in found
    ]
    note = f"{facts.epochs:,} of {given:,} epochs were trained."
    return _section("Epochs saved", _table(["by", "trials", "epochs", "share"], rows), note)


def _timeline(facts: Facts, charts: Charts) -> str:
    share = busy_share(facts.trials)
    if share is None:
        return ""
    note = f"Who ran what when: {share:.0%} of the time a trial ran; the gaps are idle."
    if stopped := pauses(facts.trials):
        note += f" The search went on after {len(stopped)} pause{'s' * (len(stopped) != 1)}, which do not count."
    if "timeline" not in charts.figures:
        return _section("Timeline", "", note)
    return _section("Timeline", '<div class="scroll"><div class="chart" data-figure="timeline"></div></div>', note)


def _costs(facts: Facts) -> str:
    cost = _cost(facts)
    unpriced = sum(t.result.cost is None for t in facts.trials)
    if not cost and not unpriced:
        return ""
    rows = []
    for status in Status:
        mine = [t for t in facts.trials if t.result.status is status]
        billed = sum(float(t.result.run.get("billed_seconds", 0.0)) for t in mine)
        if mine:
            rows.append([str(status), str(len(mine)), f"{billed:,.1f} s", f"{_spent(mine):.4f} USD"])
    rest = cost - _spent(facts.trials)
    if rest > 5e-5:
        rows.append(["cancelled or late", "", "", f"{rest:.4f} USD"])
    rows.append(["all", str(len(facts.trials)), "", f"{cost:.4f} USD"])
    more = facts.summary or {}
    for name, what in (("cost_of_starts", "starts of workers, at most"), ("cost_of_idle", "idle workers, at most")):
        if more.get(name):
            rows.append([what, "", "", f"{more[name]:.4f} USD"])
    note = "Billed seconds times the price of the GPU."
    if unpriced:
        note += f" {unpriced} trial{'s' * (unpriced != 1)} ran on a GPU whose price is not known, and are not in it."
    return _section("Costs", _table(["trials", "how many", "billed", "cost"], rows), note)


def _groups(title: str, groups: Sequence[FailureGroup]) -> str:
    if not groups:
        return ""
    rows = [[group.cause, str(group.count), f"#{group.example}", group.message] for group in groups]
    return _section(title, _table(["cause", "trials", "first", "its message"], rows))


def _left_out(facts: Facts) -> str:
    if not facts.left_out:
        return ""
    unusable = sum(kind == "unusable" for _, kind, _ in facts.left_out)
    counts = {"unusable": unusable, "copies of others": len(facts.left_out) - unusable}
    note = " and ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    more = len(facts.left_out) - _MOST_FILES
    if more > 0:
        note += f"; {more:,} that are not shown here are in bad_files.csv"
    rows = [[path, reason] for path, _, reason in facts.left_out[:_MOST_FILES]]
    return _section("Files left out", _table(["file", "why"], rows), f"Of the images, {note}.")


def _trials(facts: Facts) -> str:
    if not facts.trials:
        return ""
    best = facts.best.result.value if facts.best and facts.best.result.value is not None else 0.0
    ranked = sorted(
        facts.trials,
        key=lambda t: (t.result.value is None, abs((t.result.value or 0.0) - best), t.spec.number),
    )
    names = list(dict.fromkeys(name for trial in ranked for name in trial.spec.params))
    measured = any(t.result.peak_mb for t in facts.trials)
    rows = [
        [
            f"#{t.spec.number}",
            "" if t.result.value is None else f"{t.result.value:.4f}",
            str(t.result.status),
            f"{facts.epochs_of(t)}/{t.spec.max_epochs}",
            _duration(t.result.seconds),
            *([f"{t.result.peak_mb:,.0f} MB" if t.result.peak_mb else ""] if measured else []),
            *(_shown(t.spec.params.get(name, "")) for name in names),
        ]
        for t in ranked[:_MOST_ROWS]
    ]
    more = len(ranked) - _MOST_ROWS
    note = f"The best {_MOST_ROWS}; the other {more:,} are in trials/." if more > 0 else "Best first."
    memory = ["memory"] if measured else []
    table = _table(["trial", "value", "ended", "epochs", "trained", *memory, *names], rows)
    return _section(
        "Trials", f"<details><summary>{len(rows)} trials with their parameters</summary>{table}</details>", note
    )


def _again(facts: Facts, repeat: Repeat) -> str:
    environment = dict(facts.best.result.environment) if facts.best else {}
    told = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts = [
        f"<p>What the final model sees in pictures:</p><pre>{escape(repeat.predict)}</pre>" if facts.final else "",
        f"<p>The same search once more:</p><pre>{escape(repeat.command)}</pre>",
        f"<p>The study in Optuna's own dashboard:</p><pre>{escape(repeat.studies)}</pre>",
        f"<details><summary>All settings</summary><pre>{escape(facts.settings)}</pre></details>",
    ]
    if told:
        parts.append(f'<p class="note">The numbers depend on: {escape(told)}.</p>')
    return _section("Repeat it", "".join(parts))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{said}</figure>'


def _seconds(facts: Facts) -> float:
    if facts.summary is not None:
        return float(facts.summary["times"]["seconds"])
    if not facts.trials:
        return 0.0
    return max(t.ended_at for t in facts.trials) - min(t.started_at for t in facts.trials)


def _cost(facts: Facts) -> float:
    recorded = _spent(facts.trials)
    return recorded if facts.summary is None else float(facts.summary["cost"])


def _spent(trials: Sequence[FinishedTrial]) -> float:
    """USD, of those whose price is known."""
    return sum(t.result.cost or 0.0 for t in trials)


def _where(facts: Facts) -> str:
    backends = sorted({t.result.backend for t in facts.trials})
    if backends in ([], ["local"]):
        return "on this machine"
    workers = {t.result.run["worker"] for t in facts.trials if t.result.run.get("worker")}
    return f"{' and '.join(backends)}, {len(workers)} worker{'s' * (len(workers) != 1)}"


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
