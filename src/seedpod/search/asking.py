"""Studies and how the next trial is asked of them: by one optimizer, or by several that share one."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field

import optuna
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from seedpod.guarded import Guarded

OWNER = "seedpod:owner"
"""User attribute of a shared study's trial: the optimizer that took it."""

_LOOK = (0.005, 0.03)  # seconds between tries to be alone
_MAKER_LOST = (10.0, 15.0)  # seconds after which whoever is alone was killed there; it takes some milliseconds


_WAIT = 1.0  # seconds between looks whether other optimizers' last trials have ended, or were given back


class LowerWaits(BaseException):
    """A trial below this one waits for somebody to run it, so this one would wait for ever."""


class NothingLeft(BaseException):
    """Every trial of a shared study is taken. No Exception, because Optuna turns those into failed trials."""


@dataclass(slots=True)
class _Taken:
    stopped: bool = False
    unnamed: int = 0
    trials: set[int] = field(default_factory=set)


class Places:
    """How many trials may be under way. A place is taken before a trial is asked for, and free when the trial has
    ended, or a little before, so that the next one begins where it ends. Thread-safe.

    Args:
        count: Trials at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = Guarded(_Taken())

    def take(self) -> bool:
        """Wait for a place; False where nobody is to wait any more."""

        def look(taken: _Taken) -> bool | None:
            if taken.stopped:
                return False
            if taken.unnamed + len(taken.trials) >= self._count:
                return None
            taken.unnamed += 1
            return True

        return bool(self._taken.wait_for(look))

    def named(self, number: int | None) -> None:
        """The trial that the place was taken for; None where there is none in the end."""
        with self._taken.locked() as taken:
            taken.unnamed -= 1
            if number is not None:
                taken.trials.add(number)

    def free(self, number: int) -> None:
        """A trial has ended, or is about to: its place is the next one's. Counts once for each."""
        with self._taken.locked() as taken:
            taken.trials.discard(number)

    def stopped_within(self, seconds: float) -> bool:
        """Wait so long, or until nobody is to wait any more: whether that is so."""
        return bool(self._taken.wait_for(lambda taken: taken.stopped or None, seconds))

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._taken.locked() as taken:
            taken.stopped = True


class SearchStudy(Study):
    """A study of one optimizer.

    Attributes:
        places: Trials under way at one time; set by ``optimize``.
        around: Asks for the next trial; ``optimize`` sets it, to hear of what goes wrong outside of every objective.
        until: When nobody asks for a trial any more, by the monotonic clock; set by ``optimize``.
    """

    def __init__(self, name: str, storage: BaseStorage) -> None:
        super().__init__(name, storage)
        self.places = Places(1)
        self.around: Callable[[Callable[[], Trial]], Trial] = lambda ask: ask()
        self.until = float("inf")
        self._waiting = Guarded(deque[FrozenTrial]())  # to be run, the lowest first; see take_stock

    def has(self, number: int) -> bool:  # noqa: ARG002
        """Whether a trial that this optimizer runs is still its own: always, where there is no other one."""
        return True

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> Trial:
        """See Study."""
        trial = self.around(lambda: self._next(fixed_distributions))
        known = trial._cached_frozen_trial  # noqa: SLF001 - the storage's own; `Trial` adds to what it asks for
        if known.params:  # an earlier run's, that was killed there
            known = trial._cached_frozen_trial = copy(known)  # noqa: SLF001
            known.params, known.distributions = dict(known.params), dict(known.distributions)
        return trial

    def _next(self, fixed_distributions: dict[str, BaseDistribution] | None) -> Trial:
        return super().ask(fixed_distributions)

    def take_stock(self) -> None:
        """Find the trials that wait to be run; no more of them come while this optimizer is alone."""
        waiting = [t for t in self.get_trials(deepcopy=False) if t.state is TrialState.WAITING]
        self._waiting = Guarded(deque(sorted(waiting, key=lambda trial: trial.number)))

    def _pop_waiting_trial_id(self) -> int | None:
        """The waiting trial that Optuna runs next: the lowest, for all others may wait for it; not any, as Optuna has
        it, whose storage in memory skips those that wait a second time.
        """
        while True:
            with self._waiting.locked() as known:
                waiting = known.popleft() if known else None
            if waiting is None or self._take(waiting):
                return None if waiting is None else waiting._trial_id  # noqa: SLF001

    def _take(self, waiting: FrozenTrial) -> bool:
        try:
            return self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)  # noqa: SLF001
        except optuna.exceptions.UpdateFinishedTrialError:
            return False


class SharedStudy(SearchStudy):
    """A study that several optimizers work on together: exactly the trials that were laid out, each taken by one.

    All trials wait in the storage from the beginning; each optimizer takes one at a time, which the storage lets one of
    them do. It ends when no trial is left: it waits for those of the others too, which may be given back (``Lease``).
    """

    owner = ""
    """What this optimizer is called; set by ``open_study``."""
    total = 0
    """Trials that the search is to run; set by ``lay_out``."""

    def _next(self, fixed_distributions: dict[str, BaseDistribution] | None) -> Trial:  # noqa: ARG002
        """Take the next waiting trial; raises NothingLeft where there is none and will be none."""
        while True:
            self._thread_local.cached_all_trials = None
            trial_id = self._taken()
            if trial_id is None:
                if not self.open_of_others():
                    raise NothingLeft
                if self.places.stopped_within(_WAIT) or time.monotonic() > self.until:
                    raise NothingLeft
                continue
            try:
                return Trial(self, trial_id)
            except LowerWaits:
                with self.alone():
                    self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _taken(self) -> int | None:
        if not any(trial.state is TrialState.WAITING and trial.number < self.total for trial in self._stored()):
            return None
        with self.alone():
            self.take_stock()
            trial_id = self._pop_waiting_trial_id()
            if trial_id is not None:
                # At once: one without an owner is taken for lost, after a while.
                self._storage.set_trial_user_attr(trial_id, OWNER, self.owner)
            return trial_id

    def _stored(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def open_of_others(self) -> list[FrozenTrial]:
        """The trials of this search that other optimizers have taken, and not ended."""
        return [
            trial
            for trial in self._stored()
            if trial.state is TrialState.RUNNING
            and trial.number < self.total
            and trial.user_attrs.get(OWNER) != self.owner
        ]

    def has(self, number: int) -> bool:
        """See SearchStudy: others may have taken this optimizer for dead and its trials for their own."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        trial = self._storage.get_trial(trial_id)
        return trial.state is TrialState.RUNNING and trial.user_attrs.get(OWNER) == self.owner

    def _take(self, waiting: FrozenTrial) -> bool:
        return waiting.number < self.total and super()._take(waiting)

    def lay_out(self, total: int) -> None:
        """See that there are as many trials as there are to be, in any state."""
        self.total = total
        with self.alone():
            for _ in range(total - len(self.get_trials(deepcopy=False))):
                self.enqueue_trial({})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one of all optimizers in here.

        SQLite gives a trial to two who ask at once (measured on Optuna 5.0.0: 16 trials, two optimizers of 3, trial 1
        ran three times), for it knows no ``SELECT … FOR UPDATE``. A study's name is unique in every storage: whoever
        makes the study of this name is in, and removes it when he leaves; one whose maker was killed is removed.
        """
        name = f"{self.study_name} (being changed)"
        patience = time.monotonic() + random.uniform(*_MAKER_LOST)
        while True:
            try:
                mark = self._storage.create_new_study([StudyDirection.MAXIMIZE], name)
                break
            except optuna.exceptions.DuplicatedStudyError:
                if time.monotonic() > patience:
                    self._remove(name)
                    patience = time.monotonic() + random.uniform(*_MAKER_LOST)
                time.sleep(random.uniform(*_LOOK))
        try:
            yield
        finally:
            with suppress(KeyError):
                self._storage.delete_study(mark)

    def _remove(self, name: str) -> None:
        with suppress(KeyError):
            self._storage.delete_study(self._storage.get_study_id_from_name(name))
