"""What a person sees of a search: whole, plain where it must be plain, on any encoding."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import samples
from fake_clock import FakeClock
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.dashboard.terminal import Terminal
from seedpod.dashboard.wording import (
    again,
    duration,
    one_line,
    params_line,
    plan_lines,
    summary_lines,
    trial_line,
)
from seedpod.errors import Cause
from seedpod.events import Plan, Summary, summarize
from seedpod.progress import ConcurrentProgressAggregator
from seedpod.training.datasets import DatasetInfo
from seedpod.training.own.found import Found
from seedpod.trial import Status, TrialFailure, TrialResult

TESTS = Path(__file__).parents[1]
DATA = DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10)
PLAN = Plan(OptimizationConfig(trials=9, local_workers=1), DATA, Path("results/r"), 1)
PARAMS = {
    "conv_blocks": 2,
    "filters_0": 16,
    "filters_1": 32,
    "kernel_size": 3,
    "dense_layers": 1,
    "dense_units_0": 64,
    "activation": "relu",
    "normalization": "batch",
    "optimizer": "adam",
    "learning_rate": 0.00123,
    "batch_size": 32,
}
AGGREGATOR = ConcurrentProgressAggregator(2)
ERASE = TrialFailure(Cause.ENDPOINT, "\x1b[2Jgone\r\nsecond line\x07\tend")
RESULTS = [
    samples.complete(0, 0.91),
    samples.failed(1),
    samples.complete(2, 0.95),
    samples.failed(3, TrialFailure(Cause.DIVERGED, "the loss became inf")),
    samples.failed(4, ERASE),
    TrialResult(5, Status.PRUNED, epochs=2, history=({"val_accuracy": 0.2}, {"val_accuracy": 0.4})),
    TrialResult(6, Status.CANCELLED),
    samples.complete(7, 0.93),
]


def searched(results: list[TrialResult] = RESULTS) -> tuple[TrialBoard, Summary]:
    board = TrialBoard(9, started_at=1000.0)
    for result in results:
        board.start(samples.spec(result.number, params=PARAMS), 1000.0)
        board.finish(result, 1060.0)
    return board, summarize(
        "r",
        "done",
        board.snapshot(),
        failures=board.failures(),
        limits=board.failures(Status.PRUNED),
        importances={"learning_rate": 0.61, "conv_blocks": 0.3, "dropout": 0.05, "a": 0.02, "b": 0.01, "c": 0.01},
        ended_at=1125.0,
    )


def shown(stream: io.StringIO | None = None) -> str:
    """Everything that a search writes."""
    stream = stream or io.StringIO()
    terminal = Terminal(stream, cores=2)
    board = TrialBoard(9, 1000.0)
    terminal.began(PLAN)
    for result in RESULTS:
        board.start(samples.spec(result.number, params=PARAMS), 1000.0)
        terminal.updated(AGGREGATOR.aggregate(board.snapshot(), 1000.0))
        board.report(replace(samples.PROGRESS, number=result.number), 1030.0)
        terminal.updated(AGGREGATOR.aggregate(board.snapshot(), 1030.0))
        finished = board.finish(result, 1060.0)
        assert finished is not None
        terminal.finished(finished, board.snapshot())
    terminal.say("Stopping.")
    terminal.ended(PLAN, searched()[1])
    terminal.close()
    return stream.getvalue()


def test_preparing_is_told_now_and_then() -> None:
    """In a file every ten seconds how far it is, and at once what has no number, such as a hash."""
    clock, stream = FakeClock(), io.StringIO()
    terminal = Terminal(stream, cores=2, clock=clock)
    for second in range(25):
        terminal.preparing("reading", 1000 * second, 30_000)
        clock.sleep(1.0)
    terminal.preparing("downloading", 5_000_000, 0)
    terminal.preparing("SHA-256 0123", 0, 0)
    clock.sleep(10.0)
    terminal.preparing("downloading", 15_000_000, 20_000_000)
    assert stream.getvalue().splitlines() == [
        "Preparing: reading, 10,000 of 30,000",
        "Preparing: reading, 20,000 of 30,000",
        "Preparing: SHA-256 0123",
        "Preparing: downloading, 15 of 20 MB",
    ]


def test_what_was_found_comes_first() -> None:
    """The plan begins with what a user should know of his own images."""
    plan = replace(PLAN, found=Found(notes=("9 pictures in 2 classes.", "1 file left out.")))
    assert plan_lines(plan, 2)[:2] == ["9 pictures in 2 classes.", "1 file left out."]


def test_output_to_a_file_is_plain() -> None:
    """Where the output is no terminal there is no escape sequence, carriage return or bell, whatever messages hold."""
    text = shown()
    assert not set(text) & set("\x1b\r\x07\x08\t")
    assert text.isascii()


def test_output_to_a_file_is_one_line_a_trial() -> None:
    """Each trial is one line, not wrapped, between the plan and the summary; progress writes nothing."""
    lines = shown().splitlines()
    start = len(plan_lines(PLAN, 2))
    assert [line.split()[0] for line in lines[start : start + 8]] == [f"#{n}" for n in range(8)]
    assert lines[start + 8] == "Stopping."


def test_lines_of_a_trial() -> None:
    """A complete trial shows value, standing, epochs, time and parameters; any other one why it ended."""
    lines = [line for line in shown().splitlines() if line.lstrip().startswith("#")]
    params = "conv 16-32 k3 dense 64 relu bn adam lr 1.2e-03 batch 32"
    assert [" ".join(line.split()) for line in lines] == [
        f"#0 0.9100 best so far 4/4 epochs 2.5 s {params}",
        "#1 failed after 1.5 s diverged: the loss became nan in epoch 2",
        f"#2 0.9500 best so far 4/4 epochs 2.5 s {params}",
        "#3 failed after 1.5 s diverged: the loss became inf",
        "#4 failed after 1.5 s endpoint: [2Jgone second line end",
        f"#5 0.4000 pruned 2/4 epochs 1.5 s {params}",
        f"#6 cancelled after 1.5 s {params}",
        f"#7 0.9300 best 0.9500 #2 4/4 epochs 2.5 s {params}",
    ]


def test_closing_summary_says_all() -> None:
    """The summary names best, its parameters, what mattered, failures by cause with an example, counts and files."""
    lines = [line for _, line in summary_lines(PLAN, searched()[1])]
    text = "\n".join(lines)
    assert "Best: trial 2, validation accuracy 0.9500 after 2 epochs, 1,234 parameters" in lines
    assert all(f"  {name:<16} " in text for name in PARAMS)
    assert "What mattered: learning_rate 61%, conv_blocks 30%, dropout 5%, a 2%, b 1% (3 trials: a hint)" in lines
    assert "Failed, diverged: 2 trials (such as #1: the loss became nan in epoch 2)" in lines
    assert "Failed, endpoint: 1 trial (#4: [2Jgone second line end)" in lines
    assert "Done after 2 min 05 s: of 9 trials 3 complete, 1 pruned, 3 failed, 1 cancelled" in lines
    assert "Results in results/r: best.yaml, summary.json, trials/" in lines


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("done", "Done after"),
        ("timeout", "Stopped at timeout_hours after"),
        ("interrupted", "Stopped (interrupted) after"),
        ("error", "Stopped by an error after"),
        ("bug", "Stopped by a bug of seedpod after"),
    ],
)
def test_summary_says_how_it_ended(outcome: str, said: str) -> None:
    """Every outcome has its words; one after which the search may go on ends with the command that does it."""
    lines = summary_lines(PLAN, replace(searched()[1], outcome=outcome))
    assert said in str(lines)
    goes_on = lines[-1][1] == "To go on: python optimizer.py resume=r"
    assert goes_on == (outcome in {"timeout", "interrupted", "error"})


def test_summary_without_success() -> None:
    """Where nothing completed, the summary says so, and names no best.yaml."""
    text = "\n".join(line for _, line in summary_lines(PLAN, replace(searched([samples.failed(0)])[1], importances={})))
    assert "No trial succeeded." in text
    assert "What mattered" not in text
    assert "best.yaml" not in text
    nothing = str(summary_lines(PLAN, searched([])[1]))
    assert "none ran" in nothing
    assert "No trial has ended yet." in nothing


def test_trials_over_their_time_are_grouped_and_no_failures() -> None:
    """A trial that a limit has pruned says which, and the summary how many; none is called a failure."""
    over = TrialFailure(Cause.DEADLINE, "2 of 10 epochs after 60 s (max_training_time_minutes)")
    history = ({"val_accuracy": 0.5}, {"val_accuracy": 0.75})
    slow = [TrialResult(n, Status.PRUNED, epochs=2, history=history, seconds=60.2, error=over) for n in (0, 1)]
    board, summary = searched(slow)
    text = "\n".join(line for _, line in summary_lines(PLAN, summary))
    assert f"Pruned, deadline: 2 trials (such as #0: {over.message})" in text
    assert "Failed" not in text
    line = trial_line(board.snapshot().last[-1], board.snapshot())
    assert line == f"   #1  0.7500  pruned after 1 min 00 s  deadline: {over.message}"


def test_plan_of_a_search_that_goes_on() -> None:
    """It says what is there and how good that is; where nothing is left to do, how there would be more."""
    board, _ = searched()
    plan = replace(PLAN, before=board.snapshot())
    assert plan_lines(plan, 1)[2] == "Goes on with r: 8 of 9 trials are there, best 0.9500 (#2)"
    board.limit(8)
    assert plan_lines(replace(plan, before=board.snapshot()), 1)[2] == "Run r has all its 8 trials"
    done = replace(plan, config=OptimizationConfig(trials=8, local_workers=1), before=board.snapshot())
    assert plan_lines(done, 1)[2] == "Run r has all its 8 trials; trials=N goes on to N"


def test_command_for_a_run() -> None:
    """It names the folder of results where that is not the usual one, quoted for a shell."""
    assert again(Path("results/r"), "predict", " FILE...") == "python optimizer.py predict run=r FILE..."
    assert again(Path("my runs/r"), "resume") == "python optimizer.py resume=r 'results_dir=my runs'"


def test_plan_names_what_is_searched() -> None:
    """Before the first trial one sees data, split, trials, seed and folder, and how to use idle cores."""
    lines = plan_lines(PLAN, 4)
    assert lines[0] == "digits: 1,430 images of 8x8x1, 10 classes; 20% of them judge the trials"
    assert lines[1] == "9 trials, 1 at a time, seed 42, results in results/r"
    assert "local_workers=auto runs 4 at once" in lines[2]
    assert len(plan_lines(PLAN, 1)) == 2


def test_plan_warns_of_unequal_classes() -> None:
    """A warning names the largest and the smallest class with their images, and the settings that help and are not
    chosen yet.
    """
    data = replace(PLAN.data, train_counts=(900, 90, *PLAN.data.train_counts[2:]))
    warning, advice = plan_lines(replace(PLAN, data=data), 1)[2:]
    assert warning == "Unequal classes: 0 has 10 times the training images of 1 (900 and 90)"
    assert "class_weights=auto" in advice
    assert "optimize_for=balanced_accuracy" in advice
    chosen = OptimizationConfig(class_weights="auto", optimize_for="val_loss,macro_f1")
    assert "class_weights" not in "".join(plan_lines(replace(PLAN, data=data, config=chosen), 1))
    metrics = {"val_accuracy": 0.95, "balanced_accuracy": 0.7, "macro_f1": None}
    told = summary_lines(replace(PLAN, data=data), searched([replace(RESULTS[2], metrics=metrics)])[1])
    assert ("", "  validation accuracy 0.9500, balanced accuracy 0.7000") in told


def test_plan_warns_of_few_judges() -> None:
    """Where one validation image is more than a point of accuracy, the plan says so, and what judges by all."""
    data = replace(PLAN.data, train_counts=(48, 48), class_names=("a", "b"))
    (warning,) = plan_lines(replace(PLAN, data=data), 1)[2:]
    assert warning == "Only 19 images judge the trials, so one is 5.3 points of accuracy; cv_folds=5 judges by all 96"
    folds = OptimizationConfig(cv_folds=5)
    assert "judge the trials, so" not in "".join(plan_lines(replace(PLAN, data=data, config=folds), 1))


def test_params_of_an_unknown_space_are_no_trouble() -> None:
    """Parameters that the line does not know are left out."""
    assert params_line({}) == ""
    assert params_line({"width": 3, "activation": "gelu"}) == "gelu"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.24, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    """Seconds are said in two units at most, and never as 60 of the smaller one."""
    assert duration(seconds) == text


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", " a \x1b b", "a\x00b", "a\u2028b", "a\x9bb"])
def test_messages_become_one_line(text: str) -> None:
    """Line ends and control characters of foreign messages become spaces."""
    assert one_line(text) == "a b"


def test_best_of_a_trial_line_is_the_snapshots() -> None:
    """A trial that ends while another is better is compared with that one."""
    board, _ = searched()
    trial = FinishedTrial(samples.spec(0, params=PARAMS), samples.complete(0, 0.91), 0.0, 1.0)
    assert "best 0.9500 #2" in trial_line(trial, board.snapshot())


DEMO = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "dashboard")!r}]
import samples, test_terminal
from seedpod.board import TrialBoard
from seedpod.dashboard.terminal import Terminal
terminal = Terminal(sys.stdout, 2)
terminal.began(test_terminal.PLAN)
board, summary = test_terminal.searched()
board.start(samples.spec(8, params=test_terminal.PARAMS), 1000.0)
terminal.updated(test_terminal.AGGREGATOR.aggregate(board.snapshot(), 1030.0))
for trial in board.snapshot().last:
    terminal.finished(trial, board.snapshot())
terminal.ended(test_terminal.PLAN, summary)
"""


def in_a_process(environment: Mapping[str, str], *, terminal: bool = False) -> str:
    """What DEMO writes to a pipe or a terminal under these environment variables."""
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "TERM", "CI"}}
    clean |= {"PYTHONPATH": str(TESTS.parent / "src"), **environment}
    command = [sys.executable, "-c", DEMO]
    if not terminal:
        return subprocess.run(command, env=clean, capture_output=True, check=True).stdout.decode("cp1252")
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=clean, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        written = b""
        with os.fdopen(ours, "rb", buffering=0) as stream:
            try:
                while chunk := stream.read(65536):
                    written += chunk
            except OSError:  # Linux's end of a terminal
                pass
        assert process.wait() == 0, process.stderr and process.stderr.read()
    return written.decode("utf-8", errors="replace")


@pytest.mark.parametrize(
    "environment",
    [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}],
    ids=str,
)
def test_any_pipe_gets_plain_text(environment: Mapping[str, str]) -> None:
    """Whatever colours and encodings the environment asks for, a pipe gets the same plain text."""
    text = in_a_process(environment)
    assert "Best: trial 2" in text
    assert not set(text) & set("\x1b\r")
    assert text.isascii()


@pytest.mark.parametrize(
    ("environment", "coloured", "moving"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm-256color", "CI": "true"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({}, False, False),
        ({"TERM": "xterm", "PYTHONIOENCODING": "cp1252"}, False, False),
        ({"TERM": "xterm", "PYTHONIOENCODING": "ascii"}, False, False),
    ],
    ids=str,
)
def test_terminals_get_what_they_can_show(environment: Mapping[str, str], *, coloured: bool, moving: bool) -> None:
    """A terminal that can show it gets the dashboard, any other one plain lines, and both the summary."""
    text = in_a_process(environment, terminal=True)
    assert "Best: trial 2" in text
    assert ("\x1b[1;32m" in text or "\x1b[31m" in text) == coloured
    assert ("\x1b[?25l" in text) == moving
    assert moving or not set(text.replace("\r\n", "\n")) & set("\x1b\r")
