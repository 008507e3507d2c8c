"""Tells an MLflow server of each trial: an experiment a search, a run a trial, its parameters, metrics and end."""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue

from seedpod.board import FinishedTrial
from seedpod.events import RunLog
from seedpod.remote.mlflow import MlflowClient, MlflowError
from seedpod.trial import Status, TrialProgress, TrialSpec

log = logging.getLogger(__name__)

_PATIENCE = 20.0  # seconds that the end of a search waits until the server knows everything
_ENDS = {
    Status.COMPLETE: "FINISHED",
    Status.PRUNED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "KILLED",
}


class MlflowLog(RunLog):
    """Tells in a thread of its own: a slow server delays no trial, and one that is away costs only what it would know.

    Args:
        uri: Where the server is.
        experiment: Its experiment's name; made where it is missing.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._tasks: SimpleQueue[Callable[[MlflowClient], None] | None] = SimpleQueue()
        # Of the telling thread alone:
        self._id = ""
        self._runs: dict[int, str] = {}
        self._epochs: dict[int, set[int]] = {}
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def trial_started(self, at: float, spec: TrialSpec) -> None:
        """See RunLog."""
        self._tasks.put(partial(self._start, at, spec))

    def trial_progress(self, at: float, progress: TrialProgress) -> None:
        """See RunLog."""
        self._tasks.put(partial(self._epoch, progress.number, at, {progress.epoch: progress.metrics}))

    def trial_finished(self, at: float, trial: FinishedTrial) -> None:
        """See RunLog."""
        self._tasks.put(partial(self._epoch, trial.spec.number, at, dict(enumerate(trial.result.history, 1))))
        self._tasks.put(partial(self._end, at, trial))

    def close(self) -> None:
        """Wait a while until everything is told; see RunLog."""
        self._tasks.put(None)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            log.warning("MLflow at %s is slow; it does not know everything", self._uri)

    def _work(self) -> None:
        client = MlflowClient(self._uri)
        try:
            while (task := self._tasks.get()) is not None:
                task(client)
        except MlflowError as error:
            log.warning("MLflow: %s; the search goes on without it", error)
        finally:
            client.close()

    def _start(self, at: float, spec: TrialSpec, client: MlflowClient) -> None:
        self._id = self._id or client.experiment(self._experiment)
        tags = {"seedpod.trial": str(spec.number), "seedpod.uid": spec.uid}
        run = client.create_run(self._id, f"trial {spec.number}", at, tags)
        self._runs[spec.number], self._epochs[spec.number] = run, set()
        client.log(run, {**spec.params, "seed": spec.seed, "dataset": spec.dataset})

    def _epoch(
        self, number: int, at: float, epochs: Mapping[int, Mapping[str, float | None]], client: MlflowClient
    ) -> None:
        if number not in self._runs:
            return
        new = {epoch: row for epoch, row in epochs.items() if epoch not in self._epochs[number]}
        self._epochs[number] |= set(new)
        told = [
            (name, value, at, epoch)
            for epoch, row in new.items()
            for name, value in row.items()
            if value is not None and math.isfinite(value)
        ]
        if told:
            client.log(self._runs[number], {}, told)

    def _end(self, at: float, trial: FinishedTrial, client: MlflowClient) -> None:
        run = self._runs.pop(trial.spec.number, None)
        if run is None:
            return
        result = trial.result
        if result.value is not None:
            client.log(run, {}, [("value", result.value, at, result.best_epoch)])
        client.end_run(run, _ENDS[result.status], at)
