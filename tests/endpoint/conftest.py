"""An endpoint without workers for tests of HTTP, and one with two SDK workers."""

from collections.abc import Iterator

import pytest

from endpoint_client import HANDLER, Client, InProcess
from seedpod.endpoint.embedded import EmbeddedEndpoint


@pytest.fixture
def client() -> Iterator[Client]:
    """A fresh endpoint without worker processes; the test plays the worker."""
    with InProcess() as endpoint:
        yield Client(endpoint)


@pytest.fixture(scope="module")
def farm() -> Iterator[Client]:
    """An endpoint with two real SDK workers, shared by a module's tests; jobs are lost after some 3 s of silence."""
    settings = {"heartbeat_timeout": 2.0, "claim_grace": 1.0}
    with EmbeddedEndpoint(workers=2, handler=HANDLER, settings=settings) as endpoint:
        endpoint.wait_for_workers()
        yield Client(endpoint)
