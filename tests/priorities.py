"""At which priority a process trains."""

import os
from contextlib import suppress
from pathlib import Path


def priorities_of(pid: int) -> set[int]:
    """Those of all threads of a process that may train; none where a process has one for all.

    The allocator's own thread is as the one that woke it first, and frees memory alone.
    """
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # it has just ended
            if not (path / "comm").read_text().startswith("jemalloc_bg"):
                found.add(os.getpriority(os.PRIO_PROCESS, int(path.name)))
    return found
