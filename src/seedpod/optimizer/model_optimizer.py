"""ModelOptimizer: one search, from its settings to its results. Composes the other rooms; their policy is theirs."""

import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from seedpod.backends.local import LocalBackend
from seedpod.board import FinishedTrial, Snapshot, TrialBoard
from seedpod.clock import Clock, SystemClock
from seedpod.config import OptimizationConfig, to_yaml
from seedpod.errors import Cause, ConfigError, EndpointRefused, EndpointUnreachable, SeedpodError, TrialError
from seedpod.events import Observer, Plan, Summary, summarize
from seedpod.guarded import Guarded
from seedpod.money import FREE, Prices, estimate_before, price_of
from seedpod.optimizer.ending import Ending
from seedpod.optimizer.plans import lag_of, local_workers, proposals_of, spec_of
from seedpod.optimizer.running import TrialRunner
from seedpod.progress import ConcurrentProgressAggregator, ProgressCallback
from seedpod.remote.view import JobListener, TellsOfJobs
from seedpod.reporting import Reporter
from seedpod.results.event_log import EventLog, read_spent
from seedpod.results.resuming import check_resumable, decisive
from seedpod.results.run_folder import RunFolder
from seedpod.search.enqueued import read_enqueued
from seedpod.search.importances import importances
from seedpod.search.lease import LeaseRules
from seedpod.search.proposals import Proposals
from seedpod.search.pruner import make_pruner, pruner_terms
from seedpod.search.sampler import make_sampler
from seedpod.search.space_file import read_definition
from seedpod.search.study import (
    BasePruner,
    BaseSampler,
    Ended,
    SearchStudy,
    about_to_end,
    agree,
    close_study,
    ended_trials,
    left_to_run,
    open_study,
    optimize,
    take_up_open,
)
from seedpod.tracking import trackers
from seedpod.training.datasets import DatasetInfo, found, prepare
from seedpod.trial import Status, TrialBackend, TrialFailure, TrialResult

log = logging.getLogger(__name__)

_LIMITS = frozenset({"", "timeout", "max_cost"})  # ways to end after which somebody waits for what mattered
_LOOK = 1.0  # seconds between looks at what other optimizers of a shared study have done
_OWNER = f"{socket.gethostname()}:{os.getpid()}"


class MakeBackend(Protocol):
    """Makes the backend of a search."""

    def __call__(self, *, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:
        """For so many trials at once on this machine, on the data sets of this folder, with this ledger of jobs."""


def local_backend(
    *,
    workers: int,
    cache_dir: Path,
    jobs: Path,  # noqa: ARG001 - a local job is a process
    memory_mb: float | None = None,
) -> TrialBackend:
    """Trainer processes of this machine, which together may hold so many MB."""
    return LocalBackend(workers, cache_dir, memory_mb=memory_mb)


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
        owner: ``host:pid``, this optimizer's name in a shared study.
        lease: When another optimizer of a shared study is taken for dead.
    """

    def __init__(
        self,
        config: OptimizationConfig,
        *,
        observer: Observer | None = None,
        progress_callback: ProgressCallback | None = None,
        make_backend: MakeBackend | None = None,
        clock: Clock | None = None,
        owner: str = _OWNER,
        lease: LeaseRules | None = None,
    ) -> None:
        self._definition = read_definition(config)
        self._enqueued = read_enqueued(config)
        self._owner = owner
        self._lease = lease
        self._config = config
        self._observer = observer or Observer()
        self._callback = progress_callback
        self._clock = clock or SystemClock()
        self._make_backend = make_backend or partial(local_backend, memory_mb=config.memory_limit_mb)
        self._began = self._clock.now()
        self._board = TrialBoard(config.trials, self._began, config.weight_of_health)
        self._ending = Ending()
        self._price = price_of(config)
        self._study: SearchStudy | None = None  # once trials run
        self._at: Guarded[list[Path]] = Guarded([])  # the run's folder, once it is known

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
        with self._at.locked() as at:
            at.append(folder.path)
        if not self._config.storage:  # those who share a storage may share the folder: each writes its own trials
            folder.lock()
        try:
            if not new:
                check_resumable(folder.path.name, folder.config_file, self._config)
            self._board.charge(read_spent(folder.events))
            directions = [str(objective.direction) for objective in self._config.objectives]
            study = open_study(folder.path.name, self._config.storage, folder.journal, self._owner, directions)
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
        made_up = f"{_stem(config.dataset)}-{datetime.fromtimestamp(self._clock.now(), UTC):%Y%m%d-%H%M%S}"
        name = config.run_name or made_up
        return RunFolder.create(results_dir, name, to_yaml(config), or_next=not config.run_name), True

    def _with_backend(self, folder: RunFolder, study: SearchStudy) -> Summary:
        cache_dir = Path(self._config.cache_dir).expanduser()
        # The backend first: its processes import Keras while the data set is prepared.
        backend = self._make_backend(workers=local_workers(self._config), cache_dir=cache_dir, jobs=folder.jobs)
        try:
            self._ending.will_cancel(backend)
            here = backend.name == LocalBackend.name  # also where an endpoint was asked for and cannot be used
            cost = "" if here else estimate_before(self._config, self._price, self._config.trials)
            data = prepare(self._config.dataset, cache_dir, self._config.reading, self._preparing)
            images = found(data.id, cache_dir)
            plan = Plan(self._config, data, folder.path, backend.at_once, cost, images)
            proposals = proposals_of(self._config, plan.data, self._definition, self._enqueued)
            study.sampler, study.pruner = self._search_by(study, plan.data, proposals)
            recorded = self._recorded(folder, plan.data)
            folder.write_config(to_yaml(self._config))
            folder.write_left_out(images)
            self._take_up(study, recorded, folder, plan.data, proposals)
            over = frozenset(trial.spec.uid for trial in recorded.values())
            return self._search(plan, study, backend, folder, proposals=proposals, over=over)
        finally:
            backend.close()

    def _preparing(self, what: str, done: int, total: int) -> None:
        try:
            self._observer.preparing(what, done, total)
        except Exception:
            log.debug("the observer raises while the data set is prepared", exc_info=True)

    def stop(self, reason: str) -> None:
        """End the search in order: no new trials, running ones cancelled, results saved. Safe from any thread."""
        self._ending.stop(reason)

    def importances(self) -> Mapping[str, float]:
        """Share of each hyperparameter in the value so far, largest first; empty where that is not known.

        Safe from any thread while the search runs; takes the longer the more trials there are.
        """
        return {} if self._study is None else importances(self._study, so_far=True)

    @property
    def folder(self) -> Path | None:
        """Where the results are; None before that is known. Safe from any thread."""
        with self._at.locked() as at:
            return at[-1] if at else None

    @property
    def stopped(self) -> str:
        """Why the search was stopped; empty where it was not."""
        return self._ending.reason

    def _search_by(self, study: SearchStudy, data: DatasetInfo, proposals: Proposals) -> tuple[BaseSampler, BasePruner]:
        """What proposes trials and what ends hopeless ones, under the lag that all runs of the study agree on."""
        config = self._config
        terms = {
            **decisive(config),
            "fingerprint": data.fingerprint,
            **proposals.terms,
            **pruner_terms(config.pruner),
        }
        lag = agree(study, terms, lag_of(config), any_lag=config.search_lag == "auto")
        look = _LOOK if config.storage else None
        epochs = config.min_epochs_per_trial, config.max_epochs_per_trial * config.cv_folds
        return (
            make_sampler(config.sampler, config.random_seed, config.startup_trials, lag, look),
            make_pruner(config.pruner, epochs, lag),
        )

    def _recorded(self, folder: RunFolder, data: DatasetInfo) -> dict[int, FinishedTrial]:
        """The trials of an earlier run of this folder that have a record, by number."""
        recorded = folder.read_trials()
        other = next((t for t in recorded.values() if t.spec.fingerprint != data.fingerprint), None)
        if other is not None:
            raise ConfigError(
                f"dataset={self._config.dataset}: its images are not those that trial {other.spec.number} of run "
                f"{folder.path.name} was trained on. Bring those back, or choose another run_name."
            )
        ended = {n: t for n, t in recorded.items() if t.result.status is not Status.CANCELLED}
        if self._config.trials < len(ended) and not self._config.storage:  # a shared study may have got more elsewhere
            raise ConfigError(
                f"trials={self._config.trials}: run {folder.path.name} has {len(ended)} trials already; give more, or "
                f"leave trials out."
            )
        return ended

    def _take_up(
        self,
        study: SearchStudy,
        recorded: dict[int, FinishedTrial],
        folder: RunFolder,
        data: DatasetInfo,
        proposals: Proposals,
    ) -> None:
        """Go on where an earlier run of this folder ended: nothing of it runs twice, nothing of it is lost."""
        weight = self._config.weight_of_health
        told = {n: Ended(t.result.status, t.result.scores(weight), t.spec.params) for n, t in recorded.items()}
        take_up_open(study, told, _is_alive)
        for number, ended in sorted(ended_trials(study).items()):
            if number in recorded:
                self._board.restore(recorded[number])
            elif not self._config.storage:  # in a shared study it may be another machine's
                known = replace(ended, params=proposals.space.complete(ended.params))
                self._board.restore(self._rewritten(number, known, folder, data))

    def _rewritten(self, number: int, ended: Ended, folder: RunFolder, data: DatasetInfo) -> FinishedTrial:
        """A trial whose record is lost, written again as far as the study knows it."""
        lost = TrialError("its record was lost", cause=Cause.EXCEPTION) if ended.status is Status.FAILED else None
        failure = None if lost is None else TrialFailure.of(lost)
        value, *further = ended.values or (None,)
        result = TrialResult(number, ended.status, value, further=tuple(further), backend="unknown", error=failure)
        now = self._clock.now()
        trial = FinishedTrial(spec_of(self._config, number, dict(ended.params), data), result, now, now)
        folder.write_trial(trial)
        log.warning(
            "trial %d has lost its record; what the study knows of it was written again%s",
            number,
            ", its value being that of the objective and the health together" if self._config.weight_of_health else "",
        )
        return trial

    def _search(
        self,
        plan: Plan,
        study: SearchStudy,
        backend: TrialBackend,
        folder: RunFolder,
        *,
        proposals: Proposals,
        over: frozenset[str],
    ) -> Summary:
        self._board.limit(proposals.total)
        before = self._board.snapshot()
        plan = replace(plan, before=before if any(before.finished.values()) else None)
        aggregator = self._aggregator_for(backend)
        reporter = self._reporter_for(backend, folder, aggregator)
        self._ending.will_stop(study, reporter)
        self._study = study
        runner = TrialRunner(
            plan=plan,
            proposals=proposals,
            study=study,
            backend=backend,
            folder=folder,
            board=self._board,
            reporter=reporter,
            aggregator=aggregator,
            ending=self._ending,
            prices=Prices(self._price),
            clock=self._clock,
            began=self._began,
        )
        try:
            reporter.began(plan)
            ahead = 0
            if isinstance(backend, TellsOfJobs):
                backend.listen(JobListener(ending=partial(about_to_end, study), late=runner.late), over)
                ahead = plan.workers
            self._optimize(study, runner, plan.workers, ahead)
            return self._ended(plan, self._summary(folder, before), folder, reporter)
        finally:
            reporter.close()
            reporter.let_go()

    def _optimize(self, study: SearchStudy, runner: TrialRunner, workers: int, ahead: int) -> None:
        runner.check_failures()
        optimize(
            study,
            runner.objective,
            trials=left_to_run(study, self._board.snapshot().total),
            jobs=workers,
            ahead=ahead,
            lease=self._lease,
            timeout=self._config.timeout_hours * 3600 or None,
            stopping=lambda: bool(self.stopped),
            failed=self._ending.fail,
        )

    def _ended(self, plan: Plan, summary: Summary, folder: RunFolder, reporter: Reporter) -> Summary:
        try:
            folder.write_summary(summary)  # before what takes long, lest somebody loses the patience for it
            if self.stopped in _LIMITS and self._study is not None:
                summary = replace(summary, importances=importances(self._study))
                folder.write_summary(summary)
        except SeedpodError as error:
            self._ending.fail(error)
        reporter.ended(plan, summary)
        if self._ending.error is not None:
            raise self._ending.error
        return summary

    def _aggregator_for(self, backend: TrialBackend) -> ConcurrentProgressAggregator:
        price = FREE if backend.name == LocalBackend.name else self._price
        return ConcurrentProgressAggregator(
            at_once=backend.at_once,
            backend=backend.name,
            per_second=None if price is None else price.per_second,
            limit=self._config.max_cost or None,
        )

    def _reporter_for(
        self, backend: TrialBackend, folder: RunFolder, aggregator: ConcurrentProgressAggregator
    ) -> Reporter:
        return Reporter(
            board=self._board,
            clock=self._clock,
            observer=self._observer,
            callback=self._callback,
            aggregator=aggregator,
            logs=[EventLog(folder.events), *trackers(self._config, folder.path)],
            backend=backend,
        )

    def _summary(self, folder: RunFolder, before: Snapshot) -> Summary:
        """How the search ended; where nothing was left to do, with the times of the run that did it."""
        snapshot = self._board.snapshot()
        ended = sum(snapshot.finished.values())
        ran = "exhausted" if snapshot.total < self._config.trials else "done"
        outcome = self.stopped or ("timeout" if self._config.timeout_hours and ended < snapshot.total else ran)
        summary = summarize(
            folder.path.name,
            outcome,
            snapshot,
            failures=self._board.failures(),
            limits=self._board.failures(Status.PRUNED),
            importances={},
            ended_at=self._clock.now(),
        )
        times = None if before.queued else folder.read_times()
        return summary if times is None else replace(summary, started_at=times[0], ended_at=times[1])


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


def _stem(dataset: str) -> str:
    """What a run on a data set is called where nobody names it."""
    name = Path(dataset.partition("?")[0]).expanduser().resolve().stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:60] or "images"
