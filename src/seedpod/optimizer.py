"""ModelOptimizer: one search, from its settings to its results. Composes the other rooms; their policy is theirs."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from seedpod.backends.local import LocalBackend
from seedpod.board import TrialBoard
from seedpod.clock import Clock, SystemClock
from seedpod.config import OptimizationConfig, to_yaml
from seedpod.errors import (
    ContractMismatch,
    SeedpodError,
    TrialCancelled,
    TrialError,
    TrialPruned,
    TrialStopped,
)
from seedpod.events import Observer, Plan, Summary, summarize
from seedpod.guarded import Guarded
from seedpod.results.run_folder import RunFolder
from seedpod.search.sampler import make_sampler
from seedpod.search.space import ACTIVATIONS, SearchSpace
from seedpod.search.study import Study, Trial, create_study, importances, optimize
from seedpod.training.datasets import DatasetInfo, prepare
from seedpod.training.runtime import usable_cores
from seedpod.trial import (
    ParamValue,
    Status,
    TrialBackend,
    TrialProgress,
    TrialResult,
    TrialSpec,
    check_value,
)

log = logging.getLogger(__name__)


class MakeBackend(Protocol):
    """Makes the backend of a search."""

    def __call__(self, workers: int, cache_dir: Path) -> TrialBackend:
        """For so many trials at once, on the data sets of this folder."""


@dataclass(slots=True)
class _Ending:
    """Why a search ends before its last trial: the first error, or else the first stop."""

    reason: str = ""
    error: BaseException | None = None


class ModelOptimizer:
    """Searches hyperparameters as its settings say.

    Args:
        config: The settings.
        observer: Sees the search go by; one that raises is reported once and the search goes on.
        make_backend: Where trials run; trainer processes of this machine by default.
        clock: Tells the time.
    """

    def __init__(
        self,
        config: OptimizationConfig,
        *,
        observer: Observer | None = None,
        make_backend: MakeBackend = LocalBackend,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._observer = observer or Observer()
        self._clock = clock or SystemClock()
        self._workers = usable_cores() if config.local_workers == "auto" else config.local_workers
        self._cache_dir = Path(config.cache_dir).expanduser()
        # Made now: its processes import Keras while the data set is prepared.
        self._backend = make_backend(self._workers, self._cache_dir)
        self._board = TrialBoard(config.trials, self._clock.now())
        self._ending = Guarded(_Ending())
        self._reported: Guarded[set[str]] = Guarded(set())

    def run(self) -> Summary:
        """Run the whole search, once; its files are written when this returns or raises.

        Raises:
            ConfigError: The data set, the run's name or the folder cannot be used; nothing has run.
            SeedpodError: The results cannot be written.
            Exception: A bug of seedpod; the other trials were cancelled and what is known is saved.
        """
        try:
            data = prepare(self._config.dataset, self._cache_dir)
            name = self._config.run_name or f"{data.id}-{datetime.fromtimestamp(self._clock.now(), UTC):%Y%m%d-%H%M%S}"
            folder = RunFolder.create(
                Path(self._config.results_dir).expanduser(),
                name,
                to_yaml(self._config),
                or_next=not self._config.run_name,
            )
            return self._search(Plan(self._config, data, folder.path, self._workers), folder)
        finally:
            self._backend.close()

    def stop(self, reason: str) -> None:
        """End the search in order: no new trials, running ones cancelled, results saved. Safe from any thread."""
        self._end(reason)

    @property
    def stopped(self) -> str:
        """Why the search was stopped; empty where it was not."""
        with self._ending.locked() as ending:
            return ending.reason

    def _search(self, plan: Plan, folder: RunFolder) -> Summary:
        config = plan.config
        sampler = make_sampler(config.sampler, config.random_seed, config.startup_trials)
        study = create_study(folder.path.name, folder.journal, sampler)
        self._tell("began", plan)
        try:
            optimize(
                study,
                partial(self._objective, _space(plan), plan.data, folder),
                trials=config.trials,
                jobs=plan.workers,
                timeout=config.timeout_hours * 3600 or None,
                stopping=lambda: bool(self.stopped),
            )
        except BaseException as error:  # noqa: BLE001 - saved below, then raised
            self._fail(error)
        summary = self._summary(study, folder.path.name)
        try:
            folder.write_summary(summary)
        except SeedpodError as error:
            self._fail(error)
        self._tell("ended", plan, summary)
        with self._ending.locked() as ending:
            first = ending.error
        if first is not None:
            raise first
        return summary

    def _objective(self, space: SearchSpace, data: DatasetInfo, folder: RunFolder, trial: Trial) -> float:
        """Run one trial for Optuna. A bug is kept besides being raised: the ``n_jobs`` pool loses its last ones."""
        try:
            self._check_stopped()
            return self._run_trial(_spec(self._config, trial.number, space.suggest(trial), data), folder)
        except (TrialError, TrialStopped):
            raise
        except BaseException as error:
            self._fail(error)
            raise

    def _check_stopped(self) -> None:
        if self.stopped:
            raise TrialCancelled(self.stopped)

    def _run_trial(self, spec: TrialSpec, folder: RunFolder) -> float:
        self._board.start(spec, self._clock.now())
        self._tell("progressed", self._board.snapshot())
        error: TrialError | TrialStopped | None = None
        try:
            result = self._backend.run(spec, self._report)
            _check_number(result, spec)
        except TrialError as caught:
            error, result = caught, TrialResult.ended(spec.number, Status.FAILED, caught, backend=self._backend.name)
        except TrialPruned as caught:
            error, result = caught, TrialResult.ended(spec.number, Status.PRUNED, backend=self._backend.name)
        except TrialStopped as caught:
            error, result = caught, TrialResult.ended(spec.number, Status.CANCELLED, backend=self._backend.name)
        finished = self._board.finish(result, self._clock.now())
        if finished is not None:
            folder.write_trial(finished)
            self._tell("finished", finished, self._board.snapshot())
        if error is not None:
            raise error
        return check_value(result.value)

    def _report(self, progress: TrialProgress) -> None:
        if self._board.report(progress):
            self._tell("progressed", self._board.snapshot())

    def _summary(self, study: Study, run: str) -> Summary:
        snapshot = self._board.snapshot()
        ended = sum(snapshot.finished.values())
        outcome = self.stopped or ("done" if ended == snapshot.total else "timeout")
        return summarize(
            run,
            outcome,
            snapshot,
            failures=self._board.failures(),
            importances=importances(study),
            ended_at=self._clock.now(),
        )

    def _fail(self, error: BaseException) -> None:
        """End the search for an error, which ``run`` raises in the end; the first one, and also after a stop."""
        with self._ending.locked() as ending:
            if ending.error is None:
                ending.reason, ending.error = _outcome_of(error), error
        self._backend.cancel_all()

    def _end(self, reason: str) -> None:
        with self._ending.locked() as ending:
            ending.reason = ending.reason or reason
        self._backend.cancel_all()

    def _tell(self, method: str, *facts: object) -> None:
        """Tell the observer; what it raises is reported once for each of its methods."""
        try:
            getattr(self._observer, method)(*facts)
        except Exception:
            with self._reported.locked() as reported:
                first = method not in reported
                reported.add(method)
            if first:
                log.exception("the observer's %s raised; the search goes on", method)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, SeedpodError):
        return "error"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "bug"


def _check_number(result: TrialResult, spec: TrialSpec) -> None:
    if result.number != spec.number:
        raise ContractMismatch(
            f"the backend answered for trial {result.number} where trial {spec.number} was asked. Redeploy the worker "
            f"image from the same version of seedpod as the optimizer."
        )


def _space(plan: Plan) -> SearchSpace:
    config, data = plan.config, plan.data
    return SearchSpace(
        image_shape=data.image_shape,
        train_images=int(sum(data.train_counts) * (1 - config.validation_split)),
        # Early stopping ends what does not improve; a budget far below the maximum would only end what does.
        epochs=(max(config.min_epochs_per_trial, (config.max_epochs_per_trial + 1) // 2), config.max_epochs_per_trial),
        activations=config.activation or ACTIVATIONS,
    )


def _spec(config: OptimizationConfig, number: int, params: dict[str, ParamValue], data: DatasetInfo) -> TrialSpec:
    return TrialSpec(
        number=number,
        dataset=data.id,
        fingerprint=data.fingerprint,
        params=params,
        seed=config.random_seed + number,
        split_seed=config.random_seed,
        objective=config.optimize_for,
        max_epochs=int(params["epochs"]),
        min_epochs=config.min_epochs_per_trial,
        validation_split=config.validation_split,
        max_parameters=config.max_parameters,
        max_seconds=config.max_training_time_minutes * 60,
    )
