"""The real trainer, on digits, in real trainer processes. This process imports no Keras."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import seedpod
from endpoint_client import eventually
from priorities import priorities_of
from samples import on_digits
from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.training.child import PoolLimits, TrainerProcess
from seedpod.training.examiner import PATIENCE
from seedpod.training.pool import KERAS_TRAINER, TrainerPool
from seedpod.training.runtime import configure_environment
from seedpod.trial import ParamValue, Status, TrialProgress, TrialResult, TrialSpec

pytestmark = pytest.mark.processes

# Every Python warning but one, which Keras 3.15 causes inside itself on torch.
SHOWN = "default,ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
LIMITS = PoolLimits(trials=1000)  # no recycling in the middle of a test
SMALL: dict[str, ParamValue] = {
    "conv_blocks": 1,
    "filters_0": 4,
    "kernel_size": 3,
    "activation": "relu",
    "convs_per_block": 1,
    "normalization": "none",
    "residual": False,
    "schedule": "constant",
    "warmup": 0.0,
    "label_smoothing": 0.0,
    "augmentation": 0.0,
    "flip": False,
    "initializer": "he_normal",
    "pooling": "max",
    "global_pooling": False,
    "dropout": 0.0,
    "dense_layers": 0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 64,
}
# Everything that draws random numbers: shuffling, dropout, weights; and batch normalisation, which remembers.
VARIED: dict[str, ParamValue] = SMALL | {
    "conv_blocks": 2,
    "filters_1": 8,
    "normalization": "batch",
    "augmentation": 0.5,
    "label_smoothing": 0.05,
    "dropout": 0.3,
    "dense_layers": 1,
}
VARIED |= {"dense_units_0": 32, "batch_size": 32, "learning_rate": 3e-3}
FOLDS: dict[str, Any] = {"params": VARIED, "cv_folds": 2, "max_epochs": 2}
# An epoch takes about a second, on any backend.
SLOW: dict[str, ParamValue] = SMALL | {
    "conv_blocks": 2,
    "filters_0": 64,
    "filters_1": 128,
    "kernel_size": 5,
    "batch_size": 8,
}


@pytest.fixture(name="base", scope="module")
def base_spec(digits_cache: Path) -> TrialSpec:
    return on_digits(digits_cache, params=SMALL, max_epochs=2)


@pytest.fixture(name="pool", scope="module")
def one_warm_process(digits_cache: Path) -> Iterator[TrainerPool]:
    with TrainerPool(1, digits_cache, limits=LIMITS, standby=0) as pool:
        yield pool


@pytest.fixture(name="varied", scope="module")
def varied_result(pool: TrainerPool, base: TrialSpec) -> TrialResult:
    """What the warm process says of VARIED."""
    return pool.run(replace(base, params=VARIED), ignore)


@pytest.fixture(name="plain", scope="module")
def plain_result(pool: TrainerPool, base: TrialSpec) -> TrialResult:
    """What the warm process says of the base spec."""
    return pool.run(base, ignore)


@dataclass(frozen=True)
class Elsewhere:
    """What fresh processes say: two of VARIED, at once, and the second of FOLDS, too."""

    varied: list[TrialResult]
    folds: TrialResult
    printed: str


@pytest.fixture(name="elsewhere", scope="module")
def results_of_fresh_processes(digits_cache: Path, base: TrialSpec) -> Elsewhere:
    spec, folds = replace(base, params=VARIED), replace(base, **FOLDS)
    with (
        fresh_process(digits_cache, 1) as one,
        fresh_process(digits_cache, 2) as two,
        ThreadPoolExecutor(2) as threads,
    ):
        varied = list(threads.map(lambda process: process.run(spec, ignore, spec.uid), (one, two)))
        return Elsewhere(varied, two.run(folds, ignore, folds.uid), one.tail() + two.tail())


@contextmanager
def fresh_process(cache_dir: Path, schedulers: int) -> Iterator[TrainerProcess]:
    """A trainer process of its own that shows every Python warning."""
    ready = threading.Event()
    source = str(Path(seedpod.__file__).parents[1])
    command = [sys.executable, "-m", "seedpod.training.process", KERAS_TRAINER, str(cache_dir), str(schedulers)]
    environment = configure_environment({**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": SHOWN})
    process = TrainerProcess([*command, str(os.getpid())], environment, LIMITS, lambda *_: ready.set())
    process.listen()
    try:
        assert ready.wait(LIMITS.start)
        yield process
    finally:
        process.kill()
        process.bury()


def ignore(_: TrialProgress) -> None:
    pass


def numbers(result: TrialResult) -> TrialResult:
    """The result without the time and the memory that it took."""
    return replace(result, seconds=0.0, run={})


def refusal(pool: TrainerPool, spec: TrialSpec) -> tuple[TrainingError, list[TrialProgress]]:
    """The error that a trial ends with, and what it reported before."""
    seen: list[TrialProgress] = []
    with pytest.raises(TrainingError) as caught:
        pool.run(spec, seen.append)
    return caught.value, seen


def test_same_spec_in_one_process(pool: TrainerPool, base: TrialSpec, varied: TrialResult) -> None:
    """The same spec gives the same result to the last bit in one process, with another trial between."""
    pool.run(replace(base, seed=7), ignore)
    assert numbers(pool.run(replace(base, params=VARIED), ignore)) == numbers(varied)


def test_same_spec_in_other_processes(elsewhere: Elsewhere, varied: TrialResult) -> None:
    """Two fresh processes side by side, with one and two schedulers, give the warm process's result to the last bit,
    and print no warning.
    """
    assert [numbers(result) for result in elsewhere.varied] == [numbers(varied)] * 2
    assert "Warning:" not in elsewhere.printed
    assert "Traceback" not in elsewhere.printed


def test_seed_changes_the_numbers(pool: TrainerPool, base: TrialSpec, varied: TrialResult) -> None:
    """Another seed, up to the largest, gives other numbers."""
    other = pool.run(replace(base, params=VARIED, seed=2**32 - 1), ignore)
    assert other.history[0]["loss"] != varied.history[0]["loss"]
    assert other.history[0]["val_loss"] != varied.history[0]["val_loss"]


def test_split_seed_changes_the_validation_images(pool: TrainerPool, base: TrialSpec) -> None:
    """Another split_seed judges the same untrained weights by other images."""
    still = replace(base, params=SMALL | {"learning_rate": 1e-9}, max_epochs=1)
    one, other = (pool.run(replace(still, split_seed=seed), ignore) for seed in (1, 2))
    assert one.history[0]["val_loss"] != other.history[0]["val_loss"]


def test_learns(pool: TrainerPool, base: TrialSpec) -> None:
    """A sensible configuration names at least 95 % of the validation digits after six epochs."""
    params = VARIED | {"filters_0": 16, "filters_1": 32, "dense_units_0": 64, "dropout": 0.1}
    result = pool.run(replace(base, params=params, max_epochs=6), ignore)
    assert result.value is not None
    assert result.value >= 0.95


def test_epochs_are_reported_and_recorded(pool: TrainerPool, base: TrialSpec) -> None:
    """Progress counts up by one an epoch and equals the history; value and metrics are those of the best epoch."""
    seen: list[TrialProgress] = []
    # So high a rate that accuracy goes up and down.
    spec = replace(base, params=SMALL | {"learning_rate": 0.1}, max_epochs=4, min_epochs=4)
    result = pool.run(spec, seen.append)
    assert [p.sequence for p in seen] == [p.epoch for p in seen] == [1, 2, 3, 4]
    assert [p.metrics for p in seen] == list(result.history)
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)
    assert seen[-1].seconds <= result.seconds
    assert result.epochs == 4
    values = [p.value for p in seen]
    assert values == [row["val_accuracy"] for row in result.history]
    assert result.value == max(value for value in values if value is not None)
    assert result.best_epoch == values.index(result.value) + 1
    assert result.metrics == result.history[result.best_epoch - 1]
    judged = {"val_loss", "val_accuracy", "macro_f1", "balanced_accuracy"}
    assert set(result.metrics) == {"loss", "accuracy"} | judged


def test_objective_decides_the_best_epoch(pool: TrainerPool, base: TrialSpec) -> None:
    """The best epoch and the value are those of the metric which the spec names, in its own direction."""
    # So high a rate that loss and accuracy go up and down, and not together.
    wild = replace(base, params=SMALL | {"learning_rate": 0.2}, max_epochs=6, min_epochs=6)
    by_accuracy, by_loss = (
        pool.run(replace(wild, objectives=(name,)), ignore) for name in ("val_accuracy", "val_loss")
    )
    assert by_accuracy.history == by_loss.history
    losses = [row["val_loss"] for row in by_loss.history]
    assert by_loss.value == min(loss for loss in losses if loss is not None)
    assert by_loss.best_epoch == losses.index(by_loss.value) + 1
    accuracies = [row["val_accuracy"] for row in by_accuracy.history]
    assert by_accuracy.value == max(accuracy for accuracy in accuracies if accuracy is not None)
    assert by_accuracy.best_epoch == accuracies.index(by_accuracy.value) + 1
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":  # on others they may fall on one epoch
        assert by_loss.best_epoch != by_accuracy.best_epoch


@pytest.mark.parametrize(("min_epochs", "epochs"), [(1, 1 + PATIENCE), (6, 6)])
def test_early_stopping(pool: TrainerPool, base: TrialSpec, min_epochs: int, epochs: int) -> None:
    """A trial that no longer gets better ends PATIENCE epochs after its best one, and not before min_epochs."""
    # Weights that hardly move: the first epoch stays the best.
    spec = replace(base, params=SMALL | {"learning_rate": 1e-9}, max_epochs=20, min_epochs=min_epochs)
    result = pool.run(spec, ignore)
    assert result.epochs == len(result.history) == epochs
    assert result.best_epoch == 1


def test_wire_keeps_a_result(varied: TrialResult) -> None:
    """A real result is the same after a way over the wire."""
    assert TrialResult.from_wire(varied.to_wire()) == varied
    assert varied.environment["keras_backend"] == os.environ.get("KERAS_BACKEND", "tensorflow")


def test_too_large_never_trains(pool: TrainerPool, base: TrialSpec) -> None:
    """A model over max_parameters is refused before it trains, with both numbers."""
    error, seen = refusal(pool, replace(base, max_parameters=689))
    assert error.cause is Cause.TOO_LARGE
    assert "690 trainable parameters, over max_parameters=689" in error.message
    assert seen == []
    assert pool.run(replace(base, max_parameters=690), ignore).parameters == 690


def test_diverged(pool: TrainerPool, base: TrialSpec) -> None:
    """A loss that is no longer finite ends the trial in its epoch and is said."""
    # Five layers of an activation that never dies: their weights grow each other.
    params = VARIED | {"conv_blocks": 3, "filters_2": 16, "normalization": "none", "activation": "leaky_relu"}
    params |= {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "learning_rate": 100.0}
    error, seen = refusal(pool, replace(base, params=params, max_epochs=20))
    assert error.cause is Cause.DIVERGED
    assert "learning_rate" in error.message
    assert len(seen) < 3


def test_deadline(pool: TrainerPool, base: TrialSpec) -> None:
    """A trial over its max_seconds ends by itself, pruned, in the middle of an epoch, and names the setting."""
    seen: list[TrialProgress] = []
    result = pool.run(replace(base, params=SLOW, max_epochs=1000, max_seconds=0.3), seen.append)
    assert (result.status, result.value, result.epochs, result.history) == (Status.PRUNED, None, 0, ())
    assert result.error is not None
    assert result.error.cause is Cause.DEADLINE
    assert "max_training_time_minutes" in result.error.message
    assert seen == []
    assert result.seconds > 0.3
    whole = pool.run(replace(base, params=SLOW, max_epochs=1), ignore)
    assert (result.parameters, result.environment) == (whole.parameters, whole.environment)


def test_missing_data_set(pool: TrainerPool, base: TrialSpec) -> None:
    """A data set that is not on this machine fails the trial and says how to prepare it."""
    error, seen = refusal(pool, replace(base, dataset="nowhere"))
    assert error.cause is Cause.DATA
    assert "'nowhere'" in error.message
    assert seen == []


def test_other_data_set_of_the_same_name(pool: TrainerPool, base: TrialSpec) -> None:
    """A data set with another fingerprint than the spec's is not trained on."""
    error, seen = refusal(pool, replace(base, fingerprint="0" * 16))
    assert error.cause is Cause.DATA
    assert "0" * 16 in error.message
    assert seen == []


class MiddleOfAnEpoch:
    """A report that does something a moment after the first epoch, in the middle of the second."""

    def __init__(self, pool: TrainerPool) -> None:
        self._pool = pool
        self.seen: list[TrialProgress] = []
        self.pids: list[int] = []
        self.reached = threading.Event()

    def __call__(self, progress: TrialProgress) -> None:
        self.seen.append(progress)
        self.pids = self._pool.pids(running=True)
        self.reached.set()

    def wait(self) -> None:
        assert self.reached.wait(60)
        time.sleep(0.15)


def test_cancel_in_the_middle_of_an_epoch(pool: TrainerPool, base: TrialSpec) -> None:
    """A cancelled trial ends between two batches, long before its epoch does, and its process serves the next one."""
    spec, report, after = replace(base, params=SLOW, max_epochs=1000), MiddleOfAnEpoch(pool), MiddleOfAnEpoch(pool)
    with ThreadPoolExecutor(1) as threads:
        trial = threads.submit(pool.run, spec, report)
        report.wait()
        pool.cancel(spec.uid)
        with pytest.raises(TrialCancelled):
            trial.result(timeout=20)
    assert [p.epoch for p in report.seen] == [1]
    pool.run(base, after)
    assert after.pids == report.pids


def test_kill_in_the_middle_of_an_epoch(digits_cache: Path, base: TrialSpec, varied: TrialResult) -> None:
    """A process killed in the middle of an epoch fails its trial alone, by name; its standby changes no number."""
    with TrainerPool(1, digits_cache, limits=LIMITS) as pool, ThreadPoolExecutor(1) as threads:
        report, after = MiddleOfAnEpoch(pool), MiddleOfAnEpoch(pool)
        assert pool.wait_until_ready(LIMITS.start, standby=True)
        waiting = pool.pids()
        trial = threads.submit(pool.run, replace(base, params=SLOW, max_epochs=1000), report)
        report.wait()
        os.kill(report.pids[0], signal.SIGKILL)
        with pytest.raises(TrainingError, match="SIGKILL") as caught:
            trial.result(timeout=20)
        assert numbers(pool.run(replace(base, params=VARIED), after)) == numbers(varied)
        if sys.platform == "linux":  # what trains does not have the priority at which it was loaded
            eventually(lambda: priorities_of(after.pids[0]) == {os.getpriority(os.PRIO_PROCESS, 0)})
    assert caught.value.cause is Cause.PROCESS_DIED
    assert set(after.pids) < set(waiting)


def test_two_objectives(pool: TrainerPool, base: TrialSpec, plain: TrialResult) -> None:
    """A real trial of two objectives answers both: the size is 4 bytes for each weight, 690 of them."""
    spec = replace(base, objectives=("val_loss", "model_size"))
    result = pool.run(spec, ignore)
    assert result.values == (min(row["val_loss"] or 0.0 for row in result.history), 690 * 4 / 1e6)
    assert result.history == plain.history


def test_size_counts_moving_statistics(pool: TrainerPool, base: TrialSpec) -> None:
    """The moving statistics of batch normalisation are no trainable parameters, and count for the size."""
    result = pool.run(replace(base, params=VARIED, objectives=("model_size",), max_epochs=1), ignore)
    assert result.value == pytest.approx((result.parameters + 2 * (4 + 8)) * 4 / 1e6)


def test_times_are_measured(pool: TrainerPool, base: TrialSpec, plain: TrialResult) -> None:
    """Latency and training time are positive, and the record says that no seed repeats them; the rest is repeated."""
    spec = replace(base, objectives=("inference_latency", "training_time"))
    result = pool.run(spec, ignore)
    latency, seconds = result.values
    assert latency > 0
    assert 0 < seconds == result.seconds
    assert str(result.environment["reproducible"]).endswith(", but not inference_latency and training_time")
    assert result.history == plain.history


def test_too_many_megabytes_never_train(pool: TrainerPool, base: TrialSpec) -> None:
    """A model over max_model_mb is refused before it trains, with both numbers; one of that very size is taken."""
    error, seen = refusal(pool, replace(base, max_model_mb=0.002759))
    assert error.cause is Cause.TOO_LARGE
    assert "0.00276 MB of weights, over max_model_mb=0.002759" in error.message
    assert seen == []
    assert pool.run(replace(base, max_model_mb=0.00276), ignore).status is Status.COMPLETE


def test_cross_validation(pool: TrainerPool, base: TrialSpec, elsewhere: Elsewhere) -> None:
    """Each fold is a training of its own on its own images, the value is their mean, and all of it repeats bit for bit,
    also in a fresh process.
    """
    seen: list[TrialProgress] = []
    result = pool.run(replace(base, **FOLDS), seen.append)
    assert [(p.epoch, p.max_epochs) for p in seen] == [(n, 4) for n in range(1, 5)]
    folds = [[row for row in result.history if row["fold"] == fold] for fold in (1.0, 2.0)]
    bests = [max(row["val_accuracy"] or 0.0 for row in fold) for fold in folds]
    assert result.value == pytest.approx(sum(bests) / 2)
    assert len({fold[0]["val_loss"] for fold in folds}) == 2
    assert seen[-1].value == result.value
    assert result.metrics["val_accuracy_std"] is not None
    assert numbers(elsewhere.folds) == numbers(result)


def test_health_of_a_trial(pool: TrainerPool, base: TrialSpec, varied: TrialResult) -> None:
    """A complete trial brings its network's health, layer by layer under names that people know, in little room; with
    residual blocks too, and of several folds with the units of the last.
    """
    assert varied.health is not None
    assert [layer.name for layer in varied.health.layers] == ["conv_1", "conv_2", "dense_1", "output"]
    assert len(json.dumps(varied.health.to_plain())) < 1000
    params = SMALL | {"conv_blocks": 2, "filters_1": 8, "convs_per_block": 2, "residual": True, "pooling": "strided"}
    folds = pool.run(replace(base, params=params, cv_folds=2, max_epochs=1), ignore).health
    assert folds is not None
    names = ["conv_1", "conv_2", "conv_2_shortcut", "conv_3", "conv_4", "conv_4_shortcut", "output"]
    assert [layer.name for layer in folds.layers] == names
    assert [layer.units for layer in folds.layers] == [4, 4, 0, 8, 8, 0, 0]
    assert folds.components["convergence"] == 0.0  # after a single epoch nothing has


def test_deadline_holds_over_all_folds(pool: TrainerPool, base: TrialSpec) -> None:
    """A trial whose folds together take too long ends at its limit, with the epochs that it had told of."""
    spec = replace(base, cv_folds=20, max_epochs=1000, min_epochs=1000, max_seconds=3.0)
    seen: list[TrialProgress] = []
    result = pool.run(spec, seen.append)
    assert result.error is not None
    assert (result.status, result.error.cause) == (Status.PRUNED, Cause.DEADLINE)
    assert "of 20000" in result.error.message
    assert result.epochs == len(result.history) == len(seen)


def test_hopeless_trial_ends_pruned(pool: TrainerPool, base: TrialSpec) -> None:
    """A trial that has not learned enough by then ends pruned, and its process serves the next one."""
    spec = replace(base, params=SMALL | {"learning_rate": 1e-9}, max_epochs=20, min_accuracy=0.9, min_accuracy_epochs=2)
    result = pool.run(spec, ignore)
    assert (result.status, result.epochs, result.value) == (Status.PRUNED, 2, None)
    assert result.error is not None
    assert result.error.cause is Cause.HOPELESS
    assert pool.run(base, ignore).status is Status.COMPLETE


def test_no_trial_opens_the_test_images(digits_cache: Path, base: TrialSpec, tmp_path: Path) -> None:
    """Of all files that a trainer process opens, from its start to a trial's end, none holds a test image or label."""
    opened = tmp_path / "opened.txt"
    environment = {**os.environ, "OPENED": str(opened), "PYTHONPATH": str(Path(__file__).parents[1])}
    watched: dict[str, Any] = {"trainer": "watched_trainer:make", "environment": environment}
    with TrainerPool(1, digits_cache, limits=LIMITS, standby=0, **watched) as pool:
        pool.run(replace(base, max_epochs=1), ignore)
        pool.run(replace(base, max_epochs=1, cv_folds=2, objectives=("inference_latency",)), ignore)
        mapped = "".join(Path(f"/proc/{pid}/maps").read_text("utf-8") for pid in pool.pids())
    names = opened.read_text("utf-8")
    assert "x_train.npy" in names
    assert "y_train.npy" in names
    assert "_test.npy" not in names + mapped


@pytest.mark.slow
def test_memory_of_many_trials(pool: TrainerPool, base: TrialSpec) -> None:
    """Twelve tiny trials in one process leave less than 40 MB each behind."""
    held: list[float] = []
    pids: set[int] = set()

    def report(_: TrialProgress) -> None:
        (pid,) = pool.pids(running=True)
        pids.add(pid)
        held.append(psutil.Process(pid).memory_info().rss / 1e6)

    for number in range(13):
        assert pool.run(replace(base, number=number, seed=number, max_epochs=1), report).status is Status.COMPLETE
    assert len(pids) == 1
    assert (held[12] - held[0]) / 12 < 40
