"""``python optimizer.py … 2>log | cat``: searches whose output is read by something else than eyes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from command_rig import WITHOUT_KERAS

slow = partial(pytest.param, marks=pytest.mark.slow)
SEARCH = "trials=2 local_workers=2 max_epochs_per_trial=1 activation=relu run_name=r"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PYTHONIOENCODING": "cp1252", "TERM": "xterm-256color"}, "dashboard=live"),
        pytest.param(
            {"TERM": "xterm-256color", "FORCE_COLOR": "1", "COLORTERM": "truecolor"}, "", marks=pytest.mark.slow
        ),
        pytest.param({"TERM": "dumb"}, "", marks=pytest.mark.slow),
        pytest.param({"NO_COLOR": "1", "TERM": "xterm"}, "", marks=pytest.mark.slow),
        pytest.param({"CI": "true", "TERM": "xterm"}, "", marks=pytest.mark.slow),
        pytest.param({"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "TERM": "xterm"}, "", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_pipe_gets_plain_lines(
    tmp_path: Path, digits_cache: Path, environment: Mapping[str, str], words: str
) -> None:
    """Whatever the environment says, neither output nor log has an escape sequence or a carriage return, from the first
    trial to the final model, which is trained for real.
    """
    taken_away = {"NO_COLOR", "FORCE_COLOR", "COLORTERM", "TERM", "CI"}
    clean = {name: value for name, value in os.environ.items() if name not in taken_away}
    command = f"{sys.executable} {WITHOUT_KERAS} {SEARCH} cache_dir={digits_cache} {words} 2>log | cat"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env={**clean, **environment}, capture_output=True, check=True
    )
    text, log = done.stdout.decode("cp1252"), (tmp_path / "log").read_bytes()
    assert not set(text) & set("\x1b\r\x07\x08")
    assert not log
    assert not done.stderr
    lines = text.splitlines()
    assert len([line for line in lines if line.lstrip().startswith("#")]) == 2
    assert [line for line in lines if line.startswith("Done after")]
    said = [line for line in lines if line.startswith("dashboard=live")]
    assert said == (["dashboard=live: the output is no terminal, so there are plain lines"] if words else [])
