"""Pruners whose decisions belong to their trial: same seed, same study, whatever the workers and the timing."""

import time
import warnings
from collections.abc import Callable, Iterable

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from seedpod.guarded import Guarded
from seedpod.search.attempts import as_it_counts, revive
from seedpod.search.view import StudyView

_STARTUP = 4
"""Ended trials below which a median says little."""
_KEPT = 3
"""Of so many trials one goes on to the next rung: the papers' choice (ASHA arXiv:1810.05934, Hyperband 1603.06560)."""
_FIRST_RUNG = 5
"""Part of a trial's most epochs after which ``asha`` judges it for the first time. So it saved 45, 57 and 53 % of the
epochs in wide searches on digits (30 trials of 10 epochs, three seeds) and found as good a trial as one without
pruning. From the first epoch on it saves 75 %, but misses that in two of two, by 0.7 and 0.35 points
(``benchmarks/epochs_saved.py``)."""
_PATIENCE = 2
"""Epochs without a better value that ``patient`` waits for before it looks at the median."""
_LOOK = 0.05  # seconds between looks whether the storage knows an end
_FEW = 32  # trials that are looked up one by one; of more, all that there are
_LATEST = 120.0  # seconds after which nobody will tell it any more: twice what SQLite waits for others


def make_pruner(name: str, epochs: tuple[int, int], lag: int | None) -> BasePruner:
    """The pruner of a search.

    Args:
        name: ``hyperband``, ``asha``, ``median``, ``patient`` or ``none``.
        epochs: Fewest epochs of a trial, before which nothing is pruned, and most.
        lag: See LaggedPruner; None judges by whatever has been reported at that moment, which no seed repeats.
    """
    least, most = epochs
    warnings.filterwarnings("ignore", category=ExperimentalWarning, message=".*PatientPruner.*")

    def median() -> BasePruner:
        return MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=least - 1)

    makers: dict[str, Callable[[], BasePruner]] = {
        "hyperband": lambda: HyperbandPruner(min_resource=least, max_resource=most, reduction_factor=_KEPT),
        "asha": lambda: SuccessiveHalvingPruner(min_resource=max(least, most // _FIRST_RUNG), reduction_factor=_KEPT),
        "median": median,
        "patient": lambda: PatientPruner(median(), patience=_PATIENCE),
        "none": NopPruner,
    }
    return makers[name]() if lag is None or name == "none" else LaggedPruner(makers[name], lag)


def pruner_terms(name: str) -> dict[str, str]:
    """What decides about prunings beside the settings: a study that was begun by another rule is another study."""
    return {"pruner": f"asha from 1/{_FIRST_RUNG} of the epochs on"} if name == "asha" else {}


class LaggedPruner(BasePruner):
    """Lets what trial k is judged by at a step be the finished trials 0 to k - lag alone, in trial order.

    Goes with a ``LaggedSampler`` of the same lag, which lets no trial begin before those have ended. Optuna tells its
    sampler of an end just before the storage, which may be slow: so the pruner waits until the storage knows it too.
    Each decision has a pruner of its own, for Optuna's keep what they saw first. Thread-safe.

    A trial that is run again, after a kill or with a lost worker, is judged by what its last attempt reports alone, and
    so are the others by it: values go in by ``report``, and ``begin_again`` comes before those of another attempt
    (``take_up_open`` does it for trials that an earlier process left).

    Args:
        make: Makes the pruner of one decision.
        lag: See LaggedSampler.
        patience: Seconds that the storage may take to know of an end.
    """

    def __init__(self, make: Callable[[], BasePruner], lag: int, patience: float = _LATEST) -> None:
        self._make = make
        self._lag = lag
        self._patience = patience
        self._ended: Guarded[list[FrozenTrial]] = Guarded([])  # from trial 0 on, as far as none is missing

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See BasePruner."""
        view = self._view(study, trial.number)
        pruned = self._make().prune(view, as_it_counts(trial))
        revive(study._storage, trial, notes=view.written)  # noqa: SLF001
        return pruned

    def _view(self, study: Study, number: int) -> StudyView:
        """The study with the trials that decide, all ended, in their order, as they count."""
        count, latest = max(0, number - self._lag + 1), time.monotonic() + self._patience
        while True:
            with self._ended.locked() as ended:
                begin = len(ended)
            if begin >= count:
                return StudyView(study, ended, count)
            new = _ended(study, begin, count)
            with self._ended.locked() as ended:
                ended.extend(new[len(ended) - begin :])
                missing = len(ended)
            if missing >= count:
                continue
            if time.monotonic() > latest:
                raise AssertionError(
                    f"trial {number} is judged before trial {missing} has ended: the sampler has another lag"
                )
            time.sleep(_LOOK)


def _ended(study: Study, begin: int, end: int) -> list[FrozenTrial]:
    """The trials of these numbers that the storage has, in order, up to the first that has not ended."""
    storage, found = study._storage, []  # noqa: SLF001
    trials: Iterable[FrozenTrial]
    if end - begin > _FEW:
        trials = study.get_trials(deepcopy=False)[begin:end]
    else:
        ids = (storage.get_trial_id_from_study_id_trial_number(study._study_id, n) for n in range(begin, end))  # noqa: SLF001
        trials = map(storage.get_trial, ids)
    for trial in trials:
        if not trial.state.is_finished():
            break
        found.append(as_it_counts(trial))
    return found
