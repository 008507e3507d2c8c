"""What one suggestion of TPE costs beside 100 to 10,000 ended trials: ours, with its lag, and Optuna's own.

``python benchmarks/run.py suggestion``. A study in memory, so that nothing but the sampler is measured: the row tells
what of a trial's cost is TPE's own growth. Both suggest the default space in turn, and their trials end with the same
values.
"""

import time
from pathlib import Path

import optuna
from apart import CACHE
from rows import Found, Row

from seedpod.config import OptimizationConfig
from seedpod.optimizer.plans import proposals_of
from seedpod.search.sampler import LaggedSampler, make_sampler
from seedpod.search.space import SearchSpace
from seedpod.search.space_file import read_definition
from seedpod.training.datasets import prepare

LAG = 8
ROUNDS = 5


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """A row for each number of ended trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = OptimizationConfig()
    space = proposals_of(config, prepare("digits", Path(CACHE)), read_definition(config), []).space
    for trials in (100, 1_000) if quick else (100, 1_000, 10_000):
        ended = _ended(space, trials)
        studies = {lag: _study(config, lag, ended) for lag in (LAG, None)}
        found: dict[int | None, list[float]] = {lag: [] for lag in studies}
        for _ in range(ROUNDS):
            for lag, study in studies.items():
                found[lag].append(_milliseconds(study, space))
        what = f"one suggestion of TPE beside {trials:,} ended trials"
        yield Row(f"suggestion.{trials}", what, "ms", tuple(found[LAG]), "Optuna's TPE", tuple(found[None]))


def _study(config: OptimizationConfig, lag: int | None, ended: list[optuna.trial.FrozenTrial]) -> optuna.Study:
    sampler = make_sampler("tpe", config.random_seed, config.startup_trials, lag)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(ended)
    return study


def _ended(space: SearchSpace, count: int) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(1), direction="maximize")
    for number in range(count):
        trial = study.ask()
        space.suggest(trial)
        study.tell(trial, number * 0.618 % 1)
    return study.get_trials(deepcopy=False)


def _milliseconds(study: optuna.Study, space: SearchSpace) -> float:
    began = time.perf_counter()
    trial = study.ask()
    space.suggest(trial)
    took = time.perf_counter() - began
    if isinstance(study.sampler, LaggedSampler):
        study.sampler.determined(trial)
    study.tell(trial, 0.5)
    return 1000 * took
