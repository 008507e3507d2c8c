"""Plan, trial, progress and summary as the JSON data that the page reads. Pure, and each bounded in size."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.dashboard.wording import one_line, params_line
from seedpod.events import Plan, Summary
from seedpod.objectives import Objective
from seedpod.progress import AggregatedProgress, TrialRow
from seedpod.reading import called
from seedpod.remote.view import EndpointView
from seedpod.trial import ParamValue

MOST_ROWS = 100
"""Running trials that the page lists; the rest is counted."""
_LONGEST = 300  # characters of a message
_DIGITS = 6  # of a value: more than anybody reads
_CURVE = 200  # points of a finished curve

Facts = dict[str, Any]


def plan_facts(plan: Plan) -> Facts:
    """What is about to happen."""
    config = plan.config
    return {
        "run": plan.folder.name,
        "folder": str(plan.folder),
        "dataset": called(plan.data.id),
        "objective": _named(config.objectives[0]),
        "sampler": config.sampler,
        "seed": config.random_seed,
        "trials": config.trials,
        "workers": plan.workers,
        "epochs": config.max_epochs_per_trial * config.cv_folds,
        "cost": plan.cost,
        "model": config.final_model != "none",
        "report": config.report != "none",
    }


def trial_facts(trial: FinishedTrial, order: int) -> Facts:
    """A trial that has ended.

    Args:
        trial: The trial.
        order: How many had ended with it.
    """
    spec, result = trial.spec, trial.result
    return {
        "number": spec.number,
        "order": order,
        "status": str(result.status),
        "value": rounded(result.value),
        "merit": _merit(spec.goals[0], result.value),
        "epochs": result.epochs,
        "max_epochs": spec.total_epochs,
        "health": None if result.health is None else rounded(result.health.overall, 2),
        "memory": round(result.peak_mb) or None,
        "seconds": round(result.seconds or max(0.0, trial.ended_at - trial.started_at), 1),
        "backend": result.backend,
        "worker": str(result.run.get("worker", "")),
        "attempts": result.attempts,
        "cost": rounded(result.cost),
        "cause": None if result.error is None else str(result.error.cause),
        "message": None if result.error is None else one_line(result.error.message)[:_LONGEST],
        "summary": _line(spec.params),
        "params": {name: _short(value) for name, value in spec.params.items()},
    }


def curve_facts(trial: FinishedTrial) -> Facts:
    """The first objective after every epoch of a trial that has ended, thinned where there are many."""
    values = trial.spec.curve(trial.result.history)
    step = 1 + len(values) // _CURVE
    points = [[epoch, rounded(value)] for epoch, value in enumerate(values, 1)]
    return {"number": trial.spec.number, "points": points[::-step][::-1]}


def progress_facts(progress: AggregatedProgress) -> Facts:
    """The search at a glance."""
    costs = progress.costs
    return {
        "total": progress.total,
        "queued": progress.queued,
        "running": progress.running,
        "completed": progress.completed,
        "pruned": progress.pruned,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "best_value": rounded(progress.best_value),
        "best_trial": progress.best_trial,
        "best_params": "" if progress.best is None else _line(progress.best.spec.params),
        "elapsed": round(progress.elapsed, 1),
        "remaining": rounded(progress.remaining, 1),
        "remaining_low": rounded(progress.remaining_low, 1),
        "remaining_high": rounded(progress.remaining_high, 1),
        "epochs_per_second": rounded(progress.epochs_per_second, 3),
        "costs": {name: rounded(value) for name, value in asdict(costs).items()},
        "rows": [_row_facts(row) for row in progress.rows[:MOST_ROWS]],
        "endpoint": None if progress.endpoint is None else _endpoint_facts(progress.endpoint),
    }


def summary_facts(summary: Summary) -> Facts:
    """How a search ended."""
    return {
        "outcome": summary.outcome,
        "seconds": round(summary.ended_at - summary.started_at, 1),
        "failures": [
            {"cause": group.cause, "count": group.count, "example": group.example} for group in summary.failures
        ],
    }


def importance_facts(importances: Mapping[str, float]) -> list[list[Any]]:
    """Name and share of each hyperparameter, largest first."""
    return [[name, rounded(share, 4)] for name, share in importances.items()]


def rounded(value: float | None, digits: int = _DIGITS) -> float | None:
    """The value with so many digits behind the point; None where it is not finite, as JSON has no word for that."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _named(objective: Objective) -> str:
    return f"{objective.label}, {objective.unit}" if objective.unit else objective.label


def _merit(objective: Objective, value: float | None) -> float | None:
    """A number by which trials are ranked: higher is better."""
    return None if value is None else rounded(value if objective.better(1.0, 0.0) else -value)


def _row_facts(row: TrialRow) -> Facts:
    return {
        "number": row.number,
        "backend": row.backend,
        "worker": row.worker,
        "attempt": row.attempt,
        "epoch": row.epoch,
        "max_epochs": row.max_epochs,
        "value": rounded(row.value),
        "age": round(row.age, 1),
        "remaining": rounded(row.remaining, 1),
    }


def _endpoint_facts(view: EndpointView) -> Facts:
    calls = list(view.counters.operations.values())
    return {
        "workers": None if view.health is None else asdict(view.health.workers),
        "queue": None if view.health is None else view.health.jobs.in_queue,
        "in_flight": view.in_flight,
        "allowed": view.allowed,
        "breaker": str(view.counters.breaker.state),
        "requests": {
            name: sum(getattr(call, name) for call in calls)
            for name in ("sent", "waited", "retried", "throttled", "refused", "failed")
        },
    }


def _line(params: Mapping[str, ParamValue]) -> str:
    return params_line(params) or ", ".join(f"{name} {_short(value)}" for name, value in params.items())[:_LONGEST]


def _short(value: ParamValue) -> ParamValue:
    return float(f"{value:.5g}") if isinstance(value, float) else value
