"""Every error that seedpod raises on purpose.

::

    SeedpodError
    ├── ConfigError               the run never starts; exit code 2
    │   └── DatasetError          the data set is missing, damaged or not usable
    ├── FinalModelError           the search is done and saved, its final model is not; exit code 4
    ├── TrialError                fails its trial alone; carries its Cause
    │   ├── TrainingError         the model, its data or its process failed
    │   └── BackendError          the way to the trainer failed; may be tried again
    │       ├── EndpointUnreachable   no usable answer: name, network, TLS, time-out, 5xx
    │       │   ├── EndpointBusy      429: over its limits; carries Retry-After
    │       │   ├── BreakerOpen       not even asked: it failed too often of late
    │       │   └── PerhapsSubmitted  a job was sent and may exist: a second try may be its twin
    │       ├── EndpointRefused       bad key, unknown endpoint: never retried
    │       ├── RequestRefused        this one request is malformed or too large: never retried
    │       ├── JobGone               the endpoint no longer knows the job: its retention or TTL is over
    │       ├── JobFailed             the endpoint ended the job without a result
    │       ├── JobOverdue            the job took longer than it may, the queue included: never retried
    │       └── ContractMismatch      the two sides speak different schemas: redeploy the image
    └── TrialStopped              asked for from above, no failure
        ├── TrialCancelled        the search is stopping
        ├── TrialSuperseded       another optimizer of the study has taken it up
        └── TrialPruned           the pruner has seen enough

Messages say what happened, where to look and what to do. Anything else that reaches the top is a bug: the other trials
are cancelled, what is known is saved, and it propagates with its traceback.
"""

from enum import StrEnum


class Cause(StrEnum):
    """Why a trial failed, or which limit pruned it: what trials are grouped by in records and the closing summary."""

    DIVERGED = "diverged"  # loss not finite
    DEADLINE = "deadline"  # over max_training_time_minutes: pruned; failed where its trainer no longer answered
    TOO_LARGE = "too_large"  # over max_parameters or max_model_mb
    HOPELESS = "hopeless"  # under min_accuracy_threshold: pruned
    IMPOSSIBLE = "impossible"  # the configuration does not fit the images
    OUT_OF_MEMORY = "out_of_memory"
    PROCESS_DIED = "process_died"  # by a signal or an exit code
    PROCESS_START = "process_start"  # a trainer process never became ready
    DATA = "data"  # the trainer's data set is missing or not the one asked for
    TRANSFER = (
        "transfer"  # the worker could not fetch its data set, or send its model: address expired, connection lost
    )
    EXCEPTION = "exception"  # raised by the training code or a library under it
    BAD_VALUE = "bad_value"  # not a finite number in the objective's range
    CONTRACT = "contract"  # a message of the other side breaks the schema
    ENDPOINT = "endpoint"  # the endpoint could not be reached, or refused, or lost the job


class SeedpodError(Exception):
    """Base of all errors that seedpod raises on purpose."""


class ConfigError(SeedpodError):
    """A setting, or a combination of them, that cannot be run."""


class DatasetError(ConfigError):
    """A data set that is missing, damaged or not usable."""


class FinalModelError(SeedpodError):
    """The final model could not be trained, kept, measured or exported; the search and its results are not touched."""


class TrialError(SeedpodError):
    """Fails its trial and no other.

    Args:
        message: One sentence: what happened, where, what to do.
        cause: The group that it counts under.
        detail: Last frames or last output, for the record; may be empty.
    """

    retryable = False
    """Whether the same spec may succeed when it is run again."""

    def __init__(self, message: str, *, cause: Cause, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.detail = detail
        self.run: dict[str, bool | int | float | str] = {}
        """Where it ran, as far as that is known: worker, job, attempt, seconds."""
        self.backend = ""
        """Name of the backend that ran it, where the search's backend is made of several; else empty."""
        self.values: tuple[float | None, ...] = ()
        """The objective after each epoch that went before, where the backend's reports may lack some."""


class TrainingError(TrialError):
    """The model, its data or its process failed; the same spec would fail again."""


class BackendError(TrialError):
    """The way to the trainer failed, not the training."""

    retryable = True

    def __init__(self, message: str, *, cause: Cause = Cause.ENDPOINT, detail: str = "") -> None:
        super().__init__(message, cause=cause, detail=detail)


class EndpointUnreachable(BackendError):
    """No usable answer: name resolution, network, TLS, time-out, 5xx, no JSON.

    Raised as itself, it says of a submission that it was certainly not accepted.

    Attributes:
        retry_after: Seconds that the endpoint asked to be left alone; None where it did not say.
    """

    def __init__(
        self, message: str, *, cause: Cause = Cause.ENDPOINT, detail: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, cause=cause, detail=detail)
        self.retry_after = retry_after


class EndpointBusy(EndpointUnreachable):
    """429: over the endpoint's limits. It is alive, and nothing was accepted."""


class BreakerOpen(EndpointUnreachable):
    """Not sent: the circuit breaker is open. ``retry_after`` says when it may be probed, ``detail`` what opened it."""


class PerhapsSubmitted(EndpointUnreachable):
    """A submission that was sent and whose answer was lost: the job may exist, under an id that nobody knows.

    Whoever submits it again names the possible twin.
    """


class EndpointRefused(BackendError):
    """The endpoint answered and said no: bad key, unknown endpoint. Never retried."""

    retryable = False


class RequestRefused(BackendError):
    """The endpoint takes requests, but not this one: malformed or too large. Never retried."""

    retryable = False


class JobGone(BackendError):
    """The endpoint does not know this job, or no longer: its retention or its time to live is over."""


class JobFailed(BackendError):
    """The endpoint ended the job without a result."""


class JobOverdue(BackendError):
    """The job took longer than it may, most often because no worker took it. Never retried: it would take as long."""

    retryable = False


class ContractMismatch(BackendError):
    """A message that breaks the schema, most often from a stale worker image; redeploy it."""

    retryable = False

    def __init__(self, message: str, *, cause: Cause = Cause.CONTRACT, detail: str = "") -> None:
        super().__init__(message, cause=cause, detail=detail)


class TrialStopped(SeedpodError):
    """A trial that ended because it was asked to."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.run: dict[str, bool | int | float | str] = {}
        self.backend = ""
        """Both: see TrialError."""


class TrialCancelled(TrialStopped):
    """The search is stopping, or somebody cancelled this trial."""


class TrialSuperseded(TrialStopped):
    """Another optimizer of a shared study has taken the trial up: it took this one for dead."""


class TrialPruned(TrialStopped):
    """The pruner has seen enough of this trial."""
