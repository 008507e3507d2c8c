"""A tiny trial in a warm process and in a fresh one: what starting Python, Keras and TensorFlow costs each time.

``python benchmarks/run.py fresh_process``. The same spec on the digits, one epoch; the fresh process is the pool's own,
with every trial the last of its process. The standby's row has every process replaced too, with the next one warm
already.
"""

import time
from pathlib import Path

from apart import CACHE, apart
from rows import Found, Row


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Warm, and replaced with a standby, beside fresh."""
    trials = 2 if quick else 7
    fresh = _seconds(trials, lasts=1, standby=0)
    warm = _seconds(trials, lasts=10**9, standby=0)
    yield Row("fresh_process.warm", "a tiny trial, in a warm process", "s", warm, "a fresh process", fresh)
    if not quick:
        replaced = _seconds(trials, lasts=1, standby=1, pause=15.0)
        what = "a tiny trial, after its process was replaced by the standby"
        yield Row("fresh_process.standby", what, "s", replaced, "a fresh process", fresh)


def _seconds(trials: int, **given: float) -> tuple[float, ...]:
    return tuple(apart("fresh_process:measure", trials=trials, **given))


def measure(trials: int, lasts: int, standby: int, pause: float = 0.0) -> list[float]:
    """Seconds of each trial but the first, in processes that last so many trials; ``pause`` seconds between two."""
    from searching import spec

    from seedpod.training.child import PoolLimits
    from seedpod.training.datasets import prepare
    from seedpod.training.pool import TrainerPool

    tiny = {"conv_blocks": 1, "filters_0": 4, "kernel_size": 3, "activation": "relu", "initializer": "he_normal"}
    tiny |= {"convs_per_block": 1, "normalization": "none", "residual": False, "pooling": "max", "dense_layers": 0}
    tiny |= {"global_pooling": True, "dropout": 0.0, "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 64}
    tiny |= {"schedule": "constant", "warmup": 0.0, "label_smoothing": 0.0, "augmentation": 0.0, "flip": False}
    cache = Path(CACHE)
    trial = spec(0, prepare("digits", cache).fingerprint, **tiny)
    seconds = []
    with TrainerPool(1, cache, limits=PoolLimits(trials=lasts), standby=standby) as pool:
        pool.wait_until_ready(300)
        for number in range(trials + 1):
            time.sleep(pause if number else 0.0)  # the standby imports meanwhile, as it does while a trial trains
            began = time.monotonic()
            pool.run(trial, lambda _: None, str(number))
            seconds.append(time.monotonic() - began)
    return seconds[1:]
