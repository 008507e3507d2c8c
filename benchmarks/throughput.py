"""Images a second that a small CNN trains with here: beside plain Keras, and by one, two and four processes.

``python benchmarks/run.py throughput``. 8,192 images of 28 x 28 and two convolutions (16 and 32 filters, 3 x 3),
batches of 64: ours is the real trainer in warm processes, validation and its health's probe included; plain Keras is
``fit`` on arrays in memory with ``validation_data`` split off, in a fresh process that has imported it. Both count
training images after the first epoch, whose compilation ``throughput.whole`` counts too. One process of ours may run as
many operations side by side as there are cores; two or four share them.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apart import apart
from rows import Found, Row, Target

IMAGES, SIDE, BATCH = 8192, 28, 64
HELD_OUT = 0.2


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Beside plain Keras, and of two and four processes beside one."""
    epochs, repeats = (3, 1) if quick else (6, 3)
    with TemporaryDirectory(prefix="seedpod-throughput-") as folder:
        images = f"{folder}/images.npz"
        apart("throughput:draw", images=images)
        ours: dict[int, list[dict[str, float]]] = {count: [] for count in ((1, 2) if quick else (1, 2, 4))}
        theirs = []
        for _ in range(repeats):  # in turn
            theirs.append(apart("plain_keras:fit", images=images, batch_size=BATCH, epochs=epochs, held_out=HELD_OUT))
            for processes, found in ours.items():
                given = {"images": images, "cache_dir": f"{folder}/cache", "epochs": epochs}
                found.append(apart("throughput:train", processes=processes, **given))
    what = f"a small CNN, {SIDE} x {SIDE}, batches of {BATCH}"
    for case, told in (("steady", ""), ("whole", ", compilation and all")):
        mine, plain = (tuple(each[case] for each in found) for found in (ours[1], theirs))
        yield Row(f"throughput.{case}", what + told, "images/s", mine, "plain Keras fit", plain, more_is_better=True)
    alone = tuple(each["steady"] for each in ours[1])
    for processes in (2,) if quick else (2, 4):
        yield Row(
            f"throughput.{processes}",
            f"{what}: {processes} processes",
            "images/s",
            tuple(each["steady"] for each in ours[processes]),
            "one process with all cores",
            alone,
            more_is_better=True,
            target=Target(1.0) if processes == 2 else None,
        )


def draw(images: str) -> None:
    """Random images of ten classes, in an .npz."""
    import numpy as np

    chance = np.random.default_rng(0)
    x, y = chance.integers(0, 256, (IMAGES, SIDE, SIDE), np.uint8), np.arange(IMAGES) % 10
    np.savez(images, x_train=x, y_train=y, x_test=x[:500], y_test=y[:500])


def train(images: str, cache_dir: str, epochs: int, processes: int) -> dict[str, float]:
    """As many trials at once as processes; training images a second of all of them together."""
    from plain_keras import FILTERS, KERNEL, rates

    from seedpod.training.datasets import prepare
    from seedpod.training.pool import TrainerPool
    from seedpod.trial import TrialProgress, TrialSpec

    info = prepare(images, Path(cache_dir))
    params: dict[str, Any] = {
        "conv_blocks": len(FILTERS),
        **{f"filters_{block}": filters for block, filters in enumerate(FILTERS)},
        "convs_per_block": 1,
        "kernel_size": KERNEL,
        "activation": "relu",
        "initializer": "glorot_uniform",
        "normalization": "none",
        "residual": False,
        "pooling": "max",
        "global_pooling": False,
        "dense_layers": 0,
        "dropout": 0.0,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup": 0.0,
        "batch_size": BATCH,
        "label_smoothing": 0.0,
        "augmentation": 0.0,
        "flip": False,
    }
    spec = TrialSpec(
        0, info.id, info.fingerprint, params, 7, 7, ("val_accuracy",), epochs, epochs, HELD_OUT, 10**7, 0.0
    )
    together = threading.Barrier(processes)
    ends: list[float] = []  # appended to by all trials' threads: atomic

    def trial(key: str) -> float:
        def report(_: TrialProgress) -> None:
            ends.append(time.monotonic())

        together.wait(300)
        began = time.monotonic()
        pool.run(spec, report, key)
        return began

    with TrainerPool(processes, Path(cache_dir), standby=0) as pool, ThreadPoolExecutor(processes) as threads:
        if not pool.wait_until_ready(300):
            raise RuntimeError("no trainer starts")
        began = min(threads.map(trial, map(str, range(processes))))
    ends.sort()
    images_each = int(sum(info.train_counts) * (1 - HELD_OUT))
    if processes == 1:
        return rates(began, ends, images_each)
    # All epochs but each trial's first, from when all firsts have ended: they overlap, so those before are not counted.
    since = ends[processes - 1]
    counted = len(ends) - processes
    seconds = ends[-1] - since
    return {"whole": len(ends) * images_each / (ends[-1] - began), "steady": counted * images_each / seconds}
