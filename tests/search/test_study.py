"""The study: what fails alone, what ends the search, what others can read, what mattered."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from seedpod.errors import BackendError, Cause, SeedpodError, TrainingError, TrialCancelled, TrialPruned
from seedpod.search.sampler import make_sampler
from seedpod.search.study import Study, Trial, create_study, importances, optimize


@pytest.fixture(name="study")
def new_study(tmp_path: Path) -> Study:
    return create_study("s", tmp_path / "study.journal", make_sampler("random", 1, 1))


def run(study: Study, objective: Callable[[Trial], float], trials: int = 8, jobs: int = 1) -> None:
    optimize(study, objective, trials=trials, jobs=jobs, timeout=None, stopping=lambda: False)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize(
    "error",
    [
        TrainingError("diverged", cause=Cause.DIVERGED),
        BackendError("no answer"),
        TrialCancelled("enough"),
        TrialPruned("enough"),
    ],
)
def test_trial_that_fails_fails_alone(study: Study, error: Exception, jobs: int) -> None:
    """A trial that fails or is stopped is told FAIL, and the search runs all the others."""

    def objective(trial: Trial) -> float:
        if trial.number % 2:
            raise error
        return 0.5

    run(study, objective, jobs=jobs)
    states = {trial.number: trial.state for trial in study.trials}
    assert states == {n: TrialState.FAIL if n % 2 else TrialState.COMPLETE for n in range(8)}


@pytest.mark.parametrize("jobs", [1, 3])
def test_bug_ends_the_search(study: Study, jobs: int) -> None:
    """Any other exception comes out of the search, which runs no more trials."""

    def objective(trial: Trial) -> float:
        if trial.number == 1:
            raise ZeroDivisionError
        return 0.5

    with pytest.raises(ZeroDivisionError):
        run(study, objective, trials=100, jobs=jobs)
    assert len(study.trials) < 100


@pytest.mark.parametrize("jobs", [1, 4])
def test_stopping_ends_the_search(study: Study, jobs: int) -> None:
    """Once ``stopping`` says so no new trial starts, and those that run end."""
    stopping = threading.Event()

    def objective(trial: Trial) -> float:
        if trial.number == 5:
            stopping.set()
        return 0.5

    optimize(study, objective, trials=100, jobs=jobs, timeout=None, stopping=stopping.is_set)
    assert 6 <= len(study.trials) <= 6 + 2 * jobs
    assert all(trial.state.is_finished() for trial in study.trials)


def test_timeout_ends_the_search(study: Study) -> None:
    """After the timeout no trial starts."""
    optimize(study, lambda _: 0.5, trials=10**6, jobs=1, timeout=0.05, stopping=lambda: False)
    assert 1 <= len(study.trials) < 10**6


@pytest.mark.parametrize("jobs", [1, 4])
def test_exactly_so_many_trials(study: Study, jobs: int) -> None:
    """``trials`` is what runs, at any number of jobs, also when every trial is stopped."""

    def objective(_: Trial) -> float:
        raise TrialPruned("enough")

    run(study, objective, trials=10, jobs=jobs)
    assert [trial.number for trial in study.trials] == list(range(10))


def test_another_process_reads_the_journal(study: Study, tmp_path: Path) -> None:
    """A second process opens the running study's journal with plain Optuna and sees values and parameters."""
    run(study, lambda trial: trial.suggest_float("x", 0, 1))
    program = f"""
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
storage = JournalStorage(JournalFileBackend({str(tmp_path / "study.journal")!r}))
study = optuna.load_study(study_name="s", storage=storage)
assert all(trial.value == trial.params["x"] for trial in study.trials)
print(len(study.trials), study.best_value, study.direction.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", str(study.best_value), "MAXIMIZE"]


def test_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A full disk under the journal is an error that names the file and what to do, not a bug."""
    program = f"""
import resource
from pathlib import Path
from seedpod.errors import SeedpodError
from seedpod.search.sampler import make_sampler
from seedpod.search.study import create_study, optimize
study = create_study("s", Path({str(tmp_path / "study.journal")!r}), make_sampler("random", 1, 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    optimize(study, lambda trial: trial.suggest_float("x", 0, 1), trials=100, jobs=1, timeout=None,
             stopping=lambda: False)
except SeedpodError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot write {tmp_path / 'study.journal'} (File too large)" in done.stdout
    assert "Make room" in done.stdout


def test_journal_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A journal that cannot be made is named, too."""
    with pytest.raises(SeedpodError, match=r"cannot write .*missing/study.journal"):
        create_study("s", tmp_path / "missing" / "study.journal", make_sampler("random", 1, 1))


def with_values(study: Study, values: list[float | None]) -> Study:
    def objective(trial: Trial) -> float:
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("y", ["a", "b"])
        value = values[trial.number]
        if value is None:
            raise TrainingError("diverged", cause=Cause.DIVERGED)
        return value

    run(study, objective, trials=len(values))
    return study


@pytest.mark.parametrize("values", [[], [0.5], [0.5, None, None], [None], [0.5] * 6, [0.0, 0.0, None]])
def test_importances_need_values_that_differ(study: Study, values: list[float | None]) -> None:
    """With fewer than two complete trials, or one value for all, nothing is said to matter."""
    assert importances(with_values(study, values)) == {}


@pytest.mark.parametrize("values", [[0.1, 0.9], [0.1, None, 0.9, 0.5], [n / 20 for n in range(20)]])
def test_importances_are_shares_of_one(study: Study, values: list[float | None]) -> None:
    """Importances are finite shares that sum to 1, the largest first, and the same whenever they are asked."""
    found = importances(with_values(study, values))
    assert set(found) == {"x", "y"}
    assert math.isclose(sum(found.values()), 1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert importances(study) == found


def test_importances_find_what_matters(study: Study) -> None:
    """The one parameter that decides the value comes first, a conditional one that does not comes after it."""

    def objective(trial: Trial) -> float:
        value = trial.suggest_float("decides", 0, 1)
        for layer in range(trial.suggest_int("layers", 1, 3)):
            trial.suggest_int(f"filters_{layer}", 8, 64, step=8)
        return value

    run(study, objective, trials=30)
    assert next(iter(importances(study))) == "decides"


def test_optuna_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Failed trials are told by us, with their cause; Optuna's own warnings stay silent."""
    study = create_study("quiet", tmp_path / "quiet.journal", make_sampler("tpe", 1, 2))
    with_values(study, [0.5, None, 0.7, None])
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
