"""RunPod's documented limits per endpoint: requests per 10 s, and requests at one time."""

from collections import defaultdict, deque

WINDOW = 10.0  # seconds

LIMITS: dict[str, tuple[int, int | None]] = {
    "run": (1000, 200),
    "runsync": (2000, 400),
    "status": (2000, 400),
    "stream": (2000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, None),
}
"""(per window, at one time) by operation; from the service's documentation (serverless/endpoints/send-requests)."""


class RateLimits:
    """A sliding window and a count of open requests per operation; pure, fed the time."""

    def __init__(self) -> None:
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._open: defaultdict[str, int] = defaultdict(int)

    def admit(self, operation: str, now: float) -> bool:
        """Count one more request; False where it is over a limit, and then it is not counted."""
        per_window, at_once = LIMITS.get(operation, (None, None))
        recent = self._recent[operation]
        while recent and now - recent[0] >= WINDOW:
            recent.popleft()
        if per_window is not None and len(recent) >= per_window:
            return False
        if at_once is not None and self._open[operation] >= at_once:
            return False
        recent.append(now)
        self._open[operation] += 1
        return True

    def release(self, operation: str) -> None:
        """An admitted request has been answered."""
        self._open[operation] -= 1
