"""The README says what is so."""

import re
from pathlib import Path

from seedpod.config import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_table_is_the_code_s_own() -> None:
    """The table of settings is exactly what the settings generate."""
    assert markdown_table() in README


def test_map_names_every_module() -> None:
    """Every module stands in the map or in its room's own description, and the map names none that is not there."""
    tree = README.split("## The map of the house", 1)[1].split("```")[1]
    modules = [p for p in (ROOT / "src" / "seedpod").rglob("*.py") if not p.name.startswith("__")]
    for module in modules:
        room = (module.parent / "__init__.py").read_text(encoding="utf-8")
        assert module.name in tree or re.search(rf"\b{module.stem}\b", room), module
    assert set(re.findall(r"[a-z_]+\.py", tree)) <= {p.name for p in modules} | {"optimizer.py", "handler.py"}


def test_pins_for_pip_and_uv_are_the_same() -> None:
    """constraints.txt and pyproject.toml pin the same versions, and neither names a host."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    block = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("constraint-dependencies = [\n")[1]
    listed = re.findall(r'^    "(.+)",$', block.split("]\n")[0], re.MULTILINE)
    assert listed == pins.splitlines()
    assert "://" not in pins
