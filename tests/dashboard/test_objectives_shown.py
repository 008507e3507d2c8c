"""How other objectives than the accuracy, and several of them, are shown."""

from dataclasses import replace
from pathlib import Path

import pytest

import samples
from seedpod.board import TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.dashboard.wording import MOST_OF_FRONT, plan_lines, standing_line, summary_lines, trial_line
from seedpod.events import Plan, summarize
from seedpod.progress import ConcurrentProgressAggregator
from seedpod.training.datasets import DatasetInfo
from seedpod.trial import Status, TrialResult

DATA = DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10)
PLAN = Plan(OptimizationConfig(trials=9), DATA, Path("results/r"), 1)
BOTH = ("val_accuracy", "model_size")


def board_of(objectives: tuple[str, ...], *values: tuple[float, ...]) -> TrialBoard:
    board = TrialBoard(99, 0.0)
    for number, (first, *further) in enumerate(values):
        board.start(samples.spec(number, objectives=objectives, params={"optimizer": "adam"}), 0.0)
        board.finish(TrialResult(number, Status.COMPLETE, first, 2, 4, further=tuple(further)), 1.0)
    return board


def summary_text(board: TrialBoard) -> str:
    summary = summarize("r", "done", board.snapshot(), failures=(), importances={"dropout": 1.0}, ended_at=9.0)
    return "\n".join(line for _, line in summary_lines(PLAN, summary))


@pytest.mark.parametrize(
    ("name", "values", "best", "shown"),
    [
        ("val_loss", (0.5, 0.25), 1, "validation loss 0.2500"),
        ("macro_f1", (0.5, 0.25), 0, "macro F1 0.5000"),
        ("model_size", (0.5, 1.25), 0, "model size 0.500 MB"),
        ("inference_latency", (3.0, 1.234), 1, "inference latency 1.23 ms"),
        ("training_time", (30.0, 61.25), 0, "training time 30.0 s"),
    ],
)
def test_best_has_its_name_and_unit(name: str, values: tuple[float, ...], best: int, shown: str) -> None:
    """The best trial is told with the objective's name, its value and its unit, whichever way is better."""
    board = board_of((name,), *((value,) for value in values))
    assert f"Best: trial {best}, {shown} after" in summary_text(board)
    assert "front" not in summary_text(board)
    progress = ConcurrentProgressAggregator().aggregate(board.snapshot(), 2.0)
    assert f"best {shown.split(' ', 2)[-1] if name != 'macro_f1' else '0.5000'} #{best}" in standing_line(progress)


def test_front_is_told() -> None:
    """Of several objectives the front is told, the best of the first one on top, and a line of a trial says if it is
    on it.
    """
    board = board_of(BOTH, (0.9, 2.0), (0.8, 1.0), (0.7, 3.0), (0.95, 4.0))
    text = summary_text(board)
    assert "Pareto front of validation accuracy and model size: 3 of 4 trials" in text
    assert text.index("#3  0.9500, 4.000 MB") < text.index("#0  0.9000, 2.000 MB") < text.index("#1  0.8000, 1.000 MB")
    assert "#2" not in text
    assert "Best by validation accuracy: trial 3, validation accuracy 0.9500, model size 4.000 MB" in text
    assert "What mattered for validation accuracy: dropout" in text
    assert "front.yaml, best.yaml" in text
    snapshot = board.snapshot()
    lines = {trial.spec.number: trial_line(trial, snapshot) for trial in snapshot.last}
    assert [number for number, line in lines.items() if "on the front" in line] == [0, 1, 3]
    progress = ConcurrentProgressAggregator().aggregate(snapshot, 2.0)
    assert "best 0.9500, 4.000 MB #3, 3 on the front" in standing_line(progress)
    assert progress.front == snapshot.front


def test_front_is_sorted_the_first_objective_s_way() -> None:
    """Where lower is better the lowest of the first objective is on top; a long front is cut."""
    count = MOST_OF_FRONT + 3
    text = summary_text(board_of(("val_loss", "macro_f1"), *((0.1 * n, 0.01 * n) for n in range(count))))
    assert text.index("#0  0.0000") < text.index("#1  0.1000") < text.index("#2  0.2000")
    assert f"#{MOST_OF_FRONT} " not in text
    assert "and 3 more in front.yaml" in text


def test_plan_says_what_is_not_usual() -> None:
    """A search for the accuracy says nothing of it; others say which way is better, and what no seed repeats."""
    usual = plan_lines(PLAN, 1)
    assert not any("Optimizes" in line or "seed repeats" in line for line in usual)
    config = OptimizationConfig(trials=9, optimize_for="val_loss,training_time", cv_folds=4)
    lines = plan_lines(replace(PLAN, config=config), 1)
    assert "4 folds of them judge each trial in turn" in lines[0]
    assert "Optimizes validation loss (lower is better), training time (lower is better)" in lines
    assert "No seed repeats what is measured by the clock: training time" in lines


def test_time_left_counts_all_folds() -> None:
    """A trial of three folds that has trained a quarter of its epochs needs three times as long again."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0, cv_folds=3, max_epochs=4), 0.0)
    for epoch in (1, 2, 3):
        board.report(
            replace(samples.PROGRESS, number=0, sequence=epoch, epoch=epoch, seconds=10.0 * epoch), 10.0 * epoch
        )
    progress = ConcurrentProgressAggregator().aggregate(board.snapshot(), 30.0)
    assert progress.remaining == pytest.approx(90.0)
    assert progress.rows[0].max_epochs == 12
