"""events.jsonl: whole lines at any moment, as documented, over several runs."""

import json
import logging
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import samples
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.events import Plan, summarize
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.view import EndpointView, LateJob
from seedpod.remote.wire import EndpointHealth, JobCounts, WorkerCounts
from seedpod.results.event_log import EventLog, read_spent
from seedpod.training.datasets import DatasetInfo
from seedpod.trial import Status, TrialResult

DOCS = Path(__file__).parents[2] / "docs" / "events.md"
DATA = DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10)
VIEW = EndpointView(
    GateCounters.of({}, BreakerView(BreakerState.CLOSED, 0.0, None, 0)),
    EndpointHealth(JobCounts(in_queue=3), WorkerCounts(idle=1, running=2)),
    2,
    4,
)


LATE = LateJob(0, "u", 1, "j", "w1", "COMPLETED", 0.5, 9.5, 2.5)


def write_all(log: EventLog) -> None:
    plan = Plan(OptimizationConfig(trials=2), DATA, Path("results/r"), 2)
    board = TrialBoard(2, 1000.0)
    log.search_started(1000.0, plan, 0.5)
    log.trial_started(1001.0, samples.spec(0))
    log.trial_progress(1002.0, samples.PROGRESS)
    log.trial_finished(1003.0, FinishedTrial(samples.spec(0), samples.complete(0, 0.5), 1001.0, 1003.0))
    log.endpoint(1004.0, VIEW)
    log.endpoint(1004.0, replace(VIEW, health=None))
    log.trial_finished(1003.0, FinishedTrial(samples.spec(1), samples.failed(1), 1001.0, 1003.0))
    log.job_late(1004.5, LATE, 0.01)
    log.stopping(1005.0, "interrupted")
    log.search_ended(1006.0, summarize("r", "done", board.snapshot(), failures=(), importances={}, ended_at=1006.0))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_documented_keys_are_the_written_ones(tmp_path: Path) -> None:
    """docs/events.md describes each event's keys, those and no others."""
    write_all(EventLog(tmp_path / "e"))
    common, *sections = DOCS.read_text("utf-8").split("\n## ")
    described = {text.split("\n")[0]: set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) for text in sections}
    always = set(re.findall(r"^\| `(\w+)` \|", common, re.MULTILINE))
    assert always == {"event", "time"}
    written = lines(tmp_path / "e")
    assert {line["event"] for line in written} == set(described)
    for line in written:
        assert set(line) == described[line["event"]] | always


def test_times_are_readable(tmp_path: Path) -> None:
    """Times are ISO 8601 in UTC, in order."""
    write_all(EventLog(tmp_path / "e"))
    assert lines(tmp_path / "e")[0]["time"] == "1970-01-01T00:16:40.000+00:00"


def test_later_run_adds_after_whole_lines(tmp_path: Path) -> None:
    """A second run appends; half a line that a crash has left is cut off before."""
    path = tmp_path / "e"
    EventLog(path).stopping(1.0, "a")
    with path.open("a") as file:
        file.write('{"event": "trial_fin')
    EventLog(path).stopping(2.0, "b")
    assert [line["reason"] for line in lines(path)] == ["a", "b"]


def test_lines_that_end_are_whole_at_any_moment(tmp_path: Path) -> None:
    """While eight threads write, a line that has its newline is whole to whoever reads; in the end all are there."""
    path, over, bad = tmp_path / "e", [False], list[bytes]()
    log = EventLog(path)
    log.stopping(0.0, "first")

    def read() -> None:
        while not over[0]:
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    json.loads(line)
                except ValueError:
                    if line.endswith(b"\n"):
                        bad.append(line)

    def write(number: int) -> None:
        for _ in range(50):
            log.trial_started(1.0, samples.spec(number))

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(write, number) for number in range(8)]:
            done.result()
    over[0] = True
    reader.join()
    assert bad == []
    assert len(lines(path)) == 401


def test_log_that_cannot_be_written_is_no_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be written is said once, with its path, and nothing raises."""
    with caplog.at_level(logging.WARNING):
        log = EventLog(tmp_path / "missing" / "e")
        for _ in range(3):
            log.stopping(1.0, "a")
    (record,) = caplog.records
    assert str(tmp_path / "missing" / "e") in record.getMessage()


def test_cost_without_a_record_is_read_back(tmp_path: Path) -> None:
    """Cancelled trials and late jobs count: all others have records; a line that is none is passed over."""
    path = tmp_path / "e"
    assert read_spent(path) == 0.0
    log = EventLog(path)
    for status, cost in ((Status.CANCELLED, 0.25), (Status.FAILED, 4.0), (Status.CANCELLED, 0.5)):
        result = TrialResult(0, status, cost=cost)
        log.trial_finished(1.0, FinishedTrial(samples.spec(0), result, 0.0, 1.0))
    log.job_late(2.0, LATE, 0.125)
    with path.open("a") as file:
        file.write('{"cancelled"')
    assert read_spent(path) == 0.875


def test_tail_reads_it(tmp_path: Path) -> None:
    """The last line of a growing file is a whole JSON object for other programs."""
    write_all(EventLog(tmp_path / "e"))
    last = subprocess.run(["tail", "-n", "1", str(tmp_path / "e")], capture_output=True, check=True).stdout  # noqa: S607
    assert json.loads(last)["event"] == "search_ended"
