"""The study: where it is kept, how it is run, what it has learned."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import SeedpodError, TrialError, TrialStopped

__all__ = ["Study", "Trial", "create_study", "importances", "optimize"]

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


def create_study(name: str, journal: Path, sampler: BaseSampler) -> Study:
    """Create a study in Optuna's journal file, which survives a crash at any byte.

    Args:
        name: The study's name, the run's.
        journal: The file to make.
        sampler: Suggests the hyperparameters.

    Raises:
        SeedpodError: The journal cannot be written; later uses of the study raise it too.
    """
    # Every failed trial is told by us, with its cause; Optuna's own warning would say it a second time.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(_Journal(journal))
    return optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="maximize")


def optimize(
    study: Study,
    objective: Callable[[Trial], float],
    *,
    trials: int,
    jobs: int,
    timeout: float | None,
    stopping: Callable[[], bool],
) -> None:
    """Run ``study.optimize``; a TrialError or TrialStopped fails its trial, anything else ends the search.

    Args:
        study: From ``create_study``.
        objective: Runs one trial and returns its value.
        trials: How many to run.
        jobs: How many at once.
        timeout: Seconds after which no trial starts; None is no limit.
        stopping: Asked after each trial; True ends the search.
    """

    def stop_when_asked(study: Study, _trial: FrozenTrial) -> None:
        if stopping():
            study.stop()

    study.optimize(
        objective,
        n_trials=trials,
        n_jobs=jobs,
        timeout=timeout,
        catch=(TrialError, TrialStopped),
        callbacks=[stop_when_asked],
    )


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
