"""A whole search over fake backends: what is recorded, what goes on, what stops everything, what is never lost."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import samples
from fake_clock import FakeClock
from seedpod.board import FinishedTrial, Snapshot
from seedpod.config import OptimizationConfig
from seedpod.errors import (
    BackendError,
    Cause,
    ConfigError,
    SeedpodError,
    TrainingError,
    TrialCancelled,
    TrialError,
    TrialPruned,
)
from seedpod.events import Observer, Plan, Summary
from seedpod.optimizer import MakeBackend, ModelOptimizer
from seedpod.trial import Report, TrialProgress, TrialResult, TrialSpec
from thread_backend import ThreadBackend, Train, stand_in, wait_for_stop

Check = Callable[[], None]
Configure = Callable[..., OptimizationConfig]


@pytest.fixture(name="configure")
def configuration(digits_cache: Path, tmp_path: Path) -> Configure:
    def configure(**settings: Any) -> OptimizationConfig:
        return OptimizationConfig(
            **{
                "trials": 6,
                "sampler": "random",
                "pruner": "none",
                "min_epochs_per_trial": 1,
                "max_epochs_per_trial": 2,
                "run_name": "r",
                "results_dir": str(tmp_path / "results"),
                "cache_dir": str(digits_cache),
                **settings,
            }
        )

    return configure


def on(train: Train) -> MakeBackend:
    return lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers)  # noqa: ARG005 - the protocol names them


def failing(numbers: Sequence[int], error: Exception, rest: Train = stand_in) -> Train:
    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number in numbers:
            raise error
        return rest(spec, report, check)

    return train


def folder_of(config: OptimizationConfig) -> Path:
    return Path(config.results_dir) / config.run_name


def records(config: OptimizationConfig) -> dict[int, dict[str, Any]]:
    paths = sorted((folder_of(config) / "trials").iterdir())
    return {int(path.stem): json.loads(path.read_text("utf-8")) for path in paths}


def saved_summary(config: OptimizationConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder_of(config) / "summary.json").read_text("utf-8"))
    return found


def failed(cause: Cause) -> TrainingError:
    return TrainingError(f"it was {cause}", cause=cause, detail="frames")


@pytest.mark.parametrize("workers", [1, 3])
def test_every_trial_is_recorded(configure: Configure, workers: int) -> None:
    """A search leaves one record a trial, a summary and the best, which agree with each other."""
    config = configure(trials=8, local_workers=workers)  # eight are the least that say what mattered
    summary = ModelOptimizer(config, make_backend=on(stand_in)).run()
    found = records(config)
    assert list(found) == list(range(8))
    assert {record["status"] for record in found.values()} == {"complete"}
    best = max(found.values(), key=lambda record: (record["value"], -record["number"]))
    assert summary.best is not None
    assert summary.best.spec.number == best["number"]
    saved = saved_summary(config)
    assert (saved["outcome"], saved["total"], saved["trials"]["complete"]) == ("done", 8, 8)
    assert saved["best"]["trial"] == best["number"]
    written = yaml.safe_load((folder_of(config) / "best.yaml").read_text("utf-8"))
    assert (written["params"], written["val_accuracy"]) == (best["params"], best["value"])
    assert abs(sum(saved["importances"].values()) - 1) < 1e-9


def test_spec_follows_from_config_and_number(configure: Configure) -> None:
    """A trial's spec holds what the settings say, and seeds that follow from the base seed and its number."""
    specs: list[TrialSpec] = []

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        specs.append(spec)
        return stand_in(spec, report, check)

    config = configure(
        random_seed=7, validation_split=0.3, max_parameters=99, max_training_time_minutes=2, activation=("gelu",)
    )
    ModelOptimizer(config, make_backend=on(train)).run()
    assert [(spec.number, spec.seed, spec.split_seed) for spec in specs] == [(n, 7 + n, 7) for n in range(6)]
    for spec in specs:
        assert (spec.dataset, spec.objectives, spec.validation_split) == ("digits", ("val_accuracy",), 0.3)
        assert (spec.max_parameters, spec.max_seconds, spec.min_epochs) == (99, 120, 1)
        assert spec.max_epochs == spec.params["epochs"]
        assert spec.params["activation"] == "gelu"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (failed(Cause.DIVERGED), "diverged"),
        (failed(Cause.PROCESS_DIED), "process_died"),
        (BackendError("no answer"), "endpoint"),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_failing_trial_is_recorded_and_the_search_goes_on(
    configure: Configure, workers: int, error: TrialError, cause: str
) -> None:
    """A failed trial has cause, message and detail in its record and in the summary; all the others complete."""
    config = configure(local_workers=workers)
    summary = ModelOptimizer(config, make_backend=on(failing([2], error))).run()
    found = records(config)
    assert [number for number, record in found.items() if record["status"] == "failed"] == [2]
    assert found[2]["error"] == {"cause": cause, "message": error.message, "detail": error.detail}
    assert (found[2]["value"], found[2]["backend"]) == (None, "thread")
    assert [(group.cause, group.count, group.example) for group in summary.failures] == [(cause, 1, 2)]
    assert summary.trials == {"complete": 5, "pruned": 0, "failed": 1, "cancelled": 0}


def test_epochs_of_a_failed_trial_are_recorded(configure: Configure) -> None:
    """What a trial had shown before it failed stays in its record."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number != 1:
            return stand_in(spec, report, check)
        report(TrialProgress(1, 1, 1, 2, 0.25, {"val_accuracy": 0.25}, 0.1, (0.25,)))
        raise failed(Cause.DIVERGED)

    config = configure(trials=2, local_workers=1)
    ModelOptimizer(config, make_backend=on(train)).run()
    record = records(config)[1]
    assert (record["status"], record["epochs"], record["history"]) == ("failed", 1, [{"val_accuracy": 0.25}])


def test_where_a_failed_trial_ran_is_recorded(configure: Configure) -> None:
    """A failure's job, worker and attempt, and the backend that it names, are in its record."""
    error = failed(Cause.DIVERGED)
    error.backend, error.run = "elsewhere", {"job": "j1", "worker": "w1", "attempt": 3}
    config = configure(trials=3)
    ModelOptimizer(config, make_backend=on(failing([1], error))).run()
    record = records(config)[1]
    assert (record["backend"], record["attempts"], record["run"]) == ("elsewhere", 3, error.run)
    assert records(config)[2]["run"] == {}


def test_all_trials_fail(configure: Configure) -> None:
    """Where every trial fails, the search ends in order, without a best and without best.yaml."""
    config = configure()
    summary = ModelOptimizer(config, make_backend=on(failing(range(6), failed(Cause.TOO_LARGE)))).run()
    assert summary.best is None
    assert (summary.outcome, len(records(config))) == ("done", 6)
    assert saved_summary(config)["best"] is None
    assert not (folder_of(config) / "best.yaml").exists()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_bad_start_does_not_end_the_search(configure: Configure, sampler: str) -> None:
    """When the first eight trials run out of memory, the rest are tried and one of them is the best."""
    config = configure(trials=14, sampler=sampler, startup_trials=3)
    summary = ModelOptimizer(config, make_backend=on(failing(range(8), failed(Cause.OUT_OF_MEMORY)))).run()
    assert summary.best is not None
    assert summary.best.spec.number >= 8
    assert summary.trials["complete"] == 6


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), "0.98", 1.7, -0.1, None, True, 10**400],
    ids=lambda x: repr(x)[:9],
)
def test_bad_value_fails_its_trial_alone(configure: Configure, value: Any) -> None:
    """What is no number from 0 to 1 never becomes a value: its trial fails as bad_value and the search goes on."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        return (
            replace(stand_in(spec, report, check), value=value) if spec.number == 1 else stand_in(spec, report, check)
        )

    config = configure(trials=3)
    summary = ModelOptimizer(config, make_backend=on(train)).run()
    assert records(config)[1]["error"]["cause"] == "bad_value"
    assert (summary.trials["complete"], summary.trials["failed"]) == (2, 1)
    assert all(0 <= record["value"] <= 1 for number, record in records(config).items() if number != 1)


def test_answer_for_another_trial_fails_its_trial_alone(configure: Configure) -> None:
    """A backend that mixes up trials is believed for none of them."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        return replace(stand_in(spec, report, check), number=2 if spec.number == 1 else spec.number)

    config = configure(trials=3)
    ModelOptimizer(config, make_backend=on(train)).run()
    assert [record["status"] for record in records(config).values()] == ["complete", "failed", "complete"]
    assert records(config)[1]["error"]["cause"] == "contract"


def test_progress_of_another_trial_is_ignored(configure: Configure) -> None:
    """Progress of trials that do not run reaches no observer."""
    seen: list[int] = []

    class Watcher(Observer):
        def progressed(self, snapshot: Snapshot) -> None:
            seen.extend(trial.progress.number for trial in snapshot.running if trial.progress)

    def train(spec: TrialSpec, report: Report, _check: Check) -> TrialResult:
        report(TrialProgress(spec.number + 100, 1, 1, 2, 0.5, {}, 0.0))
        report(TrialProgress(spec.number, 1, 1, 2, 0.5, {}, 0.0))
        return samples.complete(spec.number, 0.5)

    ModelOptimizer(configure(trials=2), observer=Watcher(), make_backend=on(train)).run()
    assert set(seen) == {0, 1}


def has_a_bug(spec: TrialSpec) -> TrialResult:
    message = f"trial {spec.number}"
    raise ZeroDivisionError(message)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("trials", "where"), [(6, 0), (6, 5), (1, 0)], ids=["first", "last", "only"])
def test_bug_stops_everything_and_is_raised(configure: Configure, workers: int, trials: int, where: int) -> None:
    """A bug, even in the last trial, cancels the others, is saved as the outcome and comes out with its traceback."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == where:
            return has_a_bug(spec)
        return stand_in(spec, report, check) if where else wait_for_stop(spec, report, check)

    ended: list[Summary] = []

    class Watcher(Observer):
        def ended(self, _plan: Plan, summary: Summary) -> None:
            ended.append(summary)

    config = configure(trials=trials, local_workers=workers)
    with pytest.raises(ZeroDivisionError, match=f"trial {where}") as caught:
        ModelOptimizer(config, observer=Watcher(), make_backend=on(train)).run()
    assert "has_a_bug" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert saved_summary(config)["outcome"] == "bug"
    assert [summary.outcome for summary in ended] == ["bug"]
    done = [record["status"] for record in records(config).values()]
    assert len(done) <= trials
    assert set(done) <= ({"complete", "cancelled"} if where else {"cancelled"})


def test_bug_after_a_stop_is_not_lost(configure: Configure) -> None:
    """A bug that shows while the search is being stopped is raised all the same."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        optimizer.stop("interrupted")
        try:
            return wait_for_stop(spec, report, check)
        except TrialCancelled:
            return has_a_bug(spec)

    config = configure()
    optimizer = ModelOptimizer(config, make_backend=on(train))
    with pytest.raises(ZeroDivisionError):
        optimizer.run()
    assert saved_summary(config)["outcome"] == "bug"


def test_first_of_two_bugs_is_raised(configure: Configure) -> None:
    """Of several bugs the first one is what comes out."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 0:
            return has_a_bug(spec)
        try:
            return wait_for_stop(spec, report, check)
        except TrialCancelled:
            raise KeyError("a second one") from None

    with pytest.raises(ZeroDivisionError):
        ModelOptimizer(configure(local_workers=3), make_backend=on(train)).run()


@pytest.mark.parametrize("workers", [1, 3])
def test_observer_that_raises_does_not_matter(
    configure: Configure, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    """An observer that raises in every call is reported once for each kind of call, and the search is whole."""

    class Broken(Observer):
        def began(self, _plan: Plan) -> None:
            raise KeyError("began")

        def progressed(self, _snapshot: Snapshot) -> None:
            raise KeyError("progressed")

        def finished(self, _trial: FinishedTrial, _snapshot: Snapshot) -> None:
            raise TrialCancelled("finished")

        def ended(self, _plan: Plan, _summary: Summary) -> None:
            raise KeyError("ended")

    config = configure(local_workers=workers)
    summary = ModelOptimizer(config, observer=Broken(), make_backend=on(stand_in)).run()
    assert (summary.outcome, summary.trials["complete"], len(records(config))) == ("done", 6, 6)
    said = sorted(record.getMessage() for record in caplog.records)
    assert said == [
        f"the observer's {name} raised; the search goes on" for name in ("began", "ended", "finished", "progressed")
    ]


class Diary(Observer):
    """Writes down what happens, from any thread."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def began(self, plan: Plan) -> None:
        self.events.append(("began", plan))

    def progressed(self, snapshot: Snapshot) -> None:
        self.events.append(("progressed", snapshot))

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        self.events.append(("finished", (trial, snapshot)))

    def ended(self, _plan: Plan, summary: Summary) -> None:
        self.events.append(("ended", summary))


def test_observer_sees_the_search_go_by(configure: Configure) -> None:
    """The plan comes first, then each trial's start, epochs and end, then the summary, each once and in this order."""
    diary = Diary()
    config = configure(trials=2, min_epochs_per_trial=2)
    ModelOptimizer(config, observer=diary, make_backend=on(stand_in)).run()
    one_trial = ["progressed"] * 3 + ["finished"]
    assert [name for name, _ in diary.events] == ["began", *one_trial, *one_trial, "ended"]
    plan = diary.events[0][1]
    assert (plan.config, plan.folder, plan.workers, plan.data.id) == (config, folder_of(config), 1, "digits")
    epochs = [s.running[0].progress and s.running[0].progress.epoch for name, s in diary.events if name == "progressed"]
    assert epochs == [None, 1, 2] * 2


def test_observer_of_many_workers_sees_every_trial_once(configure: Configure) -> None:
    """With several workers every trial is seen to end exactly once, when its record is already written."""
    config = configure(trials=20, local_workers=4)
    missing: list[int] = []

    class Reader(Diary):
        def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
            super().finished(trial, snapshot)
            if not (folder_of(config) / "trials" / f"{trial.spec.number:04d}.json").exists():
                missing.append(trial.spec.number)

    diary = Reader()
    ModelOptimizer(config, observer=diary, make_backend=on(stand_in)).run()
    numbers = [facts[0].spec.number for name, facts in diary.events if name == "finished"]
    assert sorted(numbers) == list(range(20))
    assert missing == []
    assert (diary.events[0][0], diary.events[-1][0]) == ("began", "ended")


@pytest.mark.parametrize("workers", [1, 3])
def test_stop_ends_the_search_in_order(configure: Configure, workers: int) -> None:
    """A stop in the middle cancels what runs, starts nothing more, and leaves whole files and outcome interrupted."""
    begun: list[int] = []
    busy = threading.Semaphore(0)

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        begun.append(spec.number)
        if spec.number < 2:
            return stand_in(spec, report, check)
        busy.release()
        return wait_for_stop(spec, report, check)

    config = configure(trials=50, local_workers=workers)
    optimizer = ModelOptimizer(config, make_backend=on(train))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(optimizer.run)
        for _ in range(workers):
            assert busy.acquire(timeout=30)
        optimizer.stop("interrupted")
        optimizer.stop("something else")
        summary = running.result(30)
    assert (summary.outcome, optimizer.stopped) == ("interrupted", "interrupted")
    assert sorted(begun) == list(range(2 + workers))
    assert summary.trials == {"complete": 2, "pruned": 0, "failed": 0, "cancelled": workers}
    assert {number: record["status"] for number, record in records(config).items()} == {0: "complete", 1: "complete"}
    assert saved_summary(config)["outcome"] == "interrupted"


def test_stop_before_the_start(configure: Configure) -> None:
    """A search that is stopped before it starts runs no trial and says so."""
    config = configure()
    optimizer = ModelOptimizer(config, make_backend=on(stand_in))
    optimizer.stop("interrupted")
    summary = optimizer.run()
    assert (summary.outcome, summary.best, sum(summary.trials.values())) == ("interrupted", None, 0)
    assert records(config) == {}


def test_pruned_trial_is_recorded_as_such(configure: Configure) -> None:
    """A pruned trial is neither failed nor complete, and does not end the search."""
    config = configure()
    summary = ModelOptimizer(config, make_backend=on(failing([0, 3], TrialPruned("enough")))).run()
    assert summary.trials == {"complete": 4, "pruned": 2, "failed": 0, "cancelled": 0}
    assert records(config)[3]["status"] == "pruned"


def test_timeout_is_an_outcome(configure: Configure) -> None:
    """After timeout_hours no trial starts, and the summary says that this is why."""
    clock = FakeClock()

    def hourly(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        clock.sleep(3600)
        return stand_in(spec, report, check)

    config = configure(trials=100, timeout_hours=2.5)
    summary = ModelOptimizer(config, make_backend=on(hourly), clock=clock).run()
    assert summary.outcome == "timeout"
    assert len(records(config)) == summary.trials["complete"] == 3


def test_finished_run_is_not_run_again(configure: Configure) -> None:
    """A second run of one name, with nothing left to do, runs no trial and says what the first has found."""
    config = configure()
    first = ModelOptimizer(config, make_backend=on(stand_in)).run()
    before = {path: path.read_bytes() for path in (folder_of(config) / "trials").iterdir()}
    again = ModelOptimizer(config, make_backend=on(has_no_turn)).run()
    assert (again.outcome, again.trials) == ("done", first.trials)
    assert first.best is not None
    assert again.best is not None
    assert (again.best.spec, again.best.result) == (first.best.spec, first.best.result)
    assert {path: path.read_bytes() for path in (folder_of(config) / "trials").iterdir()} == before


def has_no_turn(spec: TrialSpec, _report: Report, _check: Check) -> TrialResult:
    pytest.fail(f"trial {spec.number} ran")


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.0

    def sleep(self, seconds: float) -> None:
        pytest.fail(f"slept {seconds} s")


def test_run_without_a_name_is_named_for_data_set_and_time(configure: Configure, tmp_path: Path) -> None:
    """Without a run_name the folder's name is the data set and the time in UTC."""
    ModelOptimizer(configure(run_name="", trials=1), make_backend=on(stand_in), clock=FixedClock()).run()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["digits-20231114-221320"]


def test_backend_is_closed_whatever_happens(configure: Configure) -> None:
    """The backend is closed after a good run, after a bug, and where the run never starts."""
    for train, name in [(stand_in, "a"), (failing([0], ZeroDivisionError()), "b"), (stand_in, "a")]:
        backend = ThreadBackend(train)
        optimizer = ModelOptimizer(configure(trials=1, run_name=name), make_backend=lambda made=backend, **_: made)
        with contextlib.suppress(ZeroDivisionError, ConfigError):
            optimizer.run()
        with pytest.raises(TrialCancelled):
            backend.run(samples.spec(), lambda _: None)


def without_times(found: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {number: {**record, "times": None} for number, record in found.items()}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_one_seed_one_search(configure: Configure, sampler: str) -> None:
    """Two runs of one seed, one trial at a time, write equal records and summaries but for their times."""
    first, second = (configure(run_name=name, sampler=sampler, trials=10, startup_trials=4) for name in ("a", "b"))
    for config in (first, second):
        ModelOptimizer(config, make_backend=on(failing([3], failed(Cause.DATA)))).run()
    assert without_times(records(first)) == without_times(records(second))
    keep = {"run": None, "times": None}
    assert {**saved_summary(first), **keep} == {**saved_summary(second), **keep}


def test_random_search_does_not_depend_on_the_workers(configure: Configure) -> None:
    """With the random sampler, equal trial numbers have equal parameters and values at 1 and 3 workers."""
    found = []
    for workers in (1, 3):
        config = configure(run_name=f"w{workers}", local_workers=workers, trials=12)
        ModelOptimizer(config, make_backend=on(stand_in)).run()
        found.append({number: (record["params"], record["value"]) for number, record in records(config).items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_record_that_cannot_be_written_ends_the_search(configure: Configure, workers: int) -> None:
    """A record that cannot be written is an error with its path, no bug; the summary is still saved."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 2:
            (folder_of(config) / "trials").rename(folder_of(config) / "moved")
        return stand_in(spec, report, check)

    config = configure(trials=30, local_workers=workers)
    with pytest.raises(SeedpodError, match=rf"cannot write {folder_of(config)}/trials/\d+\.json \(No such file"):
        ModelOptimizer(config, make_backend=on(train)).run()
    assert saved_summary(config)["outcome"] == "error"
    assert len(list((folder_of(config) / "moved").iterdir())) <= 2 + workers


def test_bug_is_raised_also_where_the_summary_cannot_be_written(configure: Configure) -> None:
    """A bug comes out even when saving what is known fails after it."""

    def train(spec: TrialSpec, _report: Report, _check: Check) -> TrialResult:
        (folder_of(config) / "summary.json").mkdir()
        return has_a_bug(spec)

    config = configure()
    with pytest.raises(ZeroDivisionError):
        ModelOptimizer(config, make_backend=on(train)).run()


def test_summary_that_cannot_be_written_is_an_error(configure: Configure) -> None:
    """A search whose summary cannot be written says so, with the path, after its records."""

    def train(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        (folder_of(config) / "summary.json").mkdir(exist_ok=True)
        return stand_in(spec, report, check)

    config = configure()
    with pytest.raises(SeedpodError, match=r"cannot write .*summary\.json"):
        ModelOptimizer(config, make_backend=on(train)).run()
    assert len(records(config)) == 6


@pytest.mark.parametrize("workers", [1, 3])
def test_full_disk_ends_the_search_with_whole_files(configure: Configure, workers: int) -> None:
    """When the disk fills up in the middle, the error names a file, and every file that is there is whole."""
    config = configure(trials=40, local_workers=workers)
    program = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from dataclasses import replace
        from seedpod.config import OptimizationConfig
        from seedpod.errors import SeedpodError
        from seedpod.optimizer import ModelOptimizer
        from thread_backend import ThreadBackend, stand_in

        def train(spec, report, check):
            row = {{"val_accuracy": 0.5}}
            return replace(stand_in(spec, report, check), history=(row,) * (3_000 if spec.number == 4 else 1))

        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            ModelOptimizer(OptimizationConfig(trials=40, sampler="random", run_name="r", local_workers={workers},
                           results_dir={config.results_dir!r}, cache_dir={config.cache_dir!r}),
                           make_backend=lambda workers, **_: ThreadBackend(train, workers)).run()
        except SeedpodError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )
    # A trial takes 6 kB of the journal, and the 3,000 values of trial 4 several times what it may hold here.
    assert f"cannot write {folder_of(config)}/study.journal (File too large)" in done.stdout
    assert 0 in records(config)
    assert 4 not in records(config)
    assert saved_summary(config)["outcome"] == "error"
