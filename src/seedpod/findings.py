"""What is looked at before a remote search and costs nothing: at each start, and first by ``doctor``."""

from collections.abc import Iterator
from dataclasses import dataclass

from seedpod.config import OptimizationConfig
from seedpod.remote.wire import EndpointHealth


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: Whether it is as it should be; None where it may do and deserves a look.
        what: What was found.
        to_do: What to do about it; empty where nothing is to be done.
    """

    ok: bool | None
    what: str
    to_do: str = ""


def worker_findings(health: EndpointHealth, at_once: int) -> Iterator[Finding]:
    """Whether the endpoint's workers suffice for so many trials at once."""
    workers = health.workers
    there = workers.idle + workers.running + workers.initializing
    known = f"{workers.idle} idle, {workers.running} running, {workers.initializing} starting"
    if workers.throttled or workers.unhealthy:
        yield Finding(
            None,
            f"{workers.throttled} workers throttled, {workers.unhealthy} unhealthy",
            "Allow more kinds of GPU, or look at the workers' logs on RunPod.",
        )
    if there >= at_once:
        yield Finding(True, f"workers: {known}")
    elif there:
        yield Finding(
            None,
            f"workers: {known}; concurrent_workers={at_once} wants {at_once}",
            f"Raise the endpoint's maximum of workers to {at_once} (RunPod's default is 3 to 5), or expect a queue.",
        )
    else:
        yield Finding(
            None,
            "no worker is up now; the first trials wait for a cold start",
            f"Nothing, or see that the endpoint's maximum of workers is at least {at_once}.",
        )
    if health.jobs.in_queue:
        yield Finding(
            None, f"{health.jobs.in_queue} jobs wait already", "Somebody else uses this endpoint, or it is stuck."
        )


def time_findings(config: OptimizationConfig) -> Iterator[Finding]:
    """Whether a job may take as long as a trial."""
    limit = config.max_training_time_minutes * 60
    if limit > config.runpod_service_timeout:
        yield Finding(
            False,
            f"max_training_time_minutes={config.max_training_time_minutes:g} is longer than runpod_service_timeout="
            f"{config.runpod_service_timeout} s",
            f"Set runpod_service_timeout={int(limit) + 300}, or trials end before their own limit.",
        )
    else:
        yield Finding(True, f"a job may take {config.runpod_service_timeout} s from submission to end")
