"""What each trial tries: first what is known to be good, then what the sampler proposes, and nothing twice."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

import numpy as np
from optuna import Study, Trial
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from seedpod.errors import ConfigError
from seedpod.guarded import Guarded
from seedpod.search.journal import write_at_once
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

    keys: dict[int, bytes] = field(default_factory=dict)
    trials: dict[bytes, tuple[int, ...]] = field(default_factory=dict)  # the same the other way round
    lowest_unknown: int = 0  # all trials below it are here

    def put(self, number: int, key: bytes) -> None:
        before = self.keys.get(number)
        if before == key:
            return
        if before is not None:
            self.trials[before] = tuple(other for other in self.trials[before] if other != number)
        self.keys[number] = key
        self.trials[key] = (*self.trials.get(key, ()), number)
        while self.lowest_unknown in self.keys:
            self.lowest_unknown += 1


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
        self._keys_of_others = [_key(point) for point in self._others or ()]

    @property
    def total(self) -> int | None:
        """Configurations that there are to try; None where there are more than the search can try."""
        return None if self._others is None else len(self._firsts) + len(self._others)

    @property
    def terms(self) -> dict[str, str]:
        """What must be equal for two runs to search alike, by name."""
        tried = hashlib.sha256("".join(map(canonical_json, self._firsts[1:])).encode()).hexdigest()[:8]
        return {**self.space.terms, "enqueue": tried if self._firsts[1:] else "nothing"}

    def suggest(self, trial: Trial) -> Params:
        """The configuration of a trial, as the study and everybody else is to know it."""
        chosen = self._choose(trial)
        with self._taken.locked() as taken:
            taken.put(trial.number, _key(chosen))
        trial._fixed_params = dict(chosen)  # noqa: SLF001 - as Optuna's enqueue_trial has it, for a trial that exists
        write_at_once(trial, self.space.drawn_from(chosen))
        return self.space.suggest(trial)

    def _choose(self, trial: Trial) -> Params:
        number, firsts = trial.number, len(self._firsts)
        if number < firsts:
            return self._firsts[number]
        if self._grid and self._others is not None and number - firsts < len(self._others):
            return self._others[number - firsts]
        self._look_up(trial)
        proposal = self.space.walk(partial(_proposed, trial, trial._get_latest_trial()))  # noqa: SLF001 - see _proposed
        return proposal if self._is_new(trial, proposal) else self._another(trial, proposal)

    def _another(self, trial: Trial, proposal: Params) -> Params:
        """A random configuration that no earlier trial has tried."""
        if self._others is not None:
            new = [not tried for tried in self._tried(trial, self._keys_of_others)]
            left = list(compress(self._others, new))
            return left[seed_of(self._seed, trial.number) % len(left)] if left else proposal
        frozen = trial._get_latest_trial()  # noqa: SLF001 - see _proposed
        for attempt in range(_TRIES):
            sampler = RandomSampler(seed_of(self._seed, trial.number, attempt))
            found = self.space.walk(partial(_drawn, sampler, trial.study, frozen))
            if self._is_new(trial, found):
                return found
        return proposal

    def _is_new(self, trial: Trial, params: Params) -> bool:
        return not self._tried(trial, [_key(params)])[0] and self._fits(params)

    def _tried(self, trial: Trial, keys: Sequence[bytes]) -> list[bool]:
        """Whether a trial before this one tries each of these; without a lag, whether any other one does."""
        lagged = isinstance(trial.study.sampler, LaggedSampler)
        with self._taken.locked() as taken:
            others = [taken.trials.get(key, ()) for key in keys]
        number = trial.number
        return [any(other < number or not (lagged or other == number) for other in each) for each in others]

    def _look_up(self, trial: Trial) -> None:
        """Take in what trials before this one try of which nobody here was told."""
        with self._taken.locked() as taken:
            if taken.lowest_unknown >= trial.number:
                return
            known = set(taken.keys)
        # Of an earlier run, or another optimizer's. One that another optimizer has now may be half suggested, but for
        # those that the sampler has waited for.
        lagged = isinstance(trial.study.sampler, LaggedSampler)
        found = {
            other.number: _key(self.space.complete(other.params))
            for other in trial.study.get_trials(deepcopy=False)
            if other.number not in known
            and (other.state.is_finished() or (lagged and other.number < trial.number and other.params))
        }
        with self._taken.locked() as taken:
            for number, key in found.items():
                taken.put(number, key)


def _proposed(trial: Trial, frozen: FrozenTrial, name: str, values: Values) -> ParamValue:
    """What the sampler would have a hyperparameter be, as Trial's own ``_suggest`` asks it; nothing is stored yet.

    So ``frozen``, the trial as the sampler is to see it, is the same for all of its hyperparameters.
    """
    if trial._is_relative_param(name, values.distribution):  # noqa: SLF001
        relative: ParamValue = trial.relative_params[name]
        return relative
    return _drawn(trial.study.sampler, trial.study, frozen, name, values)


def _drawn(sampler: BaseSampler, study: Study, frozen: FrozenTrial, name: str, values: Values) -> ParamValue:
    drawn: ParamValue = sampler.sample_independent(study, frozen, name, values.distribution)
    return drawn


def _key(params: Params) -> bytes:
    """Equal for equal configurations. A digest: as text they are half a kilobyte for each trial."""
    return hashlib.blake2b(canonical_json(params).encode(), digest_size=16).digest()
