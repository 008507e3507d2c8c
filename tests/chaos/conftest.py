"""An endpoint that is served beside the searches, with real SDK workers and trials without Keras."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from searches import served
from seedpod.endpoint.embedded import EmbeddedEndpoint


@pytest.fixture
def endpoint(digits_cache: Path) -> Iterator[EmbeddedEndpoint]:
    """Two workers of three jobs each; trials take 0.3 to 1 s."""
    with served(digits_cache, workers=2, concurrency=3) as running:
        yield running
