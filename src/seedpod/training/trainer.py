"""Trains one model as its spec says. Runs in a trainer process; imports Keras, so the main process never imports it."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seedpod.errors import Cause, TrainingError
from seedpod.training.augmentation import augment
from seedpod.training.datasets import Dataset, attach, split
from seedpod.training.model_builder import build_model, compile_model
from seedpod.training.network import Course, read_course, read_network
from seedpod.training.tasks import EvaluateTask, ExportTask, FinalTask, PredictTask, Task
from seedpod.trial import ParamValue, Report, Status, TrialProgress, TrialResult, TrialSpec, Wire

PATIENCE = 3
"""Epochs without a better objective after which training ends early, once ``min_epochs`` are done. Only where the
learning rate is constant: under a falling one the best epochs are the last."""

EVALUATION_BATCH = 500
"""Images of one validation step; bounds memory and changes no number that a trial reports."""


class Trainer:
    """Trains specs one after the other on the data sets of one cache folder.

    Args:
        cache_dir: Where ``datasets.prepare`` has put the arrays.
        environment: What ``runtime.configure_backend`` said of this process; goes into each result.
    """

    def __init__(self, cache_dir: Path, environment: Mapping[str, ParamValue]) -> None:
        self._cache_dir = cache_dir
        self._environment = dict(environment)

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """Train one model; deterministic: equal specs give equal results, whatever ran before in this process.

        Args:
            spec: What to train.
            report: Called after each epoch.
            check: Called between batches; raises TrialStopped where the trial is to end.

        Raises:
            TrainingError: The trial failed; its cause says how.
            TrialStopped: From ``report`` or ``check``.
        """
        dataset = attach(spec.dataset, spec.fingerprint, self._cache_dir)
        with _alone():
            return self._train(spec, dataset, report, check)

    def perform(self, task: Task, report: Report, check: Callable[[], None]) -> Wire:
        """Perform a task; what it answers is in ``seedpod.training.final`` and ``seedpod.training.models``.

        Args:
            task: What to do.
            report: Called after each epoch of the final model.
            check: Called now and then; raises TrialStopped where the task is to end.

        Raises:
            TrainingError: It failed; its cause says how.
            TrialStopped: From ``report`` or ``check``.
        """
        from seedpod.training import final, models  # of no use to a trial

        with _alone():
            match task:
                case FinalTask():
                    return final.train_final(task, self._cache_dir, self._environment, report, check)
                case EvaluateTask():
                    return models.evaluate(task, self._cache_dir, check)
                case PredictTask():
                    return models.predict(task, check)
                case ExportTask():
                    return models.export(task)

    def _train(self, spec: TrialSpec, dataset: Dataset, report: Report, check: Callable[[], None]) -> TrialResult:
        started = time.monotonic()
        train, validation = split(dataset.y_train, spec.validation_split, spec.split_seed)
        watch = _Watch(spec, report, check, started, patient=read_course(spec.params).schedule != "constant")
        device = str(self._environment["device"])
        model = fit_model(spec, dataset, train, [watch], seed=spec.seed, device=device, validation=validation)
        best = watch.best_epoch
        return TrialResult(
            number=spec.number,
            status=Status.COMPLETE,
            value=watch.history[best - 1][spec.objective],
            best_epoch=best,
            epochs=len(watch.history),
            metrics=watch.history[best - 1],
            history=tuple(watch.history),
            parameters=count_parameters(model),
            environment=self._environment,
            seconds=time.monotonic() - started,
        )


def fit_model(
    spec: TrialSpec,
    dataset: Dataset,
    train: np.ndarray,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    seed: int,
    device: str,
    validation: np.ndarray | None = None,
) -> keras.Model:
    """Build the model of a spec and train it; equal arguments give equal weights.

    Args:
        spec: What to train.
        dataset: Its data set.
        train: Which training images to learn from, (n,).
        callbacks: Are told of batches and epochs.
        seed: Seeds weights, dropout and shuffling.
        device: "cpu" or another.
        validation: Which training images to judge each epoch by, (m,); None judges none.

    Raises:
        TrainingError: TOO_LARGE or IMPOSSIBLE; nothing was trained.
    """
    # Every random thing below has a seed of its own; this one is for what a backend may draw beside them.
    keras.utils.set_random_seed(seed)
    info = dataset.info
    classes = len(info.class_names)
    network, course = read_network(spec.params, info.image_shape), read_course(spec.params)
    parameters = network.parameters(info.image_shape, classes)
    if parameters > spec.max_parameters:
        raise TrainingError(
            f"{parameters:,} trainable parameters, over max_parameters={spec.max_parameters:,}.", cause=Cause.TOO_LARGE
        )
    model = build_model(network, info.image_shape, classes, info.pixel_max, seed)
    batches = _Batches(dataset, train, min(course.batch_size, len(train)), _Changes(seed, course))
    compile_model(model, course, len(batches), spec.max_epochs, device)
    model.fit(
        _as_input(batches),
        epochs=spec.max_epochs,
        validation_data=None if validation is None else _as_input(_Batches(dataset, validation, EVALUATION_BATCH)),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=batches.begin_epoch), *callbacks],
        shuffle=False,  # the batches are shuffled, by the spec's own seed
        verbose=0,
    )
    return model


def count_parameters(model: keras.Model) -> int:
    """Trainable parameters."""
    return sum(math.prod(w.shape) for w in model.trainable_weights)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports epochs, notices stops, deadlines and divergence, and ends training early unless it is patient."""

    def __init__(
        self, spec: TrialSpec, report: Report, check: Callable[[], None], started: float, *, patient: bool
    ) -> None:
        super().__init__()
        self._spec = spec
        self._report = report
        self._check = check
        self._started = started
        self._patient = patient
        self.history: list[dict[str, float | None]] = []
        self.best_epoch = 0
        self._best = -math.inf

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._between_batches()
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {len(self.history) + 1}; a lower learning_rate may help.",
                cause=Cause.DIVERGED,
            )

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._between_batches()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append(dict(row))
        value = row[self._spec.objective]
        if not math.isfinite(row["val_loss"]) or not math.isfinite(value):
            raise TrainingError(f"the validation loss became {row['val_loss']}.", cause=Cause.DIVERGED)
        if value > self._best:
            self._best, self.best_epoch = value, epoch + 1
        self._report(
            TrialProgress(
                number=self._spec.number,
                sequence=epoch + 1,
                epoch=epoch + 1,
                max_epochs=self._spec.max_epochs,
                value=value,
                metrics=dict(row),
                seconds=time.monotonic() - self._started,
                values=tuple(past[self._spec.objective] for past in self.history),
            )
        )
        if not self._patient and epoch + 1 >= self._spec.min_epochs and epoch + 1 - self.best_epoch >= PATIENCE:
            self.model.stop_training = True

    def _between_batches(self) -> None:
        self._check()
        limit = self._spec.max_seconds
        if limit and time.monotonic() - self._started > limit:
            raise TrainingError(
                f"not done after {limit:g} s (max_training_time_minutes), in epoch {len(self.history) + 1} of "
                f"{self._spec.max_epochs}.",
                cause=Cause.DEADLINE,
            )


@dataclass(frozen=True, slots=True)
class _Changes:
    """How training images and labels differ from epoch to epoch: ``seed`` shuffles and augments, as ``course`` says."""

    seed: int
    course: Course


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of images (batch, h, w, c) and labels (batch, classes), gathered from the memory-mapped arrays.

    Gathering batch by batch costs 31 MB of private memory where handing Keras the arrays costs 464 MB (measured, for a
    data set of 200 MB). Labels are shares of each class, so that training may smooth its own and validation does not.

    Args:
        dataset: The arrays.
        rows: Which training images, (n,).
        batch_size: Images a batch.
        changes: Shuffles anew in ``begin_epoch``, drops the last, incomplete batch, smooths and augments; None keeps
            order, images and labels, and all of them.
    """

    def __init__(self, dataset: Dataset, rows: np.ndarray, batch_size: int, changes: _Changes | None = None) -> None:
        super().__init__()
        self._x, self._y = dataset.x_train, dataset.y_train
        self._rows, self._size, self._changes = rows, batch_size, changes
        self._order, self._epoch = rows, 0
        classes = len(dataset.info.class_names)
        smoothing = np.float32(changes.course.label_smoothing if changes else 0.0)
        self._shares = np.eye(classes, dtype=np.float32) * (1 - smoothing) + smoothing / classes

    def __len__(self) -> int:
        if self._changes is None:
            return math.ceil(len(self._rows) / self._size)
        return len(self._rows) // self._size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self._size : (index + 1) * self._size]
        images, labels = self._x[rows], self._shares[self._y[rows]]
        if self._changes is None or not self._changes.course.augmentation:
            return images, labels
        course = self._changes.course
        chance = np.random.default_rng([self._changes.seed, self._epoch, 1 + index])
        return augment(images, course.augmentation, chance, flip=course.flip), labels

    def begin_epoch(self, epoch: int, logs: object = None) -> None:
        """Shuffle for this epoch, from 0: told, not counted, for backends peek into passes that they do not finish."""
        seed = self._changes.seed if self._changes else 0
        self._epoch, self._order = epoch, np.random.default_rng([seed, epoch]).permutation(self._rows)


def _as_input(batches: _Batches) -> Any:
    """What ``fit`` reads: the batches themselves, or for TensorFlow a tf.data pipeline over them.

    tf.data's autotune stalls ``fit`` at the end of a pass: 1.40 s or 2.60 s for the same epoch (measured). It is off.
    One pass is one epoch: from an endless pipeline the last execution of an epoch would take steps of the next one.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (batches[i] for i in range(len(batches)))

    x, y = batches[0]
    signature = (tf.TensorSpec((None, *x.shape[1:]), x.dtype), tf.TensorSpec((None, *y.shape[1:]), y.dtype))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    pipeline = tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2).with_options(options)
    return pipeline.apply(tf.data.experimental.assert_cardinality(len(batches)))


@contextmanager
def _alone() -> Iterator[None]:
    """Leave nothing of a model behind, and call a lack of memory by its name."""
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory(error) from error
    except Exception as error:
        if "out of memory" in str(error).lower() or "RESOURCE_EXHAUSTED" in str(error):
            raise _out_of_memory(error) from error
        raise
    finally:
        keras.backend.clear_session(free_memory=False)
        gc.collect()


def _out_of_memory(error: BaseException) -> TrainingError:
    first_line = (str(error).strip().splitlines() or ["no more memory"])[0]
    return TrainingError(
        f"out of memory: {first_line:.200}", cause=Cause.OUT_OF_MEMORY, detail=f"{type(error).__name__}: {error}"[:2000]
    )
