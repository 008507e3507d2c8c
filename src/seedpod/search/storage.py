"""Where a study is kept: a journal in the run's folder, or a database that several machines may share."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from seedpod.errors import ConfigError, SeedpodError

log = logging.getLogger(__name__)

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SQLITE_PATIENCE = 60.0  # seconds that one optimizer waits for another one's transaction


def open_storage(setting: str, journal: Path) -> BaseStorage:
    """The storage that ``storage=`` names; an empty setting is the journal file, which is made where it is missing.

    Raises:
        ConfigError: The setting names nothing that can be used, a driver is missing, or the database does not answer.
        SeedpodError: The journal is damaged, and left as it is, or cannot be written.
    """
    if not setting:
        heal_journal(journal)
        try:
            return JournalStorage(_Journal(journal))
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise _damaged(journal, f"{type(error).__name__}: {error}") from error
    scheme, _, rest = setting.partition("://")
    try:
        if scheme == "grpc":
            host, _, port = rest.partition(":")
            warnings.filterwarnings("ignore", category=ExperimentalWarning, message=".*GrpcStorageProxy.*")
            proxy = GrpcStorageProxy(host=host, port=int(port))
            proxy.wait_server_ready(timeout=10)
            return proxy
        options = {"connect_args": {"timeout": _SQLITE_PATIENCE}} if scheme == "sqlite" else {"pool_pre_ping": True}
        return RDBStorage(f"{_DRIVERS.get(scheme, scheme)}://{rest}", engine_kwargs=options)
    except ImportError as error:
        raise ConfigError(f"storage={scheme}://...: {error}. Install with: pip install 'seedpod[postgres]'") from error
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, its drivers' and gRPC's own, which may quote the address
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"storage={_without_user(setting)}: it cannot be used ({first:.300}).") from None


def heal_journal(journal: Path) -> None:
    """Undo what a kill in the middle of a write leaves: the writer's lock, and half a line at the end.

    The caller is the only one to use the journal.

    Raises:
        SeedpodError: A line that is not the last is damaged; nothing is changed.
    """
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
        log.warning("removed %s, which a killed search had left", lock.name)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), 1):
        if not _is_object(line):
            raise _damaged(journal, f"line {number}")
    if whole != len(content):
        with journal.open("rb+") as file:
            file.truncate(whole)
        log.warning("cut off %d bytes at the end of %s: half a line", len(content) - whole, journal.name)


class _Journal(JournalFileBackend):
    """Optuna's journal file; one that cannot be written is no bug, and is named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _naming(path):
            super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with _naming(self._path):
            super().append_logs(logs)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SeedpodError(
            f"cannot write {path} ({error.strerror}). Make room or mend the permissions and start again."
        ) from error


def _damaged(journal: Path, where: str) -> SeedpodError:
    return SeedpodError(
        f"{journal} is damaged ({where}); nothing was changed. Bring back a copy, or begin under another run_name."
    )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
