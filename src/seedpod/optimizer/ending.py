"""How a search ends before its last trial: stopped in order, or for an error; the first of each counts."""

from dataclasses import dataclass

from seedpod.errors import EndpointRefused, EndpointUnreachable, SeedpodError
from seedpod.guarded import Guarded
from seedpod.reporting import Reporter
from seedpod.search.study import SearchStudy, stop_waiting
from seedpod.trial import TrialBackend


@dataclass(slots=True)
class _State:
    reason: str = ""
    error: BaseException | None = None
    study: SearchStudy | None = None
    backend: TrialBackend | None = None
    reporter: Reporter | None = None


class Ending:
    """Thread-safe. What is to be stopped is told as it comes to be; a stop before that holds for it too."""

    def __init__(self) -> None:
        self._state = Guarded(_State())

    @property
    def reason(self) -> str:
        """Why the search ends; empty while it goes on."""
        with self._state.locked() as state:
            return state.reason

    @property
    def error(self) -> BaseException | None:
        """The error that ends it, if one does."""
        with self._state.locked() as state:
            return state.error

    def will_cancel(self, backend: TrialBackend) -> None:
        """The trials of this backend end with the search."""
        with self._state.locked() as state:
            state.backend = backend

    def will_stop(self, study: SearchStudy, reporter: Reporter) -> None:
        """Nobody waits in this study any more when the search ends, and the reporter is told that it does."""
        with self._state.locked() as state:
            state.study, state.reporter = study, reporter
            over = bool(state.reason)
        if over:
            stop_waiting(study)

    def fail(self, error: BaseException) -> None:
        """End the search for an error; the first one counts, also after a stop."""
        with self._state.locked() as state:
            if state.error is None:
                state.reason, state.error = _outcome_of(error), error
        self._stop(cancel=True)

    def stop(self, reason: str, *, cancel: bool = True) -> None:
        """End the search in order: no new trials, and running ones cancelled unless they may run to their end."""
        with self._state.locked() as state:
            first, reporter = not state.reason, state.reporter
            state.reason = state.reason or reason
        if first and reporter is not None:
            reporter.stopping(reason)
        self._stop(cancel=cancel)

    def _stop(self, *, cancel: bool) -> None:
        with self._state.locked() as state:
            study, backend = state.study, state.backend
        if study is not None:
            stop_waiting(study)
        if backend is not None and cancel:
            backend.cancel_all()


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, EndpointRefused | EndpointUnreachable):
        return "endpoint"
    if isinstance(error, SeedpodError):
        return "error"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "bug"
