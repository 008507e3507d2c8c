"""What the kernel tells of memory: of this machine, and of made-up ones."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from seedpod.training.memory import Peak, oom_kills, private_mb, room

MB = 10**6
MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def write(root: Path, files: Mapping[str, object]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    return root


def test_machine_without_a_container(tmp_path: Path) -> None:
    """Without a limit around it, a process has what the machine has available."""
    found = room(write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}))
    assert (found.total, found.free, found.where) == (16384.0, 8192.0, "this machine")


def test_narrowest_of_nested_groups(tmp_path: Path) -> None:
    """Of nested groups of version 2 the one with the least left counts; file pages that nobody uses count as free."""
    group = "sys/fs/cgroup/outer/inner"
    files = {
        "proc/self/cgroup": "0::/outer/inner",
        f"{group}/memory.max": "max",
        f"{group}/memory.current": 900 * MB,
        "sys/fs/cgroup/outer/memory.max": 1000 * MB,
        "sys/fs/cgroup/outer/memory.current": 900 * MB,
        "sys/fs/cgroup/outer/memory.stat": f"anon 1\ninactive_file {200 * MB}",
    }
    found = room(write(tmp_path, files))
    assert (found.total, found.free, found.where) == (1000.0, 300.0, "this container")


def test_group_of_version_1_seen_from_inside(tmp_path: Path) -> None:
    """In a container of version 1 the path is the host's, and the mount itself is the container's group."""
    group = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "9:cpu:/\n4:memory:/docker/0123abcd",
        f"{group}/memory.limit_in_bytes": 2000 * MB,
        f"{group}/memory.usage_in_bytes": 500 * MB,
        f"{group}/memory.stat": "total_inactive_file 0",
    }
    found = room(write(tmp_path, files))
    assert (found.total, found.free) == (2000.0, 1500.0)


def test_no_limit_of_version_1_is_none(tmp_path: Path) -> None:
    """The huge number that stands for no limit is none."""
    files = {"proc/self/cgroup": "4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712}
    assert room(write(tmp_path, files)).where == "this machine"


def test_system_without_proc(tmp_path: Path) -> None:
    """Where the system tells nothing, as macOS, its size is known and what is free is not."""
    found = room(tmp_path)
    assert found.total == pytest.approx(psutil.virtual_memory().total / MB, rel=0.05)
    assert found.free is None
    assert (private_mb(os.getpid(), tmp_path), oom_kills(tmp_path)) == (0.0, 0)


def test_kills_of_machine_and_container_are_counted(tmp_path: Path) -> None:
    """The kernel's kills are counted on the machine and in the process's own group, of either version."""
    files = {
        "proc/self/cgroup": "4:memory:/a\n0::/b",
        "proc/vmstat": "nr_free_pages 1\noom_kill 2",
        "sys/fs/cgroup/memory/a/memory.oom_control": "oom_kill_disable 0\noom_kill 3",
        "sys/fs/cgroup/b/memory.events": "oom 9\noom_kill 5",
    }
    assert oom_kills(write(tmp_path, files)) == 10


@linux
def test_this_machine_tells() -> None:
    """The room of the machine that runs this is no more than its memory, and a process holds what psutil says."""
    found = room()
    assert found.free is not None
    assert 0 < found.free <= found.total * 1.01
    held = psutil.Process().memory_full_info().uss / MB
    assert private_mb(os.getpid()) == pytest.approx(held, rel=0.3)


@linux
def test_peak_is_that_of_the_trial_alone() -> None:
    """Memory that was given back before a trial began does not count, memory given back during it does; and neither
    do mapped files.
    """
    program = f"""
import mmap, sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from seedpod.training.memory import Peak
peak = Peak()
held = bytearray(b"x") * 200_000_000
del held
peak.begin()
before = peak.mb()
held = bytearray(b"x") * 100_000_000
del held
print(before, peak.mb())
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    before, peak = map(float, told.split())
    assert before < 60
    assert 95 < peak - before < 110
    assert Peak().mb() > 0
