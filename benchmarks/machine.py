"""The machine and the versions that a run was measured with; no host name and no path."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("seedpod", "optuna", "keras", "tensorflow-cpu", "tensorflow", "runpod", "ray", "syne-tune", "keras-tuner")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and the packages that are there."""
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": dict(_versions(PACKAGES)),
    }


def load() -> float:
    """Processes that wanted a core in the last minute; what else ran makes times longer."""
    return round(os.getloadavg()[0], 2)


def sentence(about: dict[str, Any]) -> str:
    """One line of what ``machine`` tells."""
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    return (
        f"{about['processor']}, {about['cores']} cores, {about['memory_gb']:g} GB, {about['system']}, "
        f"Python {about['python']}; {packages}"
    )


def _first(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
