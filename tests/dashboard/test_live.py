"""The live dashboard: it fits every terminal, and every number on it is the search's."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import samples
from seedpod.board import TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.dashboard.live import render, spark_line
from seedpod.dashboard.terminal import Terminal, cleared, shows_live, why_not_live
from seedpod.dashboard.wording import cost_parts, endpoint_parts, laid_out, left_parts
from seedpod.events import Plan
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.policy import Operation
from seedpod.remote.view import EndpointView
from seedpod.remote.wire import EndpointHealth, JobCounts, WorkerCounts
from seedpod.training.datasets import DatasetInfo
from seedpod.trial import ParamValue

PLAN = Plan(
    OptimizationConfig(trials=9, local_workers=1),
    DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10),
    Path("results/r"),
    1,
)
RUN: dict[str, ParamValue] = {"billed_seconds": 60.0, "execution_seconds": 60.0, "worker": "w", "queue_seconds": 20.0}
VIEW = EndpointView(
    GateCounters.of(
        {(Operation.RUN, "sent"): 12, (Operation.STATUS, "sent"): 300, (Operation.STATUS, "retried"): 2},
        BreakerView(BreakerState.CLOSED, 0.0, None, 0),
    ),
    EndpointHealth(JobCounts(in_queue=3), WorkerCounts(idle=1, running=2, initializing=1)),
    4,
    8,
)


def progress(running: int, ended: int = 5, view: EndpointView | None = VIEW) -> AggregatedProgress:
    board = TrialBoard(200, 0.0)
    for number in range(ended):
        board.start(samples.spec(number), 0.0)
        result = replace(samples.complete(number, 0.9), seconds=60.0, run=RUN, cost=0.0186)
        board.finish(samples.failed(number) if number == 1 else result, 64.0)
    for number in range(ended, ended + running):
        board.start(samples.spec(number, max_epochs=10), 64.0)
        for epoch in range(1, 1 + number % 8):
            told = replace(
                samples.PROGRESS,
                number=number,
                epoch=epoch,
                sequence=epoch,
                seconds=6.0 * epoch,
                value=0.5 + epoch / 20,
                backend="runpod",
                worker="worker-abcdef0123",
            )
            board.report(told, 64.0 + 6 * epoch)
    return ConcurrentProgressAggregator(running, "runpod", 0.00031, 5.0).aggregate(board.snapshot(), 110.0, view)


def drawn(of: AggregatedProgress, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(render(of, width, height))
    return captured.get().splitlines()


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 10), (40, 24), (250, 6)])
@pytest.mark.parametrize("running", [0, 1, 4, 16, 200])
def test_dashboard_fits(size: tuple[int, int], running: int) -> None:
    """At any size and with any number of running trials no line is too long and none too many."""
    width, height = size
    lines = drawn(progress(running), width, height)
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width


def test_what_does_not_fit_is_counted() -> None:
    """Of more running trials than there is room for, the rest is named by its number."""
    lines = drawn(progress(40), 80, 24)
    rows = [line for line in lines if line.lstrip().startswith("#")]
    assert f"and {40 - len(rows)} more running trials" in lines[-1]


@pytest.mark.parametrize("width", [80, 160])
def test_row_of_a_trial(width: int) -> None:
    """A row has number, backend and worker, epochs, value, curve, age and time left, also at 80 columns."""
    (row,) = [line for line in drawn(progress(4), width, 24) if " #7 " in line]
    for part in ("runpod ef0123"[:6], "7/10", "0.8500", "▁", "█", "46.0 s", "left"):
        assert part in row


def test_head_says_the_search() -> None:
    """Bar, counts, best, time left with its range, money and endpoint are in the lines above the trials."""
    text = "\n".join(drawn(progress(4), 130, 24))
    for part in ("5/200", "4 running", "1 failed", "best 0.9000 #0", "gone", "left, between", "epochs/s", "USD so far"):
        assert part in text
    assert "limit 5" in text
    assert "runpod workers: 1 idle, 1 starting, 2 running, 3 queued, 4 of 8 in flight" in text
    assert "312 requests, 2 retried" in text


def test_facts_go_on_below_on_a_narrow_terminal() -> None:
    """At 80 columns nothing of endpoint and money is cut: they take a second line, and on a low terminal say less."""
    lines = drawn(progress(4), 80, 24)
    text = "\n".join(lines)
    assert "\n       312 requests, 2 retried\n" in text
    assert "\n       besides up to " in text
    assert "…" not in text
    assert not [line for line in drawn(progress(4), 80, 12) if line.startswith("       ")]


def test_what_is_not_known_is_said_so() -> None:
    """Before there is ground for it the time left is not known; a local search costs nothing and has no endpoint."""
    empty = ConcurrentProgressAggregator().aggregate(TrialBoard(5, 0.0).snapshot(), 2.0)
    assert laid_out("time", left_parts(empty), 80, 1) == ["time   2.0 s gone, time left not known yet"]
    assert laid_out("x", ["12345", "much longer", "67"], 16, 1) == ["x      12345"]
    assert laid_out("x", ["12345", "longer", "67"], 17, 2) == ["x      12345", "       longer, 67"]
    assert cost_parts(empty.costs) == ["0 USD on this machine"]
    assert len(drawn(empty, 80, 24)) == 3
    assert "gpu=" in cost_parts(replace(empty.costs, per_second=None))[0]
    assert "does not answer" in endpoint_parts(replace(VIEW, health=None))


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ((), 5, ""),
        ((0.5,), 5, "▁"),
        ((0.0, 0.5, 1.0), 5, "▁▅█"),
        ((0.1, None, 0.2), 5, "▁ █"),
        ((0.0, 0.1, 0.2, 0.3), 2, "▁█"),
        ((None, None), 5, "  "),
    ],
)
def test_spark_line(values: tuple[float | None, ...], width: int, curve: str) -> None:
    """A curve goes from its lowest to its highest value, shows the latest ones, and leaves gaps."""
    assert spark_line(values, width) == curve


class Tty(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="replace")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("environment", "encoding", "live"),
    [
        ({"TERM": "xterm"}, "utf-8", True),
        ({"TERM": "tmux-256color"}, "utf-8", True),
        ({"TERM": "dumb"}, "utf-8", False),
        ({}, "utf-8", False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "utf-8", False),
        ({"TERM": "xterm", "NO_COLOR": ""}, "utf-8", True),
        ({"TERM": "xterm", "CI": "true"}, "utf-8", False),
        ({"TERM": "xterm"}, "cp1252", False),
        ({"TERM": "xterm"}, "ascii", False),
    ],
    ids=str,
)
def test_where_it_is_live(environment: dict[str, str], encoding: str, live: bool) -> None:  # noqa: FBT001
    """Live is for terminals that move, for eyes that want colour, and for encodings that have the characters."""
    assert shows_live(Tty(encoding), environment) == live
    assert not shows_live(io.StringIO(), environment)


@pytest.mark.parametrize(
    ("environment", "encoding", "why"),
    [
        ({"TERM": "xterm"}, "utf-8", ""),
        ({"TERM": "xterm", "NO_COLOR": "1", "CI": "true"}, "utf-8", ""),
        ({"TERM": "dumb"}, "utf-8", "TERM=dumb names no terminal"),
        ({"TERM": "xterm"}, "cp1252", "the encoding cp1252 lacks"),
    ],
    ids=str,
)
def test_live_by_command(environment: dict[str, str], encoding: str, why: str) -> None:
    """What is asked for by name is live also against NO_COLOR and CI; where it cannot be, one plain line says why."""
    assert why_not_live(Tty(encoding), environment).startswith(why)
    stream = Tty(encoding)
    terminal = Terminal(stream, 2, mode="live", environment=environment)
    terminal.began(PLAN)
    terminal.updated(progress(4))
    terminal.close()
    text = stream.text()
    assert ("\x1b" in text) == (not why)
    assert [line.startswith(f"dashboard=live: {why}") for line in text.splitlines()[:2]] == [bool(why), False]


@pytest.mark.parametrize(
    ("lines", "width", "sequence"),
    [
        ((80, 80, 40), 80, ""),
        ((), 80, ""),
        ((80, 80, 40), 60, "\r\x1b[4A\x1b[J\x1b[2B"),
        ((160, 0, 100), 80, "\r\x1b[4A\x1b[J\x1b[2B"),
        ((100,), 80, "\r\x1b[1A\x1b[J"),
    ],
)
def test_a_narrower_terminal_keeps_no_remains(lines: tuple[int, ...], width: int, sequence: str) -> None:
    """A picture whose lines the terminal has wrapped is wiped out over all the rows that it has now."""
    assert cleared(lines, width) == sequence


@pytest.mark.parametrize("mode", ["plain", "none"])
def test_other_modes_have_no_escapes_even_on_a_terminal(mode: str) -> None:
    """Plain and none write plain lines to any terminal; none writes none for trials."""
    stream = Tty()
    terminal = Terminal(stream, 2, mode=mode, environment={"TERM": "xterm"})
    at = progress(4)
    terminal.updated(at)
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0, params={}), 0.0)
    finished = board.finish(samples.complete(0, 0.5), 1.0)
    assert finished is not None
    terminal.finished(finished, board.snapshot())
    terminal.say("a line")
    terminal.close()
    text = stream.text()
    assert "\x1b" not in text
    assert ("0.5000" in text) == (mode == "plain")
    assert "a line" in text
