"""What a browser is told: all of it once, then what is new, and never more than it can show."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import samples
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.dashboard.web.state import CURVES, KEPT, PageState, Told
from seedpod.events import summarize
from seedpod.progress import ConcurrentProgressAggregator
from seedpod.trial import TrialResult
from web_rig import plan_of

MANY = 10_000


def ended(number: int, value: float = 0.5, result: TrialResult | None = None) -> FinishedTrial:
    result = result or samples.complete(number, value)
    return FinishedTrial(samples.spec(number), replace(result, number=number), float(number), number + 1.0)


class Running:
    """A state whose trials run on a board."""

    def __init__(self, trials: int = 100) -> None:
        self.board = TrialBoard(trials, 0.0)
        self.state = PageState(plan_of(Path("r"), trials))

    def epoch(self, number: int, epoch: int, value: float | None = 0.5, attempt: int = 1) -> None:
        if number not in {trial.spec.number for trial in self.board.snapshot().running}:
            self.board.start(samples.spec(number), 0.0)
        told = replace(samples.PROGRESS, number=number, sequence=epoch, epoch=epoch, value=value, attempt=attempt)
        self.board.report(told, 1.0)
        self.state.progressed(self.board.snapshot())

    def finish(self, number: int) -> None:
        finished = self.board.finish(samples.complete(number, 0.5), 2.0)
        assert finished is not None
        self.state.finished(finished)

    def update(self) -> None:
        self.state.updated(ConcurrentProgressAggregator().aggregate(self.board.snapshot(), 3.0))


def size(news: dict[str, Any]) -> int:
    return len(json.dumps(news, allow_nan=False, separators=(",", ":")))


def test_first_message_holds_all_and_the_next_nothing() -> None:
    """A browser that knows nothing is told everything; one that knows everything is told nothing."""
    state = PageState(plan_of(Path("results/r")), [ended(0, 0.5), ended(1, 0.7), ended(2, result=samples.failed(2))])
    news, told = state.news(Told())
    assert news["plan"]["run"] == "r"
    assert [row["number"] for row in news["ended"]] == [0, 1, 2]
    assert [row["order"] for row in news["ended"]] == [1, 2, 3]
    assert news["ended"][2]["cause"] == "diverged"
    assert news["best"] == [[1, 0.5, 0], [2, 0.7, 1]]
    assert news["best_curve"] == {"number": 1, "points": [[1, 0.5], [2, 0.75]]}
    assert state.news(told) == ({}, told)


def test_later_messages_hold_what_is_new() -> None:
    """Of ended trials, curves and the progress, each message has what came after the one before."""
    running = Running()
    _, told = running.state.news(Told())
    running.epoch(0, 1, 0.25)
    running.epoch(1, 1, 0.5)
    news, told = running.state.news(told)
    assert news == {
        "curves": [0, 1],
        "points": {"0": {"from": 0, "points": [[1, 0.25]]}, "1": {"from": 0, "points": [[1, 0.5]]}},
    }
    running.epoch(0, 2, None)
    news, told = running.state.news(told)
    assert news == {"points": {"0": {"from": 1, "points": [[2, None]]}}}
    running.finish(1)
    running.update()
    news, told = running.state.news(told)
    assert set(news) == {"now", "curves", "ended", "best", "best_curve"}
    assert news["curves"] == [0]
    assert [row["number"] for row in news["ended"]] == [1]
    assert running.state.news(told)[0] == {}


def test_curve_of_a_trial_that_starts_again() -> None:
    """A trial that was lost and runs again begins its curve anew; late news of the lost try changes nothing."""
    running = Running()
    for epoch in (1, 2, 3):
        running.epoch(0, epoch)
    _, told = running.state.news(Told())
    running.epoch(0, 1, 0.125, attempt=2)
    running.epoch(0, 4, 0.9, attempt=1)
    news, _ = running.state.news(told)
    assert news["points"] == {"0": {"from": 0, "points": [[1, 0.125]]}}


def test_late_news_of_an_ended_trial_leave_no_curve() -> None:
    """A trial's thread may tell of another one that has just ended: the next update takes its curve away again."""
    running = Running()
    running.epoch(0, 1)
    late = running.board.snapshot()
    running.finish(0)
    running.state.progressed(late)
    assert running.state.news(Told())[0]["curves"] == [0]
    running.epoch(1, 1)
    running.update()
    assert running.state.news(Told())[0]["curves"] == [1]


def test_update_older_than_a_curve_takes_no_curve_away() -> None:
    """A progress that was made before a trial started says nothing about its curve."""
    running = Running()
    before = ConcurrentProgressAggregator().aggregate(running.board.snapshot(), 3.0)
    running.epoch(0, 1)
    running.state.updated(before)
    assert running.state.news(Told())[0]["curves"] == [0]


def test_many_trials_are_bounded() -> None:
    """After 10 000 trials a new browser gets the latest ones and the whole curve of the best, in under a megabyte."""
    state = PageState(plan_of(Path("r"), MANY))
    for number in range(MANY):
        state.finished(ended(number, 1 - 1 / (number + 2)))  # each one better than all before
    news, told = state.news(Told())
    assert [row["number"] for row in news["ended"]] == list(range(MANY - KEPT, MANY))
    assert news["ended"][-1]["order"] == MANY
    assert len(news["best"]) <= 500
    assert news["best"][-1][2] == MANY - 1
    assert size(news) < 1_000_000
    state.finished(ended(MANY, 0.1))
    assert size(state.news(told)[0]) < 1000


def test_many_running_trials_are_bounded() -> None:
    """Of 512 running trials the first 100 are listed and the first 32 draw curves."""
    running = Running(1000)
    for number in range(512):
        running.epoch(number, 1)
    running.update()
    news, _ = running.state.news(Told())
    assert news["curves"] == list(range(CURVES))
    assert [row["number"] for row in news["now"]["rows"]] == list(range(100))
    assert news["now"]["running"] == 512
    assert size(news) < 50_000


def test_browser_that_was_away_long_gets_the_latest() -> None:
    """Who has missed more ended trials than are kept gets those that are kept."""
    state = PageState(plan_of(Path("r"), MANY))
    state.finished(ended(0))
    _, told = state.news(Told())
    for number in range(1, 3000):
        state.finished(ended(number))
    assert len(state.news(told)[0]["ended"]) == KEPT


def test_earlier_trials_come_in_the_order_of_their_ends() -> None:
    """Records are read by number; the page has them as they ended."""
    late, early = replace(ended(0), ended_at=50.0), ended(1)
    news, _ = PageState(plan_of(Path("r")), [late, early]).news(Told())
    assert [row["number"] for row in news["ended"]] == [1, 0]


def test_end_of_a_search() -> None:
    """The end is told once, with its outcome and the final importances, which no late computation replaces."""
    running = Running()
    running.epoch(0, 1)
    _, told = running.state.news(Told())
    summary = summarize("r", "max_cost", running.board.snapshot(), failures=[], importances={"a": 0.75}, ended_at=9.0)
    running.state.over(summary)
    running.state.weighed({"b": 1.0})
    news, told = running.state.news(told)
    assert news["over"] == {"outcome": "max_cost", "seconds": 9.0, "failures": []}
    assert news["importances"] == [["a", 0.75]]
    assert news["curves"] == []
    assert running.state.news(told)[0] == {}


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), None])
def test_what_is_not_finite_is_null(odd: float | None) -> None:
    """JSON has no NaN: a metric that is not finite is a gap in the curve."""
    result = replace(samples.complete(0, 0.5), history=({"val_accuracy": odd}, {"val_accuracy": 0.5}))
    news, _ = PageState(plan_of(Path("r")), [ended(0, result=result)]).news(Told())
    assert news["best_curve"]["points"] == [[1, None], [2, 0.5]]
    assert size(news)


@pytest.mark.parametrize("build", [lambda text: text, lambda text: text * 1000], ids=["short", "long"])
def test_message_of_a_failure_is_one_bounded_line(build: Callable[[str], str]) -> None:
    """A library's message comes as one line without control characters, however long it is."""
    failure = replace(samples.FAILURE, message=build("\x1b[2Jgone\r\nsecond\x07 "))
    row = PageState(plan_of(Path("r")), [ended(0, result=samples.failed(0, failure))]).news(Told())[0]["ended"][0]
    assert row["message"].startswith("[2Jgone second")
    assert row["message"].isprintable()
    assert len(row["message"]) <= 300


def test_lower_is_better_where_the_objective_says_so() -> None:
    """Of a search for a low loss the new bests go down, and the page ranks its trials by a merit that goes up."""
    losses = [
        FinishedTrial(samples.spec(number, objectives=("val_loss",)), samples.complete(number, value), 0.0, 1.0)
        for number, value in enumerate((0.5, 0.7, 0.25))
    ]
    news, _ = PageState(plan_of(Path("r")), losses).news(Told())
    assert news["best"] == [[1, 0.5, 0], [3, 0.25, 2]]
    assert max(news["ended"], key=lambda row: row["merit"])["number"] == 2
