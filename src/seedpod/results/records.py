"""The schema of what is written: one record a trial, one summary a run. Described in docs/results.md."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.events import Summary
from seedpod.trial import finite

SCHEMA = 1
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
        "objective": spec.objective,
        "value": result.value,
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
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "metrics": finite(result.metrics),
        "history": [finite(row) for row in result.history],
        "parameters": result.parameters,
        "environment": dict(result.environment),
        "backend": result.backend,
        "cost": result.cost,
        "attempts": result.attempts,
        "error": None if result.error is None else asdict(result.error),
        "times": {
            "started_at": _iso(finished.started_at),
            "ended_at": _iso(finished.ended_at),
            "training_seconds": round(result.seconds, 3),
        },
    }


def best_record(best: FinishedTrial) -> dict[str, Any]:
    """``best.yaml``: the best trial's value and hyperparameters."""
    return {
        "trial": best.spec.number,
        best.spec.objective: best.result.value,
        "epochs": best.result.best_epoch,
        "parameters": best.result.parameters,
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
        "best": None if best is None else best_record(best),
        "importances": dict(summary.importances),
        "failures": [asdict(group) for group in summary.failures],
        "times": {
            "started_at": _iso(summary.started_at),
            "ended_at": _iso(summary.ended_at),
            "seconds": round(summary.ended_at - summary.started_at, 3),
        },
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
