"""``events.jsonl``: one JSON object a line for every change of a search's state. Described in docs/events.md.

Each line is one write at the file's end, so that several threads, or a later run of the same search, only add to it.
Whoever reads may find the first part of a line that is being written: Linux shows a file's growth page by page.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seedpod.board import FinishedTrial
from seedpod.errors import SeedpodError
from seedpod.events import Plan, RunLog, Summary
from seedpod.guarded import Guarded
from seedpod.remote.view import EndpointView, LateJob
from seedpod.trial import TrialProgress, TrialSpec, finite

log = logging.getLogger(__name__)

SCHEMA = 2
"""Version of the lines' form; in the first line of every run."""


_JOB_LATE = "job_late"


class EventLog(RunLog):
    """Appends to one file. Thread-safe. Where it cannot be written that is said once, and the search goes on.

    Args:
        path: The file; it may exist, and may end in half a line, which is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken = Guarded([False])
        try:
            _cut_half_line(path)
        except OSError as error:
            self._give_up(error)

    def search_started(self, at: float, plan: Plan, spent: float) -> None:
        """A search starts, or goes on."""
        facts = {
            "schema": SCHEMA,
            "run": plan.folder.name,
            "dataset": plan.data.id,
            "objectives": {each.name: str(each.direction) for each in plan.config.objectives},
            "trials": plan.config.trials,
            "workers": plan.workers,
            "spent": spent,
        }
        self._write("search_started", at, facts)

    def search_ended(self, at: float, summary: Summary) -> None:
        """A search is over."""
        best = None if summary.best is None else summary.best.spec.number
        facts = {
            "outcome": summary.outcome,
            "trials": dict(summary.trials),
            "best": best,
            "front": [trial.spec.number for trial in summary.front],
            "spent": summary.cost,
        }
        facts |= {"starts": summary.starts, "idle": summary.idle, "unpriced": summary.unpriced}
        self._write("search_ended", at, facts)

    def stopping(self, at: float, reason: str) -> None:
        """No new trial starts any more."""
        self._write("stopping", at, {"reason": reason})

    def trial_started(self, at: float, spec: TrialSpec) -> None:
        """A trial starts."""
        facts = {"trial": spec.number, "uid": spec.uid, "params": dict(spec.params), "max_epochs": spec.max_epochs}
        self._write("trial_started", at, facts)

    def trial_progress(self, at: float, progress: TrialProgress) -> None:
        """A trial has finished an epoch."""
        facts = {
            "trial": progress.number,
            "attempt": progress.attempt,
            "epoch": progress.epoch,
            "value": progress.value,
            "metrics": finite(progress.metrics),
            "seconds": progress.seconds,
            "backend": progress.backend,
            "worker": progress.worker,
        }
        self._write("trial_progress", at, facts)

    def trial_finished(self, at: float, trial: FinishedTrial) -> None:
        """A trial has ended."""
        result = trial.result
        facts = {
            "trial": result.number,
            "status": str(result.status),
            "value": result.value,
            "values": list(result.values),
            "health": None if result.health is None else result.health.overall,
            "epochs": result.epochs,
            "seconds": result.seconds or None,
            "cost": result.cost,
            "backend": result.backend,
            "attempts": result.attempts,
            "worker": str(result.run.get("worker", "")),
            "gpu": str(result.run.get("gpu", "")),
            "cause": None if result.error is None else str(result.error.cause),
        }
        self._write("trial_finished", at, facts)

    def job_late(self, at: float, job: LateJob, cost: float | None) -> None:
        """A job has ended after its trial."""
        facts = {
            "trial": job.trial,
            "uid": job.uid,
            "attempt": job.attempt,
            "job": job.job,
            "worker": job.worker,
            "status": job.state,
            "value": job.value,
            "billed_seconds": job.seconds,
            "cost": cost,
        }
        self._write(_JOB_LATE, at, facts)

    def endpoint(self, at: float, view: EndpointView) -> None:
        """The endpoint's state is another one."""
        facts = {
            "breaker": str(view.counters.breaker.state),
            "in_flight": view.in_flight,
            "workers": None if view.health is None else asdict(view.health.workers),
            "queue": None if view.health is None else view.health.jobs.in_queue,
        }
        self._write("endpoint", at, facts)

    def _write(self, event: str, at: float, facts: Mapping[str, Any]) -> None:
        with self._broken.locked() as broken:
            if broken[0]:
                return
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": time, **facts}, allow_nan=False).encode() + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with self._broken.locked() as broken:
            first, broken[0] = not broken[0], True
        if first:
            log.warning("cannot write %s (%s); the search goes on without it", self._path, error.strerror)


def read_spent(path: Path) -> float:
    """USD of earlier runs that are in no trial's record: of trials that were cancelled, and of jobs that ended late.

    Raises:
        SeedpodError: The file cannot be read.
    """
    if not path.exists():
        return 0.0
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SeedpodError(f"cannot read {path} ({error.strerror}).") from error
    return sum(_cost_without_record(line) for line in lines if '"cancelled"' in line or _JOB_LATE in line)


def _cost_without_record(line: str) -> float:
    try:
        fact = json.loads(line)
        cancelled = fact["event"] == "trial_finished" and fact["status"] == "cancelled"
        return float(fact["cost"]) if cancelled or fact["event"] == _JOB_LATE else 0.0
    except (ValueError, KeyError, TypeError):
        return 0.0  # half a line, or somebody's note


def _cut_half_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - (1 << 20))
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)
