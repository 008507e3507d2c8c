"""The dashboard's setting and its other names."""

from pathlib import Path

import pytest

from seedpod.config import load
from seedpod.errors import ConfigError


@pytest.mark.parametrize("name", ["dashboard", "enable_dashboard", "enable_progress_dashboard"])
@pytest.mark.parametrize(
    ("text", "value"), [("true", "auto"), ("False", "none"), ("off", "none"), ("live", "live"), ("plain", "plain")]
)
def test_other_names_and_truths(tmp_path: Path, name: str, text: str, value: str) -> None:
    """Every name takes a truth or a kind of dashboard, in every layer."""
    (tmp_path / "c.yaml").write_text(f"{name}: {text}\n", encoding="utf-8")
    assert load([f"{name}={text}"], {}).config.dashboard == value
    assert load([f"config={tmp_path / 'c.yaml'}"], {}).config.dashboard == value
    assert load([], {f"SEEDPOD_{name.upper()}": text}).config.dashboard == value


def test_two_names_are_one_setting() -> None:
    """The same setting under two names is given twice."""
    with pytest.raises(ConfigError, match="dashboard is given twice"):
        load(["dashboard=live", "enable_dashboard=true"], {})
