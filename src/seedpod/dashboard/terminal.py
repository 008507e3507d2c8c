"""A search on the terminal: one line a trial, and on a real terminal a dashboard below them for what runs now."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

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
_LONG = 10.0  # seconds between two lines on the final model


def shows_live(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can show the dashboard, and whose user wants colours and movement."""
    if not stream.isatty() or environment.get("TERM", "dumb").casefold() in {"dumb", "unknown"}:
        return False
    if environment.get("NO_COLOR") or environment.get("CI"):
        return False
    try:
        _NEEDED.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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
        can = shows_live(stream, os.environ if environment is None else environment)
        self._live = can if mode == "auto" else mode == "live" and stream.isatty()
        self._quiet = mode == "none"
        self._fallen_back = mode == "live" and not self._live
        self._cores = cores
        self._clock = clock or SystemClock()
        self._said = 0.0  # when the final model's training was last spoken of; by the one thread that trains it
        self._drawn = Guarded([float("-inf")])
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

    def began(self, plan: Plan) -> None:
        """See Observer."""
        if self._fallen_back:
            self._line("dashboard=live: the output is no terminal, so there are lines alone")
        if not self._quiet:
            for line in plan_lines(plan, self._cores):
                self._line(line)
        if self._live:
            self._picture.start()

    def updated(self, progress: AggregatedProgress) -> None:
        """Draw the search as it is now; a progress callback."""
        if not self._live or not self._picture.is_started:
            return
        now = self._clock.now()
        with self._drawn.locked() as drawn:
            due = now - drawn[0] >= _LEAST or progress.ended == progress.total
            drawn[0] = now if due else drawn[0]
        if due:
            self._picture.update(render(progress, *self._console.size), refresh=True)

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

    def _line(self, line: str, style: str = "", *, whole: bool = True) -> None:
        text = Text(line, style=_STYLES[style])
        if whole:
            self._console.print(text, soft_wrap=True)
        else:  # a line of the screen each; the whole is in the trial's record
            self._console.print(text, no_wrap=True, overflow="ellipsis")
