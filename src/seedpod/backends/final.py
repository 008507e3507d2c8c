"""The final model as a job of the endpoint: its file comes back by the store, what is known of it by the job's output.

The test images stay here, so that measuring is not the worker's business.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedpod.backends.runpod import Endpoint, JobRules, read_end, read_progress
from seedpod.backends.sending import Addresses
from seedpod.errors import BackendError, ContractMismatch, JobFailed, JobOverdue, TrialStopped
from seedpod.remote.store import DataStore
from seedpod.remote.wire import JobState, JobStatus
from seedpod.training.tasks import FinalTask
from seedpod.trial import KeepModel, Report, TrialRequest, TrialSpec, Wire

_MARGIN = 5.0  # seconds by which the worker's own deadline comes before the endpoint's
_TTL_MARGIN = 60.0  # seconds by which the endpoint forgets a job later than we give it up
_LOOK = 1.0  # seconds between looks at the job
_KINDS: Mapping[str, Any] = {
    "form": dict,
    "class_names": list,
    "train_images": int,
    "history": list,
    "parameters": int,
    "model": dict,
    "environment": dict,
    "seconds": int | float,
}


class RemoteFinal:
    """Trains final models on an endpoint. ``cancel_all`` is safe from any thread.

    Args:
        endpoint: The endpoint, behind its gate.
        store: Where the model's file comes back by.
        data: Where workers get the data set from.
        rules: How long a job may take, and how often it is tried.
        say: Gets a line for the user.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        store: DataStore,
        data: Addresses,
        rules: JobRules,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._data = data
        self._rules = rules
        self._say = say
        self._stopped = [False]

    def train(self, task: FinalTask, report: Report) -> Wire:
        """Train a final model and write its file; what ``train_final`` tells, but for the test.

        Raises:
            TrainingError: The training failed.
            BackendError: The way to the worker, or back, failed.
            TrialStopped: ``cancel_all`` was called.
        """
        for attempt in range(1, self._rules.retries + 2):
            try:
                return self._try(task, attempt, report)
            except BackendError as error:
                if not error.retryable or attempt > self._rules.retries:
                    raise
                self._say(f"the final model is tried again: {error.message}")
        raise AssertionError("the loop returns or raises")

    def cancel_all(self) -> None:
        """End the job, and refuse what comes."""
        self._stopped[0] = True
        self._endpoint.cancel_waiting()

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _try(self, task: FinalTask, attempt: int, report: Report) -> Wire:
        limit, name = self._rules.timeout, f"{secrets.token_hex(16)}.keras"
        life = limit + _TTL_MARGIN
        request = TrialRequest(
            task.spec,
            attempt,
            max(1.0, limit - _MARGIN),
            self._data(task.spec, attempt, life, lambda: self._stopped[0]),
            KeepModel(task.epochs, task.on_all, self._store.url(name, life, put=True)),
        )
        job = self._endpoint.run(request.to_wire(), execution_timeout=limit, ttl=life)
        self._say(f"the final model trains on the endpoint, as job {job}")
        ended = False
        try:
            status = self._end_of(job, task.spec, attempt, report)
            ended = True
        finally:
            if not ended:
                self._cancel(job)
        found = _found(task.spec, status)
        self._store.take(name, Path(task.path))
        self._store.remove(name)
        if _sha256(Path(task.path)) != found["model"].get("sha256"):
            raise JobFailed(f"job {job}: the model that came back is not the one that was sent.")
        return found

    def _end_of(self, job: str, spec: TrialSpec, attempt: int, report: Report) -> JobStatus:
        seen, waited = 0, 0.0
        while True:
            self._endpoint.pause(_LOOK)
            waited += _LOOK
            status = self._endpoint.status(job)
            if status.state.ended:
                return status
            progress = read_progress(spec, attempt, status.output) if status.state is JobState.IN_PROGRESS else None
            if progress is not None and progress.sequence > seen:
                seen = progress.sequence
                report(replace(progress, backend="runpod", worker=status.worker_id))
            if waited > self._rules.timeout + _TTL_MARGIN:
                raise JobOverdue(f"job {job} of the final model is still {status.state} after {waited:.0f} s.")

    def _cancel(self, job: str) -> None:
        try:
            self._endpoint.cancel(job)
        except (BackendError, TrialStopped) as error:
            self._say(f"job {job} could not be cancelled and may still run: {error}")


def _found(spec: TrialSpec, status: JobStatus) -> Wire:
    """What a job has found; raises what its end stands for otherwise."""
    found = status.output.get("final") if isinstance(status.output, dict) else None
    if status.state is not JobState.COMPLETED or found is None:
        read_end(spec, status)
        raise ContractMismatch(f"job {status.id} has trained a trial and kept no model. Run deploy.sh again.")
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in _KINDS.items()):
        raise ContractMismatch(f"job {status.id} tells too little of its final model. Run deploy.sh again.")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
