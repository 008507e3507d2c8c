"""A search on the terminal: one line a trial, and on a real terminal a line at the bottom for what runs now."""

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from seedpod.board import FinishedTrial, Snapshot
from seedpod.dashboard.wording import plan_lines, running_line, summary_lines, trial_line
from seedpod.events import Observer, Plan, Summary
from seedpod.guarded import Guarded
from seedpod.trial import Status

_STYLES = {"good": "bold green", "bad": "red", "": ""}


class Terminal(Observer):
    """Writes lines to ``stream``; colours and the moving line only where it is a terminal that can show them.

    Args:
        stream: Where to write.
        cores: Cores of this machine that may be used.
    """

    def __init__(self, stream: TextIO, cores: int) -> None:
        # rich honours NO_COLOR and TERM=dumb, and writes plain text to anything that is no terminal.
        self._console = Console(file=stream, highlight=False, emoji=False, legacy_windows=False)
        self._cores = cores
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._shown = Guarded({"version": -1})
        self._progress = Progress(
            TextColumn("trials"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            refresh_per_second=5,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=None)

    def began(self, plan: Plan) -> None:
        """See Observer."""
        for line in plan_lines(plan, self._cores):
            self._line(line)
        self._progress.update(self._task, total=plan.config.trials)
        self._progress.start()

    def progressed(self, snapshot: Snapshot) -> None:
        """See Observer."""
        if not self._live:
            return
        with self._shown.locked() as shown:
            newer = snapshot.version > shown["version"]
            shown["version"] = max(shown["version"], snapshot.version)
        if newer:
            done = sum(snapshot.finished.values())
            self._progress.update(self._task, completed=done, description=running_line(snapshot))

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        """See Observer."""
        best = snapshot.best is not None and snapshot.best.spec.number == trial.spec.number
        failed = trial.result.status is Status.FAILED
        self._line(trial_line(trial, snapshot), "good" if best else "bad" if failed else "")
        self.progressed(snapshot)

    def ended(self, plan: Plan, summary: Summary) -> None:
        """See Observer."""
        self.close()
        for style, line in summary_lines(plan, summary):
            self._line(line, style)

    def say(self, line: str, style: str = "") -> None:
        """Write one line that belongs to no trial."""
        self._line(line, style)

    def close(self) -> None:
        """Take the moving line away."""
        self._progress.stop()

    def _line(self, line: str, style: str = "") -> None:
        self._console.print(Text(line, style=_STYLES[style]), soft_wrap=True)
