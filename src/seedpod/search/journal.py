"""A study's journal in the form of Optuna's own, for one optimizer: fewer writes, and less memory.

What may not be lost is on the disk when a call returns: the study, the hyperparameters of a trial, its end. That a
trial was begun, and what it reports on its way, is on the disk with the next of those: whoever goes on after a power
cut runs an open trial again from its beginning, under its own number.
"""

import copy
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from seedpod.errors import SeedpodError
from seedpod.guarded import Guarded
from seedpod.trial import ParamValue

InternalParam = tuple[str, float, BaseDistribution]
"""A hyperparameter as storages have it: its name, its value in the distribution's own form, and the distribution."""


class RunJournal(JournalStorage):
    """A study in a journal file. Thread-safe; other processes may read the file with plain Optuna.

    Against Optuna's own it writes the hyperparameters of a trial at once, not each by itself with an ``fsync``; threads
    that come together share an ``fsync``; it remembers one place in the file, not that of every line; and trials share
    their distributions.

    Args:
        path: The file; made where it is missing.
        sync: Returns when all of an open file, given by its descriptor, is on the disk; OSError where that fails.

    Raises:
        SeedpodError: The file cannot be read or written; so for every call. One ``fsync`` that fails ends all writing:
            the system tells of it once, and nobody knows what is on the disk any more.
    """

    def __init__(self, path: Path, sync: Callable[[int], None] = os.fsync) -> None:
        self._file = _File(path, sync)
        super().__init__(self._file)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """See BaseStorage."""
        study_id = super().create_new_study(directions, study_name)
        self._file.settle()
        return study_id

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        super().set_study_user_attr(study_id, key, value)
        self._file.settle()

    def set_trial_params(self, trial_id: int, params: Sequence[InternalParam]) -> None:
        """All hyperparameters of a trial, as ``set_trial_param`` for each would have them."""
        with self._thread_lock:
            common = {"op_code": JournalOperation.SET_TRIAL_PARAM, "worker_id": self._replay_result.worker_id}
            self._file.append_logs(
                [
                    {
                        **common,
                        "trial_id": trial_id,
                        "param_name": name,
                        "param_value_internal": value,
                        "distribution": distribution_to_json(distribution),
                    }
                    for name, value, distribution in params
                ]
            )
            self._sync_with_backend()
        self._file.settle()

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """See BaseStorage."""
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._file.settle()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See BaseStorage."""
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._file.settle()
        return changed

    def settle(self) -> None:
        """Return when all that was written is on the disk; raises what any earlier call has met there, too."""
        self._file.settle()

    def _sync_with_backend(self) -> None:
        if not isinstance(self._replay_result, _Replay):  # the constructor has made Optuna's own
            self._replay_result = _Replay(self._worker_id_prefix)
        super()._sync_with_backend()


def write_at_once(trial: Trial, params: Mapping[str, tuple[ParamValue, BaseDistribution]]) -> None:
    """Let a trial have all of these hyperparameters, by one write, where its study is in a journal and it has none yet.

    Otherwise nothing happens: what a trial has already stays, and the rest is written as it is asked for.
    """
    known = trial._cached_frozen_trial  # noqa: SLF001 - what `Trial` itself looks at before it asks its storage
    if not isinstance(trial.storage, RunJournal) or known.params:
        return
    internal = [(name, drawn.to_internal_repr(value), drawn) for name, (value, drawn) in params.items()]
    trial.storage.set_trial_params(trial._trial_id, internal)  # noqa: SLF001
    for name, value, drawn in internal:
        known.distributions[name], known.params[name] = drawn, drawn.to_external_repr(value)


class _Replay(JournalStorageReplayResult):
    """What the lines of a journal come to. Names and distributions are there once, not once for each trial."""

    def __init__(self, worker_id_prefix: str) -> None:
        super().__init__(worker_id_prefix)
        self._shared: dict[tuple[int, str, str], tuple[str, BaseDistribution]] = {}
        self._grown: dict[tuple[int, str, int], dict[str, BaseDistribution]] = {}

    def _apply_set_trial_param(self, log: dict[str, Any]) -> None:
        trial_id, name = log["trial_id"], log["param_name"]
        key = (self._trial_id_to_study_id.get(trial_id, -1), name, log["distribution"])
        if key not in self._shared:
            # Optuna's own way also looks whether it is compatible with what other trials have had.
            super()._apply_set_trial_param(log)
            trial = self._trials.get(trial_id)
            # A line of somebody else's may be of no effect.
            if trial is not None and trial.distributions.get(name) == json_to_distribution(log["distribution"]):
                self._shared[key] = name, trial.distributions[name]
        elif self._trial_exists_and_updatable(trial_id, log):
            name, distribution = self._shared[key]
            trial = copy.copy(self._trials[trial_id])
            trial.params = {**trial.params, name: distribution.to_external_repr(log["param_value_internal"])}
            trial.distributions = self._with(trial.distributions, name, distribution)
            self._trials[trial_id] = trial

    def _with(
        self, before: dict[str, BaseDistribution], name: str, distribution: BaseDistribution
    ) -> dict[str, BaseDistribution]:
        """These distributions and one more: the same object wherever they are the same. Nobody may change it."""
        grown = {**before, name: distribution}
        place = (id(before) if before else 0), name, id(distribution)
        if self._grown.get(place) != grown:  # an id may be another object's by now
            self._grown[place] = grown
        return self._grown[place]


@dataclass(slots=True)
class _Disk:
    """How much of the file was written, and how much of that is on the disk; guarded."""

    written: int = 0
    settled: int = 0
    busy: bool = False
    failed: SeedpodError | None = None


class _File(BaseJournalBackend):
    """The file; one that cannot be written is no bug, is named, and keeps whole lines alone."""

    def __init__(self, path: Path, sync: Callable[[int], None]) -> None:
        self._path = path
        self._sync = sync
        self._next = 0, 0  # the line that was not read yet, and where it begins
        self._disk = Guarded(_Disk())
        with _naming(path, "write"):
            path.touch()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The lines from this one on; whoever stops in between gets the others the next time."""
        number, begin = self._next if self._next[0] <= log_number_from else (0, 0)
        with _naming(self._path, "read"):
            if self._path.stat().st_size <= begin:
                return
            opened = self._path.open("rb")
        with opened as file:
            file.seek(begin)
            for line in _whole(file):
                number, begin = number + 1, begin + len(line)
                self._next = number, begin
                if number > log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines; they are on the disk after the next ``settle``."""
        self._check()
        lines = b"".join(json.dumps(fact, separators=(",", ":")).encode() + b"\n" for fact in logs)
        # By one write at the end, and no lock file: the folder is one search's, and whoever else appends does so whole.
        with _naming(self._path, "write"):
            size = self._path.stat().st_size
            try:
                with self._path.open("ab", buffering=0) as file:
                    left = memoryview(lines)
                    while left:
                        left = left[file.write(left) :]
            except OSError:
                # A full disk takes half a line, and the next one, if it fits, would go on in the middle of it.
                os.truncate(self._path, size)
                raise
        with self._disk.locked() as disk:
            disk.written = size + len(lines)

    def settle(self) -> None:
        """Return when all that was appended before is on the disk: one thread sees to it for all that wait."""
        with self._disk.locked() as disk:
            mine = disk.written

        def turn(disk: _Disk) -> bool | None:
            """Whether it is this thread's; None while another one is at it."""
            if disk.failed is not None:
                raise disk.failed
            if disk.settled >= mine:
                return False
            if disk.busy:
                return None
            disk.busy = True
            return True

        if not self._disk.wait_for(turn):
            return
        settled = 0
        try:
            with self._disk.locked() as disk:
                written = disk.written
            with _naming(self._path, "write"), self._path.open("rb") as file:
                self._sync(file.fileno())
            settled = written
        except SeedpodError as error:
            with self._disk.locked() as disk:
                disk.failed = error
            raise
        finally:
            with self._disk.locked() as disk:
                disk.busy, disk.settled = False, max(disk.settled, settled)

    def _check(self) -> None:
        with self._disk.locked() as disk:
            if disk.failed is not None:
                raise disk.failed


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines up to one that does not end: it is half written by now, and its other half is no line of its own."""
    return takewhile(lambda line: line.endswith(b"\n"), lines)


@contextmanager
def _naming(path: Path, do: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SeedpodError(
            f"cannot {do} {path} ({error.strerror}). Make room or mend the permissions and start again."
        ) from error
