"""What reproducibility costs: wall time and search quality at several lags, against Optuna's asynchronous behaviour.

``python benchmarks/lag.py [--seeds 20] [--repeats 5] [--json lag.json]`` prints one Markdown table; some minutes.

- Time: 48 trials that sleep, log-normally (sigma 0.5, median 0.25 s), by 6 threads of Optuna's own pool on the real
  ``LaggedSampler``; the same trial takes the same time in every row. The floor is the sum over 6.
- Quality: best value of 48 trials, over seeds, on three real objectives that are tabulated once: cross-validated
  accuracies of scikit-learn classifiers. What the lagged sampler proposes does not depend on timing; the asynchronous
  one is fed in the order in which 6 workers would have ended, with the same log-normal times.
"""

import argparse
import heapq
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Found, Row
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from seedpod.search.asking import SearchStudy
from seedpod.search.sampler import LaggedSampler, make_sampler
from seedpod.search.study import optimize

TRIALS, WORKERS, SIGMA, MEDIAN = 48, 6, 0.5, 0.25
LAGS: tuple[int | None, ...] = (6, 8, 12, 24, None)
STARTUP = 10


@dataclass(frozen=True)
class Objective:
    """A tabulated objective: the values on a grid."""

    name: str
    sizes: tuple[int, ...]
    values: dict[tuple[int, ...], float]

    def __call__(self, trial: optuna.Trial) -> float:
        """The value at the point that the trial is suggested."""
        return self.values[tuple(trial.suggest_int(f"x{i}", 0, size - 1) for i, size in enumerate(self.sizes))]


def tabulated(name: str, axes: Sequence[Sequence[Any]], model: Callable[..., Any], data: tuple[Any, Any]) -> Objective:
    """Evaluate a model on every point of a grid."""
    values = {}
    for index in itertools.product(*(range(len(axis)) for axis in axes)):
        chosen = [axis[i] for axis, i in zip(axes, index, strict=True)]
        values[index] = float(cross_val_score(model(*chosen), *data, cv=3).mean())
    return Objective(name, tuple(map(len, axes)), values)


def objectives() -> list[Objective]:
    """Three classifiers on three data sets."""
    images, digits = load_digits(return_X_y=True)
    some = slice(0, 600)
    logs = np.geomspace
    return [
        tabulated(
            "digits, PCA + SVM",
            [logs(0.01, 100, 13), logs(1e-5, 1e-1, 13), [4, 8, 16, 32]],
            lambda c, gamma, parts: make_pipeline(PCA(parts, random_state=0), SVC(C=c, gamma=gamma)),
            (images[some], digits[some]),
        ),
        tabulated(
            "wine, scaled k-neighbours",
            [range(1, 41), [1.0, 1.5, 2.0, 3.0, 5.0], ["uniform", "distance"], [2, 4, 8, 13]],
            lambda k, p, weights, parts: make_pipeline(
                StandardScaler(), PCA(parts, random_state=0), KNeighborsClassifier(k, p=p, weights=weights)
            ),
            load_wine(return_X_y=True),
        ),
        tabulated(
            "breast cancer, decision tree",
            [range(1, 13), range(1, 31, 3), [0.1, 0.2, 0.4, 0.7, 1.0], ["gini", "entropy"]],
            lambda depth, leaf, features, criterion: DecisionTreeClassifier(
                max_depth=depth, min_samples_leaf=leaf, max_features=features, criterion=criterion, random_state=0
            ),
            load_breast_cancer(return_X_y=True),
        ),
    ]


def study_of(seed: int, lag: int | None) -> SearchStudy:
    """A new study in memory."""
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage, direction="maximize")
    study = SearchStudy("s", storage)
    study.sampler = make_sampler("tpe", seed, STARTUP, lag)
    return study


def durations(seed: int) -> list[float]:
    """Seconds of each trial."""
    return [float(x) for x in MEDIAN * np.random.default_rng(seed).lognormal(0, SIGMA, TRIALS)]


def wall_time(seed: int, lag: int | None) -> float:
    """Seconds that six threads take, over the floor."""
    study, times = study_of(seed, lag), durations(seed)

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if isinstance(study.sampler, LaggedSampler):
            study.sampler.determined(trial)
        time.sleep(times[trial.number])
        return value

    errors: list[BaseException] = []
    began = time.monotonic()
    optimize(study, objective, trials=TRIALS, jobs=WORKERS, timeout=None, stopping=lambda: False, failed=errors.append)
    if errors:
        raise errors[0]
    return (time.monotonic() - began) / (sum(times) / WORKERS)


def best_value(objective: Objective, seed: int, lag: int | None) -> float:
    """The best of 48 trials."""
    study = study_of(seed, lag)
    if lag is not None:
        for _ in range(TRIALS):
            trial = study.ask()
            value = objective(trial)
            assert isinstance(study.sampler, LaggedSampler)
            study.sampler.determined(trial)
            study.tell(trial, value)
        return study.best_value
    times = durations(seed)
    running: list[tuple[float, int, optuna.Trial, float]] = []
    now = 0.0
    for number in range(TRIALS):
        if len(running) == WORKERS:
            now, _, ended, value = heapq.heappop(running)
            study.tell(ended, value)
        trial = study.ask()
        heapq.heappush(running, (now + times[number], number, trial, objective(trial)))
    while running:
        _, _, ended, value = heapq.heappop(running)
        study.tell(ended, value)
    return study.best_value


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The default lag beside the floor of its time and beside asynchronous search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds, repeats = (5, 2) if quick else (20, 5)
    tables = objectives()[: 1 if quick else 3]
    over = {lag: tuple(wall_time(seed, lag) for seed in range(repeats)) for lag in (8, 12, None)}
    for lag in (8, 12):
        what = f"{TRIALS} trials of unequal length, {WORKERS} at once, search_lag={lag}: time over the floor"
        yield Row(f"lag.time.{lag}", what, "floors", over[lag], "asynchronous", over[None])
    for each in tables:
        bests = {lag: tuple(best_value(each, seed, lag) for seed in range(seeds)) for lag in (8, None)}
        what = f"best of {TRIALS} trials, search_lag=8: {each.name}"
        yield Row(f"lag.best.{each.name}", what, "accuracy", bests[8], "asynchronous", bests[None], more_is_better=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = objectives()
    rows = []
    for lag in LAGS:
        overs = [wall_time(seed, lag) for seed in range(given.repeats)]
        bests = {each.name: [best_value(each, seed, lag) for seed in range(given.seeds)] for each in tables}
        rows.append({"lag": lag or "asynchronous", "time_over_floor": overs, "best": bests})
    print(f"| search_lag | time over floor | {' | '.join(each.name for each in tables)} | mean regret |")
    print(f"|---|---|{'---|' * len(tables)}---|")
    for row in rows:
        means = {each.name: statistics.mean(row["best"][each.name]) for each in tables}
        regret = statistics.mean(max(each.values.values()) - means[each.name] for each in tables)
        over = statistics.mean(row["time_over_floor"])
        cells = " | ".join(f"{100 * means[each.name]:.2f} %" for each in tables)
        print(f"| {row['lag']} | {over:.2f} | {cells} | {100 * regret:.2f} points |")
    maxima = " | ".join(f"{100 * max(each.values.values()):.2f} %" for each in tables)
    print(f"| best on the grid | | {maxima} | |")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
