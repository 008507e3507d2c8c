"""What a large data set costs in memory where several trainer processes learn from it: its pages are shared.

``python benchmarks/run.py shared_pages``. Makes a data set of 200 MB (and a test part beside it), starts four real
trainer processes that each train one small network on it for an epoch, and reads from ``/proc/PID/smaps``, when all
have gone through every image and while they live: the proportional set size of the mapped training images in each, and
what of them is private. A fifth process then only attaches to it and reads all of it: what that adds to its private
memory. Times of attaching are medians of 20.

Floors: a process of its own for each without sharing holds the whole data set, 200 MB; with perfect sharing, a quarter.
"""

import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rows import Found, Row, Target

from seedpod.training.datasets import DatasetInfo, prepare
from seedpod.training.pool import TrainerPool
from seedpod.trial import ParamValue, TrialProgress, TrialSpec

SIDE = 64  # pixels
PARAMS: dict[str, ParamValue] = {
    "conv_blocks": 3,
    "filters_0": 4,
    "filters_1": 4,
    "filters_2": 4,
    "convs_per_block": 1,
    "kernel_size": 3,
    "activation": "relu",
    "initializer": "he_normal",
    "normalization": "none",
    "residual": False,
    "pooling": "strided",
    "global_pooling": True,
    "dropout": 0.0,
    "dense_layers": 0,
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "batch_size": 128,
    "label_smoothing": 0.0,
    "augmentation": 0.0,
    "flip": False,
}
ATTACHING = """
import statistics, sys, time
from pathlib import Path
from seedpod.training.datasets import attach
from seedpod.training.memory import private_mb
import os

name, fingerprint, cache = sys.argv[1], sys.argv[2], Path(sys.argv[3])
seconds = []
for _ in range(20):
    began = time.perf_counter()
    attach(name, fingerprint, cache)
    seconds.append(time.perf_counter() - began)
before = private_mb(os.getpid())
data = attach(name, fingerprint, cache)
total = sum(int(data.x_train[i:i + 500].sum()) for i in range(0, len(data.x_train), 500))
print(seconds[0] * 1000, statistics.median(seconds) * 1000, private_mb(os.getpid()) - before)
"""


def make_data(folder: Path, megabytes: int) -> DatasetInfo:
    """Random images of ten classes."""
    count = megabytes * 10**6 // (SIDE * SIDE)
    chance = np.random.default_rng(0)
    x = chance.integers(0, 256, (count, SIDE, SIDE), np.uint8)
    y = np.arange(count) % 10
    np.savez(folder / "random.npz", x_train=x, y_train=y, x_test=x[:500], y_test=y[:500])
    return prepare(str(folder / "random.npz"), folder / "cache")


def mapped(pid: int, part: str) -> dict[str, float]:
    """MB of a process's mappings of the files whose path has this part, by the kernel's names: Rss, Pss and others."""
    found: dict[str, float] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = part in line
        elif inside and words[-1] == "kB":
            found[words[0][:-1]] = found.get(words[0][:-1], 0.0) + int(words[1]) * 1024 / 1e6
    return found


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """What a process holds of the data, and what one more costs."""
    megabytes = 50 if quick else 200
    found = measured(4, megabytes)
    data = f"a data set of {megabytes} MB, learned from by 4 processes"
    shares, whole = found["shares"], (float(megabytes),) * len(found["shares"])
    yield Row("shared_pages.share", f"{data}: what each holds of it", "MB", shares, "a copy for each", whole)
    what = f"{data}: what one more holds for itself after reading it"
    target = None if quick else Target(10.0, "ours")
    yield Row("shared_pages.more", what, "MB", found["added"], "a copy for each", whole[:1], target=target)
    what = f"{data}: attached to"
    yield Row("shared_pages.attach", what, "ms", found["attached"], "the first time", found["first"])


def measured(processes: int, megabytes: int) -> dict[str, tuple[float, ...]]:
    """MB that each process holds of the data, ms of attaching to it, and MB that one process more adds."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        info = make_data(Path(folder), megabytes)
        cache = Path(folder) / "cache"
        spec = TrialSpec(0, info.id, info.fingerprint, PARAMS, 42, 42, ("val_accuracy",), 1, 1, 0.2, 10**6, 0.0)
        seen = threading.Barrier(processes + 1)
        let_go = threading.Event()

        def report(_: TrialProgress) -> None:  # every image was trained with or validated with
            seen.wait()
            let_go.wait()

        with TrainerPool(processes, cache, standby=0) as pool, ThreadPoolExecutor(processes) as threads:
            if not pool.wait_until_ready(300):
                raise RuntimeError("no trainer starts")
            trials = [threads.submit(pool.run, spec, report, str(number)) for number in range(processes)]
            for trial in trials:  # one that fails must not be waited for
                trial.add_done_callback(lambda _: None if let_go.is_set() else seen.abort())
            try:
                seen.wait()
            except threading.BrokenBarrierError:
                raise RuntimeError(str([trial.exception() for trial in trials if trial.done()])) from None
            shares = tuple(mapped(pid, "/x_train.npy")["Pss"] for pid in pool.pids(running=True))
            command = [sys.executable, "-c", ATTACHING, info.id, info.fingerprint, str(cache)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            first, median, added = map(float, told)
            let_go.set()
            for trial in trials:
                trial.result()
    return {"shares": shares, "first": (first,), "attached": (median,), "added": (added,)}
