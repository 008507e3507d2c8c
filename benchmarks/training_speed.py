"""What the trainer's own training loop and its standby process gain, each beside what they replace, in one run.

``python benchmarks/run.py training_speed``; three minutes on two cores.

- The loop: our trainer beside plain Keras ``fit`` on arrays in memory with ``validation_data``; the same network by the
  same builder, the same images, batches and epochs, in turn in one process of one compute thread. In CPU seconds, so
  that other programs on the machine change little. On digits most of a trial is what comes before its first step; on
  images of 28x28 most of it is the steps.
- After a kill: from SIGKILL in the middle of a trial until the first epoch of the next trial is reported, with a
  standby that is ready and without one.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rows import Found, Row

from seedpod.errors import TrainingError
from seedpod.training.datasets import prepare
from seedpod.training.helper import finding_us
from seedpod.training.pool import TrainerPool
from seedpod.training.runtime import configure_environment
from seedpod.trial import ParamValue, TrialProgress, TrialSpec

PARAMS: dict[str, ParamValue] = {
    "conv_blocks": 2,
    "filters_0": 16,
    "filters_1": 32,
    "convs_per_block": 1,
    "kernel_size": 3,
    "activation": "relu",
    "initializer": "he_normal",
    "normalization": "batch",
    "residual": False,
    "pooling": "max",
    "global_pooling": False,
    "dense_layers": 1,
    "dense_units_0": 64,
    "dropout": 0.2,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "warmup": 0.0,
    "batch_size": 64,
    "label_smoothing": 0.0,
    "augmentation": 0.0,
    "flip": False,
}
IMAGES, SIDE = 8192, 28


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The loop, a warm process, the standby."""
    repeats = 1 if quick else 5
    with TemporaryDirectory(prefix="seedpod-speed-") as folder:
        cases = [("digits", 8, "8 epochs on digits (8x8), batches of 64")]
        if not quick:
            cases.append((str(_drawn(Path(folder))), 2, f"2 epochs on {IMAGES:,} images of {SIDE}x{SIDE}"))
        for source, epochs, what in cases:
            cache = Path(folder) / "cache"
            spec = _spec(source, cache, epochs)
            asked = json.dumps({"spec": spec.to_wire(), "cache": str(cache), "repeats": repeats})
            found = _apart(asked)
            name = "digits" if source == "digits" else "images"
            ours, theirs = tuple(found["ours"]), tuple(found["theirs"])
            yield Row(f"training_speed.{name}", f"a trial: {what}", "CPU s", ours, "plain Keras fit", theirs)
        spec = _spec("digits", Path(folder) / "cache", 1)
        ready, none = [], []
        for _ in range(repeats):  # in turn
            ready.append(_after_a_kill(spec, Path(folder) / "cache", standby=1))
            none.append(_after_a_kill(spec, Path(folder) / "cache", standby=0))
        what = "from a kill to the next trial's first epoch, with a standby"
        yield Row("training_speed.standby", what, "s", tuple(ready), "without one", tuple(none))


def _drawn(folder: Path) -> Path:
    import numpy as np

    chance = np.random.default_rng(0)
    x, y = chance.integers(0, 256, (IMAGES, SIDE, SIDE), np.uint8), np.arange(IMAGES) % 10
    np.savez(folder / "images.npz", x_train=x, y_train=y, x_test=x[:500], y_test=y[:500])
    return folder / "images.npz"


def _spec(source: str, cache: Path, epochs: int) -> TrialSpec:
    info = prepare(source, cache)
    return TrialSpec(0, info.id, info.fingerprint, PARAMS, 42, 42, ("val_accuracy",), epochs, epochs, 0.2, 10**7, 0.0)


def _apart(asked: str) -> dict[str, list[float]]:
    """``compare`` in a process that is set up as a trainer is."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=asked,
        env=configure_environment(finding_us(os.environ)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(spec: TrialSpec, cache: Path, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of a trial here and by plain Keras, in turn; the first of each warms up and does not count."""
    from seedpod.training.process import keras_trainer

    trainer = keras_trainer(cache, 1)
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats + 1):
        for name, work in (
            ("theirs", lambda: plain(spec, cache)),
            ("ours", lambda: trainer.train(spec, lambda _: None, lambda: None)),
        ):
            before = time.process_time()
            work()
            found[name].append(time.process_time() - before)
    return {name: seconds[1:] for name, seconds in found.items()}


def plain(spec: TrialSpec, cache: Path) -> None:
    """The same network by ``fit``, as Keras's own examples have it."""
    import keras
    import numpy as np

    from seedpod.training.datasets import attach, split
    from seedpod.training.model_builder import build_model
    from seedpod.training.network import read_course, read_network

    keras.utils.set_random_seed(spec.seed)
    data = attach(spec.dataset, spec.fingerprint, cache)
    train, validation = split(data.y_train, spec.validation_split, spec.split_seed)
    info, course = data.info, read_course(spec.params)
    labels = np.eye(len(info.class_names), dtype=np.float32)[data.y_train]
    model = build_model(read_network(spec.params, info.image_shape), info.image_shape, 10, info.pixel_max, spec.seed)
    steps = spec.max_epochs * (len(train) // course.batch_size)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(course.learning_rate, steps)),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    held_out = (data.x_train[validation], labels[validation])
    model.fit(
        data.x_train[train], labels[train], course.batch_size, spec.max_epochs, verbose=0, validation_data=held_out
    )
    keras.backend.clear_session()


def _until_reported(pool: TrainerPool, spec: TrialSpec) -> float:
    ends: list[float] = []
    pool.run(spec, lambda _: ends.append(time.monotonic()))
    return ends[0]


def _after_a_kill(spec: TrialSpec, cache: Path, *, standby: int) -> float:
    """Seconds from a kill to the first epoch of the trial that comes next."""
    with TrainerPool(1, cache, standby=standby) as pool, ThreadPoolExecutor(1) as thread:
        if not pool.wait_until_ready(300, standby=True):
            raise RuntimeError("no trainer starts")
        trains = threading.Event()

        def report(_: TrialProgress) -> None:
            trains.set()

        killed = thread.submit(pool.run, replace(spec, max_epochs=1000, min_epochs=1000), report)
        if not trains.wait(300):
            raise RuntimeError("the trial that is to be killed does not train")
        began = time.monotonic()
        os.kill(pool.pids(running=True)[0], signal.SIGKILL)
        with suppress(TrainingError):
            killed.result()
        return _until_reported(pool, spec) - began


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps(compare(TrialSpec.from_wire(asked["spec"]), Path(asked["cache"]), asked["repeats"])))
