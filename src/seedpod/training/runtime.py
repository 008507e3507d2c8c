"""Sets up Keras in a trainer process, before anything imports it: threads, determinism, GPU memory, lean imports."""

import os
import sys
from typing import Any

from seedpod.training.gpu import gpu_name

COMPUTE_THREADS = 1
"""Threads of one operation. The sum of a convolution depends on how many threads share it (measured on TensorFlow 2.21,
one epoch of MNIST: validation accuracy 0.9133 with one, 0.9121 with two), so this is one on every machine and in every
mode. Cores are used by processes, and inside one by operations that run side by side, which changes no number (measured
on 2 cores, seconds for two epochs: 10.9 with one operation at a time, 8.3 with two, 8.5 with two threads of one)."""

_UNUSED_BY_KERAS = ("sklearn", "matplotlib")
"""TensorFlow imports these where they are installed; without them it starts in 2.2 s instead of 3.4 s and holds 63 MB
less (measured)."""
_UNUSED_BY_TENSORFLOW = ("scipy",)
"""The same: 10 MB less. JAX needs it."""


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def configure_environment(environment: dict[str, str], threads: int = COMPUTE_THREADS) -> dict[str, str]:
    """The environment for a trainer process: a copy with the thread counts of every numeric library fixed."""
    count = str(threads)
    xla = environment.get("XLA_FLAGS", "")
    if threads == 1 and "xla_cpu_multi_thread_eigen" not in xla:
        xla = f"{xla} --xla_cpu_multi_thread_eigen=false".strip()
    return {
        **environment,
        "KERAS_BACKEND": environment.get("KERAS_BACKEND", "tensorflow"),
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "XLA_FLAGS": xla,
        "PYTHONFAULTHANDLER": "1",
    }


def configure_backend(schedulers: int = 1) -> dict[str, bool | int | float | str]:
    """Import Keras's backend, make it deterministic, and say what the numbers of this process depend on.

    Args:
        schedulers: Operations that may run side by side: the cores that this process may use. Changes no number.
    """
    for name in _UNUSED_BY_KERAS:
        sys.modules[name] = None  # type: ignore[assignment]
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    configure = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}.get(backend)
    version, device = configure(schedulers) if configure else ("unknown", "unknown")
    import keras

    return {
        "keras": keras.__version__,
        "keras_backend": backend,
        "backend_version": version,
        "device": device,
        **({} if device == "cpu" else {"gpu": gpu_name()}),
        "threads": COMPUTE_THREADS,
        # Reductions on a GPU are ordered by its scheduler; deterministic kernels do not exist for every operation.
        "reproducible": "bit for bit on this kind of CPU" if device == "cpu" else "up to the device's rounding",
    }


def _tensorflow(schedulers: int) -> tuple[str, str]:
    for name in _UNUSED_BY_TENSORFLOW:
        sys.modules[name] = None  # type: ignore[assignment]
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(COMPUTE_THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(schedulers)
    tf.config.experimental.enable_op_determinism()
    gpus: list[Any] = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return str(tf.__version__), "gpu" if gpus else "cpu"


def _jax(_schedulers: int) -> tuple[str, str]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return str(jax.__version__), str(jax.default_backend())


def _torch(_schedulers: int) -> tuple[str, str]:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(COMPUTE_THREADS)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return str(torch.__version__), "gpu" if torch.cuda.is_available() else "cpu"
