"""The board: every trial counted once, newest facts kept, one best whatever the order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from seedpod.board import LAST, FinishedTrial, Snapshot, TrialBoard
from seedpod.errors import Cause
from seedpod.trial import Status, TrialFailure, TrialProgress, TrialResult


def progress(number: int, sequence: int, attempt: int = 1) -> TrialProgress:
    return replace(samples.PROGRESS, number=number, sequence=sequence, epoch=sequence, attempt=attempt)


def ended(number: int, status: Status) -> TrialResult:
    if status is Status.COMPLETE:
        return samples.complete(number, 0.5)
    return samples.failed(number) if status is Status.FAILED else TrialResult(number, status)


def counted(snapshot: Snapshot) -> int:
    return snapshot.queued + len(snapshot.running) + sum(snapshot.finished.values())


@pytest.mark.parametrize(
    ("mode", "schedule", "objective", "best", "epochs"),
    [
        ("retrain", "one_cycle", "val_accuracy", 7, 10),
        ("retrain", "cosine", "macro_f1", 9, 10),
        ("retrain", "one_cycle", "val_accuracy", 6, 6),
        ("retrain", "one_cycle", "val_loss", 9, 9),
        ("retrain", "constant", "val_accuracy", 9, 9),
        ("best", "one_cycle", "val_accuracy", 9, 9),
        ("retrain", "constant", "val_accuracy", 0, 10),
    ],
)
def test_epochs_of_a_final_model(mode: str, schedule: str, objective: str, best: int, epochs: int) -> None:
    """It has those that validation chose, and all where they were chosen by noise at the end of a falling schedule."""
    spec = samples.spec(max_epochs=10, objectives=(objective,), params={**samples.SPEC.params, "schedule": schedule})
    trial = FinishedTrial(spec, replace(samples.RESULT, best_epoch=best), 0.0, 1.0)
    assert trial.final_epochs(mode) == epochs


def test_trial_goes_from_queued_to_running_to_finished() -> None:
    """A trial is queued, then runs with its latest progress, then is finished with its times."""
    board = TrialBoard(2, started_at=10.0)
    assert (board.snapshot().queued, board.snapshot().running) == (2, ())
    board.start(samples.spec(0), now=11.0)
    assert board.report(progress(0, 1), 12.0)
    (running,) = board.snapshot().running
    assert (running.spec.number, running.started_at, running.progress) == (0, 11.0, progress(0, 1))
    finished = board.finish(samples.complete(0, 0.5), now=15.0)
    assert finished is not None
    assert (finished.started_at, finished.ended_at, finished.spec) == (11.0, 15.0, samples.spec(0))
    snapshot = board.snapshot()
    assert (snapshot.started_at, snapshot.total, snapshot.queued, snapshot.running) == (10.0, 2, 1, ())
    assert (snapshot.finished[Status.COMPLETE], snapshot.best, snapshot.last) == (1, finished, (finished,))


@pytest.mark.parametrize("status", [Status.PRUNED, Status.FAILED, Status.CANCELLED])
def test_whatever_does_not_complete_has_the_seconds_that_it_told(status: Status) -> None:
    """A trial that ends in an error has trained as long as its latest report says; 0 is for none."""
    board = TrialBoard(2, 0.0)
    for number in range(2):
        board.start(samples.spec(number), 0.0)
    board.report(replace(progress(0, 2), seconds=3.5), 4.0)
    told, silent = (board.finish(ended(number, status), 5.0) for number in range(2))
    assert told is not None
    assert silent is not None
    assert (told.result.seconds, silent.result.seconds) == (3.5, 0.0)


@pytest.mark.parametrize("status", Status)
def test_each_way_to_end_is_counted_as_itself(status: Status) -> None:
    """A trial that ends is counted under its status alone; only a complete one can be the best."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0), 0.0)
    board.finish(ended(0, status), 1.0)
    snapshot = board.snapshot()
    assert snapshot.finished == {each: int(each is status) for each in Status}
    assert (snapshot.best is not None) == (status is Status.COMPLETE)


@pytest.mark.parametrize(
    ("reports", "kept"),
    [
        ([(1, 1), (1, 2)], (1, 2)),
        ([(1, 2), (1, 1)], (1, 2)),
        ([(1, 2), (1, 2)], (1, 2)),
        ([(1, 3), (2, 1)], (2, 1)),
        ([(2, 1), (1, 3)], (2, 1)),
        ([(1, 1), (1, 4), (1, 3), (1, 2)], (1, 4)),
    ],
)
def test_only_newer_progress_is_taken(reports: Sequence[tuple[int, int]], kept: tuple[int, int]) -> None:
    """Late, duplicate and overtaken progress is ignored, also of an earlier attempt, and changes no version."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0), 0.0)
    newest = (0, 0)
    for attempt, sequence in reports:
        before = board.snapshot().version
        assert board.report(progress(0, sequence, attempt), 1.0) == ((attempt, sequence) > newest)
        assert (board.snapshot().version > before) == ((attempt, sequence) > newest)
        newest = max(newest, (attempt, sequence))
    (running,) = board.snapshot().running
    assert running.progress == progress(0, kept[1], kept[0])


def test_progress_of_a_trial_that_does_not_run_is_ignored() -> None:
    """Progress before a trial starts or after it has ended is dropped."""
    board = TrialBoard(1, 0.0)
    assert not board.report(progress(0, 1), 1.0)
    board.start(samples.spec(0), 0.0)
    board.finish(samples.complete(0, 0.5), 1.0)
    version = board.snapshot().version
    assert not board.report(progress(0, 2), 1.0)
    assert (board.snapshot().version, board.snapshot().running) == (version, ())


def test_second_end_counts_nothing() -> None:
    """A trial that ends twice, or ends without having started, counts once, or not at all."""
    board = TrialBoard(2, 0.0)
    board.start(samples.spec(0), 0.0)
    assert board.finish(samples.complete(0, 0.5), 1.0) is not None
    version = board.snapshot().version
    assert board.finish(samples.failed(0), 2.0) is None
    assert board.finish(samples.complete(1, 0.9), 2.0) is None
    snapshot = board.snapshot()
    assert (snapshot.version, sum(snapshot.finished.values()), board.failures()) == (version, 1, ())


def test_snapshot_is_frozen() -> None:
    """What happens after a snapshot does not change it."""
    board = TrialBoard(2, 0.0)
    board.start(samples.spec(0), 0.0)
    before = board.snapshot()
    copy = replace(before, finished=dict(before.finished))
    board.start(samples.spec(1), 0.0)
    board.finish(samples.complete(0, 0.5), 1.0)
    assert before == copy
    assert board.snapshot().version > before.version


def test_last_trials_are_bounded() -> None:
    """A snapshot shows the trials that ended last, oldest first, and does not grow with the search."""
    board = TrialBoard(50, 0.0)
    for number in range(50):
        board.start(samples.spec(number), 0.0)
        board.finish(samples.complete(number, 0.5), 1.0)
    assert [trial.spec.number for trial in board.snapshot().last] == list(range(50 - LAST, 50))


def test_failures_are_kept_with_their_numbers() -> None:
    """Every failure is remembered, however many trials end after it."""
    board = TrialBoard(30, 0.0)
    failure = TrialFailure(Cause.OUT_OF_MEMORY, "no room")
    for number in range(30):
        board.start(samples.spec(number), 0.0)
        board.finish(samples.failed(number, failure) if number < 3 else samples.complete(number, 0.5), 1.0)
    assert board.failures() == tuple((number, failure) for number in range(3))


def test_counts_always_add_up() -> None:
    """Under 16 threads every snapshot's counts add up to the total, and its version never falls."""
    board = TrialBoard(320, 0.0)

    def trials(thread: int) -> list[Snapshot]:
        seen = []
        for number in range(thread, 320, 16):
            board.start(samples.spec(number), 0.0)
            seen.append(board.snapshot())
            board.report(progress(number, 1), 1.0)
            board.finish(ended(number, list(Status)[number % len(Status)]), 1.0)
            seen.append(board.snapshot())
        return seen

    with ThreadPoolExecutor(16) as threads:
        for seen in threads.map(trials, range(16)):
            assert all(counted(snapshot) == 320 for snapshot in seen)
            versions = [snapshot.version for snapshot in seen]
            assert versions == sorted(versions)
    final = board.snapshot()
    assert (final.queued, final.running, sum(final.finished.values())) == (0, (), 320)
    assert final.version == 3 * 320


@given(st.data(), st.lists(st.none() | st.sampled_from([0.1, 0.5, 0.9]) | st.floats(0, 1), min_size=1, max_size=12))
def test_best_does_not_depend_on_the_order(data: st.DataObject, values: list[float | None]) -> None:
    """The best is the highest value, of equal ones the lowest number, whoever finishes first."""
    board = TrialBoard(len(values), 0.0)
    for number in range(len(values)):
        board.start(samples.spec(number), 0.0)
    for number in data.draw(st.permutations(range(len(values)))):
        value = values[number]
        board.finish(samples.failed(number) if value is None else samples.complete(number, value), 1.0)
    best = board.snapshot().best
    complete = [(-value, number) for number, value in enumerate(values) if value is not None]
    assert (best.spec.number if best else None) == (min(complete)[1] if complete else None)


def test_more_trials_than_planned_leave_nothing_negative() -> None:
    """A trial beyond the total leaves the queue at zero."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0), 0.0)
    board.start(samples.spec(1), 0.0)
    assert board.snapshot().queued == 0
