"""A search in Prometheus's text form (exposition format 0.0.4). What is not known has no sample."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from seedpod.events import Plan, Summary
from seedpod.progress import AggregatedProgress
from seedpod.remote.breaker import BreakerState
from seedpod.remote.view import EndpointView

CONTENT_TYPE = "text/plain; version=0.0.4"


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric: its name without the prefix, what it is, and its samples by their labels."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float | None], ...]

    def lines(self) -> Iterator[str]:
        known = [(labels, value) for labels, value in self.samples if value is not None]
        if known:
            yield f"# HELP seedpod_{self.name} {self.help}"
            yield f"# TYPE seedpod_{self.name} {self.kind}"
        for labels, value in known:
            inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"seedpod_{self.name}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def exposition(plan: Plan, progress: AggregatedProgress | None, summary: Summary | None) -> str:
    """The whole text; each line ends in a line feed."""
    families = [_one("info", "What is searched; always 1.", 1, run=plan.folder.name, dataset=plan.data.id)]
    families.append(_one("ended", "Whether the search has ended.", float(summary is not None)))
    if progress is not None:
        families += _search(progress)
    if progress is not None and progress.endpoint is not None:
        families += _endpoint(progress.endpoint)
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _search(progress: AggregatedProgress) -> Iterator[_Family]:
    states = ("queued", "running", "completed", "pruned", "failed", "cancelled")
    yield _by("trials", "gauge", "Trials by state.", "state", {state: getattr(progress, state) for state in states})
    yield _one("best_value", "Objective of the best trial.", progress.best_value)
    yield _one("best_trial", "Number of the best trial.", progress.best_trial)
    yield _one("elapsed_seconds", "Seconds since the search began.", progress.elapsed)
    yield _one("remaining_seconds", "Seconds until it ends, as estimated.", progress.remaining)
    yield _one("remaining_seconds_low", "Lower end of that estimate.", progress.remaining_low)
    yield _one("remaining_seconds_high", "Upper end of that estimate.", progress.remaining_high)
    yield _one("epochs_per_second", "Epochs a second over the last half minute.", progress.epochs_per_second)
    costs = progress.costs
    known = costs.per_second is not None
    yield _one("spent_usd", "USD for trials that have ended.", costs.spent if known else None)
    yield _one("spent_running_usd", "USD for trials that run, up to now.", costs.running if known else None)
    yield _one("projected_usd", "USD at the end of the search, as estimated.", costs.projected if known else None)
    yield _one("starts_usd", "USD beside that, at most, for starts of workers.", costs.starts if known else None)
    yield _one("idle_usd", "USD beside that, at most, for idle seconds of workers.", costs.idle if known else None)
    yield _one("max_usd", "USD that max_cost allows.", costs.limit)


def _endpoint(view: EndpointView) -> Iterator[_Family]:
    yield _one("jobs_in_flight", "Jobs of this search at the endpoint.", view.in_flight)
    yield _one("jobs_in_flight_max", "Jobs that it lets be there now.", view.allowed)
    if view.health is not None:
        workers = asdict(view.health.workers)
        yield _by("endpoint_workers", "gauge", "The endpoint's workers by state.", "state", workers)
        yield _one("endpoint_queue", "Jobs in the endpoint's queue, of whomever.", view.health.jobs.in_queue)
    state = view.counters.breaker.state
    yield _by("breaker_state", "gauge", "1 for the breaker's state.", "state", {s: s is state for s in BreakerState})
    told = {
        "requests": ("sent", "Requests sent."),
        "request_retries": ("retried", "Requests sent again after a failure."),
        "requests_throttled": ("throttled", "Answers 429."),
        "requests_refused": ("refused", "Calls not sent because the breaker was open."),
        "requests_failed": ("failed", "Calls that ended in an error, after all retries."),
    }
    for name, (count, text) in told.items():
        counts = {str(operation): getattr(c, count) for operation, c in view.counters.operations.items()}
        yield _by(f"{name}_total", "counter", text, "operation", counts)


def _one(name: str, text: str, value: float | None, **labels: str) -> _Family:
    return _Family(name, "gauge", text, ((labels, value),))


def _by(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> _Family:
    return _Family(name, kind, text, tuple(({label: str(key)}, value) for key, value in values.items()))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(float(value))
