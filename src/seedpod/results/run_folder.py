"""The folder of one run: ``results/<run>/{config.yaml, study.journal, trials/0003.json, best.yaml, front.yaml,
summary.json}``.
"""

import contextlib
import csv
import io
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout

from seedpod.board import FinishedTrial
from seedpod.errors import ConfigError, SeedpodError
from seedpod.events import Summary
from seedpod.results.files import write_atomic
from seedpod.results.model_card import FINAL_SCHEMA, model_card
from seedpod.results.records import best_record, read_trial, summary_record, summary_times, trial_record
from seedpod.training.own.found import Found

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished."
"""How the names of models begin that are being written."""
_OWNER = ".owner.json"
_WEB = ".web.json"  # of dashboard.web.address


class RunFolder:
    """Writes one run's files, each atomically. Thread-safe: no two calls write the same file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The system's lock on an open file: gone with its process, however that ends.
        self._lock = FileLock(path / ".lock", thread_local=False)

    @classmethod
    def create(cls, results_dir: Path, run_name: str, config_yaml: str, *, or_next: bool = False) -> Self:
        """Make the folder of a new run.

        Args:
            results_dir: Where the runs' folders are.
            run_name: Its name.
            config_yaml: The run's whole configuration.
            or_next: Where the name is taken, take it with ``-2``, ``-3`` and so on behind it.

        Raises:
            ConfigError: There is something else of that name, or it cannot be made.
        """
        path = results_dir / run_name
        try:
            results_dir.mkdir(parents=True, exist_ok=True)
            count = 2
            while or_next and path.exists():
                path, count = results_dir / f"{run_name}-{count}", count + 1
            if path.exists() and not _is_bare(path):
                raise ConfigError(
                    f"run_name={run_name}: {path} exists already. Choose another run_name, or leave it out for a new "
                    f"one."
                )
            path.mkdir(exist_ok=True)
            (path / "trials").mkdir(exist_ok=True)
            write_atomic(path / "config.yaml", config_yaml)
        except OSError as error:
            raise ConfigError(
                f"results_dir={results_dir}: cannot make {path} ({error.strerror}). Choose a folder that can be "
                f"written, with room left."
            ) from error
        return cls(path)

    def lock(self) -> None:
        """Be the only search on this folder, until ``unlock`` or the end of this process.

        Raises:
            ConfigError: Another search is on it; the message says which.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ConfigError(
                f"run_name={self.path.name}: another search is on {self.path}: {self._owner()}. Let it end, stop it, "
                f"or choose another run_name."
            ) from error
        self._sweep()
        write_atomic(self.path / _OWNER, _json({"pid": os.getpid(), "host": socket.gethostname()}))

    def unlock(self) -> None:
        """Let another search have the folder."""
        if self._lock.is_locked:
            (self.path / _OWNER).unlink(missing_ok=True)
            self._lock.release()  # the file stays: who removed it might remove one that a third has just locked

    def remove(self) -> None:
        """Remove the folder of a run that never began, and ``results_dir`` where that leaves it empty."""
        if any((self.path / "trials").iterdir()) or (self.path / "summary.json").exists():
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    @property
    def config_file(self) -> Path:
        """The configuration that the run was last started with."""
        return self.path / "config.yaml"

    def write_config(self, config_yaml: str) -> None:
        """Write ``config.yaml``."""
        self._write("config.yaml", config_yaml)

    @property
    def bad_files(self) -> Path:
        """The files of the user's own images that were left out, where there are any."""
        return self.path / "bad_files.csv"

    def write_left_out(self, found: Found) -> None:
        """Write ``bad_files.csv``: path, kind and reason of each file that is not among the images."""
        if not found.bad and not found.copies:
            self.bad_files.unlink(missing_ok=True)
            return
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("path", "kind", "reason"))
        table.writerows((each.path, "unusable", each.reason) for each in found.bad)
        table.writerows((each.path, "copy", each.reason) for each in found.copies)
        self._write(self.bad_files.name, text.getvalue())

    def read_left_out(self) -> list[tuple[str, str, str]]:
        """Path, kind and reason of each file that was left out; none where that cannot be read."""
        try:
            with self.bad_files.open(encoding="utf-8", newline="") as file:
                return [(row[0], row[1], row[2]) for row in csv.reader(file) if len(row) == 3][1:]
        except (OSError, ValueError, csv.Error):
            return []

    def read_trials(self) -> dict[int, FinishedTrial]:
        """The trials that have a record, by number; one that cannot be read is left out, with a word in the log."""
        found = {}
        for path in sorted((self.path / "trials").glob("*.json")):
            try:
                trial = read_trial(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                log.warning("%s cannot be read (%s); its trial counts as not recorded", path, error)
                continue
            found[trial.spec.number] = trial
        return found

    @property
    def journal(self) -> Path:
        """The study, in Optuna's journal form."""
        return self.path / "study.journal"

    @property
    def events(self) -> Path:
        """What has happened, see ``seedpod.results.event_log``."""
        return self.path / "events.jsonl"

    @property
    def model(self) -> Path:
        """The final model."""
        return self.path / "model.keras"

    def read_final(self) -> dict[str, Any] | None:
        """``final.json``; None where there is no final model.

        Raises:
            SeedpodError: It is damaged, or of another schema.
        """
        path = self.path / "final.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SeedpodError(
                f"{path} cannot be read ({error}). `python optimizer.py final run={self.path.name}` makes it anew."
            ) from error
        if record.get("schema") != FINAL_SCHEMA:
            raise SeedpodError(
                f"{path} has schema {record.get('schema')!r}, this seedpod reads {FINAL_SCHEMA}. `python optimizer.py "
                f"final run={self.path.name}` makes it anew."
            )
        return dict(record)

    def write_final(self, record: Mapping[str, Any]) -> None:
        """Write ``final.json`` and ``model_card.md``."""
        self._write("final.json", _json(record))
        self._write("model_card.md", model_card(record))

    def write_report(self, page: str) -> Path:
        """Write ``report.html``; its path."""
        self._write("report.html", page)
        return self.path / "report.html"

    @property
    def jobs(self) -> Path:
        """What is known of remote jobs, see ``seedpod.backends.ledger``."""
        return self.path / "jobs.jsonl"

    def write_trial(self, finished: FinishedTrial) -> None:
        """Write ``trials/NNNN.json``."""
        self._write(f"trials/{finished.spec.number:04d}.json", _json(trial_record(finished)))

    def read_times(self) -> tuple[float, float] | None:
        """When the run began and ended as its summary says, in seconds since the epoch; None where it does not."""
        try:
            return summary_times(json.loads((self.path / "summary.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_summary(self, summary: Summary) -> None:
        """Write ``summary.json``, where a trial completed ``best.yaml``, and of several objectives ``front.yaml``."""
        self._write("summary.json", _json(summary_record(summary)))
        if summary.best is not None:
            self._write("best.yaml", yaml.safe_dump(best_record(summary.best), sort_keys=False))
        if summary.front:
            front = [best_record(trial) for trial in summary.front]
            self._write("front.yaml", yaml.safe_dump(front, sort_keys=False))

    def _sweep(self) -> None:
        """Remove what a kill in the middle of a write has left; the files themselves are whole."""
        texts = (
            "config.yaml",
            "best.yaml",
            "front.yaml",
            "summary.json",
            "final.json",
            "model_card.md",
            "report.html",
            "bad_files.csv",
            _OWNER,
            _WEB,
        )
        for name in texts:
            for left in self.path.glob(f".{name}.*"):
                left.unlink(missing_ok=True)
        for left in (*(self.path / "trials").glob(".*.json.*"), *self.path.glob(f"{UNFINISHED}*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def _owner(self) -> str:
        try:
            owner = json.loads((self.path / _OWNER).read_text(encoding="utf-8"))
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError):
            return "one that is just starting"

    def _write(self, name: str, text: str) -> None:
        try:
            write_atomic(self.path / name, text)
        except OSError as error:
            raise SeedpodError(
                f"cannot write {self.path / name} ({error.strerror}). What was written before is whole; make room or "
                f"mend the permissions and start again."
            ) from error


def _is_bare(path: Path) -> bool:
    """Whether there is no more in the folder than a kill leaves that comes before its configuration is written."""
    return path.is_dir() and all(
        (entry.name == "trials" and not any(entry.iterdir())) or entry.name.startswith(".config.yaml.")
        for entry in path.iterdir()
    )


_plain = json.JSONEncoder(allow_nan=False).encode


def _json(record: Mapping[str, Any]) -> str:
    """A line for each field, and in it for each entry: an epoch of a history, a row of a matrix.

    Not ``json.dumps(indent=2)``, which gives every number of an epoch a line, takes twice as long, and leaves a
    cycle of 3.5 kB for the garbage collector.
    """
    return _block("{}", (f"  {_plain(name)}: {_field(value)}" for name, value in record.items())) + "\n"


def _field(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return _block("{}", (f"    {_plain(name)}: {_plain(each)}" for name, each in value.items()), "  ")
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return _block("[]", (f"    {_plain(each)}" for each in value), "  ")
    return _plain(value)


def _block(brackets: str, lines: Iterable[str], indent: str = "") -> str:
    inner = ",\n".join(lines)
    return f"{brackets[0]}\n{inner}\n{indent}{brackets[1]}"
