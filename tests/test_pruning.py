"""Hopeless trials end early, on remote workers too, and it is always the same ones."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from searches import FAULTS, live, records, served, settings, start, table, undisturbed
from seedpod.endpoint.embedded import EmbeddedEndpoint

pytestmark = pytest.mark.processes

GIVEN = {"trials": 24, "max_epochs_per_trial": 9, "min_epochs_per_trial": 1, "pruner": "asha", "search_lag": 6}


@pytest.fixture(name="endpoint", scope="module")
def slow_endpoint(digits_cache: Path) -> Iterator[EmbeddedEndpoint]:
    """Two workers of three places; an epoch takes a fifth of a second or less."""
    with served(digits_cache, workers=2, concurrency=3, seconds=1.8) as endpoint:
        yield endpoint


def test_remote_prunings_are_the_local_ones(tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint) -> None:
    """Six remote trials at once under latency and faults: the trials, values and prunings of one local worker; a pruned
    job is cancelled at the endpoint, billed, and runs no longer.
    """
    given = settings(digits_cache, **GIVEN)
    endpoint.set_faults(FAULTS)
    try:
        with start(tmp_path, endpoint, **given) as search:
            output = search.communicate(timeout=120)[0]
    finally:
        endpoint.set_faults([])
    assert search.returncode == 0, output
    run = tmp_path / "results" / "r"
    assert table(run) == undisturbed(tmp_path, digits_cache, **GIVEN)
    pruned = [record for record in records(run) if record["status"] == "pruned"]
    local = [r for r in records(tmp_path / "undisturbed" / "r") if r["status"] == "pruned"]
    assert len(pruned) >= 6
    assert [(r["number"], r["epochs"], r["history"]) for r in pruned] == [
        (r["number"], r["epochs"], r["history"]) for r in local
    ]
    ends = Counter(endpoint.state()["jobs"][record["run"]["job"]]["status"] for record in pruned)
    assert ends["CANCELLED"] >= len(pruned) / 2  # the others had done their last epoch when that was decided
    assert all(record["run"]["billed_seconds"] > 0 for record in pruned)
    assert not live(endpoint)
