"""Where a study is kept: a journal in the run's folder, or a database that several machines may share."""

import json
import logging
import re
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage

from seedpod.errors import ConfigError, SeedpodError
from seedpod.extras import how_to_have
from seedpod.search.journal import RunJournal

log = logging.getLogger(__name__)

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_CREATE_STUDY = 0  # what JournalOperation.CREATE_STUDY is on disk
_RAISED_BY = re.compile(r"^\(\w+\.[\w.]+\)\s*")  # "(psycopg.OperationalError) connection failed"
_ADVICE = {"sqlite": "See that its folder is there, and may be written to."}
_RACES = (0.1, 0.3, 1.0)  # seconds between tries to open a database that another optimizer is laying out
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
            return RunJournal(journal)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise _damaged(journal, f"{type(error).__name__}: {error}") from error
    scheme, _, rest = setting.partition("://")
    try:
        return _proxy(rest) if scheme == "grpc" else _database(scheme, rest)
    except ImportError as error:
        raise ConfigError(f"storage={scheme}://...: {error}. {_how(scheme)}") from error
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, its drivers' and gRPC's own, which may quote the address
        raise ConfigError(
            f"storage={_without_user(setting)}: it cannot be used ({_first_line(error)}). "
            f"{_ADVICE.get(scheme, 'See that it runs, and that this machine and user may use it.')}"
        ) from None


def _how(scheme: str) -> str:
    """How to have what a kind of storage needs."""
    return how_to_have(packages=("grpcio",)) if scheme == "grpc" else how_to_have(("postgres",))


def _proxy(address: str) -> BaseStorage:
    host, _, port = address.partition(":")
    warnings.filterwarnings("ignore", category=ExperimentalWarning, message=".*GrpcStorageProxy.*")
    proxy = GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(timeout=10)
    return proxy


def _database(scheme: str, rest: str) -> BaseStorage:
    options = {"connect_args": {"timeout": _SQLITE_PATIENCE}} if scheme == "sqlite" else {"pool_pre_ping": True}
    for pause in _RACES:
        try:
            return RDBStorage(f"{_DRIVERS.get(scheme, scheme)}://{rest}", engine_kwargs=options)
        except Exception as error:
            # Two optimizers that make the tables of a new database at once: one of them is told that they exist.
            if "exist" not in str(error) and "UNIQUE" not in str(error) and "unique" not in str(error):
                raise
            time.sleep(pause)
    return RDBStorage(f"{_DRIVERS.get(scheme, scheme)}://{rest}", engine_kwargs=options)


def close_storage(storage: BaseStorage) -> None:
    """Close what connects it to a database; a journal is open only while it is read or written."""
    backend = getattr(storage, "_backend", storage)  # an RDBStorage is within Optuna's cache
    if isinstance(backend, RDBStorage):
        backend.remove_session()
        backend.engine.dispose()
    elif isinstance(backend, GrpcStorageProxy):
        backend.close()


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
        if not _is_fact(line, first=number == 1):
            raise _damaged(journal, f"line {number}")
    if whole != len(content):
        with journal.open("rb+") as file:
            file.truncate(whole)
        log.warning("cut off %d bytes at the end of %s: half a line", len(content) - whole, journal.name)


def explained(error: BaseException) -> BaseException:
    """The error itself, or what it means to the user where a database or the way to it is the cause."""
    # Optuna 5.0 covers what a storage raises while it is told of a trial's end by an assertion of its own.
    if isinstance(error, AssertionError) and error.__context__ is not None:
        error = error.__context__
    foreign = type(error).__module__.partition(".")[0] in {"grpc", "psycopg", "sqlalchemy", "sqlite3"}
    if not foreign and not isinstance(error, StorageInternalError):
        return error
    return SeedpodError(
        f"the study's storage failed ({_first_line(error)}). What was written before is whole: see that it answers "
        f"and start again."
    )


def _damaged(journal: Path, where: str) -> SeedpodError:
    return SeedpodError(
        f"{journal} is damaged ({where}); nothing was changed. Bring back a copy, or begin under another run_name."
    )


def _is_fact(line: bytes, *, first: bool) -> bool:
    """Whether it is a line of a journal; the first one makes the study."""
    try:
        fact = json.loads(line)
    except ValueError:
        return False
    return isinstance(fact, dict) and (not first or fact.get("op_code") == _CREATE_STUDY)


def _first_line(error: BaseException) -> str:
    """What a foreign error says first, in brief."""
    text = _RAISED_BY.sub("", f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.300}")
    return text.rstrip(". ") or type(error).__name__


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    # Only where there is one: putting the parts together again takes slashes from sqlite:////FILE.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url
