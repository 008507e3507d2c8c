"""The study: what fails alone, what ends the search, what others can read."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from seedpod.errors import (
    BackendError,
    Cause,
    ConfigError,
    SeedpodError,
    TrainingError,
    TrialCancelled,
    TrialPruned,
)
from seedpod.search.study import (
    Ended,
    SearchStudy,
    Trial,
    about_to_end,
    agree,
    ended_trials,
    left_to_run,
    open_study,
    optimize,
    stop_waiting,
    take_up_open,
)
from seedpod.trial import Status
from studies import run, study_of, with_values


@pytest.fixture(name="study")
def new_study(tmp_path: Path) -> SearchStudy:
    return study_of(tmp_path / "study.journal")


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TrainingError("diverged", cause=Cause.DIVERGED), TrialState.FAIL),
        (BackendError("no answer"), TrialState.FAIL),
        (TrialPruned("enough"), TrialState.PRUNED),
    ],
)
def test_trial_that_fails_fails_alone(study: SearchStudy, error: Exception, state: TrialState, jobs: int) -> None:
    """A trial that fails is told FAIL, one that is pruned PRUNED, and the search runs all the others."""

    def objective(trial: Trial) -> float:
        if trial.number % 2:
            raise error
        return 0.5

    run(study, objective, jobs=jobs)
    states = {trial.number: trial.state for trial in study.trials}
    assert states == {n: state if n % 2 else TrialState.COMPLETE for n in range(8)}


class Known:
    """Something that a trial knows."""


@pytest.mark.parametrize("jobs", [1, 3])
def test_pruned_trials_leave_nothing_behind(study: SearchStudy, jobs: int) -> None:
    """What a pruned trial knew is gone when its thread begins the next one, though no garbage collector runs."""
    known, alive = list[weakref.ref[Known]](), list[int]()

    def objective(trial: Trial) -> float:  # noqa: ARG001
        mine = Known()
        alive.append(sum(each() is not None for each in known))
        known.append(weakref.ref(mine))
        raise TrialPruned("enough")

    gc.disable()
    try:
        run(study, objective, trials=20, jobs=jobs)
    finally:
        gc.enable()
    assert max(alive) < jobs


@pytest.mark.parametrize("jobs", [1, 3])
def test_cancelled_trial_stays_open(study: SearchStudy, jobs: int) -> None:
    """A cancelled trial ends the search and is told nothing, so that a later run can take it up."""

    def objective(trial: Trial) -> float:
        if trial.number == 4:
            raise TrialCancelled("enough")
        return 0.5

    with pytest.raises(TrialCancelled):
        run(study, objective, jobs=jobs)
    assert study.trials[4].state is TrialState.RUNNING
    assert len(study.trials) < 8 or jobs > 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_trial_with_a_bug_stays_open(study: SearchStudy, jobs: int) -> None:
    """A bug tells the study nothing: mended, the same trial runs again."""

    def objective(trial: Trial) -> float:
        if trial.number == 4:
            raise ZeroDivisionError
        return 0.5

    with pytest.raises(ZeroDivisionError):
        run(study, objective, jobs=jobs)
    assert study.trials[4].state is TrialState.RUNNING


def test_open_trials_are_taken_up_under_their_numbers(study: SearchStudy) -> None:
    """Trials left running are run again first, those whose end is known are told it, and N is all that there are."""
    for _ in range(4):
        study.ask()
    study.tell(1, 0.5)
    told = {2: Ended(Status.COMPLETE, (0.25,), {}), 3: Ended(Status.PRUNED, (), {}), 9: Ended(Status.FAILED, (), {})}
    take_up_open(study, told, lambda _: True)
    ran: list[int] = []

    def objective(trial: Trial) -> float:
        ran.append(trial.number)
        return 0.75

    assert left_to_run(study, 6) == 3
    run(study, objective, trials=3)
    assert ran == [0, 4, 5]
    assert {n: (str(end.status), end.values) for n, end in ended_trials(study).items()} == {
        0: ("complete", (0.75,)),
        1: ("complete", (0.5,)),
        2: ("complete", (0.25,)),
        3: ("pruned", ()),
        4: ("complete", (0.75,)),
        5: ("complete", (0.75,)),
    }
    assert left_to_run(study, 6) == left_to_run(study, 3) == 0


def test_what_was_agreed_is_held_to(study: SearchStudy) -> None:
    """A later run with another decisive setting or lag is refused by name; ``auto`` takes the lag that there is."""
    assert agree(study, {"random_seed": "1"}, 4, any_lag=True) == 4
    assert agree(study, {"random_seed": "1"}, 4, any_lag=False) == 4
    assert agree(study, {"random_seed": "1"}, 2, any_lag=True) == 4
    with pytest.raises(ConfigError, match=r"search_lag=2, begun with 4"):
        agree(study, {"random_seed": "1"}, 2, any_lag=False)
    with pytest.raises(ConfigError, match=r"random_seed=2, begun with 1"):
        agree(study, {"random_seed": "2"}, 4, any_lag=False)


def test_result_that_the_study_is_not_told_is_said(study: SearchStudy) -> None:
    """A journal that fails between a trial's end and its telling ends the search, even in the last trial."""

    class Unwritable(type(study._storage)):  # type: ignore[misc]
        def set_trial_state_values(self, *_: object) -> bool:
            raise SeedpodError("cannot write")

    def objective(trial: Trial) -> float:
        if trial.number == 1:
            study._storage.__class__ = Unwritable
        return 0.5

    with pytest.raises(SeedpodError):
        run(study, objective, trials=2, jobs=2)


@pytest.mark.parametrize("jobs", [1, 3])
def test_bug_ends_the_search(study: SearchStudy, jobs: int) -> None:
    """Any other exception comes out of the search, which runs no more trials."""

    def objective(trial: Trial) -> float:
        if trial.number == 1:
            raise ZeroDivisionError
        return 0.5

    with pytest.raises(ZeroDivisionError):
        run(study, objective, trials=100, jobs=jobs)
    assert len(study.trials) < 100


@pytest.mark.parametrize("jobs", [1, 4])
def test_stopping_ends_the_search(study: SearchStudy, jobs: int) -> None:
    """Once ``stopping`` says so no new trial starts, and those that run end."""
    stopping = threading.Event()
    ended_for: list[BaseException] = []

    def objective(trial: Trial) -> float:
        if trial.number == 5:
            stopping.set()
        return 0.5

    optimize(study, objective, trials=100, jobs=jobs, timeout=None, stopping=stopping.is_set, failed=ended_for.append)
    assert ended_for == []
    assert 6 <= len(study.trials) <= 6 + 2 * jobs
    assert all(trial.state.is_finished() for trial in study.trials)


def test_timeout_ends_the_search(study: SearchStudy) -> None:
    """After the timeout no trial starts."""
    errors: list[BaseException] = []
    optimize(study, lambda _: 0.5, trials=10**6, jobs=1, timeout=0.05, stopping=lambda: False, failed=errors.append)
    assert errors == []
    assert 1 <= len(study.trials) < 10**6


@pytest.mark.processes
@pytest.mark.parametrize("jobs", [1, 3])
def test_setting_the_clock_ends_no_search(jobs: int) -> None:
    """A machine's clock that is set forward by a year, or back, is no timeout, and counts towards none."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import jumping_time
from studies import study_of
from seedpod.search.study import optimize
def objective(trial):
    jumping_time.jump(365 * 86_400.0 * (-1) ** trial.number)
    return 0.5
study, errors = study_of(), []
optimize(study, objective, trials=8, jobs={jobs}, timeout=3600.0, stopping=lambda: False, failed=errors.append)
print(len(study.trials), errors)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "8 []\n", done.stderr


@pytest.mark.parametrize("jobs", [1, 4])
def test_exactly_so_many_trials(study: SearchStudy, jobs: int) -> None:
    """``trials`` is what runs, at any number of jobs, also when every trial is stopped."""

    def objective(_: Trial) -> float:
        raise TrialPruned("enough")

    run(study, objective, trials=10, jobs=jobs)
    assert [trial.number for trial in study.trials] == list(range(10))


@pytest.mark.parametrize("places", [1, 3])
def test_trial_about_to_end_gives_its_place_to_the_next(study: SearchStudy, places: int) -> None:
    """A trial in its last moments, and no other one, lets one more trial begin; the number of trials stays what it is.

    Each trial ends when the one after it has begun, so without its place given away the search would stand still.
    """
    begun = [threading.Event() for _ in range(13)]
    begun[12].set()
    under_way: set[int] = set()
    most: list[int] = []

    def objective(trial: Trial) -> float:
        begun[trial.number].set()
        under_way.add(trial.number)
        most.append(len(under_way))
        about_to_end(study, trial.number)
        about_to_end(study, trial.number)
        assert begun[trial.number + 1].wait(20)
        under_way.discard(trial.number)
        return 0.5

    optimize(
        study,
        objective,
        trials=12,
        jobs=places,
        ahead=places,
        timeout=None,
        stopping=lambda: False,
        failed=lambda error: pytest.fail(repr(error)),
    )
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    assert max(most) <= 2 * places


def test_nobody_waits_for_a_place_after_a_stop(study: SearchStudy) -> None:
    """Trials that wait for a place when the search is stopped never begin, though one that runs goes on."""
    stopping = threading.Event()
    numbers: list[int] = []

    def objective(trial: Trial) -> float:
        numbers.append(trial.number)
        stopping.set()
        stop_waiting(study)
        return 0.5

    optimize(
        study,
        objective,
        trials=50,
        jobs=1,
        ahead=3,
        timeout=None,
        stopping=stopping.is_set,
        failed=lambda error: pytest.fail(repr(error)),
    )
    assert numbers == [0]
    assert len(study.trials) == 1


def test_another_process_reads_the_journal(study: SearchStudy, tmp_path: Path) -> None:
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
import json, resource
from pathlib import Path
from seedpod.errors import SeedpodError
from seedpod.search.study import open_study, optimize
study = open_study("s", "", Path({str(tmp_path / "study.journal")!r}), "")
errors = []
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
optimize(study, lambda trial: trial.suggest_float("x", 0, 1), trials=100, jobs=3, timeout=None,
         stopping=lambda: bool(errors), failed=errors.append)
assert isinstance(errors[0], SeedpodError)
print(errors[0])
assert all(map(json.loads, open({str(tmp_path / "study.journal")!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"cannot write {tmp_path / 'study.journal'} (File too large)" in done.stdout
    assert "Make room" in done.stdout


def test_journal_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A journal that cannot be made is named, too."""
    with pytest.raises(SeedpodError, match=r"cannot write .*missing/study.journal"):
        open_study("s", "", tmp_path / "missing" / "study.journal", "")


def test_optuna_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Failed trials are told by us, with their cause; Optuna's own warnings stay silent."""
    study = study_of(tmp_path / "quiet.journal")
    with_values(study, [0.5, None, 0.7, None])
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
