"""What a run's folder tells, as far as it goes: also of a run that is still searched, or that somebody moved here."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seedpod.board import FinishedTrial, TrialBoard
from seedpod.errors import SeedpodError
from seedpod.events import FailureGroup, group_failures
from seedpod.results.run_folder import RunFolder
from seedpod.trial import Status

Row = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Facts:
    """A run as its files tell it.

    Attributes:
        run: Its name.
        settings: ``config.yaml`` as text.
        trials: The recorded trials, by number.
        curves: The metrics of every known epoch of each trial, in order.
        best: The best trial; None where none is complete.
        summary: ``summary.json``; None while the search runs.
        final: ``final.json``; None where there is no final model.
        failures: Failed trials by cause.
        limits: Trials that a limit has pruned, by cause.
        left_out: Path, kind and reason of files that are not among the images.
    """

    run: str
    settings: str
    trials: Sequence[FinishedTrial]
    curves: Mapping[int, Sequence[Row]]
    best: FinishedTrial | None
    summary: Mapping[str, Any] | None
    final: Mapping[str, Any] | None
    failures: Sequence[FailureGroup]
    limits: Sequence[FailureGroup] = ()
    left_out: Sequence[tuple[str, str, str]] = ()

    @property
    def objective(self) -> str:
        """What trials are judged by; of several objectives, the first."""
        return self.trials[0].spec.objectives[0] if self.trials else "value"

    @property
    def objective_label(self) -> str:
        """What people call that."""
        return self.trials[0].spec.goals[0].label if self.trials else "value"

    def count(self, status: Status) -> int:
        """Recorded trials that ended so."""
        return sum(trial.result.status is status for trial in self.trials)

    @property
    def epochs(self) -> int:
        """Epochs that were trained, as far as they are known."""
        return sum(self.epochs_of(trial) for trial in self.trials)

    def epochs_of(self, trial: FinishedTrial) -> int:
        """Epochs that one trial has trained."""
        return max(trial.result.epochs, len(self.curves.get(trial.spec.number, ())))

    def saved(self, trial: FinishedTrial) -> int:
        """Epochs that one trial was given, in all its folds, and did not train."""
        return max(0, trial.spec.total_epochs - self.epochs_of(trial))


def gather(folder: RunFolder) -> Facts:
    """Read a run's folder; what is missing or damaged is left out, with a word in the log.

    Raises:
        SeedpodError: It is no run's folder.
    """
    try:
        settings = folder.config_file.read_text(encoding="utf-8")
    except OSError as error:
        raise SeedpodError(f"{folder.path} is no run's folder: {folder.config_file.name} cannot be read.") from error
    trials = [trial for _, trial in sorted(folder.read_trials().items())]
    board = TrialBoard(len(trials), 0.0, _weight_of_health(settings))
    for trial in trials:
        board.restore(trial)
    try:
        final = folder.read_final()
    except SeedpodError:
        final = None
    return Facts(
        run=folder.path.name,
        settings=settings,
        trials=trials,
        curves=_curves(trials, folder.events),
        best=board.snapshot().best,
        summary=_summary(folder.path / "summary.json"),
        final=final,
        failures=group_failures(board.failures()),
        limits=group_failures(board.failures(Status.PRUNED)),
        left_out=folder.read_left_out(),
    )


def _weight_of_health(settings: str) -> float:
    """What a health weighed in the search, as ``OptimizationConfig.weight_of_health`` has it; its data may be gone."""
    known = yaml.safe_load(settings)
    return float(known["health_weight"]) if known.get("mode") == "health" else 0.0


def _summary(path: Path) -> Mapping[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _curves(trials: Sequence[FinishedTrial], events: Path) -> dict[int, Sequence[Row]]:
    """From the records; for trials that were stopped, whose records know no epochs, from the events."""
    curves: dict[int, Sequence[Row]] = {t.spec.number: t.result.history for t in trials if t.result.history}
    silent = {t.spec.number for t in trials} - set(curves)
    if silent:
        curves |= {number: rows for number, rows in _told(events).items() if number in silent}
    return curves


def _told(events: Path) -> dict[int, list[Row]]:
    told: dict[int, dict[int, Row]] = defaultdict(dict)
    try:
        lines = events.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        if '"trial_progress"' not in line:
            continue
        try:
            fact = json.loads(line)
            told[int(fact["trial"])][int(fact["epoch"])] = fact["metrics"]
        except (ValueError, KeyError, TypeError):
            continue  # half a line
    return {number: [rows[epoch] for epoch in sorted(rows)] for number, rows in told.items()}
