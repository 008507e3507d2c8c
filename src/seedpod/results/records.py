"""The schema of what is written: one record a trial, one summary a run. Described in docs/results.md."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.errors import Cause, TrialError
from seedpod.events import Summary
from seedpod.health import Health
from seedpod.trial import PEAK, Status, TrialFailure, TrialResult, TrialSpec, finite

SCHEMA = 2
"""Version of the files' form."""


def trial_record(finished: FinishedTrial) -> dict[str, Any]:
    """``trials/NNNN.json``: everything that decides or describes a trial; all that differs between two equal runs is
    under ``times``.
    """
    spec, result = finished.spec, finished.result
    return {
        "schema": SCHEMA,
        "number": spec.number,
        "uid": spec.uid,
        "status": result.status,
        "objectives": list(spec.objectives),
        "value": result.value,
        "values": _values(finished),
        "params": dict(spec.params),
        "dataset": spec.dataset,
        "fingerprint": spec.fingerprint,
        "seed": spec.seed,
        "split_seed": spec.split_seed,
        "validation_split": spec.validation_split,
        "min_epochs": spec.min_epochs,
        "max_epochs": spec.max_epochs,
        "max_parameters": spec.max_parameters,
        "max_seconds": spec.max_seconds,
        "cv_folds": spec.cv_folds,
        "max_model_mb": spec.max_model_mb,
        "min_accuracy": spec.min_accuracy,
        "min_accuracy_epochs": spec.min_accuracy_epochs,
        "class_weights": spec.class_weights,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "metrics": finite(result.metrics),
        "history": [finite(row) for row in result.history],
        "parameters": result.parameters,
        "environment": dict(result.environment),
        "backend": result.backend,
        "cost": result.cost,
        "attempts": result.attempts,
        "run": {name: value for name, value in result.run.items() if name != PEAK},
        "error": None if result.error is None else asdict(result.error),
        "health": None if result.health is None else result.health.to_plain(),
        "times": {
            "started_at": _iso(finished.started_at),
            "ended_at": _iso(finished.ended_at),
            "training_seconds": round(result.seconds, 3) or None,
            "peak_memory_mb": result.run.get(PEAK),
        },
    }


def read_trial(record: Mapping[str, Any]) -> FinishedTrial:
    """The trial that a record tells of.

    Raises:
        ValueError: It is no record of this schema, or a field of it is missing or of the wrong form.
    """
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema {record.get('schema')!r} where this seedpod reads {SCHEMA}")
    try:
        names = {field.name for field in fields(TrialSpec)} & set(record)  # what a record of before lacks has a default
        spec = TrialSpec(**{name: record[name] for name in names} | {"objectives": tuple(record["objectives"])})
        error, health = record["error"], record["health"]
        result = TrialResult(
            **{field.name: record[field.name] for field in fields(TrialResult) if field.name in record}
            | {
                "status": Status(record["status"]),
                "further": tuple(record["values"].values())[1:],
                "history": tuple(record["history"]),
                "seconds": record["times"]["training_seconds"] or 0.0,
                "error": None
                if error is None
                else TrialFailure(Cause(error["cause"]), error["message"], error["detail"]),
                "health": None if health is None else Health.from_plain(health),
            }
        )
        times = record["times"]
        if times.get(PEAK) is not None:
            result = replace(result, run={**result.run, PEAK: times[PEAK]})
        return FinishedTrial(spec, result, _seconds(times["started_at"]), _seconds(times["ended_at"]))
    except (KeyError, TypeError, TrialError) as problem:
        raise ValueError(f"{type(problem).__name__}: {problem}") from problem


def best_record(best: FinishedTrial) -> dict[str, Any]:
    """``best.yaml``: the best trial's values and hyperparameters; also one entry of ``front.yaml``."""
    return {
        "trial": best.spec.number,
        **_values(best),
        "epochs": best.result.best_epoch,
        "parameters": best.result.parameters,
        "health": None if best.result.health is None else best.result.health.overall,
        "seed": best.spec.seed,
        "params": dict(best.spec.params),
    }


def summary_record(summary: Summary) -> dict[str, Any]:
    """``summary.json``."""
    best = summary.best
    return {
        "schema": SCHEMA,
        "run": summary.run,
        "outcome": summary.outcome,
        "total": summary.total,
        "trials": dict(summary.trials),
        "cost": round(summary.cost, 6),
        "cost_of_starts": round(summary.starts, 6),
        "cost_of_idle": round(summary.idle, 6),
        "trials_without_price": summary.unpriced,
        "best": None if best is None else best_record(best),
        "front": [best_record(trial) for trial in summary.front],
        "importances": dict(summary.importances),
        "failures": [asdict(group) for group in summary.failures],
        "limits": [asdict(group) for group in summary.limits],
        "advice": [
            {
                "trial": each.trial.spec.number,
                "which": each.which,
                "health": each.health.overall,
                "lines": list(each.lines),
            }
            for each in summary.advice
        ],
        "times": {
            "started_at": _iso(summary.started_at),
            "ended_at": _iso(summary.ended_at),
            "seconds": round(summary.ended_at - summary.started_at, 3),
        },
    }


def summary_times(record: Mapping[str, Any]) -> tuple[float, float]:
    """When the search of a ``summary.json`` began and ended, in seconds since the epoch."""
    return _seconds(record["times"]["started_at"]), _seconds(record["times"]["ended_at"])


def _values(finished: FinishedTrial) -> dict[str, float]:
    """Value by objective; empty where the trial has none."""
    return dict(zip(finished.spec.objectives, finished.result.values, strict=False))


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
