"""The command line as its users meet it: a process, its output, its files, its exit code."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from command_rig import QUICK, ROOT, TINY, WITHOUT_KERAS, eventually, records, run, start, trainers
from seedpod.config import load

pytestmark = pytest.mark.processes

LONG = {"program": WITHOUT_KERAS, "STAND_IN_SECONDS": "3"}
"""Trials of 1 to 3 s."""


@pytest.fixture(scope="module", name="searched")
def finished_search(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("searched")
    done = run("trials=3", "run_name=one", f"cache_dir={digits_cache}", *TINY, *QUICK, cwd=folder)
    return folder / "results" / "one", done


@pytest.fixture(scope="module", name="stood_in")
def finished_search_without_keras(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("stood_in")
    done = run("trials=3", "run_name=one", f"cache_dir={digits_cache}", *QUICK, cwd=folder, program=WITHOUT_KERAS)
    assert done.returncode == 0, done.stderr
    return folder / "results" / "one"


def test_search_leaves_whole_results(searched: tuple[Path, Any]) -> None:
    """A search ends with exit code 0, a record a trial, the best and the summary, and nothing else beside them."""
    folder, done = searched
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [r["number"] for r in records(folder)] == [0, 1, 2]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    best = max(records(folder), key=lambda r: r["value"])
    assert summary["outcome"] == "done"
    assert summary["best"]["trial"] == best["number"]
    assert yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))["params"] == best["params"]
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
        "best.yaml",
        "config.yaml",
        "events.jsonl",
        "study.journal",
        "summary.json",
        "trials",
    ]


def test_saved_config_repeats_the_search(searched: tuple[Path, Any]) -> None:
    """The saved configuration reads back as the one that ran."""
    folder, _ = searched
    assert load([f"config={folder / 'config.yaml'}"], {}).config.trials == 3


def test_output_names_every_trial_and_the_outcome(searched: tuple[Path, Any]) -> None:
    """One line a trial, then the best, its parameters, and where the files are; no escapes in a pipe."""
    _, done = searched
    assert [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\s+#\d", line)] == ["#0", "#1", "#2"]
    assert "Best: trial" in done.stdout
    assert "learning_rate" in done.stdout
    assert "Results in results/one" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout


@pytest.mark.parametrize("word", ["resume=one", "run_name=one"])
def test_finished_run_goes_on_to_more_trials(stood_in: Path, digits_cache: Path, word: str) -> None:
    """``resume=`` and the same ``run_name`` go on to ``trials`` in all; what is there stays as it is."""
    copy = stood_in.parents[1] / word.replace("=", "-")
    shutil.copytree(stood_in.parent, copy / "results")
    settings = () if word.startswith("resume") else (f"cache_dir={digits_cache}", *QUICK)
    done = run(word, "trials=4", *settings, cwd=copy, program=WITHOUT_KERAS)
    assert done.returncode == 0, done.stderr
    assert [r["number"] for r in records(copy / "results" / "one")] == [0, 1, 2, 3]
    for n in range(3):
        name = f"trials/{n:04d}.json"
        assert (copy / "results" / "one" / name).read_bytes() == (stood_in / name).read_bytes()


def test_run_does_not_go_on_under_another_seed(searched: tuple[Path, Any]) -> None:
    """A setting that would change the study is refused by name with exit code 2, and nothing changes."""
    folder, _ = searched
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = run("resume=one", "random_seed=7", cwd=folder.parents[1])
    assert again.returncode == 2
    assert "random_seed=7: run one was begun with random_seed=42" in again.stderr
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_same_seed_same_records(searched: tuple[Path, Any], digits_cache: Path) -> None:
    """A second search with the same seed writes the same records, but for times."""
    folder, _ = searched
    run(
        "trials=3",
        "run_name=two",
        f"cache_dir={digits_cache}",
        *TINY,
        *QUICK,
        cwd=folder.parents[1],
    )
    first, second = records(folder), records(folder.with_name("two"))
    assert [{**r, "times": None} for r in first] == [{**r, "times": None} for r in second]


@pytest.mark.slow
def test_two_workers_give_the_same_records(searched: tuple[Path, Any], digits_cache: Path) -> None:
    """Two trials at once change no value, no metric and no parameter."""
    folder, _ = searched
    run(
        "trials=3",
        "run_name=side",
        "local_workers=2",
        f"cache_dir={digits_cache}",
        *TINY,
        *QUICK,
        cwd=folder.parents[1],
    )
    first, second = records(folder), records(folder.with_name("side"))
    assert [{**r, "times": None} for r in first] == [{**r, "times": None} for r in second]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trails=5"], "Did you mean trials?"),
        (["resume=one"], "no such run in results. There is none."),
        (["resume=one", "config=x.yaml"], "leave out config= and run_name="),
        (["--trials", "5"], "write trials=5"),
        (["trials=5", "trials=6"], "twice"),
        (["trials"], "trials"),
        (["trials=0"], "from 1"),
        (["use_runpod_service=true"], "use_runpod_service"),
        (["help", "trails"], "is neither a setting nor a command. Did you mean trials?"),
        (["help", "me"], "`python optimizer.py help` lists all."),
        (["report", "run=one"], "run=one (command line): there is no such run in results. There is none."),
        (["predict", "run=results/one", "x.png"], "run=results/one (command line): there is no such run"),
        (["search_space=defualt"], "or use one of small, default or wide. Did you mean default?"),
        (["dataset=http://example.org/x.zip"], "must be https"),
        (["dataset=https://example.org/x.txt?a=b"], "is the address of a .txt; it must be that of a .zip"),
        (["data_store=s3://b/x"], "'b' is no bucket's name: that has 3 to 63 letters"),
        (["dataset=nowhere.npz"], "no such file"),
    ],
)
def test_bad_arguments_are_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    """A mistake on the command line is one sentence and exit code 2, and nothing is written."""
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_is_on_standard_output(tmp_path: Path, word: str) -> None:
    """Help lists settings and exit codes, is found under each of its names, and ends with exit code 0."""
    done = run(word, cwd=tmp_path)
    assert done.returncode == 0
    assert "concurrent_workers" in done.stdout
    assert "130" in done.stdout
    assert "143" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["help", "trials"], "trials=20"),
        (["help", "pruner=asha"], "pruner=asha"),
        (["--help", "enable_dashboard"], "dashboard=auto"),
        (["help", "predict"], "run=RUN FILE..."),
        (["help", "config"], "config="),
        (["--version"], "seedpod 0"),
    ],
)
def test_help_on_a_word(tmp_path: Path, words: list[str], said: str) -> None:
    """Help tells of a single setting or command, and the version is known under its usual name."""
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0
    assert said in done.stdout
    assert "concurrent_workers" not in done.stdout


def test_config_tells_origins(tmp_path: Path) -> None:
    """``config`` shows where each value came from, and runs nothing."""
    done = run("config", "trials=7", cwd=tmp_path, SEEDPOD_RANDOM_SEED="5")
    assert done.returncode == 0
    assert re.search(r"trials: 7\s+# command line", done.stdout)
    assert re.search(r"random_seed: 5\s+# environment SEEDPOD_RANDOM_SEED", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_no_success_is_exit_code_1(tmp_path: Path, digits_cache: Path) -> None:
    """When every trial fails the exit code is 1 and the summary groups the failures by cause with an example."""
    done = run(
        "trials=3",
        "max_parameters=1",
        f"cache_dir={digits_cache}",
        *QUICK,
        cwd=tmp_path,
        program=WITHOUT_KERAS,
    )
    assert done.returncode == 1
    assert "No trial succeeded." in done.stdout
    assert "too_large: 3" in done.stdout


def in_the_middle(folder: Path, number: int) -> bool:
    """Whether the trial has reported an epoch."""
    events = folder / "events.jsonl"
    facts = map(json.loads, events.read_text("utf-8").split("\n")[:-1]) if events.exists() else ()
    return any(fact["event"] == "trial_progress" and fact["trial"] == number for fact in facts)


def test_killed_trainer_fails_its_trial_alone(tmp_path: Path, digits_cache: Path) -> None:
    """A trainer process killed in the middle of a trial fails that one with SIGKILL as reason; the search goes on."""
    with start(
        "trials=3",
        "run_name=r",
        "sampler=random",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        **LONG,
    ) as search:
        assert eventually(lambda: in_the_middle(tmp_path / "results" / "r", 1))
        for process in trainers(search.pid):
            process.kill()
        search.communicate()
    assert search.returncode == 0
    failed = [r for r in records(tmp_path / "results" / "r") if r["status"] == "failed"]
    assert len(records(tmp_path / "results" / "r")) == 3
    assert len(failed) == 1
    assert failed[0]["error"]["cause"] == "process_died"
    assert "SIGKILL" in failed[0]["error"]["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_saves_and_leaves_nothing(
    tmp_path: Path, digits_cache: Path, number: signal.Signals, code: int
) -> None:
    """A signal ends the search in order: its exit code, a summary, and no process left."""
    with start(
        "trials=50",
        "run_name=r",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        **LONG,
    ) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if line.lstrip().startswith("#0"):
                break
        children = trainers(search.pid)
        search.send_signal(number)
        output = search.stdout.read()
        assert search.wait(timeout=30) == code
    assert "Stopping" in output
    assert output.rstrip().endswith("To go on: python optimizer.py resume=r")
    assert "interrupted" in output
    summary = json.loads((tmp_path / "results" / "r" / "summary.json").read_text(encoding="utf-8"))
    assert summary["outcome"] == "interrupted"
    assert summary["trials"]["complete"] >= 1
    assert children
    assert eventually(lambda: not any(p.is_running() for p in children))


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGKILL],
        pytest.param([signal.SIGINT, signal.SIGINT], marks=pytest.mark.slow),
        pytest.param([signal.SIGHUP], marks=pytest.mark.slow),
    ],
)
def test_no_trainer_outlives_the_search(tmp_path: Path, digits_cache: Path, signals: list[signal.Signals]) -> None:
    """However the search is ended, no trainer process is left."""
    with start(
        "trials=50",
        "run_name=r",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        **LONG,
    ) as search:
        assert eventually(lambda: in_the_middle(tmp_path / "results" / "r", 0))
        children = trainers(search.pid)
        for number in signals:
            search.send_signal(number)
        assert search.wait(timeout=30) != 0
    assert children
    assert eventually(lambda: not any(p.is_running() for p in children))


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"NO_COLOR": "1"},
        {"TERM": "dumb"},
    ],
)
def test_narrow_terminals_do_not_crash(tmp_path: Path, digits_cache: Path, more: dict[str, str]) -> None:
    """Narrow encodings and plain terminals get plain text."""
    done = run(
        "trials=1",
        "max_parameters=1",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        program=WITHOUT_KERAS,
        **more,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout


def test_reader_that_leaves_is_no_crash(tmp_path: Path) -> None:
    """``help | head -1`` shows no traceback."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} {ROOT / 'optimizer.py'} help | head -1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_real_mnist(tmp_path: Path, mnist_file: Path) -> None:
    """Two trials on the real MNIST reach 97 % validation accuracy."""
    done = run(
        "trials=2",
        f"dataset={mnist_file}",
        "max_epochs_per_trial=2",
        "min_epochs_per_trial=1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sixty_trials_do_not_grow_the_parent(tmp_path: Path, digits_cache: Path) -> None:
    """Over sixty tiny trials, the importances, the final model and the report, the optimizer's own memory grows by less
    than 50 MB.
    """
    settings = ("trials=60", "run_name=r", f"cache_dir={digits_cache}", *TINY, *QUICK)
    told: list[str] = []
    sizes: list[int] = []  # from the end of the first trial to the very end
    with start(*settings, cwd=tmp_path, SEEDPOD_FINAL_MODEL="retrain", SEEDPOD_REPORT="png") as search:
        process = psutil.Process(search.pid)
        reader = threading.Thread(target=lambda: told.extend(search.stdout or ()))
        reader.start()
        while search.poll() is None:
            if any(line.lstrip().startswith("#") for line in told):
                with contextlib.suppress(psutil.Error):
                    sizes.append(process.memory_info().rss)
            time.sleep(0.05)
        reader.join()
    assert search.returncode == 0, "".join(told)
    folder = tmp_path / "results" / "r"
    assert len(records(folder)) == 60
    assert json.loads((folder / "summary.json").read_text("utf-8"))["importances"]
    assert (folder / "report.html").is_file()
    assert max(sizes) - sizes[0] < 50e6


def test_search_for_the_lowest_loss(tmp_path: Path, digits_cache: Path) -> None:
    """``optimize_for=val_loss`` ends with the trial of the lowest loss as the best, and says which way is better."""
    words = ("trials=3", "run_name=r", "optimize_for=val_loss", f"cache_dir={digits_cache}", *QUICK)
    done = run(*words, cwd=tmp_path, program=WITHOUT_KERAS)
    assert done.returncode == 0, done.stderr
    best = min(records(tmp_path / "results" / "r"), key=lambda r: r["value"])
    assert best["value"] == min(row["val_loss"] for row in best["history"])
    assert "Optimizes validation loss (lower is better)" in done.stdout
    assert f"Best: trial {best['number']}, validation loss {best['value']:.4f}" in done.stdout


def test_search_for_a_front_goes_on(tmp_path: Path, digits_cache: Path) -> None:
    """``optimize_for=val_accuracy,model_size`` ends with a front, on the screen and in files; going on gives the front
    of all its trials.
    """
    objectives = "optimize_for=val_accuracy,model_size"
    words = ("trials=2", "run_name=r", objectives, f"cache_dir={digits_cache}", *QUICK)
    first = run(*words, cwd=tmp_path, program=WITHOUT_KERAS)
    assert first.returncode == 0, first.stderr
    assert "Pareto front of validation accuracy and model size" in first.stdout
    folder = tmp_path / "results" / "r"
    again = run("resume=r", "trials=4", cwd=tmp_path, program=WITHOUT_KERAS)
    assert again.returncode == 0, again.stderr
    assert "Goes on with r: 2 of 4 trials are there" in again.stdout
    assert "for remote trials alone" not in again.stdout  # of settings that nobody has given this time
    values = {r["number"]: (r["values"]["val_accuracy"], -r["values"]["model_size"]) for r in records(folder)}
    assert len(values) == 4
    beaten = {n for n, one in values.items() for o in values.values() if o != one and o[0] >= one[0] and o[1] >= one[1]}
    front = yaml.safe_load((folder / "front.yaml").read_text("utf-8"))
    assert [each["trial"] for each in front] == sorted(set(values) - beaten)
    assert f"{len(front)} of 4 trials" in again.stdout
