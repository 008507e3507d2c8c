"""How a user's own data set gets to workers that do not have it: uploaded once, then an address with each job."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seedpod.errors import JobFailed, TrialCancelled
from seedpod.guarded import Guarded
from seedpod.remote.store import DataStore
from seedpod.training.datasets import NAMES
from seedpod.training.packing import Pack, pack
from seedpod.trial import TrialSpec

_LOOK = 0.5  # seconds between looks at whether the search is stopping

Addresses = Callable[[TrialSpec, int, float, Callable[[], bool]], str]
"""Gives the address of a spec's data set, for this attempt and so many seconds, unless the search is stopping; empty
where workers have the data set by its name."""


def no_addresses(_spec: TrialSpec, _attempt: int, _seconds: float, _stopping: Callable[[], bool]) -> str:
    """Where workers have what they need."""
    return ""


@dataclass(slots=True)
class _State:
    packed: Pack | None = None
    there: bool = False
    sending: bool = False


class SentData:
    """A data set on its way. Thread-safe: the first trial uploads, the others wait for it.

    Args:
        store: Where to.
        cache_dir: Where it is prepared.
        say: Gets a line for the user, now and then.
    """

    def __init__(self, store: DataStore, cache_dir: Path, say: Callable[[str], None]) -> None:
        self._store = store
        self._cache_dir = cache_dir
        self._say = say
        self._state = Guarded(_State())

    def address(self, spec: TrialSpec, attempt: int, seconds: float, stopping: Callable[[], bool]) -> str:
        """See Addresses. A further attempt looks again whether the object is there.

        Raises:
            BackendError: The store cannot be used.
            TrialCancelled: The search is stopping.
        """
        if spec.dataset in NAMES:
            return ""
        name = self._there(again=attempt > 1)
        while name is None:
            if stopping():
                raise TrialCancelled("the search is stopping")
            name = self._there(again=False)
        return self._store.url(name or self._send(spec, stopping), seconds)

    def _there(self, *, again: bool) -> str | None:
        """The object's name; empty where it is to be sent now, by whoever asks; None where another one sends it."""

        def look(state: _State) -> str | None:
            if state.sending:
                return None
            if state.there and state.packed is not None and not again:
                return state.packed.name
            state.sending = True
            return ""

        return self._state.wait_for(look, timeout=_LOOK)

    def _send(self, spec: TrialSpec, stopping: Callable[[], bool]) -> str:
        there = False
        with self._state.locked() as state:
            packed = state.packed
        try:
            packed = packed or pack(spec.dataset, self._cache_dir)
            self._store.upload(packed, self._say, stopping)
            there = True
        except (OSError, ValueError) as error:
            raise JobFailed(f"data set {spec.dataset} cannot be read to be uploaded: {error}.") from error
        finally:
            with self._state.locked() as state:
                state.packed, state.there, state.sending = packed, there, False
        return packed.name
