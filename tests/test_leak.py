"""The search does not see the test images: whatever their labels are, it makes the same choices."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_rig import TINY, records, run
from seedpod.training.datasets import attach, attach_test, prepare

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


def test_permuted_test_labels_change_nothing(tmp_path: Path, digits_cache: Path) -> None:
    """A search over the same images with permuted test labels has the same hyperparameters, histories, values,
    prunings and best trial, bit for bit.
    """
    order = np.random.default_rng(1).permutation(len(attach_test(*_digits(digits_cache), digits_cache).y_test))
    save(tmp_path / "as_they_are.npz", digits_cache, None)
    save(tmp_path / "permuted.npz", digits_cache, order)
    found = {}
    for name in ("as_they_are", "permuted"):
        done = run(f"dataset={name}.npz", f"run_name={name}", f"cache_dir={tmp_path / 'cache'}", *SEARCH, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "results" / name
        found[name] = (told(folder), json.loads((folder / "summary.json").read_text("utf-8")))
    assert (
        records(tmp_path / "results" / "permuted")[0]["fingerprint"]
        != records(tmp_path / "results" / "as_they_are")[0]["fingerprint"]
    )
    (trials, summary), (others, other) = found["as_they_are"], found["permuted"]
    assert trials == others
    for key in ("best", "importances", "trials"):
        assert summary[key] == other[key]


def _digits(cache_dir: Path) -> tuple[str, str]:
    info = prepare("digits", cache_dir)
    return info.id, info.fingerprint
