"""What a trainer process does beside trials: train the final model, measure it, use it, export it.

A task is for a process of this machine and this version, so its wire form is its fields, and a path is a path.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from seedpod.trial import TrialSpec, Wire


@dataclass(frozen=True, slots=True)
class FinalTask:
    """Train a configuration once more, keep the model, and measure it on the test images: once.

    Attributes:
        spec: The trial whose configuration it is.
        epochs: Epochs to train; see ``FinishedTrial.final_epochs``.
        on_all: Train on training and validation images; else on the training part alone, as the trial did.
        path: The file of the model, ending in ``.keras``; written before anything is measured.
        measured: Whether this process has the test images; else who has them measures.
    """

    spec: TrialSpec
    epochs: int
    on_all: bool
    path: str
    measured: bool = True


@dataclass(frozen=True, slots=True)
class EvaluateTask:
    """Measure a kept model on the test images of its data set.

    Attributes:
        model: The model's file.
        dataset: Id of the prepared data set.
        fingerprint: And its fingerprint.
        pictures: Whether the surest mistakes are told as pictures too, as they are of a new model.
    """

    model: str
    dataset: str
    fingerprint: str
    pictures: bool = False


@dataclass(frozen=True, slots=True)
class PredictTask:
    """Classify pictures from files.

    Attributes:
        model: The model's file.
        images: The pictures' files.
    """

    model: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExportTask:
    """Write a kept model in another format, and compare what the exported one answers.

    Attributes:
        model: The model's file.
        format: ``onnx``, ``savedmodel`` or ``tflite``.
        path: The file, or for ``savedmodel`` the folder; it does not exist yet.
    """

    model: str
    format: str
    path: str


Task = FinalTask | EvaluateTask | PredictTask | ExportTask
_KINDS: Mapping[str, type[Task]] = {
    "final": FinalTask,
    "evaluate": EvaluateTask,
    "predict": PredictTask,
    "export": ExportTask,
}


def task_to_wire(task: Task) -> Wire:
    """The task as plain JSON data."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(task, cls))
    fields = {**asdict(task), "spec": task.spec.to_wire()} if isinstance(task, FinalTask) else asdict(task)
    return {"task": kind, **fields}


def task_from_wire(data: Mapping[str, Any]) -> Task:
    """Read a task back."""
    fields = {name: value for name, value in data.items() if name != "task"}
    if "spec" in fields:
        fields["spec"] = TrialSpec.from_wire(fields["spec"])
    if "images" in fields:
        fields["images"] = tuple(fields["images"])
    return _KINDS[data["task"]](**fields)
