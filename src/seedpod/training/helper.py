"""Short-lived processes of our own, for what needs heavy libraries for a moment: they leave no memory behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import seedpod

_LAST_LINES = 6


def run_module(
    module: str, *arguments: str, question: str = "", patience: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module of this very seedpod as a process, to its end. The terminal's Ctrl-C ends it, too.

    Args:
        module: Its name, as after ``python -m``.
        arguments: Of the command line.
        question: What it reads from standard input.
        patience: Seconds after which it is killed; None waits for ever.

    Raises:
        subprocess.TimeoutExpired: It was killed.
        OSError: There is no process to be had.
    """
    return subprocess.run(
        # -P: no module of the user's working folder stands in for one of ours.
        [sys.executable, "-P", "-m", module, *arguments],
        env=finding_us(os.environ),
        input=question,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=patience,
    )


def follow_module(module: str, *arguments: str, hear: Callable[[str], bool]) -> subprocess.CompletedProcess[str]:
    """Run a module as ``run_module`` does, and tell each line of its output as it comes.

    Args:
        module: See ``run_module``.
        arguments: See ``run_module``.
        hear: Gets each line; those that it takes are not in the answer's output.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    environment = {**finding_us(os.environ), "PYTHONIOENCODING": "utf-8"}
    kept: list[str] = []
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads would fill up
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            for raw in process.stdout or ():
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if not hear(line):
                    kept.append(line)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    return subprocess.CompletedProcess(command, process.returncode, "\n".join(kept), said)


def finding_us(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a process imports this very seedpod, installed or not."""
    paths = [str(Path(seedpod.__file__).parents[1]), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def how_it_ended(done: subprocess.CompletedProcess[str]) -> str:
    """``exit code 1``, or ``SIGKILL``."""
    return f"exit code {done.returncode}" if done.returncode >= 0 else signal.Signals(-done.returncode).name


def last_lines(done: subprocess.CompletedProcess[str]) -> str:
    """What the process has said last; there a traceback names what went wrong."""
    return "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
