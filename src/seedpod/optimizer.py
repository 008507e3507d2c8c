"""ModelOptimizer: one search, from its settings to its results. Composes the other rooms; their policy is theirs."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from seedpod.backends.local import LocalBackend
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.clock import Clock, SystemClock
from seedpod.config import OptimizationConfig, to_yaml
from seedpod.errors import (
    Cause,
    ConfigError,
    ContractMismatch,
    EndpointRefused,
    EndpointUnreachable,
    SeedpodError,
    TrialCancelled,
    TrialError,
    TrialPruned,
    TrialStopped,
)
from seedpod.events import Observer, Plan, Summary, summarize
from seedpod.guarded import Guarded
from seedpod.money import FREE, estimate_before, price_of
from seedpod.progress import ConcurrentProgressAggregator, ProgressCallback
from seedpod.reporting import Reporter
from seedpod.results.event_log import EventLog, read_spent
from seedpod.results.resuming import check_resumable, decisive
from seedpod.results.run_folder import RunFolder
from seedpod.search.sampler import make_sampler
from seedpod.search.space import ACTIVATIONS, SearchSpace
from seedpod.search.study import (
    BaseSampler,
    Ended,
    SearchStudy,
    Trial,
    agree,
    close_study,
    ended_trials,
    importances,
    left_to_run,
    open_study,
    optimize,
    stop_waiting,
    suggest,
    take_up_open,
)
from seedpod.training.datasets import DatasetInfo, prepare
from seedpod.training.runtime import usable_cores
from seedpod.trial import (
    ParamValue,
    Status,
    TrialBackend,
    TrialFailure,
    TrialProgress,
    TrialResult,
    TrialSpec,
    check_value,
)

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks at what other optimizers of a shared study have done
_OWNER = f"{socket.gethostname()}:{os.getpid()}"


class MakeBackend(Protocol):
    """Makes the backend of a search."""

    def __call__(self, *, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:
        """For so many trials at once on this machine, on the data sets of this folder, with this ledger of jobs."""


def local_backend(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - a local job is a process
    """Trainer processes of this machine."""
    return LocalBackend(workers, cache_dir)


@dataclass(slots=True)
class _Ending:
    """Why a search ends before its last trial: the first error, or else the first stop."""

    reason: str = ""
    error: BaseException | None = None
    study: SearchStudy | None = None
    backend: TrialBackend | None = None
    reporter: Reporter | None = None


@dataclass(frozen=True, slots=True)
class _Way:
    """What a trial goes through."""

    backend: TrialBackend
    folder: RunFolder
    reporter: Reporter


class ModelOptimizer:
    """Searches hyperparameters as its settings say.

    Args:
        config: The settings.
        observer: Sees the search go by; one that raises is reported once and the search goes on.
        progress_callback: Gets the search at a glance, in order and never two at once, in a thread of its own: after
            changes, each second without one, and at the end. A slow one delays nothing and is told what is newest; one
            that raises is reported once and the search goes on.
        make_backend: Where trials run; trainer processes of this machine by default.
        clock: Tells the time.
    """

    def __init__(
        self,
        config: OptimizationConfig,
        *,
        observer: Observer | None = None,
        progress_callback: ProgressCallback | None = None,
        make_backend: MakeBackend = local_backend,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._observer = observer or Observer()
        self._callback = progress_callback
        self._clock = clock or SystemClock()
        self._make_backend = make_backend
        self._began = self._clock.now()
        self._board = TrialBoard(config.trials, self._began)
        self._ending = Guarded(_Ending())
        self._price = price_of(config)
        self._aggregator = ConcurrentProgressAggregator()
        self._starting = Guarded([0])  # trials that were let start, one after the other

    def run(self) -> Summary:
        """Run the whole search, once, or what is left of it; its files are written when this returns or raises.

        Raises:
            ConfigError: The data set, the run's name or the folder cannot be used, or a setting differs from what an
                earlier run of that name had; nothing has run.
            EndpointRefused, EndpointUnreachable: The endpoint cannot be used any more; what is known is saved.
            SeedpodError: The results or the study cannot be read or written.
            Exception: A bug of seedpod; the other trials were cancelled and what is known is saved.
        """
        folder, new = self._folder()
        if not self._config.storage:  # those who share a storage may share the folder: each writes its own trials
            folder.lock()
        try:
            if not new:
                check_resumable(folder.path.name, folder.config_file, self._config)
            self._board.charge(read_spent(folder.events))
            study = open_study(folder.path.name, self._config.storage, folder.journal, _OWNER)
            try:
                return self._with_backend(folder, study)
            finally:
                close_study(study)
        except (ConfigError, EndpointRefused, EndpointUnreachable):
            if new:
                folder.remove()
            raise
        finally:
            folder.unlock()

    def _folder(self) -> tuple[RunFolder, bool]:
        """The run's folder, and whether it is new."""
        config = self._config
        results_dir = Path(config.results_dir).expanduser()
        if config.run_name and (results_dir / config.run_name / "config.yaml").is_file():
            return RunFolder(results_dir / config.run_name), False
        made_up = f"{Path(config.dataset).stem}-{datetime.fromtimestamp(self._clock.now(), UTC):%Y%m%d-%H%M%S}"
        name = config.run_name or made_up
        return RunFolder.create(results_dir, name, to_yaml(config), or_next=not config.run_name), True

    def _with_backend(self, folder: RunFolder, study: SearchStudy) -> Summary:
        cache_dir = Path(self._config.cache_dir).expanduser()
        # The backend first: its processes import Keras while the data set is prepared.
        backend = self._make_backend(workers=_local_workers(self._config), cache_dir=cache_dir, jobs=folder.jobs)
        try:
            with self._ending.locked() as ending:
                ending.backend = backend
            cost = estimate_before(self._config, self._price, self._config.trials)
            plan = Plan(self._config, prepare(self._config.dataset, cache_dir), folder.path, backend.at_once, cost)
            study.sampler = self._sampler(study, plan.data)
            recorded = self._recorded(folder, plan.data)
            folder.write_config(to_yaml(self._config))
            self._take_up(study, recorded, folder, plan.data)
            return self._search(plan, study, backend, folder)
        finally:
            backend.close()

    def stop(self, reason: str) -> None:
        """End the search in order: no new trials, running ones cancelled, results saved. Safe from any thread."""
        self._end(reason)

    def importances(self) -> Mapping[str, float]:
        """Share of each hyperparameter in the value so far, largest first; empty where that is not known.

        Safe from any thread while the search runs; takes the longer the more trials there are.
        """
        with self._ending.locked() as ending:
            study = ending.study
        return {} if study is None else importances(study, so_far=True)

    @property
    def stopped(self) -> str:
        """Why the search was stopped; empty where it was not."""
        with self._ending.locked() as ending:
            return ending.reason

    def _sampler(self, study: SearchStudy, data: DatasetInfo) -> BaseSampler:
        config = self._config
        terms = {**decisive(config), "fingerprint": data.fingerprint}
        lag = agree(study, terms, _lag(config), any_lag=config.search_lag == "auto")
        look = _LOOK if config.storage else None
        return make_sampler(config.sampler, config.random_seed, config.startup_trials, lag, look)

    def _recorded(self, folder: RunFolder, data: DatasetInfo) -> dict[int, FinishedTrial]:
        """The trials of an earlier run of this folder that have a record, by number."""
        recorded = folder.read_trials()
        other = next((t for t in recorded.values() if t.spec.fingerprint != data.fingerprint), None)
        if other is not None:
            raise ConfigError(
                f"dataset={self._config.dataset}: its images are not those that trial {other.spec.number} of run "
                f"{folder.path.name} was trained on. Bring those back, or choose another run_name."
            )
        return {n: t for n, t in recorded.items() if t.result.status is not Status.CANCELLED}

    def _take_up(
        self, study: SearchStudy, recorded: dict[int, FinishedTrial], folder: RunFolder, data: DatasetInfo
    ) -> None:
        """Go on where an earlier run of this folder ended: nothing of it runs twice, nothing of it is lost."""
        told = {n: Ended(t.result.status, t.result.value, t.spec.params) for n, t in recorded.items()}
        take_up_open(study, told, _is_alive)
        for number, ended in sorted(ended_trials(study).items()):
            if number in recorded:
                self._board.restore(recorded[number])
            elif not self._config.storage:  # in a shared study it may be another machine's
                self._board.restore(self._rewritten(number, ended, folder, data))

    def _rewritten(self, number: int, ended: Ended, folder: RunFolder, data: DatasetInfo) -> FinishedTrial:
        """A trial whose record is lost, written again as far as the study knows it."""
        lost = TrialError("its record was lost", cause=Cause.EXCEPTION) if ended.status is Status.FAILED else None
        failure = None if lost is None else TrialFailure.of(lost)
        result = TrialResult(number, ended.status, ended.value, backend="unknown", error=failure)
        now = self._clock.now()
        trial = FinishedTrial(_spec(self._config, number, dict(ended.params), data), result, now, now)
        folder.write_trial(trial)
        log.warning("trial %d has lost its record; what the study knows of it was written again", number)
        return trial

    def _search(self, plan: Plan, study: SearchStudy, backend: TrialBackend, folder: RunFolder) -> Summary:
        self._aggregator = self._aggregator_for(backend)
        reporter = self._reporter_for(backend, folder)
        with self._ending.locked() as ending:
            ending.study, ending.reporter = study, reporter
        if self.stopped:  # before there was a study whose trials could be told
            stop_waiting(study)
        try:
            return self._searched(plan, study, _Way(backend, folder, reporter))
        finally:
            reporter.close()

    def _searched(self, plan: Plan, study: SearchStudy, way: _Way) -> Summary:
        config, folder, reporter = plan.config, way.folder, way.reporter
        reporter.began(plan)
        self._check_failures()
        optimize(
            study,
            partial(self._objective, _space(plan), plan.data, way),
            trials=left_to_run(study, config.trials),
            jobs=plan.workers,
            timeout=config.timeout_hours * 3600 or None,
            stopping=lambda: bool(self.stopped),
            failed=self._fail,
        )
        summary = self._summary(study, folder.path.name)
        try:
            folder.write_summary(summary)
        except SeedpodError as error:
            self._fail(error)
        reporter.ended(plan, summary)
        with self._ending.locked() as ending:
            first = ending.error
        if first is not None:
            raise first
        return summary

    def _aggregator_for(self, backend: TrialBackend) -> ConcurrentProgressAggregator:
        price = FREE if backend.name == LocalBackend.name else self._price
        return ConcurrentProgressAggregator(
            at_once=backend.at_once,
            backend=backend.name,
            per_second=None if price is None else price.per_second,
            limit=self._config.max_cost or None,
        )

    def _reporter_for(self, backend: TrialBackend, folder: RunFolder) -> Reporter:
        return Reporter(
            board=self._board,
            clock=self._clock,
            observer=self._observer,
            callback=self._callback,
            aggregator=self._aggregator,
            events=EventLog(folder.events),
            backend=backend,
        )

    def _objective(self, space: SearchSpace, data: DatasetInfo, way: _Way, trial: Trial) -> float:
        """Run one trial for ``optimize``."""
        self._check_stopped()
        return self._run_trial(_spec(self._config, trial.number, suggest(space, trial), data), way)

    def _check_stopped(self) -> None:
        if self._overtime() and not self.stopped:
            self._end("timeout", cancel=False)
        if self.stopped:
            raise TrialCancelled(self.stopped)

    def _start(self, spec: TrialSpec) -> None:
        """Let a trial start, unless it would pass ``max_cost``; one decides after the other, each with its elders."""
        with self._starting.locked() as started:
            now = self._clock.now()
            fits = self._aggregator.next_trial_fits(self._board.snapshot(), now)
            if fits:
                started[0] += 1
                self._board.start(spec, now)
        if not fits:
            self._end("max_cost", cancel=False)
            raise TrialCancelled(f"another trial would cost more than max_cost={self._config.max_cost:g} USD allows")

    def _run_trial(self, spec: TrialSpec, way: _Way) -> float:
        backend, folder = way.backend, way.folder
        self._start(spec)
        way.reporter.started(spec)
        error: TrialError | TrialStopped | None = None
        try:
            result = backend.run(spec, partial(self._report, way.reporter))
            _check_number(result, spec)
        except (TrialError, TrialStopped) as caught:
            error, result = caught, _ended(spec.number, caught, backend.name)
        result = replace(result, cost=0.0 if self._price is None else self._price.cost(result.run))
        if isinstance(error, EndpointRefused | EndpointUnreachable):
            self._fail(error)  # no trial would fare better
            error = TrialCancelled(error.message)
        finished = self._board.finish(result, self._clock.now())
        if finished is not None:
            if result.status is not Status.CANCELLED:  # that one has not ended: it is to go on one day
                folder.write_trial(finished)
            way.reporter.finished(finished)
        self._check_failures()
        if error is not None:
            raise error
        return check_value(result.value)

    def _check_failures(self) -> None:
        most = self._config.max_failures
        if most and self._board.snapshot().finished[Status.FAILED] >= most:
            self._end(f"{most} failed trials (max_failures)")

    def _overtime(self) -> bool:
        """Whether no trial may start any more; a trial may have waited for others since Optuna looked at the time."""
        limit = self._config.timeout_hours * 3600
        return bool(limit) and self._clock.now() - self._began > limit

    def _report(self, reporter: Reporter, progress: TrialProgress) -> None:
        if self._board.report(progress, self._clock.now()):
            reporter.progressed(progress)

    def _summary(self, study: SearchStudy, run: str) -> Summary:
        snapshot = self._board.snapshot()
        ended = sum(snapshot.finished.values())
        outcome = self.stopped or ("timeout" if self._config.timeout_hours and ended < snapshot.total else "done")
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
        self._cancel_all()

    def _end(self, reason: str, *, cancel: bool = True) -> None:
        with self._ending.locked() as ending:
            first, reporter = not ending.reason, ending.reporter
            ending.reason = ending.reason or reason
        if first and reporter is not None:
            reporter.stopping(reason)
        self._cancel_all(running=cancel)

    def _cancel_all(self, *, running: bool = True) -> None:
        with self._ending.locked() as ending:
            study, backend = ending.study, ending.backend
        if study is not None:
            stop_waiting(study)
        if backend is not None and running:
            backend.cancel_all()


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, EndpointRefused | EndpointUnreachable):
        return "endpoint"
    if isinstance(error, SeedpodError):
        return "error"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "bug"


def _check_number(result: TrialResult, spec: TrialSpec) -> None:
    if result.number != spec.number:
        error = ContractMismatch(
            f"the backend answered for trial {result.number} where trial {spec.number} was asked. Redeploy the worker "
            f"image from the same version of seedpod as the optimizer."
        )
        error.run = dict(result.run)  # it was billed all the same
        raise error


def _ended(number: int, error: TrialError | TrialStopped, backend: str) -> TrialResult:
    """The result of a trial that ended in an error; one that lost its endpoint was not at fault."""
    lost = isinstance(error, EndpointRefused | EndpointUnreachable | TrialStopped)
    status = Status.PRUNED if isinstance(error, TrialPruned) else Status.CANCELLED if lost else Status.FAILED
    failure = error if isinstance(error, TrialError) and status is Status.FAILED else None
    attempts = error.run.get("attempt", 1)
    return TrialResult.ended(
        number, status, failure, backend=error.backend or backend, run=error.run, attempts=int(attempts)
    )


def _is_alive(owner: str) -> bool:
    """Whether another optimizer of a shared study lives; one on another machine is taken to."""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _local_workers(config: OptimizationConfig) -> int:
    """Trials at once on this machine: as asked, or as the cores and a reproducible search allow."""
    if config.local_workers != "auto":
        return config.local_workers
    cores = usable_cores()
    return min(cores, config.search_lag) if config.reproducible and config.search_lag != "auto" else cores


def _lag(config: OptimizationConfig) -> int | None:
    """The lag that these settings ask for; by them alone, wherever trials come to run in the end."""
    if not config.reproducible:
        return None
    if config.search_lag != "auto":
        return config.search_lag
    if not config.use_runpod_service:
        return _local_workers(config)
    return config.concurrent_workers if config.concurrent else 1


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
