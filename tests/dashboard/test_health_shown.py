"""How the health of networks is shown."""

from dataclasses import replace
from pathlib import Path

import pytest

import samples
from seedpod.board import TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.dashboard.wording import plan_lines, summary_lines, trial_line
from seedpod.events import Plan, summarize
from seedpod.health import COMPONENTS, HEALTHY, Health
from seedpod.training.datasets import DatasetInfo
from seedpod.trial import TrialResult

DATA = DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10)
ILL = Health(dict.fromkeys(COMPONENTS, 0.5), samples.HEALTH.layers)


def plan(**settings: object) -> Plan:
    return Plan(OptimizationConfig(**settings), DATA, Path("results/r"), 1)  # type: ignore[arg-type]


def board_of(weight: float, *results: TrialResult) -> TrialBoard:
    board = TrialBoard(9, 0.0, weight)
    for result in results:
        board.start(samples.spec(result.number), 0.0)
        board.finish(result, 1.0)
    return board


def text(weight: float, *results: TrialResult) -> str:
    summary = summarize("r", "done", board_of(weight, *results).snapshot(), failures=(), importances={}, ended_at=9.0)
    mode = "health" if weight else "simple"
    return "\n".join(line for _, line in summary_lines(plan(mode=mode, health_weight=weight), summary))


def test_health_is_beside_the_value() -> None:
    """The best trial is told with its health, and with both together where both are optimized; each trial with its."""
    one = replace(samples.complete(0, 0.5), health=samples.HEALTH)
    assert "Best: trial 0, validation accuracy 0.5000, health 0.9286 after 2 epochs" in text(0.0, one)
    assert "validation accuracy 0.5000, health 0.9286, together 0.7143 after" in text(0.5, one)
    (finished,) = board_of(0.0, one).snapshot().last
    assert "  0.5000  health 0.93  best so far" in trial_line(finished, board_of(0.0, one).snapshot())


def test_advice_is_at_the_end() -> None:
    """The best and the worst trial are told what is ill, at most three lines each; one alone is both and told once."""
    good = replace(samples.complete(0, 0.9), health=Health(dict.fromkeys(COMPONENTS, 1.0)))
    bad = replace(samples.complete(1, 0.1), health=ILL)
    lines = text(0.0, good, bad)
    assert f"Health of trial 0, the best: 1.00, {HEALTHY}" in lines
    assert (
        "Health of trial 1, whose validation accuracy was lowest: 0.50\n  32 of 64 units of conv_1 never fire" in lines
    )
    assert lines.count("\n  ") == len(samples.SPEC.params) + 3
    assert text(0.0, good).count("Health of trial") == 1


def test_without_health() -> None:
    """Where no health is known, none is told."""
    assert "ealth" not in text(0.0, samples.complete(0, 0.5))


@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_plan_says_what_is_optimized(weight: float) -> None:
    """The plan says what share the health has, and that prunings do not look at it."""
    lines = "\n".join(plan_lines(plan(mode="health", health_weight=weight), 2))
    assert f"{1 - weight:.0%} validation accuracy and {weight:.0%} health; prunings go by validation accuracy" in lines
    assert "health" not in "\n".join(plan_lines(plan(), 2))
