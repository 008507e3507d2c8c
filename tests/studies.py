"""Small real searches whose trials take random time, some of them failing."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage

from seedpod.config import OptimizationConfig
from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.search.proposals import Proposals
from seedpod.search.sampler import make_sampler
from seedpod.search.space import Images, Params, SearchSpace, _ask
from seedpod.search.space_file import read_definition
from seedpod.search.study import Ended, SearchStudy, Trial, left_to_run, open_study, optimize, suggest, take_up_open
from seedpod.search.values import Values
from seedpod.trial import ParamValue

SPACE = SearchSpace(read_definition(OptimizationConfig()), Images((8, 8, 1), 1000, (2, 9)))
Objective = Callable[[Trial], float]


def study_of(kept: Path | BaseStorage | None = None, sampler: BaseSampler | None = None) -> SearchStudy:
    """A study in a journal, or in a storage, by default a new one in memory."""
    if isinstance(kept, Path):
        study = open_study("s", "", kept, "")
    else:
        storage = kept or InMemoryStorage()
        optuna.create_study(study_name="s", storage=storage, direction="maximize", load_if_exists=True)
        study = SearchStudy("s", storage)
    study.sampler = sampler or make_sampler("random", 1, 1, None)
    return study


def run(study: SearchStudy, objective: Objective, trials: int = 8, jobs: int = 1) -> None:
    """A search that raises what ended it."""
    errors: list[BaseException] = []
    optimize(
        study,
        objective,
        trials=trials,
        jobs=jobs,
        timeout=None,
        stopping=lambda: bool(errors),
        failed=lambda error: stop_for(study, errors, error),
    )
    if errors:
        raise errors[0]


def with_values(study: SearchStudy, values: list[float | None]) -> SearchStudy:
    """The study after trials of these values; None is a trial that failed."""

    def objective(trial: Trial) -> float:
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("y", ["a", "b"])
        value = values[trial.number]
        if value is None:
            raise TrainingError("diverged", cause=Cause.DIVERGED)
        return value

    run(study, objective, trials=len(values))
    return study


def stop_for(study: SearchStudy, errors: list[BaseException], error: BaseException) -> None:
    errors.append(error)
    stop: Callable[[], None] | None = getattr(study.sampler, "stop", None)
    if stop is not None:
        stop()


def proposed(trial: Trial) -> Params:
    """What a trial of this study is to try; a study object has proposals of its own, as each start of a search has."""
    proposals: Proposals = trial.study.__dict__.setdefault("proposals", Proposals(SPACE, seed=7))
    return suggest(proposals, trial)


def value_of(params: dict[str, ParamValue]) -> float:
    return 1 / (1 + 10 * float(params["learning_rate"]) + int(params["conv_blocks"]) + float(params["dropout"]))


def restless(seed: int, longest: float = 0.004) -> Objective:
    """Trials of random length, by this seed and not by the search's; every seventh one fails."""
    chance = random.Random(seed)

    def objective(trial: Trial) -> float:
        time.sleep(chance.uniform(0, longest))
        params = proposed(trial)
        time.sleep(chance.uniform(0, longest) * chance.choice((1, 1, 3)))
        if trial.number % 7 == 3:
            raise TrainingError("does not fit", cause=Cause.TOO_LARGE)
        return value_of(params)

    return objective


def table(study: optuna.Study) -> list[tuple[int, dict[str, Any], str, float | None]]:
    found = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    return [
        (trial.number, trial.params, trial.state.name, None if trial.value is None else trial.value) for trial in found
    ]


def killed_at(moments: list[int]) -> Callable[[Objective], Objective]:
    """An objective that leaves its trial open, as a kill does, at the given counts of calls."""
    calls = [0]

    def around(objective: Objective) -> Objective:
        def dying(trial: Trial) -> float:
            calls[0] += 1
            if calls[0] in moments:
                half_suggest(trial)
                raise TrialCancelled("killed")
            return objective(trial)

        return dying

    return around


def half_suggest(trial: Trial) -> None:
    """Store half of what a trial is to try, as a kill in the middle leaves it."""
    proposals: Proposals = trial.study.__dict__.setdefault("proposals", Proposals(SPACE, seed=7))
    trial._fixed_params = proposals._choose(trial)
    left = iter(range(3))

    def ask(name: str, values: Values) -> ParamValue:
        next(left)
        return _ask(trial, name, values)

    with suppress(StopIteration):
        SPACE.walk(ask)


def go_on(study: SearchStudy, objective: Objective, total: int, jobs: int) -> None:
    """One start of a search over a study that earlier ones may have left open."""
    told: dict[int, Ended] = {}
    take_up_open(study, told, lambda _: False)
    cancelled: list[int] = []

    def noting(trial: Trial) -> float:
        try:
            return objective(trial)
        except TrialCancelled:
            cancelled.append(trial.number)
            stop_for(study, [], TrialCancelled("killed"))
            raise

    optimize(
        study,
        noting,
        trials=left_to_run(study, total),
        jobs=jobs,
        timeout=None,
        stopping=lambda: bool(cancelled),
        failed=lambda error: stop_for(study, [], error),
    )
