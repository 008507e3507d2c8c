"""Pruners whose decisions belong to their trial: same seed, same study, whatever the workers and the timing."""

from collections.abc import Callable

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from seedpod.search.attempts import as_it_counts, revive
from seedpod.search.view import StudyView


class LaggedPruner(BasePruner):
    """Lets what trial k is judged by at a step be the finished trials 0 to k - lag alone, in trial order.

    Goes with a ``LaggedSampler`` of the same lag, which lets no trial begin before those have ended: so there is
    nothing to wait for here. Each decision has a pruner of its own, for Optuna's keep what they saw first. Thread-safe.

    A trial that is run again, after a kill or with a lost worker, is judged by what its last attempt reports alone, and
    so are the others by it: values go in by ``report``, and ``begin_again`` comes before those of another attempt
    (``take_up_open`` does it for trials that an earlier process left).

    Args:
        make: Makes the pruner of one decision.
        lag: See LaggedSampler.
    """

    def __init__(self, make: Callable[[], BasePruner], lag: int) -> None:
        self._make = make
        self._lag = lag

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See BasePruner."""
        known = sorted(
            (other for other in study.get_trials(deepcopy=False) if other.number <= trial.number - self._lag),
            key=lambda other: other.number,
        )
        running = [other.number for other in known if not other.state.is_finished()]
        if running:
            raise AssertionError(
                f"trial {trial.number} is judged before trial {running[0]} has ended: the sampler has another lag"
            )
        view = StudyView(study, [as_it_counts(other) for other in known])
        pruned = self._make().prune(view, as_it_counts(trial))
        revive(study._storage, trial, notes=view.written)  # noqa: SLF001
        return pruned
