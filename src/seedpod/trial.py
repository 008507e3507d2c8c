"""What a trial is on every side of every wire: spec, progress, result, and their one versioned wire form.

A spec determines its result. So a lost trial can be run again under its own number, on any backend, and the study stays
what it would have been.
"""

import base64
import hashlib
import json
import math
import re
import statistics
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, NoReturn, Protocol, Self
from urllib.parse import urlsplit

from seedpod.errors import Cause, ContractMismatch, TrainingError, TrialError
from seedpod.health import Health, weighed
from seedpod.objectives import OBJECTIVES, Objective, checked, objectives_of

SCHEMA = 4
"""Version of the wire form. Raise it with every change that an older reader would misread."""

MOST_FOLDS = 20
"""Folds of a cross-validation at most."""
PEAK = "peak_memory_mb"
"""What a trial's ``run`` calls the most memory that its process has held for itself, in MB of 10^6 bytes."""
CLASS_WEIGHTS = ("none", "auto")
"""How classes may be weighed, the usual way first."""
_DATASET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")  # never a path
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_MOST_PARAMS = 100  # hyperparameters of one trial
_LONGEST_TEXT = 200  # characters
LONGEST_URL = 500
"""Characters of the address of a data set, so that a request with it stays under 1 KB."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DATA_OBJECT = re.compile(r"[0-9a-f]{64}\.tar")
"""What the object of a packed data set is called: by its SHA-256."""
MODEL_OBJECT = re.compile(r"[0-9a-f]{32}\.keras")
"""What the object of a final model is called, by chance."""
_LARGEST_SPEC = 12 * 2**20  # bytes when unpacked; endpoints take no larger request anyway

ParamValue = bool | int | float | str
Wire = dict[str, Any]


class Status(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """All that decides a trial's result, and nothing else.

    Attributes:
        number: The trial's number in its study, from 0.
        dataset: Id of a prepared data set.
        fingerprint: First 16 hex digits of the SHA-256 over that data set's arrays.
        params: The suggested hyperparameters, by name.
        seed: Seeds weights, dropout and shuffling: base seed + number.
        split_seed: Seeds the split into training and validation images: the base seed, so that all trials share it.
        objectives: Names of what the trial is judged by, the first of them first; see ``seedpod.objectives``.
        max_epochs: Epochs to train at most, in each fold.
        min_epochs: Epochs before early stopping may end a fold.
        validation_split: Share of the training images held out for validation, in (0, 1); of a single split.
        max_parameters: Trainable parameters allowed.
        max_seconds: Training seconds allowed, of all folds together; 0 means no limit.
        cv_folds: Folds of the cross-validation; 1 is a single split.
        max_model_mb: Size allowed, see the objective model_size; 0 means no limit.
        min_accuracy: Validation accuracy that a fold must have reached after ``min_accuracy_epochs``; 0 asks for none.
        min_accuracy_epochs: See there.
        class_weights: What an image of each class weighs in the training loss: ``none``, all the same, or ``auto``, see
            ``seedpod.training.balance``. Off the wire where it is ``none``, as in requests of before this field.
    """

    number: int
    dataset: str
    fingerprint: str
    params: Mapping[str, ParamValue]
    seed: int
    split_seed: int
    objectives: tuple[str, ...]
    max_epochs: int
    min_epochs: int
    validation_split: float
    max_parameters: int
    max_seconds: float
    cv_folds: int = 1
    max_model_mb: float = 0.0
    min_accuracy: float = 0.0
    min_accuracy_epochs: int = 1
    class_weights: str = CLASS_WEIGHTS[0]

    @property
    def goals(self) -> tuple[Objective, ...]:
        """What the trial is judged by."""
        return objectives_of(self.objectives)

    @property
    def total_epochs(self) -> int:
        """Epochs of all folds together at most."""
        return self.max_epochs * self.cv_folds

    @property
    def uid(self) -> str:
        """16 hex digits: the SHA-256 of the wire form. Equal specs have equal uids, in any run and on any machine."""
        return hashlib.sha256(canonical_json(self.to_wire()).encode()).hexdigest()[:16]

    def curve(
        self, history: Sequence[Mapping[str, float | None]], *, fold_ended: bool = True
    ) -> tuple[float | None, ...]:
        """The first objective as it is told after each epoch: that of the epoch, or in cross-validation from the end of
        the first fold on the mean of the folds that have ended. None where the end of the trial alone tells it.

        Args:
            history: The metrics of every epoch so far; ``fold`` says of which fold it is.
            fold_ended: Whether the last epoch is the last of its fold.
        """
        first, told, bests = self.goals[0], list[float | None](), list[float]()
        if not first.each_epoch:
            return (None,) * len(history)
        pick = max if first.better(1.0, 0.0) else min
        for number, row in enumerate(history, 1):
            fold = row.get("fold")
            last = fold_ended if number == len(history) else history[number].get("fold") != fold
            if fold is not None and last:
                known = [each[first.name] for each in history[:number] if each.get("fold") == fold]
                bests.append(pick(value for value in known if value is not None))
            told.append(statistics.fmean(bests) if bests else row.get(first.name))
        return tuple(told)

    def to_wire(self) -> Wire:
        """The spec as plain JSON data."""
        plain = replace(
            self,
            params=dict(self.params),
            validation_split=float(self.validation_split),  # 0 and 0.0 are equal, so they must not differ in the uid
            max_seconds=float(self.max_seconds),
            max_model_mb=float(self.max_model_mb),
            min_accuracy=float(self.min_accuracy),
        )
        told = {field.name: getattr(plain, field.name) for field in fields(plain)}
        wire = {"schema": SCHEMA, **told, "objectives": list(self.objectives)}
        if self.class_weights == CLASS_WEIGHTS[0]:
            del wire["class_weights"]
        return wire

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a spec back.

        Raises:
            ContractMismatch: A field is missing, unknown, of the wrong type or out of range; the message names it.
        """
        read = _Reader("request", data)
        spec = cls(
            number=read.integer("number", low=0),
            dataset=read.like("dataset", _DATASET, "the id of a prepared data set"),
            fingerprint=read.like("fingerprint", _FINGERPRINT, "16 hex digits"),
            params=read.hyperparameters("params"),
            seed=read.integer("seed", low=0, high=2**32 - 1),
            split_seed=read.integer("split_seed", low=0, high=2**32 - 1),
            objectives=read.objectives("objectives"),
            max_epochs=read.integer("max_epochs", low=1, high=1000),
            min_epochs=read.integer("min_epochs", low=1, high=1000),
            validation_split=read.number("validation_split", low=0.01, high=0.5),
            max_parameters=read.integer("max_parameters", low=1, high=10**12),
            max_seconds=read.number("max_seconds", low=0.0, high=7 * 24 * 3600.0),
            cv_folds=read.integer("cv_folds", low=1, high=MOST_FOLDS),
            max_model_mb=read.number("max_model_mb", low=0.0),
            min_accuracy=read.number("min_accuracy", low=0.0, high=1.0),
            min_accuracy_epochs=read.integer("min_accuracy_epochs", low=1),
            class_weights=read.one_of("class_weights", CLASS_WEIGHTS, absent=CLASS_WEIGHTS[0]),
        )
        read.finish()
        return spec


@dataclass(frozen=True, slots=True)
class KeepModel:
    """What makes a request one for the final model: the spec trained once more, and the model sent back.

    Attributes:
        epochs: Epochs to train; see ``FinishedTrial.final_epochs``.
        on_all: Train on training and validation images; else on the training part alone.
        model: Presigned address that takes the model's file.
    """

    epochs: int
    on_all: bool
    model: str


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One try of a spec on a remote worker: the input of its job.

    Attributes:
        spec: What to train.
        attempt: Which try it is, from 1.
        time_limit: Seconds of training after which the worker ends it by force.
        data: Presigned address of the packed data set, for a worker that does not have it; empty where all have it.
        keep: None for a trial.
    """

    spec: TrialSpec
    attempt: int
    time_limit: float
    data: str = ""
    keep: KeepModel | None = None

    def to_wire(self) -> Wire:
        """The request as plain JSON data, under 1 KB: the spec is deflated, which leaves room for an address.

        ``uid`` names it in the endpoint's own lists, and in the run's records, which have the spec in clear.
        """
        plain = {
            "schema": SCHEMA,
            "uid": self.spec.uid,
            "spec": _packed(self.spec.to_wire()),
            "attempt": self.attempt,
            "time_limit": float(self.time_limit),
        }
        if self.keep is not None:  # two addresses have much in common
            return {**plain, "keep": _packed({"schema": SCHEMA, "data": self.data, **asdict(self.keep)})}
        return {**plain, "data": self.data} if self.data else plain

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a request back; raises ContractMismatch naming the field."""
        read = _Reader("request", data)
        uid = read.text("uid")
        kept = _Reader("request", read.packed("keep")) if read.has("keep") else None
        request = cls(
            spec=TrialSpec.from_wire(read.packed("spec")),
            attempt=read.integer("attempt", low=1, high=1000),
            time_limit=read.number("time_limit", low=1.0, high=7 * 24 * 3600.0),
            data=(kept or read).address_if_any("data", DATA_OBJECT),
            keep=None
            if kept is None
            else KeepModel(
                epochs=kept.integer("epochs", low=1, high=1000),
                on_all=kept.truth("on_all"),
                model=kept.address("model", MODEL_OBJECT),
            ),
        )
        if kept is not None:
            kept.finish()
        if uid != request.spec.uid:
            read.refuse("uid", uid, f"{request.spec.uid}, which is its spec's")
        read.finish()
        return request


def object_of(url: str, name_like: re.Pattern[str] = DATA_OBJECT) -> str:
    """The name of the object that a presigned address leads to.

    Args:
        url: The address.
        name_like: What the object may be called.

    Raises:
        ValueError: No worker takes such an address; the message says why, without its signature.
    """
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    if len(url) > LONGEST_URL:
        raise ValueError(f"it has {len(url)} characters, over {LONGEST_URL}")
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValueError("it holds characters that no address has")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("it is not https")
    if parts.username is not None or parts.fragment or not parts.hostname or parts.port == 0:
        raise ValueError("it is no plain address")
    if not name_like.fullmatch(name):
        raise ValueError("it names no object of ours")
    return name


def probe_wire() -> Wire:
    """The input of a job that asks a worker what it is instead of training."""
    return {"schema": SCHEMA, "probe": True}


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself.

    Attributes:
        version: seedpod's version in its image.
        concurrency: Jobs that it runs side by side.
        devices: GPUs that it shares out; 0 is a CPU.
        datasets: Fingerprints of the data sets that it holds, by id.
        gpu: What its driver calls them, such as ``NVIDIA L4``; empty for a CPU, and where it is not known. Images of
            before this field do not tell it and are read all the same, so that it needs no other ``SCHEMA``.
    """

    version: str
    concurrency: int
    devices: int
    datasets: Mapping[str, str]
    gpu: str = ""

    def to_wire(self) -> Wire:
        """The report as plain JSON data."""
        return {"schema": SCHEMA, **asdict(replace(self, datasets=dict(self.datasets)))}

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a report back; raises ContractMismatch naming the field."""
        read = _Reader("probe's answer", data)
        report = cls(
            version=read.text("version"),
            concurrency=read.integer("concurrency", low=1),
            devices=read.integer("devices", low=0),
            datasets={name: str(value) for name, value in read.params("datasets").items()},
            gpu=read.text_if_any("gpu"),
        )
        read.finish()
        return report


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """One finished epoch of a running trial.

    Attributes:
        number: The trial's number.
        sequence: Counts the reports of one attempt from 1; a reader keeps the highest and drops the rest.
        epoch: Epochs finished, of all folds together.
        max_epochs: Epochs that the trial may run, of all folds together.
        value: The first objective after this epoch; None where it is not a finite number, or known at the end alone. At
            the end of a fold, and until that of the next one, the mean of the folds that have ended.
        metrics: What the history has of this epoch; None where not finite.
        seconds: Training seconds so far.
        values: ``value`` after every epoch so far, the first one first: whoever misses a report misses no epoch.
        attempt: Which try of the same spec this is, from 1.
        backend: Where it runs; told by the backend and not by the trainer, so it is never on the wire.
        worker: On which of its workers, told in the same way.
    """

    number: int
    sequence: int
    epoch: int
    max_epochs: int
    value: float | None
    metrics: Mapping[str, float | None]
    seconds: float
    values: tuple[float | None, ...] = ()
    attempt: int = 1
    backend: str = ""
    worker: str = ""

    def to_wire(self) -> Wire:
        """The progress as plain JSON data."""
        data = asdict(replace(self, metrics=finite(self.metrics))) | {"values": list(self.values)}
        return {"schema": SCHEMA} | {name: value for name, value in data.items() if name not in {"backend", "worker"}}

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a progress back; raises ContractMismatch naming the field."""
        read = _Reader("progress", data)
        progress = cls(
            number=read.integer("number", low=0),
            sequence=read.integer("sequence", low=0),
            epoch=read.integer("epoch", low=0),
            max_epochs=read.integer("max_epochs", low=1),
            value=read.number_or_null("value"),
            metrics=read.metrics("metrics"),
            seconds=read.number("seconds", low=0.0),
            values=read.curve("values"),
            attempt=read.integer("attempt", low=1),
        )
        read.finish()
        return progress


@dataclass(frozen=True, slots=True)
class TrialFailure:
    """Why a trial failed, in words and as the group it counts under."""

    cause: Cause
    message: str
    detail: str = ""

    @classmethod
    def of(cls, error: TrialError) -> Self:
        """The failure that an error stands for."""
        return cls(error.cause, error.message, error.detail)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How one trial ended.

    Attributes:
        number: The trial's number.
        status: How it ended.
        value: The first objective, of the best epoch; the mean of all folds; None unless complete.
        best_epoch: The epoch of that value, from 1; of several folds the mean, rounded; 0 where there is none.
        epochs: Epochs trained, of all folds together.
        metrics: All metrics at the best epoch; of several folds the means, and the standard deviations as ``…_std``.
        history: The metrics of every epoch, in order, of one fold after the other; ``fold`` says which, from 1.
        parameters: Trainable parameters of the model; 0 where it was never built.
        environment: What the numbers depend on beside the spec: Keras backend and version, device, threads, promise.
        seconds: Training seconds, without any wait for a process; unless complete, those that it last told of; 0 where
            that is not known.
        backend: Name of the backend that ran it.
        cost: USD; None where it was paid for and the price is not known.
        attempts: Tries that it took.
        run: Where it ran: worker, its GPU, job, seconds in the queue and executing. Decides no number of the above.
        error: Why it failed, or which limit pruned it; None unless failed or pruned.
        further: The other objectives of its spec, in their order, of the same epoch.
        health: How healthy the network was that training ended with; None unless complete.
    """

    number: int
    status: Status
    value: float | None = None
    best_epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    history: tuple[Mapping[str, float | None], ...] = ()
    parameters: int = 0
    environment: Mapping[str, ParamValue] = field(default_factory=dict)
    seconds: float = 0.0
    backend: str = "local"
    cost: float | None = 0.0
    attempts: int = 1
    run: Mapping[str, ParamValue] = field(default_factory=dict)
    error: TrialFailure | None = None
    further: tuple[float, ...] = ()
    health: Health | None = None

    def __post_init__(self) -> None:
        if self.status is Status.COMPLETE:
            for value in (self.value, *self.further):
                check_value(value)

    @property
    def values(self) -> tuple[float, ...]:
        """The value of each objective of its spec; empty where there is none."""
        return () if self.value is None else (self.value, *self.further)

    @property
    def peak_mb(self) -> float:
        """The most memory that its process has held for itself, in MB of 10^6 bytes; 0 where that is not known."""
        return float(self.run.get(PEAK, 0))

    def scores(self, health_weight: float) -> tuple[float, ...]:
        """What a search compares: the values; where ``health_weight`` is not 0, as under ``mode=health``, the only one
        weighed with the health, as far as that is known.
        """
        if not health_weight or self.value is None or self.health is None:
            return self.values
        return (weighed(self.value, self.health, health_weight),)

    @classmethod
    def ended(cls, number: int, status: Status, error: TrialError | None = None, **known: Any) -> Self:
        """The result of a trial that ended without a value."""
        return cls(number, status, error=None if error is None else TrialFailure.of(error), **known)

    def to_wire(self) -> Wire:
        """The result as plain JSON data."""
        data = asdict(
            replace(
                self,
                metrics=finite(self.metrics),
                history=tuple(finite(row) for row in self.history),
                environment=dict(self.environment),
                run=dict(self.run),
                health=None,
            ),
        )
        health = None if self.health is None else self.health.to_plain()
        lists = {"history": list(data["history"]), "further": list(data["further"])}
        return {"schema": SCHEMA, **data, **lists, "health": health}

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Read a result back.

        Raises:
            ContractMismatch: A field is missing, unknown, of the wrong type or out of range; the message names it.
            TrainingError: Status is complete and a value is not a finite number.
        """
        read = _Reader("response", data)
        status = read.choice("status", Status)
        result = cls(
            number=read.integer("number", low=0),
            status=status,
            value=check_value(read.anything("value")) if status is Status.COMPLETE else read.null("value"),
            further=read.values("further", none=status is not Status.COMPLETE),
            best_epoch=read.integer("best_epoch", low=0),
            epochs=read.integer("epochs", low=0),
            metrics=read.metrics("metrics"),
            history=read.history("history"),
            parameters=read.integer("parameters", low=0),
            environment=read.params("environment"),
            seconds=read.number("seconds", low=0.0),
            backend=read.text("backend"),
            cost=read.number("cost", low=0.0),
            attempts=read.integer("attempts", low=1),
            run=read.params("run"),
            error=read.failure("error"),
            health=read.health("health", none=status is not Status.COMPLETE),
        )
        read.finish()
        return result


Report = Callable[[TrialProgress], None]
"""Progress goes up; a stop comes back as TrialCancelled or TrialPruned, raised by the call."""


class TrialBackend(Protocol):
    """The one seam through which trials are run. Implementations are thread-safe: ``run`` is called by many threads."""

    name: str
    at_once: int  # trials that it can run side by side

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        """Run one trial to its end and return its complete result.

        Raises:
            TrialError: The trial failed; no other trial is touched.
            TrialStopped: ``report`` raised it, or ``cancel_all`` was called.
        """

    def cancel_all(self) -> None:
        """Stop every running trial and refuse new ones; returns at once."""

    def close(self) -> None:
        """``cancel_all``, then release everything; no process, thread or descriptor of this backend is left."""


def check_value(value: object) -> float:
    """Return ``value`` if it is a finite number; whether it is in its objective's range, ``checked_values`` says.

    Raises:
        TrainingError: It is anything else: NaN, infinity, text, null, a truth value.
    """
    if isinstance(value, int | float) and _is_number(value):
        return float(value)
    raise TrainingError(
        f"the trial answered {value!r:.80} as its value; it must be a finite number.", cause=Cause.BAD_VALUE
    )


def checked_values(spec: TrialSpec, result: TrialResult) -> tuple[float, ...]:
    """A complete trial's values, one for each objective of its spec.

    Raises:
        TrainingError: There are more or fewer, or one is no possible value of its objective.
    """
    return checked(spec.goals, result.values)


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The metrics with NaN and infinity, which JSON cannot hold, as None."""
    return {name: x if x is not None and math.isfinite(x) else None for name, x in metrics.items()}


# A window of 4 KiB, which holds the words and any spec: the same size as with the usual 32, in a third of the time, and
# not 320 kB of memory for each of 64 threads, which leave holes between what lives longer.
_WINDOW, _LEVEL = -12, 4
_WORDS = (
    b'{"data":"http://.amazonaws.com/seedpod/.tar?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%2Fus-east-1%2Fs3'
    b'%2Faws4_request&X-Amz-Date=20261125T000000Z&X-Amz-Expires=3660&X-Amz-SignedHeaders=host&X-Amz-Signature=",'
    b'"epochs":10,"model":"https://s3api-.runpod.io/.keras?X-Amz-Algorithm=","on_all":true}'
    b'{"cv_folds":1,"dataset":"","fingerprint":"","max_epochs":10,"max_model_mb":0.0,"max_parameters":10000000,'
    b'"max_seconds":0.0,"min_accuracy":0.0,"min_accuracy_epochs":3,"min_epochs":1,"number":0,"objectives":['
    b'"val_loss","macro_f1","balanced_accuracy","inference_latency","model_size","training_time","val_accuracy"],'
    b'"params":{"activation":"leaky_relu","swish","gelu","relu","augmentation":0.0,"batch_size":128,"conv_blocks":2,'
    b'"convs_per_block":1,"dense_layers":1,"dense_units_0":128,"dense_units_1":64,"dense_units_2":"dense_units_3":'
    b'"dropout":0.5,"epochs":10,"filters_0":16,"filters_1":32,"filters_2":64,"filters_3":128,"filters_4":256,'
    b'"filters_5":512,"filters_6":"filters_7":"flip":false,"global_pooling":true,"initializer":"glorot_uniform",'
    b'"he_normal","he_uniform","kernel_size":3,"label_smoothing":0.0,"learning_rate":0.001,"momentum":0.9,'
    b'"normalization":"none","layer","batch","optimizer":"rmsprop","sgd","lion","adamw","adam","pooling":"average",'
    b'"strided","max","residual":false,"schedule":"one_cycle","constant","cosine","warmup":0.05,'
    b'"weight_decay":0.0001},"schema":4,"seed":42,"split_seed":42,"validation_split":0.2}'
)
"""What specs have in common, known to both sides so that it need not travel. Its change wants another ``SCHEMA``."""


def _packed(data: Wire) -> str:
    """A spec of some 900 characters in some 350."""
    packer = zlib.compressobj(9, wbits=_WINDOW, memLevel=_LEVEL, zdict=_WORDS)
    return base64.b85encode(packer.compress(canonical_json(data).encode()) + packer.flush()).decode()


def _unpacked(text: str) -> object:
    """What was packed; raises ValueError where nothing was."""
    unpacker = zlib.decompressobj(wbits=-15, zdict=_WORDS)
    try:
        data = unpacker.decompress(base64.b85decode(text), _LARGEST_SPEC)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("it is cut off, or too large")
    return json.loads(data)


def canonical_json(data: object) -> str:
    """One text for equal data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


class _Reader:
    """Reads one wire object field by field; every complaint names the object and the field."""

    def __init__(self, what: str, data: object) -> None:
        self._what = what
        if not isinstance(data, dict):
            raise ContractMismatch(f"{what}: expected a JSON object, got {type(data).__name__}.")
        self._data: Wire = dict(data)
        schema = self._data.pop("schema", None)
        if schema != SCHEMA:
            raise ContractMismatch(
                f"{what}: schema {schema!r} where this side speaks {SCHEMA}. Redeploy the worker image from the same "
                f"version of seedpod as the optimizer."
            )

    def anything(self, name: str) -> Any:
        if name not in self._data:
            raise ContractMismatch(f"{self._what}: field {name!r} is missing.")
        return self._data.pop(name)

    def integer(self, name: str, *, low: int, high: int = 2**53) -> int:
        value = self.anything(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(name, value, f"a whole number from {low} to {high}")
        return int(value)

    def number(self, name: str, *, low: float, high: float = 1e12) -> float:
        value = self.anything(name)
        if not _is_number(value) or not low <= value <= high:
            self.refuse(name, value, f"a number from {low} to {high}")
        return float(value)

    def number_or_null(self, name: str) -> float | None:
        value = self.anything(name)
        if value is not None and not _is_number(value):
            self.refuse(name, value, "a finite number, or null")
        return None if value is None else float(value)

    def values(self, name: str, *, none: bool) -> tuple[float, ...]:
        value = self.anything(name)
        if not isinstance(value, list) or not all(_is_number(x) for x in value) or (none and value):
            self.refuse(name, value, "a list of finite numbers, empty unless the trial is complete")
        return tuple(float(x) for x in value)

    def objectives(self, name: str) -> tuple[str, ...]:
        value = self.anything(name)
        known = isinstance(value, list) and all(isinstance(x, str) and x in OBJECTIVES for x in value)
        if not known or not value or len(set(value)) < len(value):
            self.refuse(name, value, f"a list of different ones of {', '.join(OBJECTIVES)}")
        return tuple(value)

    def curve(self, name: str) -> tuple[float | None, ...]:
        values = self.anything(name)
        if not isinstance(values, list) or not all(x is None or _is_number(x) for x in values):
            self.refuse(name, values, "a list of numbers and nulls")
        return tuple(None if x is None else float(x) for x in values)

    def null(self, name: str) -> Any:
        value = self.anything(name)
        if value is not None:
            self.refuse(name, value, "null unless the trial is complete")
        return value

    def text(self, name: str, *, longest: int = _LONGEST_TEXT) -> str:
        value = self.anything(name)
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            self.refuse(name, value, f"a text of 1 to {longest} characters")
        return str(value)

    def like(self, name: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = self.anything(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.refuse(name, value, wanted)
        return str(value)

    def one_of(self, name: str, choices: Sequence[str], *, absent: str) -> str:
        value = self._data.pop(name, absent)
        if value not in choices:
            self.refuse(name, value, f"one of {', '.join(choices)}")
        return str(value)

    def text_if_any(self, name: str, *, longest: int = 200) -> str:
        value = self._data.pop(name, "")
        if not isinstance(value, str) or len(value) > longest:
            self.refuse(name, value, f"a text of up to {longest} characters")
        return str(value)

    def packed(self, name: str) -> object:
        value = self.anything(name)
        try:
            return _unpacked(value) if isinstance(value, str) else self.refuse(name, value, "a packed spec")
        except (ValueError, RecursionError):
            self.refuse(name, value, "a packed spec")

    def address_if_any(self, name: str, name_like: re.Pattern[str]) -> str:
        if self._data.get(name, "") == "":
            self._data.pop(name, None)
            return ""
        return self.address(name, name_like)

    def address(self, name: str, name_like: re.Pattern[str]) -> str:
        value = self.anything(name)
        try:
            object_of(value if isinstance(value, str) else "", name_like)
        except ValueError as error:  # the value is a signature that somebody else might use
            raise ContractMismatch(f"{self._what}: field {name!r} is no presigned address: {error}.") from error
        return str(value)

    def has(self, name: str) -> bool:
        return name in self._data

    def truth(self, name: str) -> bool:
        value = self.anything(name)
        if not isinstance(value, bool):
            self.refuse(name, value, "true or false")
        return bool(value)

    def choice(self, name: str, kind: type[Status]) -> Status:
        value = self.anything(name)
        if value not in list(kind):
            self.refuse(name, value, f"one of {', '.join(kind)}")
        return kind(value)

    def params(self, name: str) -> dict[str, ParamValue]:
        value = self.anything(name)
        if not isinstance(value, dict) or not all(_is_param(x) for x in value.values()):
            self.refuse(name, value, "an object of texts, numbers and truth values")
        return dict(value)

    def hyperparameters(self, name: str) -> dict[str, ParamValue]:
        """Params within bounds; which of them a model knows, in which ranges, its builder says."""
        found = self.params(name)
        texts = [*found, *(value for value in found.values() if isinstance(value, str))]
        if len(found) > _MOST_PARAMS or any(len(text) > _LONGEST_TEXT for text in texts):
            self.refuse(name, found, f"at most {_MOST_PARAMS} hyperparameters and {_LONGEST_TEXT} characters a text")
        return found

    def metrics(self, name: str) -> dict[str, float | None]:
        return self._row(name, self.anything(name))

    def history(self, name: str) -> tuple[dict[str, float | None], ...]:
        value = self.anything(name)
        if not isinstance(value, list):
            self.refuse(name, value, "a list")
        return tuple(self._row(name, row) for row in value)

    def failure(self, name: str) -> TrialFailure | None:
        value = self.anything(name)
        if value is None:
            return None
        if not isinstance(value, dict) or value.get("cause") not in list(Cause):
            self.refuse(name, value, "null, or an object with a known cause")
        return TrialFailure(Cause(value["cause"]), str(value.get("message", "")), str(value.get("detail", "")))

    def health(self, name: str, *, none: bool) -> Health | None:
        value = self.null(name) if none else self.anything(name)
        if value is None:
            return None
        try:
            return Health.from_plain(value)
        except (KeyError, TypeError, ValueError):
            self.refuse(name, value, "null, or the health of a network")

    def finish(self) -> None:
        if self._data:
            raise ContractMismatch(f"{self._what}: unknown field {next(iter(self._data))!r}.")

    def _row(self, name: str, value: object) -> dict[str, float | None]:
        if not isinstance(value, dict) or not all(x is None or _is_number(x) for x in value.values()):
            self.refuse(name, value, "an object of numbers and nulls")
        return {str(key): None if x is None else float(x) for key, x in value.items()}

    def refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        raise ContractMismatch(f"{self._what}: field {name!r} is {value!r:.80}; it must be {wanted}.")


def _is_number(value: object) -> bool:
    # The comparison is false for NaN and infinity, and exact for whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_param(value: object) -> bool:
    return isinstance(value, bool | str) or _is_number(value)
