"""The model that a person keeps: trained at the end of a search, measured once, used afterwards."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_rig import ROOT, WITHOUT_KERAS, eventually, records, run, start
from seedpod.training.datasets import prepare, split
from seedpod.training.pictures import Form, to_image

pytestmark = pytest.mark.processes

FORM = Form(8, 8, 1, "uint8", 0.0, 16.0)


@pytest.fixture(scope="module", name="kept")
def finished_run(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("kept")
    done = run(
        "trials=2",
        "max_epochs_per_trial=5",
        "run_name=r",
        "final_model=retrain",
        f"cache_dir={digits_cache}",
        cwd=folder,
    )
    return folder / "results" / "r", done


@pytest.fixture(name="again")
def copy_of_the_run(kept: tuple[Path, Any], tmp_path: Path) -> Path:
    shutil.copytree(kept[0], tmp_path / "results" / "r")
    return tmp_path / "results" / "r"


def final(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "final.json").read_text("utf-8"))
    return record


def keys(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a record as the document writes them: ``a``, ``a.b``, ``a[].b``."""
    for key, value in record.items():
        yield f"{prefix}{key}"
        if key in {"params", "environment", "history", "versions"}:  # free ones
            continue
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from keys(value[0], f"{prefix}{key}[].")


def test_search_ends_with_a_model(kept: tuple[Path, Any]) -> None:
    """The best configuration is trained on all training images and measured on the test images, with an interval."""
    folder, done = kept
    assert done.returncode == 0, done.stderr
    best = max(records(folder), key=lambda r: r["value"])
    record = final(folder)
    assert (record["trial"], record["params"]) == (best["number"], best["params"])
    late = best["best_epoch"] > 2 / 3 * best["max_epochs"]  # both trials' learning rate falls
    assert best["params"]["schedule"] == "one_cycle"
    assert (record["epochs"], record["best_epoch"]) == (5 if late else best["best_epoch"], best["best_epoch"])
    assert record["train_images"] == 1438
    test = record["test"]
    assert test["images"] == 359
    assert 0.9 < test["accuracy_low"] < test["accuracy"] < test["accuracy_high"] < 1
    assert sum(map(sum, test["confusion"])) == 359
    assert len(test["worst"]) == 359 - test["right"]
    card = (folder / "model_card.md").read_text("utf-8")
    assert f"{test['accuracy']:.4f} (" in card
    assert f"Test accuracy {test['accuracy']:.4f} (" in done.stdout
    assert not list(folder.glob(".unfinished*"))


def test_document_describes_the_record(kept: tuple[Path, Any]) -> None:
    """docs/results.md lists exactly the keys of final.json, in its order."""
    section = (ROOT / "docs" / "results.md").read_text("utf-8").split("\n## final.json\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert [key for key in documented if "<format>" not in key] == list(keys(final(kept[0])))


def test_plain_keras_uses_the_model(kept: tuple[Path, Any], digits_cache: Path) -> None:
    """A fresh process with Keras and NumPy alone loads the file, gives it raw images, and finds the card's accuracy."""
    folder, _ = kept
    program = f"""
import json, zipfile
import keras, numpy as np
model = keras.models.load_model({str(folder / "model.keras")!r})
names = json.loads(zipfile.ZipFile({str(folder / "model.keras")!r}).read("seedpod.json"))["class_names"]
x = np.load({str(digits_cache / "datasets" / "digits" / "x_test.npy")!r})
y = np.load({str(digits_cache / "datasets" / "digits" / "y_test.npy")!r})
p = model.predict(x, verbose=0)
assert x.dtype == np.uint8 and np.allclose(p.sum(axis=1), 1, atol=1e-5)
print(json.dumps([(p.argmax(axis=1) == y).mean(), names]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    accuracy, names = json.loads(done.stdout.splitlines()[-1])
    assert accuracy == pytest.approx(final(folder)["test"]["accuracy"])
    assert names == list("0123456789")


def test_predict_agrees_with_evaluate_and_card(kept: tuple[Path, Any], digits_cache: Path, tmp_path: Path) -> None:
    """Each test image as a PNG gets the class that the evaluation counted; both find the card's accuracy."""
    folder, _ = kept
    cache = digits_cache / "datasets" / "digits"
    x, y = np.load(cache / "x_test.npy"), np.load(cache / "y_test.npy")
    for i, image in enumerate(x):
        to_image(image, FORM).save(tmp_path / f"{i}.png")
    paths = [str(tmp_path / f"{i}.png") for i in range(len(x))]
    predicted = run("predict", "run=r", *paths, cwd=folder.parents[1])
    assert predicted.returncode == 0, predicted.stderr
    rows = [line.split() for line in predicted.stdout.splitlines()]
    assert [path for path, _, _ in rows] == paths
    assert all(0 < float(chance) <= 1 for _, _, chance in rows)
    right = sum(int(found) == truth for (_, found, _), truth in zip(rows, y, strict=True))
    assert right == final(folder)["test"]["right"]
    evaluated = run("evaluate", "run=r", cwd=folder.parents[1])
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"{right} of 359 test images" in evaluated.stdout


def test_bad_pictures_are_named_and_skipped(kept: tuple[Path, Any], tmp_path: Path) -> None:
    """One that is no picture does not stop the others, and the exit code tells of it."""
    to_image(np.full((8, 8, 1), 16, np.uint8), FORM).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("nothing")
    where = kept[0].parents[1] / "results"
    done = run("predict", "run=r", "good.png", "bad.png", "none=1.png", f"results_dir={where}", cwd=tmp_path)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["good.png"]
    assert "bad.png: it is no picture, or one of a kind that is not read; skipped" in done.stderr
    assert "none=1.png: No such file or directory; skipped" in done.stderr


def test_final_does_nothing_twice(again: Path) -> None:
    """``final`` on a run that has its model leaves it alone: the test images are not measured once more."""
    before = (again / "model.keras").stat().st_mtime_ns
    done = run("final", "run=r", "final_model=retrain", cwd=again.parents[1])
    assert done.returncode == 0, done.stderr
    assert (again / "model.keras").stat().st_mtime_ns == before
    assert final(again)["test_measured"] == 1


def test_best_is_the_trials_own_model(again: Path) -> None:
    """``best`` trains on the training part alone and ends where the trial was best, bit for bit."""
    done = run("final", "run=r", "final_model=best", "export=tflite", cwd=again.parents[1])
    assert done.returncode == 0, done.stderr
    record = final(again)
    best = max(records(again), key=lambda r: r["value"])
    assert record["reproduced"] is True
    theirs = [(row["loss"], row["accuracy"]) for row in best["history"][: best["best_epoch"]]]
    assert [(row["loss"], row["accuracy"]) for row in record["history"]] == theirs
    assert record["train_images"] == 1150
    assert record["test_measured"] == 2  # and the card says so
    assert "2 times" in (again / "model_card.md").read_text("utf-8")
    assert (again / "model.tflite").stat().st_size > 1000
    assert record["exports"]["tflite"]["difference"] < 1e-3


def test_exports_answer_what_the_model_does(again: Path, digits_cache: Path) -> None:
    """ONNX and SavedModel are made of the kept model without training; ONNX Runtime finds the card's accuracy."""
    before = (again / "model.keras").read_bytes()
    done = run("final", "run=r", "final_model=retrain", "export=onnx,savedmodel", cwd=again.parents[1])
    assert done.returncode == 0, done.stderr
    assert (again / "model.keras").read_bytes() == before
    assert (again / "saved_model" / "saved_model.pb").is_file()
    program = f"""
import numpy as np, onnxruntime
x, y = (np.load({str(digits_cache / "datasets" / "digits")!r} + f"/{{name}}_test.npy") for name in "xy")
session = onnxruntime.InferenceSession({str(again / "model.onnx")!r})
(p,) = session.run(None, {{session.get_inputs()[0].name: x.astype(np.float32)}})
print((p.argmax(axis=1) == y).sum())
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout.split()[-1]) == final(again)["test"]["right"]


def test_training_that_fails_is_exit_code_4(again: Path) -> None:
    """Where the best configuration cannot be trained any more, its model is the only loss, and the old one is kept."""
    before = (again / "model.keras").read_bytes()
    best = max(records(again), key=lambda r: r["value"])
    path = again / "trials" / f"{best['number']:04d}.json"
    path.write_text(json.dumps({**best, "params": {**best["params"], "conv_blocks": 9}}), "utf-8")
    done = run("final", "run=r", "final_model=retrain", cwd=again.parents[1])
    assert done.returncode == 4
    assert "the final model could not be made: hyperparameter conv_blocks = 9" in done.stderr
    assert (again / "model.keras").read_bytes() == before
    assert not list(again.glob(".unfinished*"))


def test_failure_loses_nothing(again: Path, tmp_path: Path) -> None:
    """Without its data set the final model cannot be made: exit code 2 or 4, and what is there stays whole."""
    before = {p: p.read_bytes() for p in again.rglob("*") if p.is_file() and not p.name.startswith(".")}
    (again / "model.keras").rename(again / "hidden.keras")
    full = tmp_path / "cache"
    full.mkdir()
    (full / "datasets").touch()  # no folder can be made there
    done = run("final", "run=r", "final_model=retrain", f"cache_dir={full}", cwd=again.parents[1])
    assert done.returncode == 2
    assert "cache" in done.stderr
    (again / "hidden.keras").rename(again / "model.keras")
    assert {p: p.read_bytes() for p in again.rglob("*") if p.is_file() and not p.name.startswith(".")} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate"], "evaluate needs a run"),
        (["predict", "run=r"], "predict needs pictures"),
        (["final", "run=other"], "no such run"),
        (["report", "run=r", "trails=3"], "Did you mean trials?"),
    ],
)
def test_mistakes_are_exit_code_2(kept: tuple[Path, Any], words: list[str], said: str) -> None:
    """What a command lacks is said in a sentence."""
    done = run(*words, cwd=kept[0].parents[1])
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_run_without_model_says_how_to_make_one(again: Path) -> None:
    """``predict`` and ``evaluate`` on a run without a final model name the command that trains it."""
    (again / "final.json").unlink()
    done = run("evaluate", "run=r", cwd=again.parents[1])
    assert done.returncode == 1
    assert "`python optimizer.py final run=r` trains it" in done.stderr


def test_interrupted_training_is_told_and_repeatable(tmp_path: Path, digits_cache: Path) -> None:
    """Ctrl-C while the final model trains: the search is saved, nothing half-written is left, and it is said how to."""
    words = ("trials=1", "max_epochs_per_trial=6", "min_epochs_per_trial=6", "run_name=r", "final_model=retrain")
    with start(*words, f"cache_dir={digits_cache}", cwd=tmp_path, program=WITHOUT_KERAS) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if line.startswith("Final model"):
                break
        search.send_signal(signal.SIGINT)
        output = search.stdout.read()
        assert search.wait(timeout=30) == 130
    assert "`python optimizer.py final run=r` makes both" in output
    folder = tmp_path / "results" / "r"
    assert json.loads((folder / "summary.json").read_text("utf-8"))["outcome"] == "done"
    assert not (folder / "model.keras").exists()
    assert eventually(lambda: not list(folder.glob(".unfinished*")))


@pytest.mark.slow
def test_test_labels_change_no_trial_and_no_choice(tmp_path: Path, digits_cache: Path) -> None:
    """With the test labels permuted every trial, the best and the final training are the same; the test is not."""
    cache = digits_cache / "datasets" / "digits"
    arrays = {name: np.load(cache / f"{name}.npy") for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(tmp_path / "true.npz", **arrays)
    np.savez(tmp_path / "false.npz", **{**arrays, "y_test": np.random.default_rng(0).permutation(arrays["y_test"])})
    found = []
    for name in ("true", "false"):
        done = run(
            "trials=2",
            "max_epochs_per_trial=3",
            f"dataset={name}.npz",
            f"run_name={name}",
            "final_model=retrain",
            "cache_dir=cache",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "results" / name
        trials = [(r["params"], r["history"], r["value"]) for r in records(folder)]
        record = final(folder)
        found.append((trials, record["trial"], record["epochs"], record["history"]))
        assert (record["test"]["accuracy"] > 0.8) == (name == "true")
        assert re.search(r"Test accuracy", done.stdout)
    assert found[0] == found[1]


def test_final_learns_from_no_test_image(digits_cache: Path) -> None:
    """Training and validation together are the training images, each once: the test images are other arrays."""
    info = prepare("digits", digits_cache)
    y = np.load(digits_cache / "datasets" / "digits" / "y_train.npy")
    train, validation = split(y, 0.2, 42)
    assert sorted([*train, *validation]) == list(range(sum(info.train_counts)))


AWAY = (
    "use_runpod_service=true",
    "runpod_service_endpoint=http://127.0.0.1:9/v2/abc",
    "data_store=s3://images/p",
    "data_store_endpoint=http://127.0.0.1:9",
    "final_on=remote",
    "final_model=best",
)


def test_a_model_that_cannot_come_back_is_said(again: Path) -> None:
    """With final_on=remote, a store that is away and no fallback, the command ends with exit code 4 and what to do; the
    model that was there still is.
    """
    cwd, before = again.parents[1], (again / "model.keras").read_bytes()
    keys = {"RUNPOD_API_KEY": "rpa_ABCDEFGHIJKLMNOP0123456789", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    done = run("final", "run=r", *AWAY, "runpod_service_fallback_local=false", cwd=cwd, **keys)
    assert done.returncode == 4
    assert "data_store=s3://images/p cannot be reached" in done.stderr
    assert "`python optimizer.py final run=r` tries again" in done.stderr
    assert (again / "model.keras").read_bytes() == before


def test_a_final_model_elsewhere_needs_a_way_back(tmp_path: Path) -> None:
    """final_on=remote without a store is a mistake in the settings."""
    done = run("final_on=remote", "use_runpod_service=true", "runpod_service_endpoint=abc", cwd=tmp_path)
    assert done.returncode == 2
    assert "final_on=remote" in done.stderr
    assert "data_store=s3://BUCKET/PREFIX, by which the model comes back" in done.stderr
