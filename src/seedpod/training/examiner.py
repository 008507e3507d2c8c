"""Examines one trial over its folds: what is reported, what ends it, and what it comes to. Without Keras."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seedpod.errors import Cause, TrainingError
from seedpod.objectives import Objective, checked, guide_of
from seedpod.trial import ParamValue, Report, Status, TrialFailure, TrialProgress, TrialResult, TrialSpec

PATIENCE = 3
"""Epochs without a better one after which a fold ends early, once ``min_epochs`` are done. Only where the learning rate
is constant: under a falling one the best epochs are the last."""

Row = dict[str, float | None]


class TrialOver(Exception):
    """A trial ends before its last epoch, pruned; ``failure`` says by which of the user's limits."""

    def __init__(self, failure: TrialFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Examiner:
    """Follows one trial; used by one thread.

    The best epoch of a fold is that of the first objective which is known each epoch (see ``guide_of``); all values of
    the fold are those of that epoch, so that they belong to one and the same weights.

    Args:
        spec: The trial.
        report: Called after each epoch.
        check: Called between batches; raises TrialStopped where the trial is to end.
        patient: Whether every fold trains to its last epoch, however it learns.
    """

    def __init__(self, spec: TrialSpec, report: Report, check: Callable[[], None], *, patient: bool = False) -> None:
        self._spec = spec
        self._report = report
        self._check = check
        self._patient = patient
        self._started = time.monotonic()
        self._guide = guide_of(spec.goals)
        self._folds: list[_Fold] = []
        self._epochs = 0

    @property
    def seconds(self) -> float:
        """Since the trial began."""
        return time.monotonic() - self._started

    @property
    def fold_history(self) -> list[dict[str, float]]:
        """What was measured after each epoch of the fold that runs, or has ended last."""
        return self._folds[-1].history

    def begin_fold(self) -> None:
        """The next fold starts."""
        self._folds.append(_Fold(self._guide))

    def between_batches(self) -> None:
        """Raises TrialStopped where the trial is to end, and TrialOver where its time is over."""
        self._check()
        limit = self._spec.max_seconds
        if limit and self.seconds > limit:
            done = f"{self._epochs} of {self._spec.total_epochs} epochs after {limit:g} s (max_training_time_minutes)"
            raise TrialOver(TrialFailure(Cause.DEADLINE, done))

    def check_loss(self, loss: float) -> None:
        """Raises TrainingError where a batch's loss is not finite."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {self._epochs + 1}; a lower learning_rate may help.",
                cause=Cause.DIVERGED,
            )

    def epoch_ended(self, row: Mapping[str, float]) -> bool:
        """Take in an epoch and report it; whether the fold goes on.

        Raises:
            TrainingError: The validation loss is not finite.
            TrialOver: The trial is hopeless; the epoch was reported.
            TrialStopped: From ``report``.
        """
        if not math.isfinite(row["val_loss"]):
            raise TrainingError(f"the validation loss became {row['val_loss']}.", cause=Cause.DIVERGED)
        spec, fold = self._spec, self._folds[-1]
        fold.add(row)
        self._epochs += 1
        epoch = len(fold.history)
        patient = self._patient or epoch < spec.min_epochs or epoch - fold.best_epoch < PATIENCE
        hopeless = self._why_hopeless(fold)
        goes_on = epoch < spec.max_epochs and patient and not hopeless
        told = spec.curve(self._history(), fold_ended=not goes_on)
        self._report(
            TrialProgress(
                number=spec.number,
                sequence=self._epochs,
                epoch=self._epochs,
                max_epochs=spec.total_epochs,
                value=told[-1],
                metrics=dict(row),
                seconds=self.seconds,
                values=told,
            )
        )
        if hopeless:
            raise TrialOver(TrialFailure(Cause.HOPELESS, hopeless))
        return goes_on

    def _why_hopeless(self, fold: "_Fold") -> str:
        epochs, least = self._spec.min_accuracy_epochs, self._spec.min_accuracy
        reached = max(row["val_accuracy"] for row in fold.history)
        if len(fold.history) != epochs or reached >= least:
            return ""
        return f"validation accuracy {reached:.4f} after {epochs} epochs, under min_accuracy_threshold={least:g}"

    def result(self, known: Mapping[str, float], **described: Any) -> TrialResult:
        """What the trial comes to that has done all its folds.

        Args:
            known: The objectives that are known at the end alone, by name.
            described: Further fields of the result.

        Raises:
            TrainingError: A value is none of its objective's.
        """
        bests = [fold.best for fold in self._folds]
        means = {name: statistics.fmean(best[name] for best in bests) for name in bests[0]}
        value, *further = checked(
            self._spec.goals, [{**means, **known}[objective.name] for objective in self._spec.goals]
        )
        return TrialResult(
            self._spec.number,
            Status.COMPLETE,
            value=value,
            further=tuple(further),
            best_epoch=round(statistics.fmean(fold.best_epoch for fold in self._folds)),
            metrics=means if len(bests) == 1 else {**means, **_spread(bests)},
            epochs=self._epochs,
            history=self._history(),
            **{**described, "environment": self._environment(described["environment"])},
        )

    def pruned(self, over: TrialOver, **described: Any) -> TrialResult:
        """What the trial comes to that has ended so; ``described`` are further fields of the result."""
        return TrialResult(
            self._spec.number,
            Status.PRUNED,
            epochs=self._epochs,
            history=self._history(),
            error=over.failure,
            **described,
        )

    def _history(self) -> tuple[Row, ...]:
        if self._spec.cv_folds == 1:
            return tuple(dict(row) for fold in self._folds for row in fold.history)
        return tuple({"fold": number, **row} for number, fold in enumerate(self._folds, 1) for row in fold.history)

    def _environment(self, environment: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
        """The process's environment; where times are values, its promise does not hold for them."""
        measured = [objective.name for objective in self._spec.goals if objective.measured]
        if not measured:
            return dict(environment)
        return {**environment, "reproducible": f"{environment['reproducible']}, but not {' and '.join(measured)}"}


class _Fold:
    """One fold's epochs and the best of them."""

    def __init__(self, guide: Objective) -> None:
        self._guide = guide
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0

    @property
    def best(self) -> dict[str, float]:
        return self.history[self.best_epoch - 1]

    def add(self, row: Mapping[str, float]) -> None:
        self.history.append(dict(row))
        name = self._guide.name
        if not self.best_epoch or self._guide.better(row[name], self.best[name]):
            self.best_epoch = len(self.history)


def seed_of(spec: TrialSpec, fold: int) -> int:
    """The seed of a fold's weights, dropout and shuffling: the spec's own for the first, 32 bits."""
    return spec.seed if fold == 0 else int(np.random.SeedSequence([spec.seed, fold]).generate_state(1)[0])


def _spread(bests: list[dict[str, float]]) -> Row:
    """Standard deviation of each metric over the folds, of these very folds (divided by their number)."""
    return {f"{name}_std": statistics.pstdev([best[name] for best in bests]) for name in bests[0]}
