"""Remote while the endpoint is well, local while it is not."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from seedpod.errors import EndpointRefused, EndpointUnreachable, TrialCancelled, TrialError, TrialStopped
from seedpod.guarded import Guarded
from seedpod.remote.view import EndpointView, JobListener, OnEndpoint, TellsOfJobs
from seedpod.tally import billed_seconds
from seedpod.trial import Report, TrialBackend, TrialProgress, TrialResult, TrialSpec

_LOOK_AGAIN = 1.0  # seconds that a trial waits for a local place before it asks whether the endpoint is back
_HERE = "local"  # what a trial's progress says of where it runs
_LATER = 100  # added to a trial's attempt when it runs here: its progress counts anew, and the older one no more


@dataclass(slots=True)
class _State:
    local: TrialBackend | None = None
    making: bool = False
    running: int = 0
    refused: bool = False
    away: bool = False  # whether the user was told that trials run here for now
    closed: bool = False


class FallbackBackend:
    """Runs trials on an endpoint, and on this machine while the endpoint cannot be reached. Thread-safe.

    An endpoint that refuses (bad key, unknown endpoint) is not asked again. One that is out of reach is asked again by
    every new trial; its circuit breaker answers at once while it is known to be away. A trial moves only after its
    remote job was cancelled, or was never accepted: see RunPodBackend.

    Args:
        remote: The endpoint's backend.
        make_local: Makes the local backend, when it is first needed.
        say: Gets a line for the user.
    """

    name = "runpod"

    def __init__(
        self, remote: TrialBackend, make_local: Callable[[], TrialBackend], say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.at_once = remote.at_once
        self._remote = remote
        self._make_local = make_local
        self._say = say
        self._state = Guarded(_State())

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """See TrialBackend."""
        billed = 0.0
        while True:
            if not self._refused():
                try:
                    result = self._remote.run(spec, report)
                except EndpointRefused as error:
                    billed += billed_seconds(error.run)
                    self._give_up(error)
                except EndpointUnreachable as error:
                    billed += billed_seconds(error.run)
                    self._note_away(error)
                except (TrialError, TrialStopped) as error:
                    _bill(error, billed)
                    raise
                else:
                    self._note_back()
                    return _billed(result, billed)
            local = self._local_place()
            if local is not None:
                try:
                    return _billed(local.run(spec, _as_later_attempt(report)), billed)
                except (TrialError, TrialStopped) as error:
                    error.backend = local.name
                    _bill(error, billed)
                    raise
                finally:
                    with self._state.locked() as state:
                        state.running -= 1

    def view(self) -> EndpointView | None:
        """What the endpoint says of itself; None where it is not asked any more. Asks it, so it may take a while."""
        return None if self._refused() or not isinstance(self._remote, OnEndpoint) else self._remote.view()

    def listen(self, listener: JobListener, over: Collection[str]) -> None:
        """See TellsOfJobs: trials on the endpoint are jobs, those on this machine are not."""
        if isinstance(self._remote, TellsOfJobs):
            self._remote.listen(listener, over)

    def cancel_all(self) -> None:
        """See TrialBackend."""
        with self._state.locked() as state:
            state.closed = True
            local = state.local
        self._remote.cancel_all()
        if local is not None:
            local.cancel_all()

    def close(self) -> None:
        """See TrialBackend."""
        self.cancel_all()
        self._remote.close()
        with self._state.locked() as state:
            local = state.local
        if local is not None:
            local.close()

    def _local_place(self) -> TrialBackend | None:
        """A place on this machine; None where all were taken for a while, and the endpoint may be back."""
        local = self._local()

        def take(state: _State) -> bool | None:
            if state.closed:
                return False
            if state.running < local.at_once:
                state.running += 1
                return True
            return None

        taken = self._state.wait_for(take, timeout=_LOOK_AGAIN)
        if taken is False:
            raise TrialCancelled("the search is stopping")
        return local if taken else None

    def _local(self) -> TrialBackend:
        """The local backend, made by the first who needs it; the others wait, for each would start processes."""

        def look(state: _State) -> list[TrialBackend] | None:
            if state.closed:
                raise TrialCancelled("the search is stopping")
            if state.local is not None:
                return [state.local]
            if state.making:
                return None
            state.making = True
            return []

        found = self._state.wait_for(look)
        return found[0] if found else self._make()

    def _make(self) -> TrialBackend:
        made = None
        try:
            made = self._make_local()
        finally:
            with self._state.locked() as state:
                state.making, closed = False, state.closed
                state.local = None if closed else made
        if closed:  # while it was being made, so that nobody else closes it
            made.close()
            raise TrialCancelled("the search is stopping")
        return made

    def _refused(self) -> bool:
        with self._state.locked() as state:
            return state.refused

    def _give_up(self, error: EndpointRefused) -> None:
        with self._state.locked() as state:
            first, state.refused = not state.refused, True
        if first:
            self._say(f"{error.message} The search goes on on this machine.")

    def _note_away(self, error: EndpointUnreachable) -> None:
        with self._state.locked() as state:
            first, state.away = not state.away, True
        if first:
            self._say(f"{error.message} Trials run on this machine until it is back.")

    def _note_back(self) -> None:
        with self._state.locked() as state:
            first, state.away = state.away, False
        if first:
            self._say("The endpoint is back: trials run there again.")


def _as_later_attempt(report: Report) -> Report:
    def later(progress: TrialProgress) -> None:
        report(replace(progress, attempt=progress.attempt + _LATER, backend=_HERE))

    return later


def _billed(result: TrialResult, seconds: float) -> TrialResult:
    """The result with the billed seconds of remote attempts that came before."""
    if not seconds:
        return result
    return replace(result, run={**result.run, "billed_seconds": billed_seconds(result.run) + seconds})


def _bill(error: TrialError | TrialStopped, seconds: float) -> None:
    if seconds:
        error.run["billed_seconds"] = billed_seconds(error.run) + seconds
