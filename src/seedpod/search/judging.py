"""How a trial is judged while it trains: its study hears every epoch once, in order, and its pruner may end it."""

from collections.abc import Sequence

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError

from seedpod.errors import TrialPruned, TrialSuperseded
from seedpod.search.attempts import begin_again, report


class Judge:
    """Tells a study how one trial learns, and ends the trial where the study's pruner has seen enough.

    Every epoch is judged on what the trial had shown until then, whether it is heard of in its turn, late, twice,
    together with others or only with the trial's end: so the decision is the same wherever the trial runs and however
    its progress travels. For one trial and, at one time, one thread.
    A trial of several objectives is never pruned: no pruner of Optuna's compares more than one value.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._prunes = len(trial.study.directions) == 1
        self._attempt = 1
        self._values: list[float | None] = []

    @property
    def values(self) -> tuple[float | None, ...]:
        """The objective after each epoch that was judged."""
        return tuple(self._values)

    @property
    def epochs(self) -> int:
        """Epochs that were judged."""
        return len(self._values)

    def heard(self, values: Sequence[float | None], attempt: int | None = None) -> None:
        """Judge the epochs that were not judged yet.

        Args:
            values: The objective after each epoch so far, from the first; an epoch without a number is not judged.
            attempt: Whose epochs they are; what another attempt has shown counts no more. None is the latest.

        Raises:
            TrialPruned: The pruner ends the trial; ``epochs`` says where.
            TrialSuperseded: Another optimizer of a shared study has ended the trial meanwhile.
        """
        if attempt is not None and attempt != self._attempt:
            begin_again(self._trial)
            self._attempt, self._values = attempt, []
        for value in values[self.epochs :]:
            self._values.append(value)
            if value is not None and self._prunes:
                self._judge(value)

    def _judge(self, value: float) -> None:
        try:
            report(self._trial, value, self.epochs)
            hopeless = self._trial.should_prune()
        except UpdateFinishedTrialError as error:
            raise TrialSuperseded("another optimizer has ended it") from error
        if hopeless:
            raise TrialPruned(f"pruned after epoch {self.epochs} at {value:.4f}")
