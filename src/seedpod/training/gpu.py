"""Which NVIDIA GPUs this machine has, from its driver: without CUDA, and without a library that would claim one."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
_SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
_PATIENCE = 20.0  # seconds; without a daemon of the driver the first call of a container takes several


def devices_of(environment: Mapping[str, str], driver: Path = DRIVER) -> tuple[str, ...]:
    """The GPUs that a process with this environment may use: CUDA_VISIBLE_DEVICES, or all that the driver lists."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return tuple(name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip())
    with suppress(OSError):
        return tuple(str(index) for index in range(len(list(driver.iterdir()))))
    return ()


def gpu_name(driver: Path = DRIVER, command: tuple[str, ...] = _SMI) -> str:
    """What the driver calls the first GPU, such as ``NVIDIA H100 80GB HBM3``; empty where there is none."""
    with suppress(OSError):
        for folder in sorted(driver.iterdir()):
            name = _model(folder / "information")
            if name:
                return name
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
        return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
    return ""


def _model(information: Path) -> str:
    with suppress(OSError):
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                return value.strip()
    return ""
