"""Data that many tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runpod_rig import serving
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import prepare

# Hypothesis fails an example that takes over 200 ms, or many that take long: on a busy machine any may.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=0, help="kills of the optimizer in the longer chaos test")
    parser.addoption("--chaos", type=int, default=1000, help="trials of the longer test of every kind of trouble")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as ``fast`` what is neither slow nor waits for processes."""
    for item in items:
        if not any(item.get_closest_marker(other) for other in ("slow", "processes")):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A cache folder in which digits is prepared; read it, do not change it. The test processes share it."""
    own = tmp_path_factory.getbasetemp()
    cache_dir = (own if worker_id == "master" else own.parent) / "digits_cache"
    prepare("digits", cache_dir)
    return cache_dir


@pytest.fixture(scope="session")
def farm(digits_cache: Path) -> Iterator[EmbeddedEndpoint]:
    """An endpoint with two real SDK workers of three places each, whose trainers train nothing.

    Leave it without faults. A job is lost after some 5 s in which no ping names it.
    """
    with serving(digits_cache, 2, 3, heartbeat_timeout=4.5, claim_grace=1.0) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def mnist_file() -> Path:
    """The real MNIST in Keras's own format."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "mnist.npz"
    path = Path(os.environ.get("SEEDPOD_TEST_MNIST") or beside)
    if not path.is_file():
        pytest.skip(f"needs the real MNIST: {path} is missing; set SEEDPOD_TEST_MNIST to an mnist.npz")
    return path
