"""What each trial tries: first what is known to be good, then what the sampler proposes, and nothing twice."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from optuna import Trial
from optuna.samplers import BaseSampler, RandomSampler

from seedpod.errors import ConfigError
from seedpod.guarded import Guarded
from seedpod.search.sampler import LaggedSampler, seed_of
from seedpod.search.space import Params, SearchSpace
from seedpod.search.values import Values
from seedpod.trial import ParamValue, canonical_json

GRID = "grid"
GRID_STEPS = 5
"""Values that stand for a range without a step in a grid."""
MOST_GRID_POINTS = 10_000
_TRIES = 100  # draws after which a configuration that is too large, or known, is taken all the same
_FEW = 1000  # configurations up to which all of them are always at hand


@dataclass(slots=True)
class _Taken:
    """The configurations of trials, by number; guarded."""

    keys: dict[int, str] = field(default_factory=dict)


class Proposals:
    """Chooses the configuration of every trial of one search. Thread-safe.

    Trial 0 is what one would try without a search: so none ends worse than that, and the others learn from it. Then
    come those that were enqueued. What trial k tries depends on the seed, on k and on the trials before it alone,
    where a ``LaggedSampler`` keeps the others back: a proposal that an earlier trial has tried, or that does not fit,
    is replaced by a random one, seeded by k.

    Args:
        space: The space.
        enqueued: Configurations of it to try first.
        sampler: The sampler's name; ``grid`` is made here, others propose.
        seed: The search's base seed.
        trials: Trials that are wished.
        fits: Whether a configuration may be trained; sensible and enqueued ones are tried in any case.

    Raises:
        ConfigError: The grid has too many points.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        enqueued: Sequence[Params] = (),
        sampler: str = "tpe",
        seed: int = 0,
        trials: int = 1,
        fits: Callable[[Params], bool] = lambda _: True,
    ) -> None:
        self.space = space
        self._seed = seed
        self._fits = fits
        self._taken = Guarded(_Taken())
        firsts = {_key(params): params for params in (space.sensible(), *enqueued)}
        self._firsts = list(firsts.values())
        self._grid = sampler == GRID
        points = space.points(MOST_GRID_POINTS, GRID_STEPS) if self._grid else space.points(max(_FEW, 2 * trials))
        if self._grid and points is None:
            raise ConfigError(
                f"sampler=grid: this search space has more than {MOST_GRID_POINTS:,} points. Fix hyperparameters "
                f"(fix.activation=relu), narrow their ranges (space.dropout=0.1..0.3:0.1), or take another sampler."
            )
        self._others = None if points is None else [p for p in points if _key(p) not in firsts and fits(p)]
        if self._grid and self._others is not None:
            np.random.default_rng(seed).shuffle(self._others)

    @property
    def total(self) -> int | None:
        """Configurations that there are to try; None where there are more than the search can try."""
        return None if self._others is None else len(self._firsts) + len(self._others)

    @property
    def terms(self) -> dict[str, str]:
        """What must be equal for two runs to search alike, by name."""
        tried = hashlib.sha256("".join(map(_key, self._firsts[1:])).encode()).hexdigest()[:8]
        return {**self.space.terms, "enqueue": tried if self._firsts[1:] else "nothing"}

    def suggest(self, trial: Trial) -> Params:
        """The configuration of a trial, as the study and everybody else is to know it."""
        chosen = self._choose(trial)
        with self._taken.locked() as taken:
            taken.keys[trial.number] = _key(chosen)
        trial._fixed_params = dict(chosen)  # noqa: SLF001 - as Optuna's enqueue_trial has it, for a trial that exists
        return self.space.suggest(trial)

    def _choose(self, trial: Trial) -> Params:
        number, firsts = trial.number, len(self._firsts)
        if number < firsts:
            return self._firsts[number]
        if self._grid and self._others is not None and number - firsts < len(self._others):
            return self._others[number - firsts]
        known = self._known(trial)
        proposal = self.space.walk(partial(_proposed, trial))
        return proposal if self._is_new(proposal, known) else self._another(trial, proposal, known)

    def _another(self, trial: Trial, proposal: Params, known: set[str]) -> Params:
        """A random configuration that no earlier trial has tried."""
        if self._others is not None:
            left = [point for point in self._others if _key(point) not in known]
            return left[seed_of(self._seed, trial.number) % len(left)] if left else proposal
        for attempt in range(_TRIES):
            sampler = RandomSampler(seed_of(self._seed, trial.number, attempt))
            found = self.space.walk(partial(_drawn, sampler, trial))
            if self._is_new(found, known):
                return found
        return proposal

    def _is_new(self, params: Params, known: set[str]) -> bool:
        return _key(params) not in known and self._fits(params)

    def _known(self, trial: Trial) -> set[str]:
        """What the trials before this one try; without a lag, whatever any other one tries."""
        lagged = isinstance(trial.study.sampler, LaggedSampler)
        with self._taken.locked() as taken:
            keys = dict(taken.keys)
        if any(number not in keys for number in range(trial.number)):  # of an earlier run, or another optimizer's
            # One that another optimizer has now may be half suggested, but for those that the sampler has waited for.
            found = {
                other.number: _key(self.space.complete(other.params))
                for other in trial.study.get_trials(deepcopy=False)
                if other.number not in keys
                and (other.state.is_finished() or (lagged and other.number < trial.number and other.params))
            }
            keys |= found
            with self._taken.locked() as taken:
                taken.keys |= found
        return {key for number, key in keys.items() if number < trial.number or not (lagged or number == trial.number)}


def _proposed(trial: Trial, name: str, values: Values) -> ParamValue:
    """What the sampler would have a hyperparameter be; nothing is stored yet."""
    distribution = values.distribution
    if trial._is_relative_param(name, distribution):  # noqa: SLF001 - as in Trial's own _suggest
        relative: ParamValue = trial.relative_params[name]
        return relative
    return _drawn(trial.study.sampler, trial, name, values)


def _drawn(sampler: BaseSampler, trial: Trial, name: str, values: Values) -> ParamValue:
    frozen = trial._get_latest_trial()  # noqa: SLF001 - as in Trial's own _suggest
    drawn: ParamValue = sampler.sample_independent(trial.study, frozen, name, values.distribution)
    return drawn


def _key(params: Params) -> str:
    return canonical_json(params)
