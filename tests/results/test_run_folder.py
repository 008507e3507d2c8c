"""The folder of a run: made once, never overwritten, and what it holds can be read back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import samples
from seedpod.board import FinishedTrial
from seedpod.config import OptimizationConfig, load, to_yaml
from seedpod.errors import ConfigError, SeedpodError
from seedpod.events import Summary
from seedpod.results.records import best_record, summary_record, trial_record
from seedpod.results.run_folder import RunFolder
from seedpod.training.own.found import Found, LeftOut

FINISHED = FinishedTrial(samples.SPEC, samples.RESULT, 10.0, 20.0)


def summary(best: FinishedTrial | None) -> Summary:
    return Summary("r", "done", {"complete": 1}, 1, best, {"dropout": 1.0}, (), 10.0, 20.0)


@pytest.fixture(name="folder")
def new_folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "results", "r", to_yaml(OptimizationConfig()))


def contents(path: Path) -> dict[str, str]:
    return {str(each.relative_to(path)): each.read_text("utf-8") for each in path.rglob("*") if each.is_file()}


def test_new_folder_holds_the_config(folder: RunFolder, tmp_path: Path) -> None:
    """A new run's folder is made with all its parents and holds the settings, which load back as they were."""
    assert folder.path == tmp_path / "results" / "r"
    assert folder.journal == folder.path / "study.journal"
    assert load([f"config={folder.path / 'config.yaml'}"], {}).config == OptimizationConfig()


def test_files_are_the_records(folder: RunFolder) -> None:
    """Each file holds its record, in the form that its name says."""
    folder.write_trial(FINISHED)
    folder.write_summary(summary(FINISHED))
    found = contents(folder.path)
    assert set(found) == {"config.yaml", "trials/0003.json", "summary.json", "best.yaml"}
    assert json.loads(found["trials/0003.json"]) == trial_record(FINISHED)
    assert json.loads(found["summary.json"]) == summary_record(summary(FINISHED))
    assert yaml.safe_load(found["best.yaml"]) == best_record(FINISHED)


def test_no_best_without_a_complete_trial(folder: RunFolder) -> None:
    """Where no trial completed there is a summary and no best.yaml."""
    folder.write_summary(summary(None))
    assert set(contents(folder.path)) == {"config.yaml", "summary.json"}


def test_existing_run_is_refused_and_kept(folder: RunFolder, tmp_path: Path) -> None:
    """A second run of the same name is refused with a way out, and not one byte of the first changes."""
    folder.write_trial(FINISHED)
    before = contents(folder.path)
    with pytest.raises(ConfigError, match=r"run_name=r: .*results/r exists already\. Choose another run_name"):
        RunFolder.create(tmp_path / "results", "r", "trials: 1\n")
    assert contents(folder.path) == before


def test_file_in_the_place_of_the_run_is_refused(tmp_path: Path) -> None:
    """A file that has the run's name is not overwritten either."""
    (tmp_path / "r").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already"):
        RunFolder.create(tmp_path, "r", "")
    assert (tmp_path / "r").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("results_dir", ["a.txt", "a.txt/deeper"])
def test_file_in_the_place_of_results_dir_is_said(tmp_path: Path, results_dir: str) -> None:
    """Where results_dir is, or lies under, a file, the complaint is about results_dir and not about the run's name."""
    (tmp_path / "a.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^results_dir={tmp_path}/{results_dir}: cannot make "):
        RunFolder.create(tmp_path / results_dir, "r", "")


def test_place_that_cannot_be_written_is_said() -> None:
    """A folder that nobody can write in is refused with what to do."""
    with pytest.raises(ConfigError, match=r"results_dir=/proc/seedpod: cannot make .*Choose a folder that can be"):
        RunFolder.create(Path("/proc/seedpod"), "r", "")


def test_full_disk_names_the_file(folder: RunFolder) -> None:
    """A record that does not fit is an error that names the file and what to do; the old record stays whole."""
    folder.write_trial(FINISHED)
    before = contents(folder.path)
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(samples.__file__).parent)!r})
from dataclasses import replace
from pathlib import Path
import samples
from seedpod.board import FinishedTrial
from seedpod.errors import SeedpodError
from seedpod.results.run_folder import RunFolder
long = replace(samples.RESULT, history=({{"val_accuracy": 0.5}},) * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    RunFolder(Path({str(folder.path)!r})).write_trial(FinishedTrial(samples.SPEC, long, 10.0, 20.0))
except SeedpodError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot write {folder.path}/trials/0003.json (File too large)" in done.stdout
    assert "make room or mend the permissions" in done.stdout
    assert contents(folder.path) == before


def test_vanished_folder_is_named(folder: RunFolder) -> None:
    """When somebody removes the folder during the run, the error names the file that could not be written."""
    (folder.path / "trials").rmdir()
    with pytest.raises(SeedpodError, match=r"cannot write .*0003\.json \(No such file or directory\)"):
        folder.write_trial(FINISHED)


def test_unnamed_runs_never_collide(tmp_path: Path) -> None:
    """A name that seedpod made up itself is numbered where it is taken, and the older run stays as it was."""
    names = [RunFolder.create(tmp_path, "digits-1", "trials: 1\n", or_next=True).path.name for _ in range(3)]
    assert names == ["digits-1", "digits-1-2", "digits-1-3"]


def test_files_that_were_left_out_are_a_table(folder: RunFolder) -> None:
    """Paths and reasons with commas, quotes and any script are read back; a start without any removes it."""
    bad = (LeftOut('a, "b"/żółw.jpg', "it is empty"), LeftOut("c/d.png", "truncated, at 3"))
    folder.write_left_out(Found(9, bad, (LeftOut("e.png", "it is a copy of f.png"),)))
    assert folder.read_left_out() == [
        *((each.path, "unusable", each.reason) for each in bad),
        ("e.png", "copy", "it is a copy of f.png"),
    ]
    folder.write_left_out(Found(9))
    assert folder.read_left_out() == []
    assert not folder.bad_files.exists()
