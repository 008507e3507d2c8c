"""The study: where it is kept, how it is run, what it has learned."""

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import TrialCancelled, TrialError, TrialPruned
from seedpod.search.sampler import LaggedSampler
from seedpod.search.space import SearchSpace
from seedpod.search.storage import open_storage
from seedpod.trial import ParamValue

__all__ = [
    "LeftOpen",
    "Study",
    "Trial",
    "importances",
    "left_to_run",
    "open_study",
    "optimize",
    "stop_waiting",
    "suggest",
    "take_up_open",
]

log = logging.getLogger(__name__)

OWNER = "seedpod:owner"
"""User attribute of a shared study's trial: the optimizer that took it."""

MOST_IMPORTANCE_TRIALS = 2
"""Complete trials below which importances say nothing."""


class SharedStudy(Study):
    """A study that several optimizers work on together: exactly the trials that were laid out, each taken by one.

    All trials wait in the storage from the beginning; each optimizer takes one at a time, which the storage lets one of
    them do, and ends when none is left.
    """

    total = 0
    """Trials that the search is to run; set by ``open_study``."""

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> Trial:  # noqa: ARG002
        """Take the next waiting trial; raises NothingLeft where there is none."""
        self._thread_local.cached_all_trials = None
        for waiting in self._storage.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.WAITING,)):
            if waiting.number < self.total and self._take(waiting):
                return Trial(self, waiting._trial_id)  # noqa: SLF001
        raise NothingLeft

    def lay_out(self, total: int) -> None:
        """See that there are as many trials as there are to be, in any state."""
        self.total = total
        for _ in range(total - len(self.get_trials(deepcopy=False))):
            self.enqueue_trial({})

    def _take(self, waiting: FrozenTrial) -> bool:
        try:
            return self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)  # noqa: SLF001
        except optuna.exceptions.UpdateFinishedTrialError:
            return False


def open_study(name: str, storage: str, journal: Path, sampler: BaseSampler) -> Study:
    """Open a study, or make it.

    Args:
        name: The study's name, the run's.
        storage: See ``open_storage``.
        journal: The journal file for an empty ``storage``.
        sampler: Suggests the hyperparameters.

    Raises:
        ConfigError, SeedpodError: See ``open_storage``. A journal that cannot be written any more raises SeedpodError
            from later uses of the study too.
    """
    # Every failed trial is told by us, with its cause; Optuna's own warning would say it a second time.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = open_storage(storage, journal)
    study = optuna.create_study(
        study_name=name, storage=opened, sampler=sampler, direction="maximize", load_if_exists=True
    )
    return SharedStudy(name, opened, sampler) if storage else study


def take_up_open(study: Study, told: Mapping[int, float | None], owner: str, alive: Callable[[str], bool]) -> None:
    """Take up the trials that earlier optimizers left open, under their own numbers.

    Args:
        study: From ``open_study``.
        told: Trials whose result is known although the study was not told it any more: value by number, None for one
            that failed. They are told now and do not run again.
        owner: What this optimizer is called.
        alive: Whether the optimizer of that name still works on its trials.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        theirs = trial.user_attrs.get(OWNER, "")
        if theirs and theirs != owner and alive(theirs):
            continue
        if trial.number in told:
            value = told[trial.number]
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            study.tell(trial.number, value, state=state)
        else:
            # Optuna's pool runs waiting trials before it makes new ones.
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # noqa: SLF001


def left_to_run(study: Study, total: int) -> int:
    """How many trials are to be asked for, so that the study has ``total`` in the end."""
    if isinstance(study, SharedStudy):
        study.lay_out(total)
        return total
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return max(0, total - ended)


def suggest(space: SearchSpace, trial: Trial, owner: str) -> dict[str, ParamValue]:
    """Ask for a trial's hyperparameters, and let the trials after it know that they are determined."""
    if isinstance(trial.study, SharedStudy):
        trial.set_user_attr(OWNER, owner)
    params = space.suggest(trial)
    if isinstance(trial.study.sampler, LaggedSampler):
        trial.study.sampler.determined(trial)
    return params


class NothingLeft(BaseException):
    """Every trial of a shared study is taken. No Exception, for the same reason as LeftOpen."""


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
    except NothingLeft:
        pass
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
