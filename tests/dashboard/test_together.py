"""A terminal and a page beside it, told as one."""

from pathlib import Path

import pytest

import samples
from seedpod.board import FinishedTrial, Snapshot, TrialBoard
from seedpod.dashboard.together import Together
from seedpod.events import Plan, Summary, summarize
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator
from web_rig import plan_of

SNAPSHOT = TrialBoard(3, 0.0).snapshot()
PLAN = plan_of(Path("r"))
SUMMARY = summarize("r", "done", SNAPSHOT, failures=[], importances={}, ended_at=1.0)
TRIAL = FinishedTrial(samples.SPEC, samples.RESULT, 0.0, 1.0)
PROGRESS = ConcurrentProgressAggregator().aggregate(SNAPSHOT, 1.0)


class View:
    """Notes what it is told, and raises where it is to."""

    def __init__(self, raising: str = "") -> None:
        self.told: list[str] = []
        self._raising = raising

    def preparing(self, what: str, done: int, total: int) -> None:
        assert (what, done, total) == ("reading", 1, 2)
        self._note("preparing")

    def began(self, plan: Plan) -> None:
        assert plan is PLAN
        self._note("began")

    def progressed(self, snapshot: Snapshot) -> None:
        assert snapshot is SNAPSHOT
        self._note("progressed")

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        assert (trial, snapshot) == (TRIAL, SNAPSHOT)
        self._note("finished")

    def ended(self, plan: Plan, summary: Summary) -> None:
        assert (plan, summary) == (PLAN, SUMMARY)
        self._note("ended")

    def updated(self, progress: AggregatedProgress) -> None:
        assert progress is PROGRESS
        self._note("updated")

    def close(self) -> None:
        self._note("close")

    def _note(self, what: str) -> None:
        self.told.append(what)
        if self._raising in {what, "all"}:
            raise ZeroDivisionError(what)


def test_each_view_is_told_everything() -> None:
    """Every call reaches every view, with what it was about."""
    views = [View(), View()]
    together = Together(*views)
    together.began(PLAN)
    together.updated(PROGRESS)
    together.progressed(SNAPSHOT)
    together.finished(TRIAL, SNAPSHOT)
    together.ended(PLAN, SUMMARY)
    together.close()
    for view in views:
        assert view.told == ["began", "updated", "progressed", "finished", "ended", "close"]


def test_a_view_that_raises_keeps_nobody() -> None:
    """The others are told all the same, and the first error is heard of."""
    views = [View("updated"), View("all"), View()]
    with pytest.raises(ZeroDivisionError, match="updated"):
        Together(*views).updated(PROGRESS)
    assert [view.told for view in views] == [["updated"]] * 3
