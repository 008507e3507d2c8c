"""The study: how it is opened, run, and taken up again."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import local

import optuna
from optuna import Study, Trial
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import ConfigError, SeedpodError, TrialCancelled, TrialError, TrialPruned, TrialSuperseded
from seedpod.guarded import Guarded
from seedpod.search.asking import OWNER, NothingLeft, Places, SearchStudy, SharedStudy
from seedpod.search.attempts import cover_void, void_reports
from seedpod.search.journal import RunJournal
from seedpod.search.lease import LeaseRules, keeping
from seedpod.search.proposals import Proposals
from seedpod.search.sampler import LaggedSampler
from seedpod.search.storage import close_storage, explained, open_storage
from seedpod.trial import ParamValue, Status

__all__ = [
    "BasePruner",
    "BaseSampler",
    "Ended",
    "SearchStudy",
    "Trial",
    "about_to_end",
    "agree",
    "close_study",
    "ended_trials",
    "left_to_run",
    "open_study",
    "optimize",
    "stop_waiting",
    "suggest",
    "take_up_open",
]

AGREED = "seedpod:agreed"
"""User attribute of a study: what every run of it must have in common."""

_UNOWNED = 60.0  # seconds after which a taken trial without an owner has lost it


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that has ended, as the study knows it; ``values`` has one for each objective, or none."""

    status: Status
    values: tuple[float, ...]
    params: Mapping[str, ParamValue]


def open_study(
    name: str, storage: str, journal: Path, owner: str, directions: Sequence[str] = ("maximize",)
) -> SearchStudy:
    """Open a study, or make it; its sampler is still to be set.

    Args:
        name: The study's name, the run's.
        storage: See ``open_storage``.
        journal: The journal file for an empty ``storage``.
        owner: What this optimizer is called in a study that others may share.
        directions: ``maximize`` or ``minimize`` for each objective.

    Raises:
        ConfigError, SeedpodError: See ``open_storage``.
    """
    # Every failed trial is told by us, with its cause; Optuna's own warning would say it a second time.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = open_storage(storage, journal)
    try:
        optuna.create_study(
            study_name=name,
            storage=opened,
            directions=[StudyDirection[direction.upper()] for direction in directions],
            load_if_exists=True,
        )
        if not storage:
            return SearchStudy(name, opened)
        shared = SharedStudy(name, opened)
    except Exception as error:
        raise explained(error) from error
    shared.owner = owner
    return shared


def close_study(study: Study) -> None:
    """Let go of the study's storage."""
    close_storage(study._storage)  # noqa: SLF001


def agree(study: Study, terms: Mapping[str, str], lag: int | None, *, any_lag: bool) -> int | None:
    """Hold this run to what earlier runs of the study, here or on other machines, have settled.

    Args:
        study: From ``open_study``.
        terms: Settings that decide what trials are, as shown to the user.
        lag: The lag that this run would have; None for none.
        any_lag: Whether it takes the study's instead, where that is another.

    Returns:
        The lag to use.

    Raises:
        ConfigError: A setting differs; the message names it.
    """
    # Two that start at once would each find nothing agreed, and each write its own.
    with study.alone() if isinstance(study, SharedStudy) else nullcontext():
        stored = study.user_attrs.get(AGREED)
        if stored is None:
            study.set_user_attr(AGREED, json.dumps({"terms": dict(terms), "lag": lag}))
            return lag
    agreed = json.loads(stored)
    then: dict[str, str] = agreed["terms"]
    wrong = [f"{name}={now}, begun with {then.get(name)}" for name, now in terms.items() if then.get(name) != now]
    if not any_lag and agreed["lag"] != lag:
        wrong.append(f"search_lag={lag}, begun with {agreed['lag']}")
    if wrong:
        raise ConfigError(
            f"study {study.study_name} was begun with other settings: {'; '.join(wrong)}. Its trials depend on them: "
            f"leave them as they were, or choose another run_name."
        )
    return agreed["lag"] if any_lag else lag


def take_up_open(study: Study, told: Mapping[int, Ended], alive: Callable[[str], bool]) -> None:
    """Take up the trials that earlier optimizers left open, under their own numbers.

    Args:
        study: From ``open_study``.
        told: Trials whose end is known although the study was not told it any more, by number. They are told now and
            do not run again.
        alive: Whether the optimizer of that name still works on its trials.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        taken = trial.state is TrialState.RUNNING
        if taken and not _is_left(study, trial, alive):
            continue
        if trial.number in told:
            if not taken:  # no waiting trial can be told
                study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)  # noqa: SLF001
            end = told[trial.number]
            study.tell(trial.number, end.values or None, state=_STATES[end.status])
        elif taken:
            void_reports(study._storage, trial)  # noqa: SLF001
            # Optuna's pool runs waiting trials before it makes new ones.
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # noqa: SLF001


def _is_left(study: Study, trial: FrozenTrial, alive: Callable[[str], bool]) -> bool:
    """Whether nobody works on a running trial."""
    if not isinstance(study, SharedStudy):
        return True
    theirs = trial.user_attrs.get(OWNER, "")
    if not theirs:  # being taken in this moment, or lost in such a moment
        began = trial.datetime_start
        return began is None or time.time() - began.timestamp() > _UNOWNED
    return bool(theirs == study.owner or not alive(theirs))


def ended_trials(study: Study) -> dict[int, Ended]:
    """The trials that have ended, by number."""
    statuses = {state: status for status, state in _STATES.items()}
    return {
        trial.number: Ended(
            statuses[trial.state],
            tuple(trial.values) if trial.state is TrialState.COMPLETE else (),
            trial.params,
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state in statuses
    }


def left_to_run(study: Study, total: int) -> int:
    """How many trials are to be asked for, so that the study has ``total`` in the end."""
    if isinstance(study, SharedStudy):
        study.lay_out(total)
        return total
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return max(0, total - ended)


def suggest(proposals: Proposals, trial: Trial) -> dict[str, ParamValue]:
    """Ask for a trial's hyperparameters, and let the trials after it know that they are determined."""
    params = proposals.suggest(trial)
    if isinstance(trial.study.sampler, LaggedSampler):
        trial.study.sampler.determined(trial)
    return params


class _Superseded(BaseException):
    """Leaves a trial to the optimizer that has taken it up."""


class _LeftOpen(BaseException):
    """Leaves a trial open, for a later run to take up. No Exception, because Optuna turns those into failed trials."""


def optimize(
    study: SearchStudy,
    objective: Callable[[Trial], float | Sequence[float]],
    *,
    trials: int,
    jobs: int,
    timeout: float | None,
    stopping: Callable[[], bool],
    failed: Callable[[BaseException], None],
    ahead: int = 0,
    lease: LeaseRules | None = None,
) -> None:
    """Run ``study.optimize``.

    TrialError fails a trial, TrialPruned prunes it, TrialCancelled leaves it open; anything else leaves it open too and
    goes to ``failed``. Optuna's pool loses the exceptions of its last trials, and raises the others only when it has
    waited for all trials that run: so ``failed`` must see to it that those end, and that nobody waits any more.

    Args:
        study: From ``open_study``, with its sampler.
        objective: Runs one trial and returns its value, or one for each objective.
        trials: How many to run.
        jobs: How many at once.
        timeout: Seconds after which no trial starts; None is no limit.
        stopping: Asked after each trial; True ends the search.
        failed: Gets what ends the search, at once and from the thread where it happened.
        lease: When another optimizer of a shared study is taken for dead.
        ahead: How many trials may be under way in addition, each in the place of one that ``about_to_end``.
    """
    study.places = Places(jobs)
    # Not Optuna's own timeout, which asks the wall clock: setting that forward would end the search.
    study.until = time.monotonic() + timeout if timeout else float("inf")
    watched = _Watched(objective, stopping, failed, study)
    study.around = watched.ask
    try:
        study.take_stock()
        with keeping(study, lease):
            _run(study, watched, trials, jobs + ahead)
    except BaseException as error:  # noqa: BLE001 - the study could not be told how a trial ended
        failed(explained(error))
    try:
        if isinstance(study._storage, RunJournal):  # noqa: SLF001 - in memory trials end before they do on the disk
            study._storage.settle()  # noqa: SLF001
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        untold = [trial.number for trial in running if watched.ended(trial.number) and study.has(trial.number)]
    except Exception as error:  # noqa: BLE001 - whatever a storage raises
        failed(explained(error))
    else:
        if untold:
            failed(SeedpodError(f"the study was not told how trial {untold[0]} ended; its record has it. Start again."))


def _run(study: SearchStudy, watched: "_Watched", trials: int, threads: int) -> None:
    while True:
        try:
            study.optimize(
                watched.run,
                n_trials=trials,
                n_jobs=threads,
                catch=(TrialError,),
            )
        except _LeftOpen:
            return
        except _Superseded:
            continue  # Optuna's pool ends with it; what is left goes on
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            # Another optimizer took a trial up in the moment in which it was told.
            if not isinstance(study, SharedStudy) or "annot" not in str(error):
                raise
        else:
            return


class _Watched:
    """An objective of whose end somebody hears, whatever Optuna's pool makes of it; see ``optimize``."""

    def __init__(
        self,
        objective: Callable[[Trial], float | Sequence[float]],
        stopping: Callable[[], bool],
        failed: Callable[[BaseException], None],
        study: SearchStudy,
    ) -> None:
        self._places = study.places
        self._until = study.until
        self._objective = objective
        self._stopping = stopping
        self._failed = failed
        self._mine = local()  # of a thread: what its last trial ended in
        self._ended: Guarded[set[int]] = Guarded(set())

    def ask(self, ask: Callable[[], Trial]) -> Trial:
        """Ask for a trial, when there is a place for it."""
        self._forget()
        if not self._places.take() or self._stopping() or time.monotonic() > self._until:
            raise _LeftOpen
        trial = None
        try:
            trial = ask()
        except (NothingLeft, TrialCancelled) as error:
            raise _LeftOpen from error
        except BaseException as error:
            self._failed(explained(error))
            raise _LeftOpen from error
        else:
            return trial
        finally:
            self._places.named(None if trial is None else trial.number)

    def run(self, trial: Trial) -> float | Sequence[float]:
        """Run a trial, and leave its place to the next one."""
        try:
            return self._run(trial)
        except BaseException as error:
            self._mine.raised = error
            raise
        finally:
            self._places.free(trial.number)
            if self._stopping():
                trial.study.stop()

    def _forget(self) -> None:
        """Let go of all that the exception of this thread's last trial has.

        Optuna's own frame keeps the exception, whose traceback keeps that frame and every one below it, with all that
        they know of the trial: a cycle of some 10 kB a trial, for which the garbage collector comes ever more rarely
        as a study grows.
        """
        raised: BaseException | None = getattr(self._mine, "raised", None)
        if raised is not None:
            raised.__traceback__ = raised.__context__ = raised.__cause__ = self._mine.raised = None

    def _run(self, trial: Trial) -> float | Sequence[float]:
        try:
            values = self._objective(trial)
        except TrialSuperseded as error:
            raise _Superseded from error
        except TrialCancelled as error:
            if not self._stopping():  # nobody has asked for it: without this trial's end others would wait for ever
                self._failed(error)
            raise _LeftOpen from error
        except TrialPruned as error:
            cover_void(trial)
            raise optuna.TrialPruned(str(error)) from error
        except TrialError:
            raise
        except BaseException as error:
            self._failed(explained(error))
            raise _LeftOpen from error
        with self._ended.locked() as numbers:
            numbers.add(trial.number)
        return values

    def ended(self, number: int) -> bool:
        """Whether this trial came to its end here.

        That its study knows is not told by a callback, for which Optuna copies the whole trial (0.3 ms), but looked up
        when all have ended.
        """
        with self._ended.locked() as numbers:
            return number in numbers


def about_to_end(study: SearchStudy, number: int) -> None:
    """A trial has a second or so left: the next one may begin."""
    study.places.free(number)


def stop_waiting(study: SearchStudy) -> None:
    """Let no trial wait for another one any more; see ``LaggedSampler.stop``."""
    study.places.stop()
    if isinstance(study.sampler, LaggedSampler):
        study.sampler.stop()


_STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}
