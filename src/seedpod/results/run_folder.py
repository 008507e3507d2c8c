"""The folder of one run: ``results/<run>/{config.yaml, study.journal, trials/0003.json, best.yaml, summary.json}``."""

import json
from pathlib import Path
from typing import Any, Self

import yaml

from seedpod.board import FinishedTrial
from seedpod.errors import ConfigError, SeedpodError
from seedpod.events import Summary
from seedpod.results.files import write_atomic
from seedpod.results.records import best_record, summary_record, trial_record


class RunFolder:
    """Writes one run's files, each atomically. Thread-safe: no two calls write the same file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, results_dir: Path, run_name: str, config_yaml: str, *, or_next: bool = False) -> Self:
        """Make the folder of a new run.

        Args:
            results_dir: Where the runs' folders are.
            run_name: Its name.
            config_yaml: The run's whole configuration.
            or_next: Where the name is taken, take it with ``-2``, ``-3`` and so on behind it.

        Raises:
            ConfigError: It exists already, or cannot be made.
        """
        path = results_dir / run_name
        try:
            results_dir.mkdir(parents=True, exist_ok=True)
            count = 2
            while or_next and path.exists():
                path, count = results_dir / f"{run_name}-{count}", count + 1
            try:
                path.mkdir()
            except FileExistsError as error:
                raise ConfigError(
                    f"run_name={run_name}: {path} exists already. Choose another run_name, or leave it out for a new "
                    f"one."
                ) from error
            (path / "trials").mkdir()
            write_atomic(path / "config.yaml", config_yaml)
        except OSError as error:
            raise ConfigError(
                f"results_dir={results_dir}: cannot make {path} ({error.strerror}). Choose a folder that can be "
                f"written, with room left."
            ) from error
        return cls(path)

    @property
    def journal(self) -> Path:
        """The study, in Optuna's journal form."""
        return self.path / "study.journal"

    def write_trial(self, finished: FinishedTrial) -> None:
        """Write ``trials/NNNN.json``."""
        self._write(f"trials/{finished.spec.number:04d}.json", _json(trial_record(finished)))

    def write_summary(self, summary: Summary) -> None:
        """Write ``summary.json`` and, where a trial completed, ``best.yaml``."""
        self._write("summary.json", _json(summary_record(summary)))
        if summary.best is not None:
            self._write("best.yaml", yaml.safe_dump(best_record(summary.best), sort_keys=False))

    def _write(self, name: str, text: str) -> None:
        try:
            write_atomic(self.path / name, text)
        except OSError as error:
            raise SeedpodError(
                f"cannot write {self.path / name} ({error.strerror}). What was written before is whole; make room or "
                f"mend the permissions and start again."
            ) from error


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"
