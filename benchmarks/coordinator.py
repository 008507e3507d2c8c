"""What a trial costs the coordinator, as trials grow: no-op trials through a whole search, beside Optuna's own pool.

    uv run benchmarks/coordinator.py [--quick] [--json FILE]

A trial does nothing but report one epoch; everything around it is a search's: proposals, sampler, pruner, the journal
on disk, board, records, events, progress. Beside it, Optuna's ``n_jobs`` with its own journal, the same
hyperparameters, sampler and pruner, and nothing else. Each search has a process of its own. Of both are told ms per
trial at 100, 1,000 and 10,000 trials (the mean of the last tenth before), by the clock and of CPU time, memory and
files behind that, then how long it takes to go on with the run. Rows are ours, theirs, and ours / theirs; where they
have no such part, a floor.
"""

import argparse
import json
import logging
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from seedpod.backends.local import LocalBackend
from seedpod.config import OptimizationConfig
from seedpod.events import Observer
from seedpod.optimizer import ModelOptimizer
from seedpod.search.pruner import make_pruner
from seedpod.search.sampler import LaggedSampler, make_sampler
from seedpod.search.space import Images, SearchSpace
from seedpod.search.space_file import read_definition
from seedpod.search.values import Choices, Values
from seedpod.training.datasets import prepare
from seedpod.trial import ParamValue, Report, Status, TrialBackend, TrialProgress, TrialResult, TrialSpec

Row = dict[str, Any]
"""``name``, ``ours``, ``floor_or_peer``, ``ratio`` (ours / floor or peer) and ``unit``."""

HERE = Path(__file__).resolve().parent
WORKERS = 4
MARKS = (100, 1_000, 10_000)
SECONDS, TRIALS = 1.0, 32  # of the trials that take time


class Notes:
    """When each trial began, by the clock and by this process's CPU, and what memory it held at the marks."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.cpu: list[float] = []
        self.rss: dict[int, float] = {}

    def trial(self) -> None:
        """A trial begins."""
        self.began.append(time.perf_counter())
        self.cpu.append(time.process_time())
        if len(self.began) in MARKS:
            self.rss[len(self.began)] = rss()


class Nothing:
    """A backend whose trials report an epoch and end.

    Args:
        at_once: Trials side by side.
    """

    name = "nothing"

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.notes = Notes()

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """See TrialBackend."""
        self.notes.trial()
        value = int(spec.uid[:8], 16) / 0xFFFFFFFF
        row = {"val_accuracy": value, "val_loss": 1 - value}
        report(TrialProgress(spec.number, 1, 1, spec.max_epochs, value, row, 0.001, (value,)))
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            value=value,
            best_epoch=1,
            epochs=1,
            metrics=row,
            history=(row,),
            seconds=0.001,
        )

    def cancel_all(self) -> None:
        """See TrialBackend."""

    def close(self) -> None:
        """See TrialBackend."""


def rss() -> float:
    """MB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def config_of(folder: Path, trials: int, sampler: str, storage: str = "") -> OptimizationConfig:
    """A search as a user would have it, on the digits."""
    return OptimizationConfig(
        storage=storage,
        trials=trials,
        sampler=sampler,
        local_workers=WORKERS,
        search_lag=2 * WORKERS,
        results_dir=str(folder),
        run_name="r",
        cache_dir=str(folder / "cache"),
    )


def search(folder: Path, trials: int, sampler: str, storage: str = "") -> Row:
    """Our search over ``trials`` trials in all, of which an earlier call may have run some."""
    backend = Nothing(WORKERS)
    seen: list[object] = [None]

    def callback(progress: object) -> None:
        seen[0] = progress

    def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return backend

    began = time.perf_counter()
    config = config_of(folder, trials, sampler, storage)
    ModelOptimizer(config, make_backend=make, progress_callback=callback).run()
    ended = time.perf_counter()
    run = folder / "r"
    sizes = {
        "journal": 0 if storage else (run / "study.journal").stat().st_size,
        "events": (run / "events.jsonl").stat().st_size,
        "records": sum(path.stat().st_size for path in (run / "trials").iterdir()),
    }
    return told(backend.notes, began, sizes) | {"end_s": ended - backend.notes.began[-1]}


def plain(folder: Path, trials: int, sampler: str) -> Row:
    """Optuna's own pool, journal, sampler and pruner, on the same hyperparameters."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = config_of(folder, trials, sampler)
    space = SearchSpace(read_definition(config), Images((8, 8, 1), 1150, (1, 10)))
    notes = Notes()

    def objective(trial: optuna.Trial) -> float:
        space.walk(partial(ask, trial))
        notes.trial()
        value = trial.number * 0.618 % 1
        trial.report(value, 1)
        if trial.should_prune():
            raise optuna.TrialPruned
        return value

    began = time.perf_counter()
    journal = folder / "plain.journal"
    study = optuna.create_study(
        study_name="r",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=make_sampler(sampler, config.random_seed, config.startup_trials, None),
        pruner=make_pruner(config.pruner, (1, 10), None),
        direction="maximize",
        load_if_exists=True,
    )
    study.optimize(objective, n_trials=trials - len(study.get_trials(deepcopy=False)), n_jobs=WORKERS)
    return told(notes, began, {"journal": journal.stat().st_size})


def told(notes: Notes, start: float, sizes: dict[str, int]) -> Row:
    """What a search's process answers."""
    began = notes.began
    return {
        "ms": _windows(began),
        "cpu_ms": _windows(notes.cpu),
        "rss": notes.rss,
        "bytes": sizes,
        "first_s": began[0] - start,
        "all_s": began[-1] - began[0],
        "trials": len(began),
    }


def _windows(at: list[float]) -> dict[str, float]:
    """Milliseconds a trial over the last tenth before each mark."""
    return {
        str(mark): 1e3 * (at[mark - 1] - at[mark - 1 - mark // 10]) / (mark // 10) for mark in MARKS if mark <= len(at)
    }


def ask(trial: optuna.Trial, name: str, values: Values) -> ParamValue:
    """A hyperparameter by Optuna's own calls."""
    if isinstance(values, Choices):
        chosen = trial.suggest_categorical(name, values.values)
        assert chosen is not None
        return chosen
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), step=int(values.step or 1), log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


WAYS: dict[str, Callable[[Path, int, str], Row]] = {"ours": search, "optuna": plain}


def measured(way: str, folder: Path, trials: int, sampler: str) -> Row:
    """One search in a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(folder), str(trials), sampler]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, ours: float, other: float, unit: str) -> Row:
    """One line of the table."""
    return {
        "name": name,
        "ours": round(ours, 4),
        "floor_or_peer": round(other, 4),
        "ratio": round(ours / other, 4),
        "unit": unit,
    }


def growth(folder: Path, sampler: str, most: int) -> list[Row]:
    """Cost, memory and files of one search beside Optuna's, and how long it takes to go on with it."""
    ours = measured("ours", folder, most, sampler)
    peer = measured("optuna", folder, most, sampler)
    rows = [
        row(f"no-op trial, {sampler}, at {int(mark):,} trials, {what}", ours[key][mark], peer[key][mark], "ms")
        for key, what in (("ms", "by the clock"), ("cpu_ms", "CPU"))
        for mark in ours["ms"]
    ]
    first, last = str(MARKS[0]), str(most)
    if most > MARKS[0]:
        grown, theirs = (each["rss"][last] - each["rss"][first] for each in (ours, peer))
        rows.append(row(f"memory from {MARKS[0]} to {most:,} trials, {sampler}", grown, theirs, "MB"))
        for name, size in ours["bytes"].items():
            rows.append(row(f"{name} of {most:,} trials, {sampler}", size / 1e6, peer["bytes"]["journal"] / 1e6, "MB"))
        rows.append(row(f"end of a search of {most:,} trials, {sampler}", ours["end_s"], 1.0, "s, beside 1 s"))
    more = most + 10
    resumed, theirs = (measured(way, folder, more, sampler)["first_s"] for way in WAYS)
    rows.append(row(f"going on with {most:,} trials, {sampler}: to the first new one", resumed, theirs, "s"))
    return rows


def suggestion(trials: int, sampler: str = "tpe", rounds: int = 5) -> Row:
    """What a suggestion alone takes beside so many ended trials: ours with its lag, and Optuna's sampler bare."""
    config = OptimizationConfig(sampler=sampler)
    space = SearchSpace(read_definition(config), Images((8, 8, 1), 1150, (1, 10)))
    took: dict[str, list[float]] = {"ours": [], "optuna": []}
    lags = {"ours": 8, "optuna": None}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    studies = {}
    ended = _ended(space, trials)
    for way, lag in lags.items():
        studies[way] = optuna.create_study(
            direction="maximize", sampler=make_sampler(sampler, 42, config.startup_trials, lag)
        )
        studies[way].add_trials(ended)
    for _ in range(rounds):
        for way, study in studies.items():
            began = time.thread_time()
            trial = study.ask()
            space.walk(partial(ask, trial))
            took[way].append(time.thread_time() - began)
            if isinstance(study.sampler, LaggedSampler):
                study.sampler.determined(trial)
            study.tell(trial, 0.5)
    ours, peer = (1e3 * statistics.median(each) for each in took.values())
    return row(f"one suggestion of {sampler} beside {trials:,} trials", ours, peer, "ms of CPU")


def _ended(space: SearchSpace, count: int) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(1))
    for number in range(count):
        trial = study.ask()
        space.walk(partial(ask, trial))
        study.tell(trial, number * 0.618 % 1)
    return study.get_trials(deepcopy=False)


def efficiency(folder: Path) -> list[Row]:
    """How near trials of 1 s in trainer processes that sleep come to their own time, beside Optuna's threads."""
    ours, peer = (measured(way, folder, TRIALS, "random")["share"] for way in ("busy", "asleep"))
    name = f"efficiency of {TRIALS} x {SECONDS:g} s, {WORKERS} at once"
    return [row(name, 100 * ours, 100 * peer, "%")]


class _Clocked(Observer):
    """Notes when trials run."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def began(self, plan: object) -> None:  # noqa: ARG002 - an observer's
        self.marks.append(time.perf_counter())

    def finished(self, trial: object, snapshot: object) -> None:  # noqa: ARG002 - an observer's
        self.marks.append(time.perf_counter())


def busy(folder: Path, trials: int, sampler: str) -> Row:
    """Our search of trials of 1 s in processes, which are up before the clock starts."""
    sys.path.insert(0, str(HERE))
    os.environ["PYTHONPATH"] = str(HERE)
    clock = _Clocked()

    def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        backend = LocalBackend(workers, cache_dir, trainer="coordinator:make_second")
        time.sleep(5)
        return backend

    config = config_of(folder / "busy", trials, sampler)
    ModelOptimizer(config, make_backend=make, observer=clock).run()
    return {"share": math.ceil(trials / WORKERS) * SECONDS / (clock.marks[-1] - clock.marks[0])}


def asleep(folder: Path, trials: int, sampler: str) -> Row:
    """Optuna's pool with trials that sleep for 1 s."""
    config = config_of(folder, trials, sampler)
    space = SearchSpace(read_definition(config), Images((8, 8, 1), 1150, (1, 10)))

    def objective(trial: optuna.Trial) -> float:
        space.walk(partial(ask, trial))
        time.sleep(SECONDS)
        return 0.5

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "asleep.journal"))),
        sampler=make_sampler(sampler, 42, 10, None),
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials, n_jobs=WORKERS)
    return {"share": math.ceil(trials / WORKERS) * SECONDS / (time.perf_counter() - began)}


class Second:
    """A trainer that sleeps for a second."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See ``seedpod.training.trainer.Trainer.train``."""
        check()
        time.sleep(SECONDS)
        row = {"val_accuracy": 0.5, "val_loss": 1.0}
        report(TrialProgress(spec.number, 1, 1, spec.max_epochs, 0.5, row, SECONDS, (0.5,)))
        return TrialResult(
            spec.number,
            Status.COMPLETE,
            value=0.5,
            best_epoch=1,
            epochs=1,
            metrics=row,
            history=(row,),
            seconds=SECONDS,
        )


def make_second(_cache_dir: Path, _schedulers: int) -> Second:
    """What TrainerPool calls."""
    return Second()


def start_up() -> Row:
    """Seconds that ``optimizer.py help`` takes, beside Python itself."""
    script = str(HERE.parent / "optimizer.py")
    ours, bare = (
        min(_seconds([sys.executable, *words]) for _ in range(5)) for words in ([script, "help"], ["-c", "pass"])
    )
    return row("optimizer.py help", ours, bare, "s, beside python -c pass")


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def rows(*, quick: bool) -> list[Row]:
    """All that is measured: in some 3 minutes where it is quick, to 1,000 trials; else to 10,000."""
    found = [start_up()]
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare("digits", folder / "cache")
        found += efficiency(folder)
        for sampler, most in (("random", 1_000 if quick else 10_000), ("tpe", 100 if quick else 1_000)):
            place = folder / sampler
            place.mkdir()
            (place / "cache").symlink_to(folder / "cache")
            found += growth(place, sampler, most)
    return found + [suggestion(trials) for trials in ((100, 1_000) if quick else MARKS)]


def main() -> None:
    """Measure and print, or be one of the processes that are measured."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=4)
    given = parser.parse_args()
    if given.one:
        way, folder, trials, sampler = given.one
        print(json.dumps((WAYS | {"busy": busy, "asleep": asleep})[way](Path(folder), int(trials), sampler)))
        return
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, Optuna {optuna.__version__}\n")
    print("| | ours | peer or floor | ratio | unit |\n|---|---|---|---|---|")
    found = rows(quick=given.quick)
    for each in found:
        print(f"| {each['name']} | {each['ours']:g} | {each['floor_or_peer']:g} | {each['ratio']:g} | {each['unit']} |")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2), "utf-8")


if __name__ == "__main__":
    main()
