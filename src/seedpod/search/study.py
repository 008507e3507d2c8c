"""The study: where it is kept, how it is run, what it has learned."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import SeedpodError, TrialCancelled, TrialError, TrialPruned
from seedpod.search.sampler import LaggedSampler
from seedpod.search.space import SearchSpace
from seedpod.trial import ParamValue

__all__ = [
    "LeftOpen",
    "Study",
    "Trial",
    "ended_count",
    "importances",
    "open_study",
    "optimize",
    "requeue_open",
    "stop_waiting",
    "suggest",
]

log = logging.getLogger(__name__)

MOST_IMPORTANCE_TRIALS = 2
"""Complete trials below which importances say nothing."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SeedpodError(
            f"cannot write {path} ({error.strerror}). Make room or mend the permissions and start again."
        ) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file; one that cannot be written is no bug, and is named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _naming(path):
            super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with _naming(self._path):
            super().append_logs(logs)


def open_study(name: str, journal: Path, sampler: BaseSampler) -> Study:
    """Open a study in Optuna's journal file, or make it; the file survives a crash at any byte.

    The caller is the only one to use the journal: a lock that a killed process left is removed, and a last line that it
    did not finish is cut off, both with a word in the log.

    Args:
        name: The study's name, the run's.
        journal: The file.
        sampler: Suggests the hyperparameters.

    Raises:
        SeedpodError: The journal cannot be written, or is damaged and left as it is. Later uses of the study raise it
            too.
    """
    # Every failed trial is told by us, with its cause; Optuna's own warning would say it a second time.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    heal_journal(journal)
    try:
        storage = JournalStorage(_Journal(journal))
        return optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, direction="maximize", load_if_exists=True
        )
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise SeedpodError(
            f"{journal} is damaged ({type(error).__name__}: {error}); nothing was changed. Bring back a copy of it, or "
            f"begin under another run_name."
        ) from error


def heal_journal(journal: Path) -> None:
    """Undo what a kill in the middle of a write leaves: the writer's lock, and half a line at the end."""
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
        log.warning("removed %s, which a killed search had left", lock.name)
    if not journal.exists():
        return
    with journal.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
            log.warning("cut off %d bytes at the end of %s: half a line", len(content) - whole, journal.name)
    for number, line in enumerate(content[:whole].splitlines(), 1):
        if not _is_object(line):
            raise SeedpodError(
                f"{journal} is damaged in line {number}; nothing was changed. Bring back a copy of it, or begin under "
                f"another run_name."
            )


def requeue_open(study: Study, told: Mapping[int, float | None]) -> list[int]:
    """Take up the trials that an earlier run left open, under their own numbers; those numbers.

    Args:
        study: From ``open_study``.
        told: Trials whose result is known although the study was not told it any more: value by number, None for one
            that failed. They are told now and do not run again.
    """
    taken_up = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in told:
            value = told[trial.number]
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            study.tell(trial.number, value, state=state)
        else:
            # Optuna's pool runs waiting trials before it makes new ones.
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # noqa: SLF001
            taken_up.append(trial.number)
    return taken_up


def ended_count(study: Study) -> int:
    """Trials that have ended, in any way."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def suggest(space: SearchSpace, trial: Trial) -> dict[str, ParamValue]:
    """Ask for a trial's hyperparameters, and let the trials after it know that they are determined."""
    params = space.suggest(trial)
    if isinstance(trial.study.sampler, LaggedSampler):
        trial.study.sampler.determined(trial)
    return params


class LeftOpen(BaseException):
    """Raised by an objective whose trial is to stay open, for a later run to take up.

    No Exception, because Optuna turns those into failed trials.
    """


def optimize(
    study: Study,
    objective: Callable[[Trial], float],
    *,
    trials: int,
    jobs: int,
    timeout: float | None,
    stopping: Callable[[], bool],
) -> None:
    """Run ``study.optimize``; a TrialError fails its trial, LeftOpen leaves it open, anything else ends the search.

    Args:
        study: From ``open_study``.
        objective: Runs one trial and returns its value.
        trials: How many to run.
        jobs: How many at once.
        timeout: Seconds after which no trial starts; None is no limit.
        stopping: Asked after each trial; True ends the search.
    """

    def stop_when_asked(study: Study, _trial: FrozenTrial) -> None:
        if stopping():
            study.stop()

    try:
        study.optimize(
            objective,
            n_trials=trials,
            n_jobs=jobs,
            timeout=timeout,
            catch=(TrialError, TrialPruned),
            callbacks=[stop_when_asked],
        )
    except (LeftOpen, TrialCancelled):
        if not stopping():
            raise


def stop_waiting(study: Study) -> None:
    """Let no trial wait for another one any more; see ``LaggedSampler.stop``."""
    if isinstance(study.sampler, LaggedSampler):
        study.sampler.stop()


def importances(study: Study) -> dict[str, float]:
    """How much each hyperparameter decided the value, largest first; shares of 1.

    Empty where too few trials are complete, or they all have the same value.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MOST_IMPORTANCE_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that few trials say little; the summary says how many
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError) as error:
        log.warning("importances are not known: %s", error)
        return {}
    return {name: float(share) for name, share in found.items()}


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
