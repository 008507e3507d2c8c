"""Several views of one search as one: a terminal, and a page beside it."""

from typing import Protocol

from seedpod.board import FinishedTrial, Snapshot
from seedpod.events import Observer, Plan, Summary
from seedpod.progress import AggregatedProgress


class View(Protocol):
    """An Observer that also gets the progress of the search, and is closed at its end."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """See Observer."""

    def began(self, plan: Plan) -> None:
        """See Observer."""

    def progressed(self, snapshot: Snapshot) -> None:
        """See Observer."""

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        """See Observer."""

    def ended(self, plan: Plan, summary: Summary) -> None:
        """See Observer."""

    def updated(self, progress: AggregatedProgress) -> None:
        """Show the search as it is now; a progress callback."""

    def close(self) -> None:
        """Show nothing more; may be called twice."""


class Together(Observer):
    """Tells each view. Where some raise, all have been told before the first of those errors goes on.

    Args:
        views: In the order in which they are told.
    """

    def __init__(self, *views: View) -> None:
        self._views = views

    def preparing(self, what: str, done: int, total: int) -> None:
        """See Observer."""
        self._tell("preparing", what, done, total)

    def began(self, plan: Plan) -> None:
        """See Observer."""
        self._tell("began", plan)

    def progressed(self, snapshot: Snapshot) -> None:
        """See Observer."""
        self._tell("progressed", snapshot)

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:
        """See Observer."""
        self._tell("finished", trial, snapshot)

    def ended(self, plan: Plan, summary: Summary) -> None:
        """See Observer."""
        self._tell("ended", plan, summary)

    def updated(self, progress: AggregatedProgress) -> None:
        """See View."""
        self._tell("updated", progress)

    def close(self) -> None:
        """See View."""
        self._tell("close")

    def _tell(self, method: str, *facts: object) -> None:
        errors: list[Exception] = []
        for view in self._views:
            try:
                getattr(view, method)(*facts)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]
