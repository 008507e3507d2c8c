"""Help, origins and README's table say all that there is to say about every setting."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.config import Setting, help_text, load, markdown_table, origins_text, settings, to_yaml

EVERY = pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)


def words(text: str) -> str:
    return " ".join(text.split())


@EVERY
def test_help_tells_all(setting: Setting) -> None:
    """Help shows each setting with default, values, unit, meaning and whether it awaits later work."""
    text = words(help_text(100))
    entry = text[text.index(f" {setting.name}={setting.kind.show(setting.default)} ") :]
    meaning = f"{setting.help[0].upper()}{setting.help[1:]} ({setting.kind.wanted})."
    if setting.awaits:
        meaning += f" Not yet: awaits {setting.awaits}."
    assert entry.split(" ", 2)[2].startswith(meaning)


@given(st.integers(60, 200))
def test_help_fits_the_terminal(width: int) -> None:
    """No line of help is longer than the terminal is wide, from 60 characters on."""
    lines = help_text(width).splitlines()
    assert max(map(len, lines)) <= max(width, 63)  # 63: the longer example, to be copied in one piece


def test_help_names_commands_and_exit_codes() -> None:
    """Help lists the commands, the exit codes and two examples."""
    text = words(help_text(80))
    for part in [
        "help show",
        "config show",
        "0 done",
        "1 no trial",
        "2 a mistake",
        "3 the endpoint",
        "130 interrupted",
    ]:
        assert part in text
    assert text.count("python optimizer.py") >= 3  # usage and two examples


@EVERY
def test_table_tells_all(setting: Setting) -> None:
    """README's table has one row a setting with default, values and meaning, three cells each."""
    (row,) = (line for line in markdown_table().splitlines() if line.startswith(f"| `{setting.name}` "))
    assert f"| `{setting.kind.show(setting.default)}` |" in row
    assert setting.kind.wanted in row
    assert row.count(" | ") == 2


def test_origins_are_a_config_file(tmp_path: Path) -> None:
    """What ``config`` prints shows each value's origin and is itself a file that gives the same config."""
    loaded = load(["trials=5", "results_dir=it's here"], {"SEEDPOD_SAMPLER": "random"})
    text = origins_text(loaded)
    lines = {words(line) for line in text.splitlines()}
    assert {"trials: 5 # command line", "sampler: random # environment SEEDPOD_SAMPLER"} <= lines
    assert "random_seed: 42 # default" in lines
    path = tmp_path / "again.yaml"
    path.write_text(text)
    assert load([f"config={path}"], {}).config == loaded.config


def test_yaml_is_deterministic() -> None:
    """Equal configs give equal bytes, with the keys in the order of the fields."""
    config = load(["trials=5"], {}).config
    assert to_yaml(config) == to_yaml(load(["trials=05"], {}).config)
    assert [line.split(":")[0] for line in to_yaml(config).splitlines()] == [setting.name for setting in settings()]
