"""How much memory this machine or its container has left, and how much processes hold. Numbers alone, no policy.

All of it is in MB of 10^6 bytes. What a process holds is what it shares with no other and no file gives back: anonymous
and shared memory. The pages of a memory-mapped data set are shared and belong to the kernel, which drops them when it
needs to. Where there is no ``/proc`` (macOS), only the machine's size and a process's own peak are known.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MB = 1e6
_UNLIMITED = 2**60  # bytes; cgroup v1 writes a limit that is none as a number near 2^63
_PRIVATE = ("RssAnon", "RssShmem")


@dataclass(frozen=True, slots=True)
class Room:
    """What there is and what is left of it.

    Attributes:
        total: MB that the machine or its container has.
        free: MB until that is used up, what the kernel could drop at once counted as free; None where it is not known.
        where: Whose limit it is, in words.
    """

    total: float
    free: float | None
    where: str


def room(root: Path = Path("/")) -> Room:
    """The room of this machine, or of the narrowest of the containers that this process is in.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    found = [_machine(root), *_containers(root)]
    return min(found, key=lambda each: each.total if each.free is None else each.free)


def private_mb(pid: int, root: Path = Path("/")) -> float:
    """What a process holds for itself; 0 where it is gone or the system does not tell."""
    status = _table(root / f"proc/{pid}/status")
    return sum(status.get(name, 0) for name in _PRIVATE) * 1024 / _MB


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has ended for lack of memory, on this machine and in this process's containers."""
    told = [_table(root / "proc/vmstat"), *(_table(folder / name) for folder, name in _counters(root))]
    return sum(each.get("oom_kill", 0) for each in told)


class Peak:
    """The most that this process has held since ``begin``; exact where the kernel keeps count, else since its start."""

    def begin(self) -> None:
        """A trial begins."""
        with suppress(OSError):  # no Linux, or one without the counter: the peak is that of the process's whole life
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def mb(self) -> float:
        """The kernel's mark counts mapped files too; those that are mapped now are taken off it."""
        status = _table(Path("/proc/self/status"))
        if "VmHWM" not in status:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most / _MB if sys.platform == "darwin" else most * 1024 / _MB
        held = sum(status.get(name, 0) for name in _PRIVATE)
        return max(held, status["VmHWM"] - status.get("RssFile", 0)) * 1024 / _MB


def give_way() -> None:
    """Let the kernel end this process before its parent when memory runs out: the parent can say what happened."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def _machine(root: Path) -> Room:
    known = _table(root / "proc/meminfo")
    if "MemTotal" not in known:
        return Room(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _MB, None, "this machine")
    return Room(known["MemTotal"] * 1024 / _MB, known.get("MemAvailable", 0) * 1024 / _MB, "this machine")


def _containers(root: Path) -> Iterator[Room]:
    """Every group with a limit around this process, of both versions of cgroups."""
    for folder in _groups(root, "sys/fs/cgroup", "0::"):
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None:
            yield _contained(limit, used, _table(folder / "memory.stat").get("inactive_file", 0))
    for folder in _groups(root, "sys/fs/cgroup/memory", ":memory:"):
        limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            yield _contained(limit, used, _table(folder / "memory.stat").get("total_inactive_file", 0))


def _contained(limit: int, used: int, droppable: int) -> Room:
    """As Kubernetes counts: file pages that nobody has used of late are given back before anything is ended."""
    return Room(limit / _MB, max(0.0, limit - max(0, used - droppable)) / _MB, "this container")


def _counters(root: Path) -> Iterator[tuple[Path, str]]:
    """The files that count in this process's own groups."""
    yield from ((folder, "memory.events") for folder in _groups(root, "sys/fs/cgroup", "0::")[:1])
    yield from ((folder, "memory.oom_control") for folder in _groups(root, "sys/fs/cgroup/memory", ":memory:")[:1])


def _groups(root: Path, mount: str, mark: str) -> list[Path]:
    """The group that this process is in and those around it, innermost first, as far as they can be seen.

    In a container the path that ``/proc`` tells may be the host's, of which nothing is here: then the mount itself is
    the container's group.
    """
    top = root / mount
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    path = next((line.partition(mark)[2].strip("/") for line in lines if mark in line), None)
    if path is None:
        return []
    inner = top / path
    around = [inner, *(each for each in inner.parents if each.is_relative_to(top))] if inner.is_dir() else [top]
    return [folder for folder in around if folder.is_dir()]


def _number(path: Path) -> int | None:
    """A file's number; None where it has none, or one that means no limit."""
    try:
        value = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # v2 writes "max"
        return None
    return value if value < _UNLIMITED else None


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file of names and numbers, such as ``VmHWM:   531200 kB``; empty where it cannot be read."""
    try:
        words = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    return {parts[0].rstrip(":"): int(parts[1]) for parts in words if len(parts) > 1 and parts[1].isdecimal()}
