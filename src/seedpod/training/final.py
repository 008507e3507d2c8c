"""The final model: a trial's configuration trained once more, kept as a file, measured once on the test images."""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seedpod.errors import Cause, TrainingError
from seedpod.training.datasets import HeldOut, attach, attach_test, split
from seedpod.training.measuring import measure, worst
from seedpod.training.models import keep, load, probabilities, read_note
from seedpod.training.pictures import Form, to_data_uri
from seedpod.training.tasks import EvaluateTask, FinalTask
from seedpod.training.trainer import fit_model
from seedpod.trial import ParamValue, Report, TrialProgress, TrialSpec, Wire, finite

_EXAMPLES = 24
"""Pictures of wrongly classified images that are kept."""


def train_final(
    task: FinalTask,
    cache_dir: Path,
    environment: Mapping[str, ParamValue],
    report: Report,
    check: Callable[[], None],
) -> Wire:
    """Train, keep and measure; deterministic: equal tasks give equal weights and equal numbers.

    Args:
        task: What to train, and where to keep it.
        cache_dir: Where the data set is.
        environment: What the numbers of this process depend on.
        report: Called after each epoch.
        check: Called between batches; raises TrialStopped where the training is to end.

    Returns:
        ``form``, ``class_names``, ``train_images``, ``history``, ``parameters``, ``model``,
        ``environment``, ``test`` and ``seconds``; see docs/results.md, final.json.

    Raises:
        TrainingError: The training failed.
    """
    started = time.monotonic()
    spec = task.spec
    dataset = attach(spec.dataset, spec.fingerprint, cache_dir)
    form = Form.of(dataset)
    train, validation = split(dataset.y_train, spec.validation_split, spec.split_seed)
    if task.on_all:
        train = np.sort(np.concatenate([train, validation]))
    watch = _Watch(spec, task.epochs, report, check, started)
    model = fit_model(spec, dataset, train, [watch], seed=spec.seed, device=str(environment["device"]))
    path = Path(task.path)
    keep(model, path, {"class_names": list(dataset.info.class_names), "form": form.to_wire(), "seed": spec.seed})
    found = {
        "form": form.to_wire(),
        "class_names": list(dataset.info.class_names),
        "train_images": len(train),
        "history": [finite(row) for row in watch.history],
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "model": {"bytes": path.stat().st_size, "sha256": _sha256(path)},
        "environment": dict(environment),
    }
    if task.measured:
        held_out = attach_test(spec.dataset, spec.fingerprint, cache_dir)  # only now: nothing above may look at them
        found["test"] = test(load(path), held_out, dataset.info.class_names, form, check)
    return {**found, "seconds": time.monotonic() - started}


def measured(task: EvaluateTask, cache_dir: Path, check: Callable[[], None]) -> Wire:
    """Measure a model that another machine has trained: ``test`` of final.json."""
    held_out = attach_test(task.dataset, task.fingerprint, cache_dir)
    path = Path(task.model)
    note = read_note(path)
    return test(load(path), held_out, note["class_names"], Form.from_wire(note["form"]), check)


def test(
    model: keras.Model, held_out: HeldOut, names: Sequence[str], form: Form, check: Callable[[], None]
) -> dict[str, Any]:
    """What a kept model makes of the test images."""
    labels = np.asarray(held_out.y_test)
    found = probabilities(model, held_out.x_test, check)
    return {
        **measure(labels, found, names),
        "worst": [
            {
                "image": i,
                "is": names[labels[i]],
                "taken_for": names[int(found[i].argmax())],
                "probability": float(found[i].max()),
                "picture": to_data_uri(held_out.x_test[i], form),
            }
            for i in worst(labels, found, _EXAMPLES)
        ],
    }


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports epochs, notices stops and divergence, and ends after the epochs that it was given.

    The spec's own ``max_epochs`` stays what it was: a schedule of the learning rate goes by it.
    """

    def __init__(self, spec: TrialSpec, epochs: int, report: Report, check: Callable[[], None], started: float) -> None:
        super().__init__()
        self._spec = spec
        self._epochs = epochs
        self._report = report
        self._check = check
        self._started = started
        self.history: list[dict[str, float | None]] = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._check()
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} in epoch {len(self.history) + 1}.", cause=Cause.DIVERGED)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = finite({name: float(value) for name, value in (logs or {}).items()})
        self.history.append(row)
        self._report(
            TrialProgress(
                number=self._spec.number,
                sequence=epoch + 1,
                epoch=epoch + 1,
                max_epochs=self._epochs,
                value=None,
                metrics=row,
                seconds=time.monotonic() - self._started,
            )
        )
        if epoch + 1 >= self._epochs:
            self.model.stop_training = True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # the file is renamed next, and then it is to be whole
        return hashlib.file_digest(file, "sha256").hexdigest()
