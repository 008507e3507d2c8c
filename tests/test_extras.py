"""What is missing is named with the commands that bring it."""

import sys
from pathlib import Path

import pytest

from seedpod.cli import BAD_CONFIG, main
from seedpod.errors import ConfigError
from seedpod.extras import is_installed, require, require_all


def test_what_is_installed_passes() -> None:
    """Nothing is said where all packages are there."""
    require("the endpoint on this machine", ("aiohttp", "runpod"), ("endpoint", "worker"))


def test_missing_packages_are_named_with_both_commands() -> None:
    """One sentence says what needs what, and how to have it: with uv, and with pip where there is one."""
    with pytest.raises(ConfigError) as error:
        require("dashboard=web", ("aiohttp", "no_such_thing"), ("endpoint", "worker"))
    text = str(error.value)
    assert text.startswith("dashboard=web needs no_such_thing, not installed in ")
    assert "Run with: uv run --extra endpoint --extra worker optimizer.py ..." in text
    assert ("-m pip install 'seedpod[endpoint,worker]'" in text) == is_installed("pip")


def test_a_package_without_an_extra_is_brought_by_name() -> None:
    """What no extra of ours brings is named itself."""
    with pytest.raises(ConfigError, match=r"sampler=gp needs no_such_thing, .* uv run --with no_such_thing optimizer"):
        require("sampler=gp", ("no_such_thing",))


@pytest.mark.parametrize(
    ("setting", "package"),
    [
        ("export=onnx", "tf2onnx"),
        ("export=tflite", "tensorflow"),
        ("report=png", "matplotlib"),
        ("tensorboard=true", "tensorboard"),
        ("sampler=cmaes", "cmaes"),
        ("storage=postgresql://u@h/d", "psycopg"),
        ("dashboard=web", "aiohttp"),
    ],
)
def test_a_search_lacks_nothing_at_its_end(
    setting: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a setting needs and is not installed stops a search before anything is written, with exit code 2."""
    monkeypatch.setitem(sys.modules, package, None)  # as an import of it would find
    assert main([setting, f"results_dir={tmp_path}/results", f"cache_dir={tmp_path}/cache"]) == BAD_CONFIG
    said = capsys.readouterr().err
    assert f" needs {package}, not installed in " in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_all_that_is_missing_comes_by_one_command() -> None:
    """Of several things that lack something each has a line, and one command brings all of it."""
    needs = [("a=1", ("no_a",), ("onnx",)), ("b=1", ("no_b",), ()), ("c=1", ("pytest",), ("web",))]
    with pytest.raises(ConfigError) as error:
        require_all(needs)
    first, second, how = str(error.value).splitlines()
    assert first.startswith("a=1 needs no_a, not installed in ")
    assert second.startswith("b=1 needs no_b, not installed in ")
    assert how.startswith("Run with: uv run --extra onnx --with no_b optimizer.py ...")


@pytest.mark.parametrize(
    ("words", "missing"), [(["report", "report=png"], "matplotlib"), (["final", "export=onnx"], "onnx")]
)
def test_nothing_is_begun_on_a_run_without_what_it_needs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    missing: str,
) -> None:
    """Without a package that it needs, no report is drawn and no model trained: exit code 2, and no empty folder."""
    run = tmp_path / "mine"
    run.mkdir()
    (run / "config.yaml").write_text("trials: 5\n")
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([*words, "run=mine", f"results_dir={tmp_path}"]) == BAD_CONFIG
    assert f"{words[1]} needs {missing}, not installed" in capsys.readouterr().err
    assert [each.name for each in run.iterdir()] == ["config.yaml"]
