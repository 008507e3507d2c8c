"""The search does not see the test images: whatever their labels are, it makes the same choices."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_rig import TINY, records
from seedpod.config import load
from seedpod.optimizer import ModelOptimizer
from seedpod.training.datasets import attach, attach_test, prepare
from seedpod.training.pool import TrainerPool
from thread_backend import ThreadBackend

pytestmark = pytest.mark.processes

SEARCH = (
    *TINY,
    "trials=4",
    "startup_trials=2",
    "search_lag=1",
    "max_epochs_per_trial=2",
    "optimize_for=val_loss",
    "pruner=asha",
)


def save(path: Path, cache_dir: Path, order: np.ndarray | None) -> None:
    """Some digits as a user's own file, with the test labels in this order."""
    info = prepare("digits", cache_dir)
    train, held_out = attach(info.id, info.fingerprint, cache_dir), attach_test(info.id, info.fingerprint, cache_dir)
    labels = held_out.y_test if order is None else held_out.y_test[order]
    np.savez(path, x_train=train.x_train[:400], y_train=train.y_train[:400], x_test=held_out.x_test, y_test=labels)


def told(folder: Path) -> list[Any]:
    """All that a search chose and found, without what names its data set."""
    named = {"uid", "dataset", "fingerprint", "times"}
    return [{key: value for key, value in record.items() if key not in named} for record in records(folder)]


def search(pool: TrainerPool, *words: str) -> None:
    """A real search by these words of a command line, whose trials run in the pool."""
    make = lambda **_: ThreadBackend(lambda spec, report, _check: pool.run(spec, report))  # noqa: E731
    ModelOptimizer(load(words, {}).config, make_backend=make).run()


def test_permuted_test_labels_change_nothing(tmp_path: Path, digits_cache: Path) -> None:
    """A search over the same images with permuted test labels has the same hyperparameters, histories, values,
    prunings and best trial, bit for bit.
    """
    order = np.random.default_rng(1).permutation(len(attach_test(*_digits(digits_cache), digits_cache).y_test))
    save(tmp_path / "as_they_are.npz", digits_cache, None)
    save(tmp_path / "permuted.npz", digits_cache, order)
    found = {}
    with TrainerPool(1, tmp_path / "cache", standby=0) as pool:
        for name in ("as_they_are", "permuted"):
            file, cache, results = tmp_path / f"{name}.npz", tmp_path / "cache", tmp_path / "results"
            search(pool, f"dataset={file}", f"run_name={name}", f"cache_dir={cache}", f"results_dir={results}", *SEARCH)
            summary = json.loads((results / name / "summary.json").read_text("utf-8"))
            found[name] = (told(results / name), summary)
    assert (
        records(tmp_path / "results" / "permuted")[0]["fingerprint"]
        != records(tmp_path / "results" / "as_they_are")[0]["fingerprint"]
    )
    (trials, one), (others, other) = found["as_they_are"], found["permuted"]
    assert trials == others
    for key in ("best", "importances", "trials"):
        assert one[key] == other[key]


def _digits(cache_dir: Path) -> tuple[str, str]:
    info = prepare("digits", cache_dir)
    return info.id, info.fingerprint
