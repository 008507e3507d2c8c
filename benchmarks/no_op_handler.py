"""A handler on the real SDK whose trials are over at once: what is left is the way there and back."""

import os
from typing import Any

import runpod

from seedpod.trial import Status, TrialRequest, TrialResult

CONCURRENCY = int(os.environ["SEEDPOD_WORKER_CONCURRENCY"])


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Answer what a trial of no epochs comes to; each the same value for the same spec."""
    request = TrialRequest.from_wire(job["input"])
    spec = request.spec
    value = int(spec.uid[:8], 16) / 0xFFFFFFFF
    rows = tuple({"val_accuracy": value, "val_loss": 1 - value} for _ in range(spec.max_epochs))
    result = TrialResult(
        spec.number,
        Status.COMPLETE,
        value=value,
        best_epoch=1,
        epochs=spec.max_epochs,
        metrics=rows[0],
        history=rows,
        backend="runpod",
        attempts=request.attempt,
    )
    return {"result": result.to_wire()}


def adjust_concurrency(_current: int) -> int:
    """A constant: a changing value stalls the SDK's loop."""
    return CONCURRENCY


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "concurrency_modifier": adjust_concurrency})
