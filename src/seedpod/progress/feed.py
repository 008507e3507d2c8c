"""Hands the newest state of a search to a callback: in order, never two at once, and delaying nothing else."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from seedpod.guarded import Guarded
from seedpod.progress.aggregated import AggregatedProgress

log = logging.getLogger(__name__)

ProgressCallback = Callable[[AggregatedProgress], None]

_PAUSE = 0.2  # seconds between two calls: nobody reads faster, and each costs the search a millisecond
_PATIENCE = 60.0  # seconds that the end of a search waits for a callback that does not return
_HEARTBEAT = 1.0  # seconds after which a call comes though nothing has changed but the time


@dataclass(slots=True)
class _State:
    marks: int = 0  # updates that the callback has not been told
    closed: bool = False
    skipped: int = 0


@dataclass(slots=True)
class _End:
    """Whether it is closed, once more, in a lock of its own: the pause between two calls wakes for nothing else."""

    closed: bool = False


class ProgressFeed:
    """One listener and its thread. Thread-safe: ``mark`` is called by every trial's thread and costs the same always.

    The thread itself looks at the board when the callback is ready, so that it gets what is newest then; updates that
    came in between are counted as skipped. What the callback raises is reported once, and the next calls still come.

    Args:
        callback: Gets the progress, in the feed's own thread, outside every lock.
        look: Makes the progress as it is now; gets the number of skipped updates.
        pause: Seconds between two calls at least.
        heartbeat: Seconds between two calls at most, where the callback is fast enough.
    """

    def __init__(
        self,
        callback: ProgressCallback,
        look: Callable[[int], AggregatedProgress],
        *,
        pause: float = _PAUSE,
        heartbeat: float = _HEARTBEAT,
    ) -> None:
        self._callback = callback
        self._look = look
        self._pause = pause
        self._heartbeat = heartbeat
        self._state = Guarded(_State())
        self._end = Guarded(_End())
        self._raised = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def mark(self) -> None:
        """Something has changed."""
        with self._state.locked() as state:
            state.marks += 1

    def close(self) -> None:
        """Return when the callback has been told the last state, and is never called again.

        One that does not return within a minute is left behind, with a word in the log.
        """
        with self._state.locked() as state:
            state.closed = True
        with self._end.locked() as end:
            end.closed = True
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                log.warning("the progress callback has not returned for %g s; the search ends without it", _PATIENCE)

    @property
    def skipped(self) -> int:
        """Updates that the callback was not told because newer ones came before it was ready."""
        with self._state.locked() as state:
            return state.skipped

    def _run(self) -> None:
        closed = False
        while not closed:
            self._state.wait_for(lambda state: True if state.marks or state.closed else None, self._heartbeat)
            with self._state.locked() as state:
                closed = state.closed
                state.skipped += max(0, state.marks - 1)
                state.marks = 0
                skipped = state.skipped
            self._call(skipped)
            if not closed:
                self._end.wait_for(lambda end: True if end.closed else None, self._pause)

    def _call(self, skipped: int) -> None:
        try:
            self._callback(self._look(skipped))
        except Exception:
            if not self._raised:
                log.exception("the progress callback raised; the search goes on")
            self._raised = True
