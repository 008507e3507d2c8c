"""What is missing is named with the commands that bring it."""

import pytest

from seedpod.errors import ConfigError
from seedpod.extras import require


def test_what_is_installed_passes() -> None:
    """Nothing is said where all packages are there."""
    require("the endpoint on this machine", ("aiohttp", "runpod"), ("endpoint", "worker"))


def test_missing_packages_are_named_with_both_commands() -> None:
    """One sentence says what needs what, and how to have it with pip and with uv."""
    with pytest.raises(ConfigError) as error:
        require("dashboard=web", ("aiohttp", "no_such_thing"), ("endpoint", "worker"))
    text = str(error.value)
    assert text.startswith("dashboard=web needs no_such_thing, not installed in ")
    assert "-m pip install 'seedpod[endpoint,worker]'" in text
    assert text.endswith("uv run --extra endpoint --extra worker optimizer.py ...")
