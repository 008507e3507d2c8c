"""The command line as a process, for tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
OPTIMIZER = str(ROOT / "optimizer.py")
WITHOUT_KERAS = str(ROOT / "tests" / "stand_in_optimizer.py")
"""The same in all but what trains: for what holds of any training, at a fraction of the time."""
TINY = (
    *("fix.conv_blocks=1", "fix.convs_per_block=1", "fix.dense_layers=0", "fix.augmentation=0", "fix.batch_size=256"),
)
"""Networks that take little more than being built."""
QUICK = ("max_epochs_per_trial=2", "min_epochs_per_trial=1", "sampler=random")

SEARCH_ALONE = {"SEEDPOD_FINAL_MODEL": "none", "SEEDPOD_REPORT": "none"}
"""Most tests are about the search, and its end takes seconds."""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEEDPOD_", "RUNPOD_"))}
    return {**kept, **SEARCH_ALONE, **more}


def run(*arguments: str, cwd: Path, program: str = OPTIMIZER, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, program, *arguments],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,  # a loaded machine takes its time
    )


def start(*arguments: str, cwd: Path, program: str = OPTIMIZER, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, program, *arguments],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def eventually(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return true()


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "trials").glob("*.json"))]


def trainers(parent: int) -> list[psutil.Process]:
    try:
        return psutil.Process(parent).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
