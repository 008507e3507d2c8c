"""Trains one model as its spec says. Runs in a trainer process; imports Keras, so the main process never imports it."""

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seedpod.errors import Cause, DatasetError, TrainingError
from seedpod.health import Health, mean_health
from seedpod.training.augmentation import augment
from seedpod.training.balance import class_weights
from seedpod.training.datasets import Dataset, attach, folds, split
from seedpod.training.examiner import Examiner, TrialOver, seed_of
from seedpod.training.health import health_of
from seedpod.training.loop import run_epochs
from seedpod.training.model_builder import build_model, compile_model
from seedpod.training.network import Course, read_course, read_network
from seedpod.training.probe import StepWatch, look, probe_rows
from seedpod.training.scoring import score
from seedpod.training.sizing import check_parameters, check_size, count_parameters, latency, megabytes
from seedpod.training.tasks import EvaluateTask, ExportTask, FinalTask, PredictTask, Task
from seedpod.trial import ParamValue, Report, TrialResult, TrialSpec, Wire

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
                case EvaluateTask(pictures=True):
                    return final.measured(task, self._cache_dir, check)
                case EvaluateTask():
                    return models.evaluate(task, self._cache_dir, check)
                case PredictTask():
                    return models.predict(task, check)
                case ExportTask():
                    return models.export(task)

    def _train(self, spec: TrialSpec, dataset: Dataset, report: Report, check: Callable[[], None]) -> TrialResult:
        examiner = Examiner(spec, report, check, patient=read_course(spec.params).schedule != "constant")
        try:
            return self._examined(spec, dataset, examiner)
        except TrialOver as over:
            network, info = read_network(spec.params, dataset.info.image_shape), dataset.info
            return examiner.pruned(
                over,
                parameters=network.parameters(info.image_shape, len(info.class_names)),
                environment=self._environment,
                seconds=examiner.seconds,
            )

    def _examined(self, spec: TrialSpec, dataset: Dataset, examiner: Examiner) -> TrialResult:
        found: list[Health] = []
        looking = 0.0
        for fold, (train, validation) in enumerate(_folds(spec, dataset)):
            if fold:
                _forget()
            examiner.begin_fold()
            steps = StepWatch()
            model = fit_model(
                spec,
                dataset,
                train,
                [steps, _Watch(examiner, dataset, validation)],
                seed=seed_of(spec, fold),
                device=str(self._environment["device"]),
            )
            began = examiner.seconds
            layers = look(model, *_probe(spec, dataset, validation), steps.ratios)
            found.append(health_of(layers, examiner.fold_history, len(dataset.info.class_names)))
            looking += examiner.seconds - began
        seconds = examiner.seconds - looking
        known = {"training_time": seconds, "model_size": megabytes(model)}
        if "inference_latency" in spec.objectives:
            known["inference_latency"] = latency(model, dataset.x_train[:1], examiner.between_batches)
        return examiner.result(
            known,
            health=mean_health(found),
            parameters=count_parameters(model),
            environment=self._environment,
            seconds=seconds,
        )


def fit_model(
    spec: TrialSpec,
    dataset: Dataset,
    train: np.ndarray,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    seed: int,
    device: str,
) -> keras.Model:
    """Build the model of a spec and train it; equal arguments give equal weights.

    Args:
        spec: What to train.
        dataset: Its data set.
        train: Which training images to learn from, (n,).
        callbacks: Are told of batches and epochs.
        seed: Seeds weights, dropout and shuffling.
        device: "cpu" or another.

    Raises:
        TrainingError: TOO_LARGE or IMPOSSIBLE; nothing was trained.
    """
    # Every random thing below has a seed of its own; this one is for what a backend may draw beside them.
    keras.utils.set_random_seed(seed)
    info, classes = dataset.info, len(dataset.info.class_names)
    network, course = read_network(spec.params, info.image_shape), read_course(spec.params)
    check_parameters(network.parameters(info.image_shape, classes), spec)
    check_size(network.weights(info.image_shape, classes), spec)
    model = build_model(network, info.image_shape, classes, info.pixel_max, seed)
    weights = class_weights(dataset.y_train[train], classes) if spec.class_weights == "auto" else None
    batches = _Batches(dataset, train, min(course.batch_size, len(train)), _Changes(seed, course), weights)
    compile_model(model, course, len(batches), spec.max_epochs, device)
    shuffled = keras.callbacks.LambdaCallback(on_epoch_begin=batches.begin_epoch)
    run_epochs(model, batches, spec.max_epochs, [shuffled, *callbacks])
    return model


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Looks at a fold between its batches, and has each epoch judged by the validation images."""

    def __init__(self, examiner: Examiner, dataset: Dataset, validation: np.ndarray) -> None:
        super().__init__()
        self._examiner = examiner
        self._x, self._y, self._rows = dataset.x_train, dataset.y_train, validation

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._examiner.between_batches()
        self._examiner.check_loss(float((logs or {}).get("loss", 0.0)))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        if not self._examiner.epoch_ended({**row, **score(self._logits(), self._y[self._rows])}):
            self.model.stop_training = True

    def _logits(self) -> np.ndarray:
        """A score of each class for each validation image. ``predict`` would take longer to begin than for digits."""
        parts = []
        for first in range(0, len(self._rows), EVALUATION_BATCH):
            parts.append(self.model.predict_on_batch(self._x[self._rows[first : first + EVALUATION_BATCH]]))
            self._examiner.between_batches()
        return np.concatenate(parts)


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
        weights: What an image of each class weighs in the loss, (classes,), as a third part of every batch, (batch,);
            None where all weigh the same, and then there is no such part.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int,
        changes: _Changes | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self._weights = weights
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

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self._order[index * self._size : (index + 1) * self._size]
        images, labels = self._x[rows], self._shares[self._y[rows]]
        if self._changes is not None and self._changes.course.augmentation:
            course = self._changes.course
            chance = np.random.default_rng([self._changes.seed, self._epoch, 1 + index])
            images = augment(images, course.augmentation, chance, flip=course.flip)
        return (images, labels) if self._weights is None else (images, labels, self._weights[self._y[rows]])

    def begin_epoch(self, epoch: int, logs: object = None) -> None:
        """Shuffle for this epoch, from 0: told, not counted, for backends peek into passes that they do not finish."""
        seed = self._changes.seed if self._changes else 0
        self._epoch, self._order = epoch, np.random.default_rng([seed, epoch]).permutation(self._rows)


def _folds(spec: TrialSpec, dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that train and rows that validate, of each fold; all of them among the training images."""
    try:
        if spec.cv_folds == 1:
            return [split(dataset.y_train, spec.validation_split, spec.split_seed)]
        return folds(dataset.y_train, spec.cv_folds, spec.split_seed)
    except DatasetError as error:
        raise TrainingError(str(error), cause=Cause.DATA) from error


def _probe(spec: TrialSpec, dataset: Dataset, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The validation images, (n, h, w, c), and labels, (n,), by which a network's health is examined."""
    rows = probe_rows(validation, spec.split_seed)
    return dataset.x_train[rows], dataset.y_train[rows]


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
        _forget()


def _forget() -> None:
    """Let go of what the last model has left."""
    keras.backend.clear_session(free_memory=False)
    gc.collect()


def _out_of_memory(error: BaseException) -> TrainingError:
    first_line = (str(error).strip().splitlines() or ["no more memory"])[0]
    return TrainingError(
        f"out of memory: {first_line:.200}", cause=Cause.OUT_OF_MEMORY, detail=f"{type(error).__name__}: {error}"[:2000]
    )
