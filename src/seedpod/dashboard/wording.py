"""Facts of a search as short lines of text, the same on every screen. Only characters that cp1252 has."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seedpod.board import FinishedTrial, Snapshot
from seedpod.events import SURE, Advice, FailureGroup, Plan, Summary
from seedpod.health import HEALTHY
from seedpod.objectives import DEFAULT, OBJECTIVES
from seedpod.progress import AggregatedProgress
from seedpod.progress.aggregated import Costs
from seedpod.reading import called
from seedpod.remote.view import EndpointView
from seedpod.training.balance import Imbalance
from seedpod.training.datasets import validation_images
from seedpod.trial import ParamValue, Status

MOST_IMPORTANCES = 5
MOST_OF_FRONT = 12
MOST_ADVICE = 3
_FEW_JUDGES = 100  # below them, one image is more than a point of accuracy
_EVERY_CLASS = {"balanced_accuracy", "macro_f1"}  # objectives in which small classes count as much as large ones
_NORMALIZATIONS = {"batch": "bn", "layer": "ln"}
_OUTCOMES = {
    "done": "Done",
    "exhausted": "The search space is exhausted: done",
    "timeout": "Stopped at timeout_hours",
    "max_cost": "Stopped by max_cost",
    "error": "Stopped by an error",
    "bug": "Stopped by a bug of seedpod",
}
_GOES_ON = frozenset({"interrupted", "timeout", "endpoint", "error"})  # where the same command is worth another try


def plan_lines(plan: Plan, cores: int) -> list[str]:
    """What is about to happen."""
    data, config = plan.data, plan.config
    height, width, channels = data.image_shape
    images = f"{sum(data.train_counts):,} images of {height}x{width}x{channels}, {len(data.class_names)} classes"
    trials = f"{config.trials} {_plural('trial', config.trials)}"
    lines = [
        *plan.found.notes,
        f"{called(data.id)}: {images}; {_judged_by(plan)}",
        f"{trials}, {plan.workers} at a time, seed {config.random_seed}, results in {plan.folder}",
    ]
    lines += _before_lines(plan)
    lines += _objective_lines(plan)
    lines += _imbalance_lines(plan)
    lines += _few_lines(plan)
    if plan.cost:
        lines.append(f"Cost: {plan.cost}")
    if config.local_workers == 1 and cores > 1 and not config.use_runpod_service:
        lines.append(f"1 trial at a time on {cores} cores: local_workers=auto runs {cores} at once")
    return lines


def _before_lines(plan: Plan) -> Iterator[str]:
    """Of a search that goes on: what is there."""
    if plan.before is None:
        return
    there, best = sum(plan.before.finished.values()), plan.before.best
    run, total = plan.folder.name, plan.before.total
    if not plan.before.queued:
        more = "; trials=N goes on to N" if total == plan.config.trials else ""
        yield f"Run {run} has all its {there} {_plural('trial', there)}{more}"
        return
    told = "" if best is None else f", best {values_text(best)} (#{best.spec.number})"
    yield f"Goes on with {run}: {there} of {total} trials {'is' if there == 1 else 'are'} there{told}"


def again(folder: Path, command: str, rest: str = "") -> str:
    """The command line for a run: ``resume``, or a command that takes ``run=``."""
    word = f"{command}={folder.name}" if command == "resume" else f"{command} run={folder.name}"
    place = "" if folder.parent == Path("results") else f" {shlex.quote(f'results_dir={folder.parent}')}"
    return f"python optimizer.py {word}{place}{rest}"


def preparing_line(what: str, done: int, total: int) -> str:
    """How far the preparation of a data set is."""
    if not done:
        return f"Preparing: {what}"
    if what == "downloading":
        return f"Preparing: {what}, {done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB"
    return f"Preparing: {what}, {done:,} of {total:,}"


def _judged_by(plan: Plan) -> str:
    folds = plan.config.cv_folds
    if folds > 1:
        return f"{folds} folds of them judge each trial in turn"
    return f"{plan.config.validation_split:.0%} of them judge the trials"


def _objective_lines(plan: Plan) -> Iterator[str]:
    """What is optimized, where that is not what everybody expects, and what of it no seed repeats."""
    objectives = plan.config.objectives
    if plan.config.optimize_for != DEFAULT:
        names = ", ".join(f"{each.label} ({each.better_is} is better)" for each in objectives)
        yield f"Optimizes {names}"
    weight = plan.config.weight_of_health
    if weight:
        what = objectives[0].label
        yield f"Optimizes {1 - weight:.0%} {what} and {weight:.0%} health; prunings go by {what} alone"
    measured = [each.label for each in objectives if each.measured]
    if measured and plan.config.reproducible:
        yield f"No seed repeats what is measured by the clock: {', '.join(measured)}"


def _few_lines(plan: Plan) -> Iterator[str]:
    """A warning where so few images judge the trials that chance decides between good ones, and what to do about it."""
    judges = validation_images(plan.data.train_counts, plan.config.validation_split)
    if plan.config.cv_folds > 1 or not 0 < judges < _FEW_JUDGES:
        return
    yield (
        f"Only {judges} {_plural('image', judges)} judge the trials, so one is {100 / judges:.1f} points of accuracy; "
        f"cv_folds=5 judges by all {sum(plan.data.train_counts):,}"
    )


def _imbalance_lines(plan: Plan) -> Iterator[str]:
    """A warning where some classes have far fewer images than others, and what to do about it."""
    found = Imbalance.of(plan.data.class_names, plan.data.train_counts)
    if found is None:
        return
    yield (
        f"Unequal classes: {one_line(found.largest)} has {found.times:.3g} times the training images of "
        f"{one_line(found.smallest)} ({found.most:,} and {found.fewest:,})"
    )
    to_do = {
        "class_weights=auto lets every class count alike in training": plan.config.class_weights == "none",
        "optimize_for=balanced_accuracy or macro_f1 in judging": not _EVERY_CLASS
        & set(plan.config.optimize_for.split(",")),
    }
    advice = ", ".join(line for line, wanted in to_do.items() if wanted)
    if advice:
        yield f"  {advice}; plain accuracy hardly sees the small ones"


def values_text(trial: FinishedTrial) -> str:
    """A trial's values, with their units."""
    return ", ".join(each.show(value) for each, value in zip(trial.spec.goals, trial.result.values, strict=False))


def trial_line(trial: FinishedTrial, snapshot: Snapshot) -> str:
    """One finished trial."""
    result = trial.result
    number = f"#{trial.spec.number}"
    last = trial.spec.curve(result.history)[-1] if result.history else None
    value = "" if last is None else f"{trial.spec.goals[0].show(last)}  "
    if result.status is Status.PRUNED and result.error is None:
        # Below the standing of complete trials, whose health stands before it where there is one.
        blank = "" if snapshot.best is None else " " * len(_health_text(snapshot.best))
        return f"{number:>5}  {value}{blank}{'pruned':<{len(_standing(snapshot.best))}}  {_how_long(trial)}"
    if result.status is not Status.COMPLETE or result.value is None:
        after = f" after {duration(result.seconds)}" if result.seconds else ""
        why = f"{result.error.cause}: {one_line(result.error.message)}" if result.error else ""
        return f"{number:>5}  {value}{result.status}{after}  {why or params_line(trial.spec.params)}".rstrip()
    best = snapshot.best
    is_best = best is not None and best.spec.number == trial.spec.number
    standing = _standing(best)
    if is_best or best is None:
        standing = f"{'best so far':<{len(standing)}}"
    if len(trial.spec.objectives) > 1:
        on_front = any(other.spec.number == trial.spec.number for other in snapshot.front)
        standing = f"{'on the front' if on_front else '':<12}"
    return f"{number:>5}  {values_text(trial)}  {_health_text(trial)}{standing}  {_how_long(trial)}"


def _standing(best: FinishedTrial | None) -> str:
    """Which trial is the best one by now; as wide whichever it is."""
    return " " * 14 if best is None else f"best {values_text(best)} #{best.spec.number:<3}"


def _how_long(trial: FinishedTrial) -> str:
    """Epochs, seconds and hyperparameters: the end of a trial's line."""
    epochs, seconds = trial.result.epochs, trial.result.seconds
    took = duration(seconds) if seconds else ""
    return f"{epochs:>3}/{trial.spec.total_epochs} epochs {took:>7}  {params_line(trial.spec.params)}".rstrip()


def _health_text(trial: FinishedTrial) -> str:
    return "" if trial.result.health is None else f"health {trial.result.health.overall:.2f}  "


def final_plan_line(trial: FinishedTrial, mode: str) -> str:
    """What the final model is going to be."""
    epochs = trial.final_epochs(mode)
    how = {"retrain": "on all training images", "best": "as in the trial"}[mode]
    return f"Final model: trial {trial.spec.number} again {how}, {epochs} epoch{'s' * (epochs != 1)}"


def final_lines(folder: Path, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the final model has come to be, each line with a style: ``good``, ``bad`` or none."""
    test = record["test"]
    interval = f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}"
    measured = f"Test accuracy {test['accuracy']:.4f} ({interval} with 95 % confidence"
    lines = [("good", f"{measured}, {test['images']:,} images never seen)")]
    every_class = f"balanced accuracy {test['balanced_accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}"
    lines.append(("", f"  every class alike: {every_class}"))
    if record["reproduced"] is False:
        lines.append(("bad", "Its losses are not what the trial had: another kind of machine trained that one."))
    exported = [found["path"] for found in record["exports"].values()]
    lines.append(("", f"Model in {folder / 'model.keras'}" + "".join(f", {name}" for name in exported)))
    lines.append(("", f"Try it: {again(folder, 'predict', ' FILE...')}"))
    return lines


def standing_line(progress: AggregatedProgress) -> str:
    """How the trials stand, and the best of them."""
    counts = {"running": progress.running, "failed": progress.failed, "pruned": progress.pruned}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    if progress.best is not None:
        parts.append(f"best {values_text(progress.best)} #{progress.best_trial}")
    if progress.front:
        parts.append(f"{len(progress.front)} on the front")
    return ", ".join(parts)


def left_parts(progress: AggregatedProgress) -> list[str]:
    """Time gone, time left with its range, and pace."""
    parts = [f"{duration(progress.elapsed)} gone"]
    if progress.remaining is None or progress.remaining_low is None or progress.remaining_high is None:
        parts.append("time left not known yet")
    elif progress.queued or progress.running:
        low, high = duration(progress.remaining_low), duration(progress.remaining_high)
        parts.append(f"about {duration(progress.remaining)} left")
        parts += [f"between {low} and {high}"] if low != high else []
    if progress.epochs_per_second:
        parts.append(f"{_pace(progress.epochs_per_second)} epochs/s")
    return parts


def cost_parts(costs: Costs) -> list[str]:
    """Money spent and to be spent; starts and idle seconds of workers apart."""
    if costs.per_second is None:
        return ["not known yet: no worker has told its GPU; gpu= or gpu_price_per_second= tell it"]
    if not costs.per_second and not costs.spent:
        return ["0 USD on this machine"]
    parts = [f"{costs.spent + costs.running:.4f} USD so far"]
    if costs.projected is not None:
        parts.append(f"about {costs.projected:.4f} at the end")
    if costs.limit is not None:
        parts.append(f"limit {costs.limit:g}")
    if costs.unpriced:
        parts.append(f"without {costs.unpriced} {_plural('trial', costs.unpriced)} of unknown price")
    if costs.starts or costs.idle:
        parts.append(f"besides up to {costs.starts:.4f} for starts and {costs.idle:.4f} for idle workers")
    return parts


def endpoint_parts(view: EndpointView) -> list[str]:
    """Workers by state, queue and requests of an endpoint, and its breaker where that is not closed."""
    state = view.counters.breaker.state
    parts = [] if state == "closed" else [f"breaker {state.replace('_', '-')}"]
    if view.health is None:
        parts.append("does not answer")
    else:
        # Those that are ready are the idle ones once more.
        counts = {name.replace("initializing", "starting"): n for name, n in asdict(view.health.workers).items()}
        workers = ", ".join(f"{n} {name}" for name, n in counts.items() if n and name != "ready") or "none"
        parts += [f"workers: {workers}", f"{view.health.jobs.in_queue} queued"]
    parts.append(f"{view.in_flight}" + (f" of {view.allowed}" if view.allowed else "") + " in flight")
    calls = view.counters.operations.values()
    sent, retried, failed = (sum(getattr(call, name) for call in calls) for name in ("sent", "retried", "failed"))
    troubles = "".join(f", {n} {name}" for name, n in [("retried", retried), ("failed", failed)] if n)
    parts.append(f"{sent} {_plural('request', sent)}{troubles}")
    return parts


def laid_out(head: str, parts: Sequence[str], width: int, most: int) -> list[str]:
    """The parts behind a head of 7 characters, with commas between, on as many lines as they need.

    Parts that do not fit on ``most`` lines are left out, from the end on: the first ones matter most.
    """
    lines = [f"{head:<7}{parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        elif len(lines) < most:
            lines.append(f"{'':<7}{part}")
        else:
            break
    return lines


def params_line(params: Mapping[str, ParamValue]) -> str:
    """The hyperparameters of a trial, shortened to what one compares."""
    filters = _sizes(params, "filters", "conv_blocks")
    dense = _sizes(params, "dense_units", "dense_layers")
    convs = int(params.get("convs_per_block", 1))
    words = [
        f"conv {filters}" + (f" x{convs}" if convs > 1 else "") if filters else "",
        f"k{params['kernel_size']}" if "kernel_size" in params else "",
        f"dense {dense}" if dense else "",
        str(params.get("activation", "")),
        _NORMALIZATIONS.get(str(params.get("normalization", "")), ""),
        "residual" if params.get("residual") else "",
        str(params["pooling"]) if "pooling" in params else "",
        str(params.get("optimizer", "")),
        f"lr {float(params['learning_rate']):.1e}" if "learning_rate" in params else "",
        str(params["schedule"]) if "schedule" in params else "",
        f"batch {params['batch_size']}" if "batch_size" in params else "",
    ]
    return " ".join(word for word in words if word)


def summary_lines(plan: Plan, summary: Summary) -> list[tuple[str, str]]:
    """The end of a search: (style, line) pairs; the style is ``good``, ``bad`` or empty."""
    lines: list[tuple[str, str]] = [("", "")]
    best = summary.best
    if best is None or best.result.value is None:
        some_ended = any(count for status, count in summary.trials.items() if status != Status.CANCELLED)
        lines.append(("bad", "No trial succeeded.") if some_ended else ("", "No trial has ended yet."))
    else:
        size = f"after {best.result.best_epoch} epochs, {best.result.parameters:,} parameters"
        lines += _front_lines(summary)
        values = f"{_named_values(best)}{_together(plan, best)}"
        lines.append(("good", f"{_best_by(best)}: trial {best.spec.number}, {values} {size}"))
        lines += [("", line) for line in _every_class_lines(plan, best)]
        lines += [("", f"  {key:<16} {_shown(value)}") for key, value in best.spec.params.items()]
    if summary.importances:
        most = list(summary.importances.items())[:MOST_IMPORTANCES]
        for_what = f" for {best.spec.goals[0].label}" if best is not None and summary.front else ""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in most)
        complete = summary.trials.get(Status.COMPLETE, 0)
        hint = f" ({complete} trials: a hint)" if complete < SURE else ""
        lines.append(("", f"What mattered{for_what}: {shares}{hint}"))
    by_health = plan.config.weight_of_health > 0
    lines += [("", line) for each in summary.advice for line in advice_lines(each, by_health=by_health)]
    lines += [("bad", _group_line("Failed", group)) for group in summary.failures]
    lines += [("", _group_line("Pruned", group)) for group in summary.limits]
    counts = ", ".join(f"{count} {status}" for status, count in summary.trials.items() if count) or "none ran"
    ended = _OUTCOMES.get(summary.outcome, f"Stopped ({summary.outcome})")
    took = duration(summary.ended_at - summary.started_at)
    trials = f"{summary.total} {_plural('trial', summary.total)}"
    lines.append(("", f"{ended} after {took}: of {trials} {counts}"))
    if summary.largest is not None:
        held = f"{summary.largest.result.peak_mb:,.0f} MB (#{summary.largest.spec.number})"
        lines.append(("", f"Memory: a trainer process held up to {held}, besides the data set, which all share"))
    lines += [("", line) for line in _cost_lines(plan, summary)]
    files = "best.yaml, summary.json, trials/" if best else "summary.json, trials/"
    files = f"front.yaml, {files}" if summary.front else files
    lines.append(("", f"Results in {plan.folder}: {files}"))
    if summary.outcome in _GOES_ON:
        lines.append(("", f"To go on: {again(plan.folder, 'resume')}"))
    return lines


def advice_lines(advice: Advice, *, by_health: bool) -> Iterator[str]:
    """What is ill with a trial's network and what may help; the components that are worst, at most MOST_ADVICE.

    Args:
        advice: What is known of it.
        by_health: Whether trials were compared by their health too.
    """
    rank = "the best"
    if advice.which == "worst":
        goal = advice.trial.spec.goals[0]
        last = f"whose {goal.label} was {'lowest' if goal.better(1.0, 0.0) else 'highest'}"
        rank = "the worst by both together" if by_health else last
    whose = f"Health of trial {advice.trial.spec.number}, {rank}: {advice.health.overall:.2f}"
    yield whose if advice.lines else f"{whose}, {HEALTHY}"
    yield from (f"  {line}" for line in advice.lines[:MOST_ADVICE])


def _together(plan: Plan, best: FinishedTrial) -> str:
    """The best trial's health, and what was optimized where that is both."""
    if best.result.health is None:
        return ""
    (score, *_) = best.result.scores(plan.config.weight_of_health)
    both = f", together {score:.4f}" if plan.config.weight_of_health else ""
    return f", health {best.result.health.overall:.4f}{both}"


def _every_class_lines(plan: Plan, best: FinishedTrial) -> Iterator[str]:
    """Of unequal classes: what the best trial comes to where each of them counts alike."""
    if Imbalance.of(plan.data.class_names, plan.data.train_counts) is None:
        return
    known = {OBJECTIVES[name]: best.result.metrics.get(name) for name in ("val_accuracy", *sorted(_EVERY_CLASS))}
    told = [f"{each.label} {each.show(value)}" for each, value in known.items() if value is not None]
    if told:
        yield f"  {', '.join(told)}"


def _best_by(best: FinishedTrial) -> str:
    goals = best.spec.goals
    return "Best" if len(goals) == 1 else f"Best by {goals[0].label}"


def _named_values(trial: FinishedTrial) -> str:
    pairs = zip(trial.spec.goals, trial.result.values, strict=True)
    return ", ".join(f"{each.label} {each.show(value)}" for each, value in pairs)


def _front_lines(summary: Summary) -> Iterator[tuple[str, str]]:
    """Of several objectives, the trials among which one may choose, the best of the first objective on top."""
    if not summary.front:
        return
    goals = summary.front[0].spec.goals
    names = " and ".join(each.label for each in goals)
    yield "good", f"Pareto front of {names}: {len(summary.front)} of {summary.trials['complete']} trials"
    higher = goals[0].better(1.0, 0.0)
    ordered = sorted(summary.front, key=lambda trial: trial.result.values[0], reverse=higher)
    for trial in ordered[:MOST_OF_FRONT]:
        yield "", f"  {f'#{trial.spec.number}':>5}  {values_text(trial)}  {params_line(trial.spec.params)}"
    if len(ordered) > MOST_OF_FRONT:
        yield "", f"  and {len(ordered) - MOST_OF_FRONT} more in front.yaml"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``3.2 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def one_line(text: str) -> str:
    """The text without line ends and control characters: a library's message must not move the cursor."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _sizes(params: Mapping[str, ParamValue], name: str, layers: str) -> str:
    """The sizes of a network's layers of one kind, as far as the parameters name them."""
    numbered = (f"{name}_{layer}" for layer in range(int(params.get(layers, 0))))
    return "-".join(str(params[each]) for each in numbered if each in params)


def _shown(value: ParamValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _group_line(ended: str, group: FailureGroup) -> str:
    message = one_line(group.message)
    example = f"#{group.example}" if group.count == 1 else f"such as #{group.example}"
    return f"{ended}, {group.cause}: {group.count} {_plural('trial', group.count)} ({example}: {message})"


def _cost_lines(plan: Plan, summary: Summary) -> list[str]:
    """What it cost; of a search that had no endpoint, that this was nothing."""
    if not summary.cost and not summary.unpriced:
        return ["Cost: 0 USD, all on this machine"] if not plan.cost else ["Cost: 0 USD"]
    line = f"Cost: {summary.cost:.4f} USD for the trials"
    if summary.unpriced:
        line += f" but {summary.unpriced} whose price is not known"
    besides = f"up to {summary.starts:.4f} USD for starts and {summary.idle:.4f} USD for idle seconds of workers"
    return [line, f"  besides {besides}"] if summary.starts or summary.idle else [line]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _pace(per_second: float) -> str:
    return f"{per_second:.1f}" if per_second >= 0.95 else f"{per_second:.2g}"
