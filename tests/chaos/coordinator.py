"""One search on an endpoint, as ``optimizer.py`` runs it, under a wall clock that jumps: ``coordinator.py key=value…``.

Its last line is JSON: ``memory``, the RSS in MB after each trial, and what is left when the search is over:
``threads``, ``descriptors`` and ``children``.
"""

import gc
import itertools
import json
import os
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

import jumping_time
from seedpod.assembly import make_backend
from seedpod.board import FinishedTrial, Snapshot
from seedpod.config import load
from seedpod.events import Observer
from seedpod.optimizer import ModelOptimizer
from seedpod.remote.secret import Secret

JUMPS = itertools.cycle([3600.0, -86_400.0, 30 * 86_400.0, -7200.0, 0.5, -30 * 86_400.0])  # seconds
JUMP_EVERY = 7  # trials
PATIENCE = 5.0  # seconds for threads that nobody waits for


class Watch(Observer):
    """Sets the clock now and then, and keeps what the process holds after each trial."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self._ended = itertools.count(1)
        self._process = psutil.Process()

    def finished(self, trial: FinishedTrial, snapshot: Snapshot) -> None:  # noqa: ARG002
        self.memory.append(round(self._process.memory_info().rss / 1e6, 2))
        if next(self._ended) % JUMP_EVERY == 0:
            jumping_time.jump(next(JUMPS))


def descriptors() -> dict[str, str]:
    found = {}
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the listing's own
            found[path.name] = str(path.readlink())
    return found


def main() -> None:
    config = load(sys.argv[1:], os.environ).config
    before = descriptors()
    watch = Watch()
    say = partial(print, flush=True)
    make = partial(make_backend, config, Secret(os.environ["RUNPOD_API_KEY"]), say)
    ModelOptimizer(config, observer=watch, progress_callback=lambda _: None, make_backend=make).run()
    gc.collect()
    end = time.monotonic() + PATIENCE
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.05)
    left = {
        "memory": watch.memory,
        "threads": [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()],
        "descriptors": {name: what for name, what in descriptors().items() if name not in before},
        "children": [child.name() for child in psutil.Process().children(recursive=True)],
    }
    print(json.dumps(left))


if __name__ == "__main__":
    main()
