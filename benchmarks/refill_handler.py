"""Sleeps for ``input.seconds``. ``SEEDPOD_REFILL`` says how the worker gets its next job while the last one ends.

- ``plain``: not at all; the SDK looks once a second whether a slot is free.
- ``spare``: the SDK is told of one slot more than there are; the handler queues on the real ones.
- ``early``: the job leaves the SDK's count of occupied slots 1.2 s before its end: the next take is open by then.
"""

import asyncio
import os
from typing import Any

import runpod
from runpod.serverless.modules.worker_state import JobsProgress

CONCURRENCY = int(os.environ["SEEDPOD_WORKER_CONCURRENCY"])
REFILL = os.environ["SEEDPOD_REFILL"]
EARLY = 1.2  # seconds: the SDK's sleep of 1 s, and a margin
SLOTS = asyncio.Semaphore(CONCURRENCY)


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    """One fixed-time job."""
    async with SLOTS:
        seconds = float(job["input"]["seconds"])
        if REFILL == "early":
            await asyncio.sleep(max(seconds - EARLY, 0))
            JobsProgress().remove(job)
            seconds = min(seconds, EARLY)
        await asyncio.sleep(seconds)
    return {"done": True}


def adjust_concurrency(_current: int) -> int:
    """A constant: a changing value stalls the SDK's loop."""
    return CONCURRENCY + (REFILL == "spare")


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "concurrency_modifier": adjust_concurrency})
