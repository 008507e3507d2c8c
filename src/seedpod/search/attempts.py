"""What attempts of a trial that did not end have reported, and that none of it counts.

A trial that was killed, or lost its worker, runs again under its own number, and its storage still holds what it had
reported. A pruner would judge it by that, and others beside it; TPE would learn from it. Optuna deletes nothing, so
what is void is noted, and nobody is shown it.
"""

from collections.abc import Collection
from copy import copy
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial

VOID = "seedpod:void"
"""User attribute of a trial that runs again: steps and pruner's notes of attempts that did not end. Optuna deletes
neither, so those that the attempt which counts has not replaced are not shown to any pruner."""

_NOTES = "completed_rung_"  # what a system attribute begins with that successive halving keeps of a trial


def report(trial: Trial, value: float, step: int) -> None:
    """Tell the study a value of a running trial; it replaces that of an earlier attempt, which Optuna would keep.

    Args:
        trial: The trial.
        value: The objective after this step.
        step: Epochs finished.
    """
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, float(value))  # noqa: SLF001
    trial._cached_frozen_trial.intermediate_values[step] = float(value)  # noqa: SLF001
    revive(trial.storage, trial._cached_frozen_trial, steps={step})  # noqa: SLF001


def begin_again(trial: Trial) -> None:
    """A trial is run anew, after its worker was lost for instance: what it has reported so far counts no more."""
    frozen = trial.storage.get_trial(trial._trial_id)  # noqa: SLF001
    void_reports(trial.storage, frozen)
    trial._cached_frozen_trial.user_attrs = dict(trial.storage.get_trial(trial._trial_id).user_attrs)  # noqa: SLF001


def cover_void(trial: Trial) -> None:
    """Before a trial is told to be pruned: Optuna takes its last step's value for its own, void or not."""
    counts = as_it_counts(trial.storage.get_trial(trial._trial_id))  # noqa: SLF001
    if counts.last_step is not None:
        for step in counts.user_attrs.get(VOID, {}).get("steps", ()):
            value = counts.intermediate_values[counts.last_step]
            trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)  # noqa: SLF001


def void_reports(storage: BaseStorage, trial: FrozenTrial) -> None:
    """Let nothing that an open trial has reported so far count any more; the same for what pruners have noted of it."""
    notes = [name for name in trial.system_attrs if name.startswith(_NOTES)]
    if trial.intermediate_values or notes:
        void = {"steps": sorted(trial.intermediate_values), "notes": sorted(notes)}
        storage.set_trial_user_attr(trial._trial_id, VOID, void)  # noqa: SLF001


def revive(
    storage: BaseStorage, trial: FrozenTrial, *, steps: Collection[int] = (), notes: Collection[str] = ()
) -> None:
    """What the attempt that counts has replaced counts."""
    void: dict[str, list[Any]] = trial.user_attrs.get(VOID, {})
    left = {
        "steps": [step for step in void.get("steps", ()) if step not in steps],
        "notes": [note for note in void.get("notes", ()) if note not in notes],
    }
    if void and left != void:
        storage.set_trial_user_attr(trial._trial_id, VOID, left)  # noqa: SLF001
        trial.user_attrs[VOID] = left


def as_it_counts(trial: FrozenTrial) -> FrozenTrial:
    """The trial without what is void."""
    void = trial.user_attrs.get(VOID)
    if not void:
        return trial
    shown = copy(trial)
    steps, notes = set(void["steps"]), set(void["notes"])
    shown.intermediate_values = {step: value for step, value in trial.intermediate_values.items() if step not in steps}
    shown.system_attrs = {name: value for name, value in trial.system_attrs.items() if name not in notes}
    return shown
