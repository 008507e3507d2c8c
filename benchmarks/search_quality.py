"""What a search finds in its training seconds: ours, plain Optuna, Keras Tuner's Hyperband and random search.

    uv run --extra bench benchmarks/search_quality.py [--trials 16] [--epochs 10] [--seeds 5] [--json FILE]

All four search the same space (``configs/search_spaces``) on the same images and split, and train by the same trainer,
one trial at a time, each search in a process of its own, one after the other. Each may train ``trials`` x ``epochs``
epochs; what a pruner saves is not spent again, but for Hyperband, which spends its budget in its own way. Seconds are
those of training alone, as the trainer measures them: neither a process's start nor what the search itself costs.

- Plain Optuna: ``create_study(sampler=TPESampler(seed), pruner=MedianPruner())`` and an objective that reports every
  epoch, as its documentation has it.
- Keras Tuner: ``Hyperband(max_epochs=epochs, factor=3)``. A trial that goes on from a lower rung is trained from its
  beginning here, with the schedule of its new length, and only the epochs that it gains are counted.
- Random: Optuna's RandomSampler, nothing pruned.
- Ours: ``optimizer.py local_workers=1 search_lag=1``, else as it comes.

The table: the best validation accuracy of each, and the share of a peer's training seconds in which ours had found as
good a one (1.00 and more: later than the peer; never: not within its own budget).
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rows import Found, Row

ROOT = Path(__file__).resolve().parents[1]
Steps = list[tuple[float, float, int]]
"""Of each trial in order: training seconds, best validation accuracy or -1, epochs."""


class Peer:
    """Trains what a peer proposes, in this process."""

    def __init__(self, cache: Path, seed: int, trials: int, epochs: int) -> None:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        from seedpod.config import load
        from seedpod.optimizer.plans import proposals_of
        from seedpod.search.space_file import read_definition
        from seedpod.training.datasets import prepare
        from seedpod.training.runtime import configure_backend, usable_cores

        given = [f"trials={trials}", f"max_epochs_per_trial={epochs}", f"random_seed={seed}", f"cache_dir={cache}"]
        self.config = load(["dataset=digits", *given], {}).config
        self.data = prepare("digits", cache)
        self.space = proposals_of(self.config, self.data, read_definition(self.config), []).space
        environment = configure_backend(usable_cores())  # as a single local worker of ours has it
        from seedpod.training.trainer import Trainer

        self._trainer = Trainer(cache, environment)
        self.steps: Steps = []
        self.left = trials * epochs

    def train(
        self,
        number: int,
        params: dict[str, Any],
        report: Callable[[int, float], None] = lambda _epoch, _value: None,
        already: int = 0,
    ) -> float:
        """Train a trial and note it; of its epochs, ``already`` were paid for.

        Raises:
            Exception: What ``report`` raises; the trial is noted.
        """
        from seedpod.errors import TrainingError
        from seedpod.optimizer.plans import spec_of

        best, epochs, stopped, began = -1.0, 0, None, time.monotonic()

        def hear(progress: Any) -> None:
            nonlocal best, epochs
            epochs, best = progress.epoch, max(best, progress.value or -1.0)
            report(progress.epoch, progress.value or 0.0)

        seconds = None
        try:
            seconds = self._trainer.train(spec_of(self.config, number, params, self.data), hear, lambda: None).seconds
        except TrainingError:
            pass
        except Exception as error:  # noqa: BLE001 - the peer's own way to say that a trial is pruned
            stopped = error
        seconds = time.monotonic() - began if seconds is None else seconds
        share = (epochs - already) / epochs if epochs else 1.0
        self.steps.append((seconds * share, best, epochs - already))
        self.left -= epochs - already
        if stopped is not None:
            raise stopped
        return best


def optuna_search(peer: Peer, seed: int, trials: int, *, tpe: bool) -> None:
    """Optuna as its documentation has it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        def report(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if tpe and trial.should_prune():
                raise optuna.TrialPruned

        return peer.train(trial.number, peer.space.suggest(trial), report)

    sampler = optuna.samplers.TPESampler(seed=seed) if tpe else optuna.samplers.RandomSampler(seed=seed)
    pruner = optuna.pruners.MedianPruner() if tpe else optuna.pruners.NopPruner()
    optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner).optimize(objective, n_trials=trials)


def keras_tuner_search(peer: Peer, seed: int, epochs: int, folder: Path) -> None:
    """Keras Tuner's Hyperband, until its epochs are spent."""
    import keras
    import keras_tuner

    from seedpod.search.values import Choices

    def params_of(hp: Any) -> dict[str, Any]:
        def choose(name: str, values: Any) -> Any:
            if isinstance(values, Choices):
                return values.nearest(hp.Choice(name, list(values.values)))
            sampling = "log" if values.log else "linear"
            make = hp.Int if values.whole else hp.Float
            kept = (
                {} if values.step is None or values.log else {"step": int(values.step) if values.whole else values.step}
            )
            low, high = (int(values.low), int(values.high)) if values.whole else (values.low, values.high)
            return values.nearest(make(name, low, high, sampling=sampling, **kept))

        return peer.space.walk(choose)

    class Model(keras_tuner.HyperModel):  # type: ignore[misc]
        def build(self, hp: Any) -> keras.Model:
            params_of(hp)
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile(loss="mse")
            return model

    class Tuner(keras_tuner.Hyperband):  # type: ignore[misc]
        def run_trial(self, trial: Any, *_given: Any, **_named: Any) -> dict[str, float]:
            hp = trial.hyperparameters
            rung = {
                name: int(hp.values.get(f"tuner/{name}", default))
                for name, default in (("epochs", epochs), ("initial_epoch", 0))
            }
            params = {**params_of(hp), "epochs": rung["epochs"]}
            value = peer.train(len(peer.steps), params, already=rung["initial_epoch"])
            if peer.left <= 0:
                self.oracle.max_trials = 0
                raise StopIteration
            return {"val_accuracy": value}

    tuner = Tuner(
        Model(),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=epochs,
        factor=3,
        hyperband_iterations=100,
        seed=seed,
        directory=folder,
        max_consecutive_failed_trials=1,
    )
    try:
        tuner.search(verbose=0)
    except (StopIteration, RuntimeError):
        if peer.left > 0:
            raise


def ours(cache: Path, seed: int, trials: int, epochs: int, folder: Path) -> Steps:
    """One search by the command that people type."""
    given = {
        "dataset": "digits",
        "trials": trials,
        "max_epochs_per_trial": epochs,
        "random_seed": seed,
        "cache_dir": cache,
        "local_workers": 1,
        "search_lag": 1,
        "final_model": "none",
        "report": "none",
        "dashboard": "none",
        "run_name": "ours",
        "results_dir": folder,
    }
    command = [sys.executable, str(ROOT / "optimizer.py"), *(f"{key}={value}" for key, value in given.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    records = [json.loads(path.read_bytes()) for path in sorted((folder / "ours" / "trials").glob("*.json"))]
    steps = []
    for record in records:
        values = [row["val_accuracy"] for row in record["history"] if row.get("val_accuracy") is not None]
        times = record["times"]
        began, ended = (datetime.fromisoformat(times[name]) for name in ("started_at", "ended_at"))
        # Of a pruned trial the trainer has not told its seconds: they count from the trial's start, build and all.
        seconds = float(times["training_seconds"]) or (ended - began).total_seconds()
        steps.append((seconds, max(values, default=-1.0), int(record["epochs"])))
    return steps


def best_of(steps: Steps) -> float:
    """The best validation accuracy."""
    return max(value for _, value, _ in steps)


def seconds_of(steps: Steps) -> float:
    """All training seconds."""
    return sum(seconds for seconds, _, _ in steps)


def until(steps: Steps, value: float) -> float:
    """Training seconds until a trial as good as ``value`` has ended; infinite where none is."""
    spent = 0.0
    for seconds, found, _ in steps:
        spent += seconds
        if found >= value:
            return spent
    return math.inf


PEERS = {"optuna": "Optuna, TPE and median pruner", "keras_tuner": "Keras Tuner, Hyperband", "random": "random search"}


def in_process(name: str, seed: int, peer: Peer, options: argparse.Namespace, folder: Path) -> Steps:
    """What this script writes as ``--peer``."""
    if name == "keras_tuner":
        keras_tuner_search(peer, seed, options.epochs, folder)
    else:
        optuna_search(peer, seed, options.trials, tpe=name == "optuna")
    return peer.steps


def searched(name: str, cache: Path, seed: int, options: argparse.Namespace) -> Steps:
    """One search of a system."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name == "ours":
            return ours(cache, seed, options.trials, options.epochs, folder)
        out = folder / "steps.json"
        given = ["--peer", name, str(seed), str(cache), str(out)]
        sizes = ["--trials", str(options.trials), "--epochs", str(options.epochs)]
        subprocess.run(
            [sys.executable, __file__, *given, *sizes],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
        return [(seconds, value, epochs) for seconds, value, epochs in json.loads(out.read_bytes())]


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The best validation accuracy of ours beside each peer's, a repeat for each seed."""
    options = argparse.Namespace(trials=6 if quick else 16, epochs=4 if quick else 10, seeds=1 if quick else 5)
    found = compared(options)
    what = f"digits, {options.trials} trials of {options.epochs} epochs at most: best validation accuracy"
    for name, told in PEERS.items():
        pairs = tuple(map(best_of, found["ours"])), told, tuple(map(best_of, found[name]))
        yield Row(f"search_quality.{name}", what, "accuracy", *pairs, more_is_better=True)


def compared(options: argparse.Namespace) -> dict[str, list[Steps]]:
    """The searches of each system, one for each seed."""
    found: dict[str, list[Steps]] = {name: [] for name in ("ours", *PEERS)}
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(options.seeds):
            for name, runs in found.items():
                runs.append(searched(name, Path(cache), seed, options))
                steps = runs[-1]
                print(f"seed {seed} {name}: {best_of(steps):.4f} in {seconds_of(steps):.1f} s", file=sys.stderr)
    return found


def main() -> None:
    """Search with each, over the seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", nargs=4, metavar=("NAME", "SEED", "CACHE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        name, seed, cache, out = options.peer
        peer = Peer(Path(cache), int(seed), options.trials, options.epochs)
        steps = in_process(name, int(seed), peer, options, Path(out).parent)
        Path(out).write_text(json.dumps(steps))
        return
    found = compared(options)
    print(f"digits, {options.trials} trials of {options.epochs} epochs at most, {options.seeds} seeds; ", end="")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| search | best validation accuracy, mean (range) | training seconds | epochs | ours as good after |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        bests = [best_of(steps) for steps in runs]
        seconds = statistics.mean(map(seconds_of, runs))
        epochs = statistics.mean(sum(n for _, _, n in steps) for steps in runs)
        shares = [
            until(mine, best_of(theirs)) / seconds_of(theirs) for mine, theirs in zip(found["ours"], runs, strict=True)
        ]
        told = ", ".join("never" if math.isinf(share) else f"{share:.2f}" for share in sorted(shares))
        told = f"{statistics.median(shares):.2f} (median of {told})" if name != "ours" else ""
        print(
            f"| {PEERS.get(name, 'seedpod')} | {statistics.mean(bests):.4f} ({min(bests):.4f} to {max(bests):.4f}) "
            f"| {seconds:.1f} | {epochs:.0f} | {told} |"
        )
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
