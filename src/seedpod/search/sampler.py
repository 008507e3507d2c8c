"""Samplers whose suggestions belong to their trial: same seed, same study, whatever the workers and the timing."""

import logging
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import partial
from threading import local as threading_local
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace, _SearchSpaceGroup
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from seedpod.config.needed import SAMPLERS
from seedpod.errors import TrialCancelled
from seedpod.extras import require
from seedpod.guarded import Guarded
from seedpod.search.asking import LowerWaits
from seedpod.search.attempts import as_it_counts
from seedpod.search.view import StudyView

log = logging.getLogger(__name__)

_PATIENCE = 60.0  # seconds after which waiting for another optimizer's trial is worth a line

MakeSampler = Callable[[int], BaseSampler]
"""Seed -> a fresh sampler."""

DETERMINED = "seedpod:determined"
"""User attribute of a trial whose hyperparameters are all suggested: how many they are, for other optimizers of the
study. A database reads hyperparameters and attributes one after the other, and what is written in between is in the
latter alone: so the attribute by itself does not say that the hyperparameters beside it are all there."""


def make_sampler(name: str, seed: int, startup_trials: int, lag: int | None, look: float | None = None) -> BaseSampler:
    """The sampler of a search.

    Args:
        name: A key of MAKERS.
        seed: The search's base seed.
        startup_trials: Random trials before the sampler learns from them; of NSGA-II, the size of a generation.
        lag: See LaggedSampler; None gives Optuna's own asynchronous behaviour, which no seed repeats.
        look: See LaggedSampler.

    Raises:
        ConfigError: The sampler needs a package that is not installed.
    """
    if name in SAMPLERS:
        require(f"sampler={name}", *SAMPLERS[name])
    # Once and for all threads: `warnings.catch_warnings` is not thread-safe. `group` splits a conditional space into
    # the parts that occur together, so that TPE stays multivariate where a trial has two blocks and another three; it
    # is experimental since Optuna 2.8, unchanged since.
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    make = partial(MAKERS[name], seed, startup_trials)
    return make(seed) if lag is None else LaggedSampler(make, seed, lag, look)


class _Chance(LazyRandomState):
    """Random numbers from a seed, as Optuna's samplers have them, without a new generator for each.

    A new ``RandomState`` takes 0.45 ms (numpy 2.2), for numpy seeds it from the system before it gets our seed; to seed
    one that is there takes 0.0014 ms. Those of samplers that are gone serve again.
    """

    _free: ClassVar[deque[np.random.RandomState]] = deque()  # no lock: the garbage collector may give back in between

    def __init__(self, seed: int) -> None:
        self._seed = seed
        super().__init__()

    def _set_rng(self) -> None:
        try:
            self._rng = self._free.pop()
        except IndexError:
            self._rng = np.random.RandomState()
        self._rng.seed(self._seed)

    def __del__(self) -> None:
        if self._rng is not None:
            self._free.append(self._rng)


class _Groups(_GroupDecomposedSearchSpace):
    """Hyperparameters that occur together, as Optuna finds them: a trial with the names of another changes nothing."""

    def calculate(self, study: Study, use_cache: bool = False) -> _SearchSpaceGroup:  # noqa: FBT001, FBT002
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study._get_trials(deepcopy=False, states=states, use_cache=use_cache)  # noqa: SLF001
        first = {frozenset(trial.distributions): trial for trial in reversed(trials)}
        for trial in sorted(first.values(), key=lambda trial: trial.number):
            self._search_space.add_distributions(trial.distributions)
        return deepcopy(self._search_space)


def _tpe(_seed: int, startup: int, trial_seed: int) -> BaseSampler:
    sampler = TPESampler(n_startup_trials=startup, multivariate=True, group=True)
    sampler._rng = _Chance(trial_seed)  # noqa: SLF001 - as its `seed` would have it
    sampler._random_sampler._rng = _Chance(trial_seed)  # noqa: SLF001
    sampler._group_decomposed_search_space = _Groups(include_pruned=True)  # noqa: SLF001
    return sampler


def _random(_seed: int, _startup: int, trial_seed: int) -> BaseSampler:
    sampler = RandomSampler()
    sampler._rng = _Chance(trial_seed)  # noqa: SLF001 - as its `seed` would have it
    return sampler


def _gp(_seed: int, startup: int, trial_seed: int) -> BaseSampler:
    return GPSampler(
        seed=trial_seed,
        n_startup_trials=startup,
        independent_sampler=RandomSampler(trial_seed),
        warn_independent_sampling=False,
    )


def _cmaes(_seed: int, startup: int, trial_seed: int) -> BaseSampler:
    return CmaEsSampler(
        seed=trial_seed,
        n_startup_trials=startup,
        independent_sampler=RandomSampler(trial_seed),
        warn_independent_sampling=False,
    )


def _nsga2(_seed: int, startup: int, trial_seed: int) -> BaseSampler:
    return NSGAIISampler(population_size=max(2, startup), seed=trial_seed)


def _qmc(seed: int, _startup: int, trial_seed: int) -> BaseSampler:
    return _SobolSampler(seed, trial_seed)


class _SobolSampler(QMCSampler):
    """Gives trial k the k-th point of one Sobol sequence, whatever the other trials had."""

    def __init__(self, seed: int, trial_seed: int) -> None:
        super().__init__(
            scramble=True,
            seed=seed,
            independent_sampler=RandomSampler(trial_seed),
            warn_independent_sampling=False,
        )
        self._number = threading_local()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._number.value = trial.number
        super().before_trial(study, trial)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:  # noqa: ARG002
        return int(self._number.value)


MAKERS: dict[str, Callable[[int, int, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "gp": _gp,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
    "qmc": _qmc,
    "grid": _random,  # see Proposals, which chooses the points of a grid
}
"""Of each sampler, from the search's seed, the startup trials and the trial's seed."""


@dataclass(slots=True)
class _History:
    """What is known of the study's trials, by number; guarded."""

    loaded: bool = False
    stopped: bool = False
    ended: dict[int, FrozenTrial] = field(default_factory=dict)
    determined: dict[int, FrozenTrial] = field(default_factory=dict)  # as running, of the latest ones
    forgotten: int = 0  # those below it are not among these any more
    row: list[FrozenTrial] = field(default_factory=list)  # the ended ones from 0 on, as far as none is missing

    def lowest_open(self) -> int:
        """All trials below it have ended; takes those into ``row``."""
        while len(self.row) in self.ended:
            self.row.append(self.ended[len(self.row)])
        return len(self.row)

    def end(self, trial: FrozenTrial) -> None:
        self.ended.setdefault(trial.number, trial)

    def lacks(self, number: int, lag: int) -> bool:
        """Whether something that decides this trial's suggestion has not happened yet."""
        first_open = max(0, number - lag + 1)
        between = range(first_open, number)
        return self.lowest_open() < first_open or any(j not in self.determined and j not in self.ended for j in between)

    def view(self, study: Study, number: int, lag: int) -> StudyView:
        """What a trial that lacks nothing is shown of its study."""
        first_open = max(0, number - lag + 1)
        between = list[FrozenTrial]()
        for j in range(first_open, number):
            if j not in self.determined:
                self.determined[j] = _running(j, self.ended[j].params, self.ended[j].distributions)
            between.append(self.determined[j])
        for j in range(self.forgotten, first_open - lag):
            self.determined.pop(j, None)
        self.forgotten = max(self.forgotten, first_open - lag)
        return StudyView(study, self.row, first_open, between)


class LaggedSampler(BaseSampler):
    """Makes what trial k is suggested depend on the seed, on k, and on the finished trials 0 to k - lag alone.

    ::

        trial          0 … k - lag          k - lag + 1 … k - 1          k
        shown as       finished             running, with parameters     seeded by (seed, k)
        waits for      their end            their parameters

    With at most ``lag`` trials at once nobody waits for a trial that waits for him: the lowest open trial never waits.
    Those in between are shown as running whether they have ended or not, and their parameters are determined too; so
    TPE keeps away from them (constant liar). Waiting ends by the other trials' end, not by polling.

    A parameter that the inner sampler draws by itself (a random one, or one that only some trials have) is seeded by
    its name too. So a trial that was killed half suggested, and is suggested anew, gets what it would have had.

    Optuna's ``n_jobs`` pool reseeds the sampler before every trial, which loses the seed (measured on Optuna 5.0: two
    runs with one seed and 4 jobs share 0 of 16 parameter sets); here ``reseed_rng`` does nothing. Thread-safe.

    Args:
        make: Makes the sampler of one trial from its seed.
        seed: The search's base seed.
        lag: See above; at least the number of trials at once.
        look: Seconds between looks into the storage, for trials that other optimizers of the study run; None: never.
    """

    def __init__(self, make: MakeSampler, seed: int, lag: int, look: float | None = None) -> None:
        self._make = make
        self._seed = seed
        self._lag = lag
        self._look = look
        self._history = Guarded(_History())
        # Of trials that are being suggested. Each one's own thread alone puts it here, looks at it for every one of its
        # hyperparameters, and takes it out: no lock.
        self._inner: dict[int, tuple[BaseSampler, Study]] = {}

    def reseed_rng(self) -> None:
        """Ignored: the seed of each draw follows from its trial."""

    def stop(self) -> None:
        """Let nobody wait any more: whoever does, or comes later, gets TrialCancelled."""
        with self._history.locked() as history:
            history.stopped = True

    def determined(self, trial: Trial) -> None:
        """To be told once all of a trial's hyperparameters are suggested: the trials after it may use them."""
        known = trial._cached_frozen_trial  # noqa: SLF001 - `params` and `distributions` are deep copies of its
        shown = _running(trial.number, known.params, known.distributions)
        if self._look is not None:
            trial.set_user_attr(DETERMINED, len(shown.params))
        with self._history.locked() as history:
            history.determined[trial.number] = shown

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Wait for what decides this trial, and make its own sampler and its own view of the study."""
        self._load(study, once=True)
        self._wait(study, trial.number)
        inner = self._make(seed_of(self._seed, trial.number))
        with self._history.locked() as history:
            if history.stopped:
                raise TrialCancelled("the search is stopping")
            view = history.view(study, trial.number, self._lag)
        self._inner[trial.number] = inner, view
        inner.before_trial(view, trial)

    def _wait(self, study: Study, number: int) -> None:
        """Block until what decides this trial is known, or nobody is to wait any more."""

        def known(history: _History) -> bool | None:
            return True if history.stopped or not history.lacks(number, self._lag) else None

        looks = 0
        while not self._history.wait_for(known, self._look):
            if self._load(study, below=number):
                raise LowerWaits
            looks += 1
            if self._look and looks == round(_PATIENCE / self._look):
                with self._history.locked() as history:
                    lowest = history.lowest_open()
                log.warning(
                    "trial %d waits for trial %d, which another optimizer of this study has",
                    number,
                    lowest,
                )

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """See BaseSampler."""
        inner, view = self._inner[trial.number]
        return inner.infer_relative_search_space(view, trial)

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """See BaseSampler."""
        inner, view = self._inner[trial.number]
        return inner.sample_relative(view, trial, search_space)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """See BaseSampler."""
        _, view = self._inner[trial.number]
        seed = seed_of(self._seed, trial.number, zlib.crc32(param_name.encode()))
        return self._make(seed).sample_independent(view, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:  # noqa: ARG002
        """Let the inner sampler finish and drop it; wake whoever waits for this trial."""
        ended = copy(as_it_counts(trial))
        ended.state, ended.values = state, None if values is None else list(values)
        found = self._inner.pop(trial.number, None)
        with self._history.locked() as history:
            history.end(ended)
        if found is not None:
            inner, view = found
            inner.after_trial(view, trial, state, values)

    def _load(self, study: Study, *, once: bool = False, below: int = 0) -> bool:
        """Take in what the storage has: an earlier run's trials, and those of other optimizers.

        Returns:
            Whether a trial ``below`` this number waits for somebody to run it: it was given back.
        """
        with self._history.locked() as history:
            if once and history.loaded:
                return False
        stored = study.get_trials(deepcopy=False)
        with self._history.locked() as history:
            history.loaded = True
            for trial in stored:
                if trial.state.is_finished():
                    history.end(as_it_counts(trial))
                elif trial.user_attrs.get(DETERMINED) == len(trial.params):
                    history.determined.setdefault(
                        trial.number, _running(trial.number, trial.params, trial.distributions)
                    )
        return any(trial.state is TrialState.WAITING and trial.number < below for trial in stored)


def seed_of(*entropy: int) -> int:
    """A seed of 32 bits that follows from all of these, each of 32 bits."""
    return int(np.random.SeedSequence(np.array(entropy, np.uint32)).generate_state(1)[0])


def _running(number: int, params: dict[str, Any], distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    """A trial as others see it while it is in flight: its parameters, and nothing of how it goes."""
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )
