"""A run that goes on: nothing of it runs twice, nothing is lost, and it ends as if it had never been interrupted."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from seedpod.config import OptimizationConfig
from seedpod.errors import Cause, ConfigError, SeedpodError, TrainingError, TrialCancelled, TrialPruned
from seedpod.events import Summary
from seedpod.optimizer import ModelOptimizer
from seedpod.trial import Report, TrialResult, TrialSpec
from thread_backend import ThreadBackend, Train, stand_in, wait_for_stop

Check = Callable[[], None]
Configure = Callable[..., OptimizationConfig]


@pytest.fixture(name="configure")
def configuration(digits_cache: Path, tmp_path: Path) -> Configure:
    def configure(**settings: Any) -> OptimizationConfig:
        return OptimizationConfig(
            **{
                "trials": 8,
                "startup_trials": 2,
                "pruner": "none",
                "search_lag": 3,
                "local_workers": 2,
                "max_epochs_per_trial": 2,
                "run_name": "r",
                "results_dir": str(tmp_path / "results"),
                "cache_dir": str(digits_cache),
                **settings,
            }
        )

    return configure


def search(config: OptimizationConfig, train: Train = stand_in) -> Summary:
    optimizer = ModelOptimizer(
        config,
        make_backend=lambda *, workers, cache_dir, jobs: ThreadBackend(train, workers),  # noqa: ARG005
    )
    return optimizer.run()


def stopped_in(config: OptimizationConfig, number: int, train: Train = stand_in) -> Summary:
    """A search that is stopped while this trial runs."""

    def until(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == number:
            optimizer.stop("interrupted")
            return wait_for_stop(spec, report, check)
        return train(spec, report, check)

    optimizer = ModelOptimizer(
        config,
        make_backend=lambda *, workers, cache_dir, jobs: ThreadBackend(until, workers),  # noqa: ARG005
    )
    return optimizer.run()


def folder_of(config: OptimizationConfig) -> Path:
    return Path(config.results_dir) / config.run_name


def files(config: OptimizationConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder_of(config) / "trials").iterdir())}


def table(config: OptimizationConfig) -> str:
    rows = [json.loads(content) for content in files(config).values()]
    return json.dumps([(row["number"], row["params"], row["status"], row["value"]) for row in rows])


def never(spec: TrialSpec, _report: Report, _check: Check) -> TrialResult:
    pytest.fail(f"trial {spec.number} ran")


def third_fails(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
    if spec.number == 3:
        raise TrainingError("too large", cause=Cause.TOO_LARGE)
    return stand_in(spec, report, check)


def third_is_pruned(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
    if spec.number == 3:
        raise TrialPruned("enough")
    return stand_in(spec, report, check)


def test_trials_is_how_many_there_are_in_all(configure: Configure) -> None:
    """``trials=5`` twice is 5 trials, ``trials=10`` then 10 distinct ones, the first five unchanged byte for byte."""
    search(configure(trials=5))
    first = files(configure())
    assert len(first) == 5
    again = search(configure(trials=5), never)
    assert (again.outcome, again.trials["complete"]) == ("done", 5)
    assert files(configure()) == first
    search(configure(trials=10))
    ten = files(configure())
    assert {name: ten[name] for name in first} == first
    assert len({json.loads(content)["uid"] for content in ten.values()}) == len(ten) == 10
    search(configure(trials=10, run_name="straight"))
    assert table(configure()) == table(configure(run_name="straight"))


def test_fewer_trials_than_there_are_are_refused(configure: Configure) -> None:
    """They are named with how many there are, and nothing of the run changes."""
    search(configure(trials=5))
    before = {path: path.read_bytes() for path in folder_of(configure()).rglob("*.json")}
    before[folder_of(configure()) / "config.yaml"] = (folder_of(configure()) / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="trials=3: run r has 5 trials already; give more"):
        search(configure(trials=3), never)
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_to_do_keeps_the_times(configure: Configure) -> None:
    """Started again with all its trials, a run keeps the times of its summary, and says what was there."""
    first = search(configure(trials=5))
    again = search(configure(trials=5), never)
    assert again.started_at == pytest.approx(first.started_at, abs=1e-3)
    assert again.ended_at == pytest.approx(first.ended_at, abs=1e-3)


@pytest.mark.parametrize("train", [stand_in, third_fails, third_is_pruned])
@pytest.mark.parametrize("workers", [1, 3])
def test_interrupted_run_ends_as_an_uninterrupted_one(configure: Configure, workers: int, train: Train) -> None:
    """Stopped in several trials and gone on with other workers, a run has the trials of one that never stopped."""
    search(configure(run_name="straight"), train)
    for number in (0, 4, 7):
        summary = stopped_in(configure(local_workers=workers), number, train)
        assert summary.outcome == "interrupted"
    done = search(configure(local_workers=2), train)
    assert (done.outcome, sum(done.trials.values()), done.trials["cancelled"]) == ("done", 8, 0)
    assert table(configure()) == table(configure(run_name="straight"))


def test_recorded_trial_that_the_study_was_not_told_is_not_run_again(configure: Configure) -> None:
    """A kill between a trial's record and the study's being told costs nothing: the record is told."""
    search(configure())
    before = files(configure())
    journal = folder_of(configure()) / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 6 and b'"values":[' in line]
    journal.write_bytes(b"".join(line for i, line in enumerate(lines) if i not in ends[-3:]))
    summary = search(configure(), never)
    assert (summary.outcome, summary.trials["complete"]) == ("done", 8)
    assert files(configure()) == before


def test_lost_record_is_written_again(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    """A trial that the study knows and whose record is gone gets one of what is known, with a word."""
    search(configure(), third_fails)
    before = table(configure())
    for number in (2, 3):
        (folder_of(configure()) / "trials" / f"000{number}.json").unlink()
    (folder_of(configure()) / "trials" / "0004.json").write_text("{", encoding="utf-8")
    summary = search(configure(), never)
    assert summary.trials == {"complete": 7, "pruned": 0, "failed": 1, "cancelled": 0}
    assert table(configure()) == before
    assert "trial 2 has lost its record" in caplog.text
    assert "0004.json cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"random_seed": 1}, "random_seed=1: run r was begun with random_seed=42"),
        ({"search_lag": 4}, "search_lag=4"),
        ({"max_epochs_per_trial": 3}, "max_epochs_per_trial=3"),
        ({"sampler": "random"}, "sampler=random"),
        ({"activation": ("relu",)}, "activation=relu"),
        ({"reproducible": False}, "reproducible="),
    ],
)
def test_setting_that_would_change_the_study_is_refused(
    configure: Configure, change: dict[str, Any], said: str
) -> None:
    """A run does not go on with a setting that decides its trials, which is named; nothing of it changes."""
    search(configure())
    before = {path: path.read_bytes() for path in folder_of(configure()).rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=said):
        search(configure(**change), never)
    before.pop(folder_of(configure()) / ".lock")
    now = {path: path.read_bytes() for path in folder_of(configure()).rglob("*") if path.is_file()}
    now.pop(folder_of(configure()) / ".lock")
    assert now == before


def test_run_of_an_older_pruner_is_refused(configure: Configure) -> None:
    """A run whose trials were judged by an older rule of ``asha`` does not go on by this one."""
    search(configure(pruner="asha"))
    journal = folder_of(configure()) / "study.journal"
    journal.write_bytes(journal.read_bytes().replace(b"asha from 1/5 of the epochs on", b"asha"))
    with pytest.raises(ConfigError, match="pruner=asha from 1/5 of the epochs on, begun with asha"):
        search(configure(pruner="asha"), never)


def test_harmless_settings_are_taken(configure: Configure) -> None:
    """Workers, retries and limits may change, and are what the saved configuration says afterwards."""
    stopped_in(configure(), 4)
    search(configure(local_workers=3, trial_retries=5, timeout_hours=1.0, max_failures=8))
    assert "local_workers: 3" in (folder_of(configure()) / "config.yaml").read_text("utf-8")
    assert len(files(configure())) == 8


def test_automatic_lag_stays_what_it_was(configure: Configure) -> None:
    """With ``search_lag=auto`` a run that goes on with other workers keeps the lag that it was begun with."""
    search(configure(run_name="straight", search_lag=3))
    stopped_in(configure(search_lag="auto", local_workers=3), 5)
    search(configure(search_lag="auto", local_workers=1))
    assert table(configure()) == table(configure(run_name="straight"))


def test_other_images_under_the_same_name_are_refused(configure: Configure) -> None:
    """A data set that is no longer the one that recorded trials saw ends the resume, by name."""
    search(configure())
    path = folder_of(configure()) / "trials" / "0001.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, "fingerprint": "0" * 16}), encoding="utf-8")
    with pytest.raises(ConfigError, match="dataset=digits: its images are not those that trial 1 of run r"):
        search(configure(), never)


def test_second_search_on_a_folder_is_refused(configure: Configure) -> None:
    """While one search is on a folder another one is refused with its process and host, and harms nothing."""
    running, free = threading.Event(), threading.Event()

    def waits(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        running.set()
        assert free.wait(30)
        return stand_in(spec, report, check)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(search, configure(), waits)
        assert running.wait(30)
        with pytest.raises(ConfigError, match=rf"another search is on .*: process {os.getpid()} on \S+\. "):
            search(configure(), never)
        free.set()
        assert first.result(60).trials["complete"] == 8
    assert not (folder_of(configure()) / ".owner.json").exists()


def hold(path: str, ready: Any) -> None:
    from seedpod.results.run_folder import RunFolder

    folder = RunFolder(Path(path))
    folder.lock()
    ready.set()
    time.sleep(60)


def test_lock_ends_with_its_process(configure: Configure) -> None:
    """A folder whose search was killed is free at once, whatever it has left there."""
    stopped_in(configure(), 3)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(str(folder_of(configure())), ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(ConfigError, match=f"process {holder.pid} on"):
        search(configure(), never)
    holder.kill()
    holder.join()
    (folder_of(configure()) / "trials" / ".0003.json.abc").write_text("{", encoding="utf-8")
    assert search(configure()).outcome == "done"
    assert len(files(configure())) == 8


def test_killed_before_it_had_a_configuration(configure: Configure) -> None:
    """A folder that a kill has left without configuration is taken for a new run; one with anything else is not."""
    (folder_of(configure()) / "trials").mkdir(parents=True)
    assert search(configure()).outcome == "done"
    (Path(configure().results_dir) / "mine").mkdir()
    (Path(configure().results_dir) / "mine" / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already"):
        search(configure(run_name="mine"), never)


def test_journal_is_healed(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    """Half a last line and a leftover lock, which kills leave, are undone with a word each."""
    stopped_in(configure(), 4)
    journal = folder_of(configure()) / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"trial')
    journal.with_name("study.journal.lock").symlink_to(journal)
    assert search(configure()).outcome == "done"
    search(configure(run_name="straight"))
    assert table(configure()) == table(configure(run_name="straight"))
    assert "cut off 19 bytes" in caplog.text
    assert "removed study.journal.lock" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:5], b"garbage\n", *lines[6:]],
        lambda lines: [*lines[:5], lines[5][:9] + lines[6], *lines[7:]],
        lambda lines: [b"\0" * 100 + b"\n", *lines],
        lambda lines: lines[1:],
    ],
)
def test_damaged_journal_is_refused(configure: Configure, damage: Callable[[list[bytes]], list[bytes]]) -> None:
    """A journal that is damaged before its end is named and left as it is, and no trial runs."""
    stopped_in(configure(), 4)
    journal = folder_of(configure()) / "study.journal"
    damaged = b"".join(damage(journal.read_bytes().splitlines(keepends=True)))
    journal.write_bytes(damaged)
    with pytest.raises(SeedpodError, match=r"study\.journal is damaged .*nothing was changed"):
        search(configure(), never)
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("workers", [1, 3])
def test_bug_leaves_its_trial_to_the_next_run(configure: Configure, workers: int) -> None:
    """A bug ends a run and costs no trial: mended, the run goes on to what it would have been."""

    def has_a_bug(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 4:
            raise ZeroDivisionError
        return stand_in(spec, report, check)

    with pytest.raises(ZeroDivisionError):
        search(configure(local_workers=workers), has_a_bug)
    search(configure())
    search(configure(run_name="straight"))
    assert table(configure()) == table(configure(run_name="straight"))


def test_cancelled_by_nobody_is_no_deadlock(configure: Configure) -> None:
    """A backend that cancels a trial which nobody stopped ends the search, though others wait for that trial."""

    def gives_up(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 0:
            time.sleep(0.2)
            raise TrialCancelled("by nobody")
        return stand_in(spec, report, check)

    with pytest.raises(TrialCancelled):
        search(configure(search_lag=2, local_workers=2), gives_up)


def test_stop_ends_those_who_wait(configure: Configure) -> None:
    """A stop while other trials wait for the one that runs ends the search."""
    running = threading.Event()

    def waits(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        if spec.number == 0:
            running.set()
            return wait_for_stop(spec, report, check)
        return stand_in(spec, report, check)

    optimizer = ModelOptimizer(
        configure(),
        make_backend=lambda *, workers, cache_dir, jobs: ThreadBackend(waits, workers),  # noqa: ARG005
    )
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(optimizer.run)
        assert running.wait(30)
        time.sleep(0.5)  # trial 3 waits for trial 0 by then
        optimizer.stop("interrupted")
        assert run.result(10).outcome == "interrupted"


def test_too_many_failures_end_the_search(configure: Configure) -> None:
    """``max_failures`` stops in order and says why; a start after that runs nothing until it is raised."""

    def fails(spec: TrialSpec, _report: Report, _check: Check) -> TrialResult:
        raise TrainingError(f"trial {spec.number}", cause=Cause.DIVERGED)

    summary = search(configure(max_failures=2, local_workers=1), fails)
    assert (summary.outcome, summary.trials["failed"]) == ("2 failed trials (max_failures)", 2)
    assert search(configure(max_failures=2), never).trials["failed"] == 2
    assert search(configure(max_failures=0)).trials == {"complete": 6, "pruned": 0, "failed": 2, "cancelled": 0}


def test_time_limit_also_holds_for_those_who_wait(configure: Configure) -> None:
    """A trial that waits for others until the time is over does not start, and is there for the next run."""
    began: list[int] = []

    def slow(spec: TrialSpec, report: Report, check: Check) -> TrialResult:
        began.append(spec.number)
        time.sleep(1.5 if spec.number == 0 else 0)
        return stand_in(spec, report, check)

    summary = search(configure(timeout_hours=1 / 3600), slow)
    assert summary.outcome == "timeout"
    assert sorted(began) == [0, 1, 2]
    assert search(configure()).outcome == "done"
    search(configure(run_name="straight"))
    assert table(configure()) == table(configure(run_name="straight"))
