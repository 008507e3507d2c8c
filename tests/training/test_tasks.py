"""Tasks keep what they are on their way to a trainer process."""

import json

import pytest

from samples import SPEC
from seedpod.training.tasks import (
    EvaluateTask,
    ExportTask,
    FinalTask,
    PredictTask,
    Task,
    task_from_wire,
    task_to_wire,
)


@pytest.mark.parametrize(
    "task",
    [
        FinalTask(SPEC, 3, True, "/a/model.keras"),
        EvaluateTask("/a/model.keras", "digits", "0123456789abcdef"),
        PredictTask("/a/model.keras", ("1.png", "2.png")),
        ExportTask("/a/model.keras", "onnx", "/a/model.onnx"),
    ],
)
def test_tasks_survive_the_wire(task: Task) -> None:
    """Through JSON and back each task is equal to itself."""
    assert task_from_wire(json.loads(json.dumps(task_to_wire(task)))) == task
