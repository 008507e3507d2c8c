"""WebDashboard: what feeds the page of a search."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seedpod.board import FinishedTrial, Snapshot
from seedpod.dashboard.web.address import LOOPBACK, bind_asked, settle
from seedpod.dashboard.web.state import PageState
from seedpod.events import Observer, Plan, Summary
from seedpod.extras import require
from seedpod.guarded import Guarded
from seedpod.progress import AggregatedProgress

if TYPE_CHECKING:
    from seedpod.dashboard.web.server import Server

log = logging.getLogger(__name__)

Importances = Callable[[], Mapping[str, float]]

_NEEDED = ("aiohttp", "plotly")
_LOOK = 2.0  # seconds between two looks at whether importances are due
_SHARE = 20  # importances take no more of a core than one part in so many


class WebDashboard(Observer):
    """Serves the page of a search. Where it cannot be served that is said, and the search goes on.

    Args:
        say: Gets a line for the user: the page's address.
        port: The port that the user asked for; 0 for the run's own, or a free one.
        earlier: Reads the trials that an earlier run of a folder has finished.
        importances: Computes what mattered so far; called now and then, in a thread of its own, while a browser looks.

    Raises:
        ConfigError: A package is missing, or the port is taken.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        port: int = 0,
        earlier: Callable[[Path], Iterable[FinishedTrial]],
        importances: Importances,
    ) -> None:
        require("dashboard=web", _NEEDED, ("web",))
        self._say = say
        self._asked = bind_asked(port) if port else None
        self._earlier = earlier
        self._importances = importances
        self._state: PageState | None = None
        self._server: Server | None = None
        self._over = Guarded([False])

    def began(self, plan: Plan) -> None:
        """See Observer."""
        from seedpod.dashboard.web.server import Server

        state = PageState(plan, self._earlier(plan.folder))
        try:
            bound, token = settle(plan.folder, self._asked)
        except OSError as error:
            log.warning("the page cannot be served (%s); the search goes on without it", error.strerror)
            return
        self._state, self._server = state, Server(state, bound, token)
        self._server.start()
        threading.Thread(target=self._weigh, args=(state, self._server), name="importances", daemon=True).start()
        self._say(f"Watch it on http://{LOOPBACK}:{bound.getsockname()[1]}/?token={token}")

    def updated(self, progress: AggregatedProgress) -> None:
        """Show the search as it is now; a progress callback."""
        if self._state is not None:
            self._state.updated(progress)

    def progressed(self, snapshot: Snapshot) -> None:
        """See Observer."""
        if self._state is not None:
            self._state.progressed(snapshot)

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:  # noqa: ARG002 - the page counts for itself
        """See Observer."""
        if self._state is not None:
            self._state.finished(trial)

    def ended(self, plan: Plan, summary: Summary) -> None:  # noqa: ARG002 - known since it began
        """See Observer. The port is free again before another search may take up the run."""
        if self._state is not None:
            self._state.over(summary)
        self.close()

    def close(self) -> None:
        """Tell the browsers the last state, and stop; may be called twice."""
        with self._over.locked() as over:
            over[0] = True
        if self._server is not None:
            self._server.close()
        elif self._asked is not None:
            self._asked.close()

    def _weigh(self, state: PageState, server: "Server") -> None:
        """Compute what mattered: while somebody looks, after new trials, and for a small share of the time."""
        known, pause = 0, _LOOK
        while not self._over.wait_for(lambda over: over[0] or None, pause):
            pause, ended = _LOOK, state.ended
            if ended == known or not server.watched:
                continue
            known, began = ended, time.monotonic()
            try:
                state.weighed(self._importances())
            except Exception:
                log.debug("importances are not known", exc_info=True)  # the next look may be luckier
            pause = max(_LOOK, _SHARE * (time.monotonic() - began))
