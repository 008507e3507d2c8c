"""A study as one trial may see it: some of its trials, and nothing of what happens beside them."""

import copy
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

_NAME = "seedpod"
"""What every view's study is called: Hyperband draws a trial's bracket from the name, and equal runs have several."""


class StudyView(Study):
    """A study in which some trials are all there are; everything else is the real one's.

    Args:
        study: The real one.
        ended: Trials from 0 on; the list may grow meanwhile, and is not copied before somebody asks for its trials: a
            copy for each view would be most of what a long search allocates.
        count: How many of them are shown.
        others: What is shown after them.
    """

    def __init__(self, study: Study, ended: list[FrozenTrial], count: int, others: Sequence[FrozenTrial] = ()) -> None:
        self.__dict__.update(study.__dict__)
        self.study_name = _NAME
        self._shown = _Shown(ended, count, others)
        self.written: set[str] = set()
        """System attributes of trials that were set through this view."""
        self._storage = _StorageView(study._storage, study._study_id, self._shown, self.written)  # type: ignore[assignment]  # noqa: SLF001

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:  # noqa: FBT001, FBT002
        """The given trials."""
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's signature
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: FBT001, FBT002, ARG002
    ) -> list[FrozenTrial]:
        return self._shown.among(states, deepcopy=deepcopy)


@dataclass(frozen=True, slots=True)
class _Shown:
    ended: list[FrozenTrial]
    count: int
    others: Sequence[FrozenTrial]

    def among(self, states: Container[TrialState] | None, *, deepcopy: bool) -> list[FrozenTrial]:
        trials = self.ended[: self.count]
        trials += self.others
        found = trials if states is None else [trial for trial in trials if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found


class _StorageView:
    """The real storage, but for what a study asks it about trials: Hyperband goes past its study to there."""

    def __init__(self, storage: BaseStorage, study_id: int, shown: _Shown, written: set[str]) -> None:
        self._written = written
        self._storage = storage
        self._study_id = study_id
        self._shown = shown
        self._notes: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_system_attrs(self, _study_id: int) -> dict[str, Any]:
        """What one trial's sampler has noted itself: notes of others, such as NSGA-II's, depend on the timing."""
        return dict(self._notes)

    def set_study_system_attr(self, _study_id: int, key: str, value: Any) -> None:
        self._notes[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)
        self._written.add(key)

    def get_study_id_from_name(self, _name: str) -> int:
        return self._study_id

    def get_all_trials(
        self,
        _study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's signature
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return self._shown.among(states, deepcopy=deepcopy)
