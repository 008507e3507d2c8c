"""A search on the terminal: one line a trial, and on a real terminal a dashboard below them for what runs now."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from seedpod.board import FinishedTrial, Snapshot
from seedpod.clock import Clock, SystemClock
from seedpod.dashboard.live import render
from seedpod.dashboard.wording import (
    duration,
    final_lines,
    final_plan_line,
    plan_lines,
    preparing_line,
    summary_lines,
    trial_line,
)
from seedpod.events import Observer, Plan, Summary
from seedpod.guarded import Guarded
from seedpod.progress import AggregatedProgress
from seedpod.trial import Status, TrialProgress

_STYLES = {"good": "bold green", "bad": "red", "": ""}
_NEEDED = "▁█━─"  # characters of the dashboard; an encoding that lacks them gets plain lines
_LEAST = 0.25  # seconds between two pictures
_LONG = 10.0  # seconds between two lines on what takes long
_BAR = 30  # characters


@dataclass(slots=True)
class _Drawn:
    """The latest picture: when, for how many columns, and how long its lines are."""

    at: float = float("-inf")
    width: int = 0
    lines: tuple[int, ...] = ()


def cleared(lines: Sequence[int], width: int) -> str:
    """What wipes a picture out after its terminal has become narrower, and goes back to where its last line began.

    The terminal has wrapped its long lines, so that it is higher than whoever draws over it believes.

    Args:
        lines: The lengths of its lines; the cursor is on the last one.
        width: Columns now; wider than every line where nothing was wrapped.
    """
    rows = sum(max(1, -(-length // width)) for length in lines)
    if rows <= len(lines):
        return ""
    down = f"\x1b[{len(lines) - 1}B" if len(lines) > 1 else ""
    return f"\r\x1b[{rows - 1}A\x1b[J{down}"


def why_not_live(stream: TextIO, environment: Mapping[str, str]) -> str:
    """Why ``stream`` cannot show the dashboard, in words; empty where it can."""
    if not stream.isatty():
        return "the output is no terminal"
    term = environment.get("TERM", "")
    if term.casefold() in {"", "dumb", "unknown"}:
        return f"TERM={term} names no terminal whose cursor moves"
    encoding = stream.encoding or "ascii"
    try:
        _NEEDED.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return f"the encoding {encoding} lacks its characters"
    return ""


def shows_live(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can show the dashboard, and whose user wants colours and movement."""
    wanted = not environment.get("NO_COLOR") and not environment.get("CI")
    return wanted and not why_not_live(stream, environment)


class Terminal(Observer):
    """Writes lines to ``stream``; escape sequences only where the dashboard is live.

    Args:
        stream: Where to write.
        cores: Cores of this machine that may be used.
        mode: ``live``, ``plain`` (lines alone), ``none`` (the summary alone), or ``auto``: live where it can be shown.
        environment: The process environment: TERM, NO_COLOR, CI.
        clock: Tells the time.
    """

    def __init__(
        self,
        stream: TextIO,
        cores: int,
        *,
        mode: str = "auto",
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        self._missing = why_not_live(stream, environment) if mode == "live" else ""
        self._live = not self._missing if mode == "live" else mode == "auto" and shows_live(stream, environment)
        self._quiet = mode == "none"
        self._cores = cores
        self._clock = clock or SystemClock()
        self._said = 0.0  # when what takes long was last spoken of; by the one thread that does it
        self._drawn = Guarded(_Drawn())
        self._console = Console(
            file=stream,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            force_terminal=self._live,
            color_system="auto" if self._live else None,
        )
        # Drawn when there is news, in the thread that brings it: no timer of its own.
        self._picture = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
        )

    def preparing(self, what: str, done: int, total: int) -> None:
        """One line that moves on where the terminal is live, else one every ten seconds; see Observer."""
        line = preparing_line(what, done, total)
        if self._live:
            if not self._picture.is_started:
                self._picture.start()
            bar = f"  {'━' * round(_BAR * done / total):─<{_BAR}}" if total else ""
            self._picture.update(Text(f"{line}{bar}"), refresh=True)
            return
        now = self._clock.now()
        self._said = self._said or now
        if not self._quiet and (done == total == 0 or now - self._said >= _LONG):
            self._said = now
            self._line(line)

    def began(self, plan: Plan) -> None:
        """See Observer."""
        if self._missing:
            self._line(f"dashboard=live: {self._missing}, so there are plain lines")
        if not self._quiet:
            for line in plan_lines(plan, self._cores):
                self._line(line)
        if self._live:
            self._picture.update(Text(""))
            self._picture.start()

    def updated(self, progress: AggregatedProgress) -> None:
        """Draw the search as it is now; a progress callback."""
        if not self._live or not self._picture.is_started:
            return
        now = self._clock.now()
        with self._drawn.locked() as drawn:
            due = now - drawn.at >= _LEAST or progress.ended == progress.total
            drawn.at = now if due else drawn.at
        if due:
            self._clear_wrapped()
            width, height = self._console.size
            picture = render(progress, width, height)
            with self._drawn.locked() as drawn:
                drawn.width, drawn.lines = width, tuple(map(cell_len, picture.plain.split("\n")))
            self._picture.update(picture, refresh=True)

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        """See Observer."""
        if self._quiet:
            return
        best = snapshot.best is not None and snapshot.best.spec.number == trial.spec.number
        failed = trial.result.status is Status.FAILED
        style = "good" if best else "bad" if failed else ""
        self._line(trial_line(trial, snapshot), style, whole=not self._live)

    def ended(self, plan: Plan, summary: Summary) -> None:
        """See Observer."""
        self.close()
        for style, line in summary_lines(plan, summary):
            self._line(line, style)

    def final_began(self, trial: FinishedTrial, mode: str) -> None:
        """See Observer."""
        self._said = self._clock.now()
        self._line(final_plan_line(trial, mode))

    def final_progressed(self, progress: TrialProgress) -> None:
        """A line for an epoch of a training that takes long; see Observer."""
        now = self._clock.now()
        if now - self._said >= _LONG and not self._quiet:
            self._said = now
            self._line(f"  {progress.epoch} of {progress.max_epochs} epochs, {duration(progress.seconds)}")

    def final_ended(self, folder: Path, record: Mapping[str, Any]) -> None:
        """See Observer."""
        for style, line in final_lines(folder, record):
            self._line(line, style)

    def reported(self, page: Path) -> None:
        """See Observer."""
        self._line(f"Report in {page}")

    def say(self, line: str, style: str = "") -> None:
        """Write one line that belongs to no trial."""
        self._line(line, style)

    def close(self) -> None:
        """Take the dashboard away."""
        self._picture.stop()

    def _clear_wrapped(self) -> None:
        """Wipe the picture out where the terminal has become narrower since it was drawn."""
        width = self._console.size.width
        with self._drawn.locked() as drawn:
            sequence = cleared(drawn.lines, width) if width < drawn.width else ""
            drawn.width = width
        if sequence:
            self._console.file.write(sequence)

    def _line(self, line: str, style: str = "", *, whole: bool = True) -> None:
        if self._live and self._picture.is_started:
            self._clear_wrapped()
        text = Text(line, style=_STYLES[style])
        if whole:  # for the reader of a terminal with its words whole, for other readers in one line
            self._console.print(text, soft_wrap=not self._live)
        else:  # a line of the screen each; the whole is in the trial's record
            self._console.print(text, no_wrap=True, overflow="ellipsis")
