"""The progress callback: newest first, one at a time, never in the way."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import samples
from seedpod.board import Snapshot, TrialBoard
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator, ProgressCallback, ProgressFeed
from seedpod.trial import TrialProgress

THREADS, TRIALS, EPOCHS = 16, 20, 500  # 10 000 updates a thread


class Recorder:
    """A callback that notes what it got, and whether two calls overlapped."""

    def __init__(self, pause: float = 0.0) -> None:
        self.seen: list[AggregatedProgress] = []
        self.overlapped = False
        self._inside = False
        self._pause = pause

    def __call__(self, progress: AggregatedProgress) -> None:
        self.overlapped |= self._inside
        self._inside = True
        time.sleep(self._pause)
        self.seen.append(progress)
        self._inside = False


@contextmanager
def feeding(board: TrialBoard, callback: ProgressCallback, *, pause: float = 0.0) -> Iterator[ProgressFeed]:
    aggregator = ConcurrentProgressAggregator(THREADS)

    def look(skipped: int) -> AggregatedProgress:
        return aggregator.aggregate(board.snapshot(), 1e6, skipped=skipped)

    feed = ProgressFeed(callback, look, pause=pause)
    feed.start()
    try:
        yield feed
    finally:
        feed.close()


def started(trials: int = 1) -> TrialBoard:
    board = TrialBoard(trials, 0.0)
    board.start(samples.spec(0, max_epochs=10**6), 0.0)
    return board


def told(number: int, epoch: int) -> TrialProgress:
    return TrialProgress(number, epoch, epoch, EPOCHS, 0.5, {}, float(epoch))


def test_last_state_is_always_told() -> None:
    """However many updates come while the callback is busy, its last call is the last state."""
    board, recorder = started(), Recorder(pause=0.02)
    with feeding(board, recorder) as feed:
        for epoch in range(1, 1001):
            board.report(told(0, epoch), float(epoch))
            feed.mark()
    assert recorder.seen[-1].version == board.snapshot().version == 1001
    assert recorder.seen[-1].skipped == feed.skipped
    assert feed.skipped + len(recorder.seen) >= 1000
    assert len(recorder.seen) < 100


def test_slow_callback_delays_nobody() -> None:
    """While a callback does not return, updates go on; of a hundred it is told the newest."""
    board, released = started(), threading.Event()
    seen: list[int] = []

    def callback(progress: AggregatedProgress) -> None:
        seen.append(progress.version)
        assert released.wait(60)

    with feeding(board, callback) as feed:
        feed.mark()
        for epoch in range(1, 101):
            board.report(told(0, epoch), float(epoch))
            feed.mark()
        released.set()
    assert seen[-1] == board.snapshot().version
    assert len(seen) <= 3


def test_raising_callback_is_reported_once_and_called_on(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises each time is one line in the log, with its traceback, and still gets the rest."""
    calls: list[int] = []

    def broken(progress: AggregatedProgress) -> None:
        calls.append(progress.version)
        raise ZeroDivisionError

    board = started()
    with feeding(board, broken) as feed, caplog.at_level(logging.ERROR):
        for epoch in range(1, 6):
            board.report(told(0, epoch), float(epoch))
            feed.mark()
            time.sleep(0.02)
    assert len(calls) > 2
    assert calls[-1] == board.snapshot().version
    assert [record.getMessage() for record in caplog.records] == ["the progress callback raised; the search goes on"]


def test_time_alone_is_told_too() -> None:
    """Without any change the callback is called now and then: ages and the time left move."""
    recorder = Recorder()
    board = started()
    aggregator = ConcurrentProgressAggregator()
    feed = ProgressFeed(
        recorder, lambda skipped: aggregator.aggregate(board.snapshot(), 5.0, skipped=skipped), heartbeat=0.01, pause=0
    )
    feed.start()
    time.sleep(0.2)
    feed.close()
    assert len(recorder.seen) > 3
    assert feed.skipped == 0


def test_close_before_the_start_and_twice() -> None:
    """A feed that never began, or has been closed, closes without a word."""
    feed = ProgressFeed(Recorder(), lambda _: pytest.fail("looked"))
    feed.close()
    with feeding(started(), Recorder()) as open_feed:
        open_feed.close()


def check(snapshot: Snapshot, total: int, ended: set[int]) -> None:
    numbers = {trial.spec.number for trial in snapshot.running}
    assert snapshot.queued + len(numbers) + sum(snapshot.finished.values()) == total
    assert not numbers & ended
    assert not numbers & {trial.spec.number for trial in snapshot.last}


def test_sixteen_threads_of_updates() -> None:
    """Under 160 000 updates versions only grow, no trial runs after its end, counts add up, calls stay in order."""
    total = THREADS * TRIALS
    board, recorder = TrialBoard(total, 0.0), Recorder()

    def trials(thread: int) -> None:
        mine: set[int] = set()
        version = -1
        for number in range(thread, total, THREADS):
            board.start(samples.spec(number, max_epochs=EPOCHS), 0.0)
            for epoch in range(1, EPOCHS - 1):
                assert board.report(told(number, epoch), float(epoch))
                feed.mark()
                if epoch % 50 == 0:
                    snapshot = board.snapshot()
                    assert snapshot.version > version
                    version = snapshot.version
                    check(snapshot, total, mine)
            board.finish(samples.complete(number, 0.5), 1.0)
            mine.add(number)
            assert not board.report(told(number, EPOCHS), 1.0)
            feed.mark()

    with feeding(board, recorder, pause=0.01) as feed, ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(trials, thread) for thread in range(THREADS)]:
            done.result()
    versions = [progress.version for progress in recorder.seen]
    assert versions == sorted(versions)
    assert not recorder.overlapped
    assert {p.queued + p.running + p.ended for p in recorder.seen} == {total}
    last = recorder.seen[-1]
    assert (last.version, last.completed, last.queued, last.running) == (total * EPOCHS, total, 0, 0)
    assert threading.active_count() < THREADS
