"""Good behaviour towards an endpoint: pure, fed ``now`` (seconds of any one clock) and randomness."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Self

WINDOW = 10.0
"""Seconds over which the endpoint counts requests."""
_SLACK = 1.0  # seconds by which requests may bunch up on their way, so that ours still fit the endpoint's window


class Operation(StrEnum):
    """What is asked of an endpoint, most urgent first: a cancel saves money, a submission starts work."""

    CANCEL = "cancel"
    RUN = "run"
    STATUS = "status"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Limit:
    """What an endpoint allows, and how it is used.

    Attributes:
        per_window: Requests allowed per ``WINDOW``.
        at_once: Requests allowed at one time.
        burst: Requests that we send without a wait after a rest; what is left of the window is the steady rate.
    """

    per_window: int
    at_once: int
    burst: int


LIMITS: Mapping[Operation, Limit] = MappingProxyType(
    {
        Operation.CANCEL: Limit(100, 20, burst=50),  # a stop cancels all jobs at once
        Operation.RUN: Limit(1000, 200, burst=500),  # a start submits all jobs at once
        Operation.STATUS: Limit(2000, 400, burst=400),  # polls come steadily
        Operation.HEALTH: Limit(100, 20, burst=20),  # none is documented: treated as the strictest
    }
)
"""RunPod's documented limits per endpoint (docs: serverless/endpoints/send-requests, 2026-08)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Attributes:
        base: Ceiling of the first wait, in seconds; it doubles with each further one.
        longest: Ceiling of any wait, in seconds.
        total: Seconds after the first try in which the last one may begin.
    """

    base: float = 0.5
    longest: float = 20.0
    total: float = 60.0

    def delay(
        self, attempt: int, spent: float, chance: random.Random, retry_after: float | None = None
    ) -> float | None:
        """Seconds to wait before the next try.

        Args:
            attempt: Tries that have failed, from 1.
            spent: Seconds since the first try began.
            chance: Draws the jitter.
            retry_after: Seconds that the endpoint asked for: waited in full, with jitter on top, so that those who were
                sent away together do not come back together.

        Returns:
            The wait; None where the total is spent, or would be before the endpoint wants to be asked again.
        """
        left = self.total - spent
        ceiling = min(self.longest, self.base * 2.0 ** min(attempt - 1, 60))
        asked = retry_after or 0.0
        if left <= 0 or asked > left:
            return None
        return min(asked + chance.uniform(0.0, ceiling), left)


class TokenBucket:
    """Allows a burst and then a steady rate: ``burst + per_second * t`` requests in any ``t`` seconds.

    Args:
        burst: Requests at once after a rest; at least 1.
        per_second: Requests per second without a rest.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = float(burst)
        self._at: float | None = None

    @classmethod
    def within(cls, limit: Limit) -> Self:
        """The bucket whose burst and refill together never exceed a limit in any window."""
        return cls(limit.burst, max(1, limit.per_window - limit.burst) / (WINDOW + _SLACK))

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._refill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self, now: float, place: int = 1) -> float:
        """Seconds until there is a token for the ``place``-th who waits, from 1."""
        self._refill(now)
        return max(0.0, (place - self._tokens) / self._per_second)

    def _refill(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._tokens = min(float(self._burst), self._tokens + passed * self._per_second)
        self._at = now if self._at is None else max(self._at, now)


class ConcurrencyLimit:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does with its window.

    Failures that come together stem from one trouble, so they count as one: at most one decrease in ``settle`` seconds.

    Args:
        maximum: The limit to begin with and never to exceed; at least 1.
        settle: Seconds between two decreases.
    """

    def __init__(self, maximum: int, settle: float = 1.0) -> None:
        self._maximum = float(maximum)
        self._allowed = float(maximum)
        self._settle = settle
        self._lowered: float | None = None

    @property
    def allowed(self) -> int:
        """How many may be in flight now: from 1 to the maximum."""
        return int(self._allowed)

    def success(self) -> None:
        """One came back well: up by one per ``allowed`` of these."""
        # The nudge keeps ten tenths from adding up to 0.9999.
        self._allowed = min(self._maximum, self._allowed + 1.0 / int(self._allowed) + 1e-9)

    def failure(self, now: float) -> None:
        """One failed for an infrastructure reason: down by half."""
        if self._lowered is None or now - self._lowered >= self._settle:
            self._allowed = max(1.0, self._allowed / 2)
            self._lowered = now
