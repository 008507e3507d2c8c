"""A fixed-time handler on the real SDK: sleeps, reports progress, fails or is cancelled, as its input says."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import runpod

CONCURRENCY = int(os.environ["SEEDPOD_WORKER_CONCURRENCY"])


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    asked = job["input"]
    steps = asked.get("steps", 0)
    for step in range(steps):
        await asyncio.sleep(asked.get("seconds", 0) / steps)
        runpod.serverless.progress_update(job, {"step": step + 1})
    if not steps:
        await asyncio.sleep(asked.get("seconds", 0))
    if "fail" in asked:
        raise ValueError(asked["fail"])
    return {"uid": asked.get("uid"), "worker": os.environ["RUNPOD_POD_ID"], "pid": os.getpid(), "value": 0.5}


def adjust_concurrency(_current: int) -> int:
    return CONCURRENCY


if __name__ == "__main__":
    if os.environ.get("SEEDPOD_TEST_DETACHED"):  # a child that leaves the worker's process group
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    runpod.serverless.start({"handler": handler, "concurrency_modifier": adjust_concurrency})
