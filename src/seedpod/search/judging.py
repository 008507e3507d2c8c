"""How a trial is judged while it trains: its study hears every epoch once, in order, and its pruner may end it."""

from collections.abc import Sequence

from optuna import Trial

from seedpod.errors import TrialPruned


class Judge:
    """Tells a study how one trial learns, and ends the trial where the study's pruner has seen enough.

    Every epoch is judged on what the trial had shown until then, whether it is heard of in its turn, late, twice,
    together with others or only with the trial's end: so the decision is the same wherever the trial runs and however
    its progress travels. For one trial and, at one time, one thread.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._values: list[float | None] = []

    @property
    def values(self) -> tuple[float | None, ...]:
        """The objective after each epoch that was judged."""
        return tuple(self._values)

    @property
    def epochs(self) -> int:
        """Epochs that were judged."""
        return len(self._values)

    def heard(self, values: Sequence[float | None]) -> None:
        """Judge the epochs that were not judged yet.

        Args:
            values: The objective after each epoch so far, from the first; an epoch without a number is not judged.

        Raises:
            TrialPruned: The pruner ends the trial; ``epochs`` says where.
        """
        for value in values[self.epochs :]:
            self._values.append(value)
            if value is None:
                continue
            self._trial.report(value, self.epochs)
            if self._trial.should_prune():
                raise TrialPruned(f"pruned after epoch {self.epochs} at {value:.4f}")
