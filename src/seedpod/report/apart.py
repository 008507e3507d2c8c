"""The report made in a process of its own: its plots need Plotly, Matplotlib and scikit-learn, 140 MB of memory that a
search's own process does without.
"""

import json
import logging
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from seedpod.config import OptimizationConfig, load, to_yaml
from seedpod.errors import SeedpodError
from seedpod.results.run_folder import RunFolder
from seedpod.training.helper import how_it_ended, last_lines, run_module

_SETTINGS = "/dev/stdin"


def write_report_apart(folder: RunFolder, config: OptimizationConfig, say: Callable[[str], None]) -> Path:
    """What ``write_report`` does.

    Raises:
        SeedpodError: See ``write_report``; or the process came to another end.
    """
    done = run_module("seedpod.report", str(folder.path), question=to_yaml(config))
    if done.returncode:
        why = f": {last_lines(done)}" if done.returncode > 0 else ""  # what a signal ended had nothing to say of it
        raise SeedpodError(f"the process that writes it ended with {how_it_ended(done)}{why}")
    answer: dict[str, Any] = json.loads(done.stdout)
    for line in answer["said"]:
        say(line)
    if answer["error"]:
        raise SeedpodError(answer["error"])
    return Path(answer["page"])


def main() -> None:
    """Write the report of the folder that the command line names; the settings are read from standard input."""
    said: list[str] = []
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Kept(said)])
    page, error = "", ""
    with redirect_stdout(sys.stderr):  # whatever libraries print is no part of the answer
        from seedpod.report.make import write_report

        try:
            config = load([f"config={_SETTINGS}"], {}).config
            page = str(write_report(RunFolder(Path(sys.argv[1])), config, said.append))
        except SeedpodError as wrong:
            error = str(wrong)
    json.dump({"page": page, "said": said, "error": error}, sys.stdout)


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
