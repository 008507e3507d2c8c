"""What it costs to follow a search: microseconds per progress update and per aggregate, by number of ended trials.

``python benchmarks/run.py progress``. The floor of an update is that of a bare dictionary behind the same lock. A cost
that grew with the number of trials would show in the other rows, which set it beside the same cost after 10 trials.
"""

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.live import Live
from rows import Found, Row

from seedpod.board import TrialBoard
from seedpod.dashboard.live import render
from seedpod.guarded import Guarded
from seedpod.progress import ConcurrentProgressAggregator, ProgressFeed
from seedpod.results.event_log import EventLog
from seedpod.trial import Status, TrialProgress, TrialResult, TrialSpec

RUNNING = 16
SIZES = (10, 1_000, 100_000)
REPEATS = 7
PARAMS = {"conv_blocks": 2, "kernel_size": 3, "filters_0": 16, "filters_1": 32}


def spec(number: int) -> TrialSpec:
    """A trial of the size that real ones have."""
    return TrialSpec(number, "digits", "f" * 16, PARAMS, number, 42, ("val_accuracy",), 10**9, 1, 0.2, 10**7, 0.0)


def told(number: int, epoch: int) -> TrialProgress:
    """A finished epoch."""
    return TrialProgress(number, epoch, epoch, 10**9, 0.9, {"loss": 0.1, "val_accuracy": 0.9}, epoch * 2.0)


def searched(ended: int) -> TrialBoard:
    """A board after so many trials, with 16 that run."""
    board = TrialBoard(2 * ended + RUNNING, 0.0)
    for number in range(ended):
        board.start(spec(number), float(number))
        seconds = 20.0 + number % 17
        board.finish(TrialResult(number, Status.COMPLETE, value=0.9, epochs=10, seconds=seconds), number + seconds)
    for number in range(ended, ended + RUNNING):
        board.start(spec(number), float(ended))
    return board


def micros(work: Callable[[int], object], times: int) -> float:
    """Median over repeats of the microseconds that one call takes; ``work`` gets an ever growing number."""
    found, count = [], 0
    for _ in range(REPEATS):
        before = time.perf_counter()
        for _ in range(times):
            count += 1
            work(count)
        found.append((time.perf_counter() - before) / times * 1e6)
    return statistics.median(found)


def measure(ended: int, folder: Path) -> list[float]:
    """One row of the table."""
    board, first = searched(ended), ended
    floor = Guarded({"epoch": 0})
    aggregator = ConcurrentProgressAggregator(RUNNING)
    log = EventLog(folder / "events.jsonl")
    feed = ProgressFeed(lambda _: None, lambda skipped: aggregator.aggregate(board.snapshot(), 0.0, skipped=skipped))

    def bare(epoch: int) -> None:
        with floor.locked() as state:
            state["epoch"] = epoch

    def update(epoch: int) -> None:
        board.report(told(first + epoch % RUNNING, epoch), ended + epoch * 2.0)
        feed.mark()

    return [
        micros(bare, 20_000),
        micros(update, 5_000),
        micros(lambda epoch: log.trial_progress(float(epoch), told(0, epoch)), 2_000),
        micros(lambda _: board.snapshot(), 2_000),
        micros(lambda epoch: aggregator.aggregate(board.snapshot(), ended + 70_000.0 + epoch), 100),
    ]


def picture() -> float:
    """Milliseconds for one picture of the live dashboard with 16 rows; 4 a second are drawn at most."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    progress = ConcurrentProgressAggregator(RUNNING).aggregate(searched(1_000).snapshot(), 2_000.0)
    with Live(console=console, auto_refresh=False) as live:
        return micros(lambda _: live.update(render(progress, 120, 40), refresh=True), 20) / 1000


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Each cost beside its floor, or beside itself after few trials; and a picture of the live dashboard."""
    with TemporaryDirectory(prefix="seedpod-progress-") as folder:
        found = {ended: measure(ended, Path(folder)) for ended in SIZES[: 2 if quick else 3]}
    few = found[SIZES[0]]
    for ended, (floor, update, *others) in found.items():
        what = f"a progress update, {ended:,} trials ended"
        yield Row(f"progress.update.{ended}", what, "µs", (update,), "a bare dictionary behind a lock", (floor,))
        for name, cost, before in zip(("event line", "snapshot", "aggregate"), others, few[2:], strict=True):
            if ended != SIZES[0]:
                what = f"following a search: {name}, {ended:,} trials ended"
                yield Row(f"progress.{name}.{ended}", what, "µs", (cost,), f"after {SIZES[0]} trials", (before,))
    yield Row("progress.picture", "a picture of the live dashboard", "ms", (picture(),), "time between two", (250.0,))
