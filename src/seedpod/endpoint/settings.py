"""What the endpoint's operator may set, with its unit and its bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

from seedpod.errors import ConfigError

KEY = "SEEDPOD_ENDPOINT_KEY"
"""Environment variable with the endpoint's key; a random one is made where it is not set."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "take_hold": (0.1, 80.0),  # under the SDK's own 90 s
    "stop_hold": (0.1, 80.0),
    "take_tick": (0.0, 5.0),
    "heartbeat_timeout": (1.0, 3600.0),
    "claim_grace": (0.0, 600.0),
    "max_retries": (0, 100),
    "execution_timeout": (0.1, 604_800.0),
    "ttl": (0.1, 604_800.0),
    "retain_run": (0.0, 604_800.0),
    "retain_runsync": (0.0, 604_800.0),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The endpoint's rules. All times in seconds.

    Attributes:
        take_hold: How long ``job-take`` is held open without a job.
        stop_hold: The same for ``job-stop``.
        take_tick: The queue is looked at once per tick; 0 hands out at once. RunPod's warm workers start in such steps.
        heartbeat_timeout: A running job that no ping names for so long is lost. RunPod: 40 to 45 s; here the ping comes
            every second, so that a lost worker need not cost as much.
        claim_grace: Time after a hand-out before the heartbeat is missed.
        max_retries: Times that a lost job is queued again before it fails. RunPod: 1.
        execution_timeout: Default of ``policy.executionTimeout``.
        ttl: Default of ``policy.ttl``, from submission.
        retain_run: How long the result of ``/run`` is kept after its end.
        retain_runsync: The same for ``/runsync``.
        rate_limits: Whether the documented limits answer 429.
        documented_time_out: ``executionTimeout`` ends in TIMED_OUT, as documented, and not in FAILED, as observed.
    """

    take_hold: float = 8.0
    stop_hold: float = 8.0
    take_tick: float = 0.15
    heartbeat_timeout: float = 10.0
    claim_grace: float = 2.0
    max_retries: int = 1
    execution_timeout: float = 600.0
    ttl: float = 86_400.0
    retain_run: float = 1800.0
    retain_runsync: float = 60.0
    rate_limits: bool = True
    documented_time_out: bool = False

    def updated(self, changes: Mapping[str, object]) -> Self:
        """A copy with ``changes``; raises ConfigError naming the setting that is unknown, mistyped or out of bounds."""
        known = {field.name for field in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ConfigError(f"endpoint setting {name!r} is unknown; there are {', '.join(sorted(known))}.")
            _check(name, value, whole=name == "max_retries")
        return replace(self, **changes)  # type: ignore[arg-type]


def _check(name: str, value: object, *, whole: bool) -> None:
    if name not in _BOUNDS:
        if not isinstance(value, bool):
            raise ConfigError(f"endpoint setting {name!r} is {value!r:.80}; it must be true or false.")
        return
    low, high = _BOUNDS[name]
    kinds = int if whole else int | float
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"endpoint setting {name!r} is {value!r:.80}; it must be a number from {low} to {high}.")
