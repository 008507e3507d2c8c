"""Tells whoever watches a search what happens: observer, progress callback, event log. Outside every lock."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from seedpod.board import FinishedTrial, TrialBoard
from seedpod.clock import Clock
from seedpod.events import Observer, Plan, RunLog, Summary
from seedpod.guarded import Guarded
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator, ProgressCallback, ProgressFeed
from seedpod.remote.view import EndpointView, LateJob, OnEndpoint
from seedpod.trial import TrialBackend, TrialProgress, TrialSpec

log = logging.getLogger(__name__)

_LOOK_AT_ENDPOINT = 10.0  # seconds between two looks


@dataclass(slots=True)
class _Endpoint:
    view: EndpointView | None = None
    over: bool = False


class Reporter:
    """Thread-safe. What the observer raises is reported once for each of its methods, and the search goes on.

    Args:
        board: What is known of the trials.
        clock: Tells the time.
        observer: Sees the search go by, in the threads of its trials.
        callback: Gets its progress, in a thread of its own.
        aggregator: Makes that progress.
        logs: Are told of every change: the event log, and whoever else keeps track.
        backend: Where trials run; its endpoint, if it has one, is looked at every 10 s.
    """

    def __init__(
        self,
        *,
        board: TrialBoard,
        clock: Clock,
        observer: Observer,
        callback: ProgressCallback | None,
        aggregator: ConcurrentProgressAggregator,
        logs: Sequence[RunLog],
        backend: TrialBackend,
    ) -> None:
        self._board = board
        self._clock = clock
        self._observer = observer
        self._aggregator = aggregator
        self._logs = tuple(logs)
        self._backend = backend
        self._feed = None if callback is None else ProgressFeed(callback, self._look)
        self._endpoint = Guarded(_Endpoint())
        self._reported: Guarded[set[str]] = Guarded(set())
        self._watch = threading.Thread(target=self._watch_endpoint, name="endpoint watch", daemon=True)

    def began(self, plan: Plan) -> None:
        """The search starts."""
        self._log("search_started", self._clock.now(), plan, self._board.snapshot().bill.usd)
        self._tell("began", plan)
        if self._feed is not None:
            self._feed.start()
        if isinstance(self._backend, OnEndpoint):
            self._watch.start()

    def started(self, spec: TrialSpec) -> None:
        """A trial starts."""
        self._log("trial_started", self._clock.now(), spec)
        self._changed()

    def progressed(self, progress: TrialProgress) -> None:
        """A trial has finished an epoch."""
        self._log("trial_progress", self._clock.now(), progress)
        self._changed()

    def finished(self, trial: FinishedTrial) -> None:
        """A trial has ended."""
        self._log("trial_finished", trial.ended_at, trial)
        self._mark()
        self._tell("finished", trial, self._board.snapshot())

    def late(self, job: LateJob, cost: float | None) -> None:
        """A job has ended after its trial; ``cost`` in USD comes on top of the trial's."""
        self._log("job_late", self._clock.now(), job, cost)
        self._mark()

    def stopping(self, reason: str) -> None:
        """No new trial starts any more."""
        self._log("stopping", self._clock.now(), reason)
        self._mark()

    def ended(self, plan: Plan, summary: Summary) -> None:
        """The search is over: the callback gets its last state, and the observer the summary."""
        self.close()
        self._log("search_ended", summary.ended_at, summary)
        self._tell("ended", plan, summary)

    def close(self) -> None:
        """Tell the callback the last state, and end the threads."""
        with self._endpoint.locked() as endpoint:
            endpoint.over = True
        if self._feed is not None:
            self._feed.close()

    def let_go(self) -> None:
        """Close the logs; nothing is told any more."""
        for each in self._logs:
            each.close()

    def _changed(self) -> None:
        self._mark()
        self._tell("progressed", self._board.snapshot())

    def _mark(self) -> None:
        if self._feed is not None:
            self._feed.mark()

    def _look(self, skipped: int) -> AggregatedProgress:
        with self._endpoint.locked() as endpoint:
            view = endpoint.view
        return self._aggregator.aggregate(self._board.snapshot(), self._clock.now(), view, skipped)

    def _watch_endpoint(self) -> None:
        """Look at the endpoint now and then; a request that hangs keeps nobody, for this thread is nobody's."""
        told: object = None
        while True:
            view = self._backend.view() if isinstance(self._backend, OnEndpoint) else None
            with self._endpoint.locked() as endpoint:
                if endpoint.over:
                    return
                endpoint.view = view
            if view is not None:
                state = (view.counters.breaker.state, view.health and view.health.workers)
                if state != told:
                    self._log("endpoint", self._clock.now(), view)
                told = state
            self._mark()
            if self._endpoint.wait_for(lambda state: state.over or None, _LOOK_AT_ENDPOINT):
                return

    def _log(self, method: str, *facts: object) -> None:
        for each in self._logs:
            getattr(each, method)(*facts)

    def _tell(self, method: str, *facts: object) -> None:
        try:
            getattr(self._observer, method)(*facts)
        except Exception:
            with self._reported.locked() as reported:
                first = method not in reported
                reported.add(method)
            if first:
                log.exception("the observer's %s raised; the search goes on", method)
