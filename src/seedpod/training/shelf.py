"""A worker's data sets: those that requests bring an address of are fetched once, kept, and the oldest let go.

::

    <cache_dir>/datasets/<id>/fetched         marks what was fetched; its time is the last use, a shared flock a use
    <cache_dir>/datasets/.<id>.lock           held by the one job, of any process, that fetches it
    <cache_dir>/datasets/.<id>.<hash>.part    arrived so far
    <volume>/seedpod/datasets/<id>/           on a network volume: linked to, never changed
    <volume>/<key of the object>              the object itself, where the store is the volume

Jobs of one worker, and workers that share a cache folder, share one download.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import filelock

from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.training.datasets import entry_of, holds
from seedpod.training.download import TRIES, StorageFull, download
from seedpod.training.packing import unpack
from seedpod.trial import object_of

FETCHED = "fetched"
_log = logging.getLogger("seedpod.worker")
_LOOK = 0.2  # seconds between looks at a lock that another job holds
_TRIES = 3  # an entry that was fetched may be let go by another job before it is held
_ABANDONED = 3600.0  # seconds after which half a download that nobody goes on with may go


class Shelf:
    """The data sets of one cache folder. Thread-safe, and safe beside other processes on the same folder.

    Args:
        cache_dir: The folder.
        limit: Bytes that fetched data sets may take; one that is larger is fetched all the same, alone.
        volume: Where a network volume is mounted, if one is.
        tries: Connections in a row that may bring nothing, until a download is given up.
    """

    def __init__(self, cache_dir: Path, limit: float, volume: Path | None = None, *, tries: int = TRIES) -> None:
        self._tries = tries
        self._cache_dir = cache_dir
        self._limit = limit
        self._volume = volume if volume is not None and volume.is_dir() else None

    @contextmanager
    def having(
        self, dataset: str, fingerprint: str, url: str = "", stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """While this lasts the data set is there: fetched if need be, and not let go.

        Without an address, and without the data set, nothing happens: the trial says what is missing.

        Args:
            dataset: Its id.
            fingerprint: And its fingerprint.
            url: The presigned address of its object; empty where the worker is to have it.
            stopping: Whether it is still wanted; looked at now and then.

        Raises:
            TrainingError: It cannot be had; cause TRANSFER where it may be another time, with another address.
            TrialCancelled: It was to stop.
        """
        with ExitStack() as uses:
            for _ in range(_TRIES):
                use = _use(entry_of(dataset, self._cache_dir))
                if use is not None:
                    uses.enter_context(use)
                if holds(dataset, fingerprint, self._cache_dir):
                    break
                uses.close()
                if not self._bring(dataset, fingerprint, url, stopping):
                    break
            yield  # what is not there by now, or not of this version, the trial names

    def _bring(self, dataset: str, fingerprint: str, url: str, stopping: Callable[[], bool]) -> bool:
        """Bring a data set into the cache folder; whether there was a way."""
        entry = entry_of(dataset, self._cache_dir)
        mounted = self._volume / "seedpod" if self._volume is not None else None
        linked = mounted is not None and holds(dataset, fingerprint, mounted)
        if not linked and not url:
            return False
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with _locked(entry.with_name(f".{dataset}.lock"), stopping):
                if holds(dataset, fingerprint, self._cache_dir):
                    return True  # another job was faster
                if mounted is not None and linked:
                    _put_away(entry)
                    entry.symlink_to(entry_of(dataset, mounted), target_is_directory=True)
                else:
                    self._fetch(entry, fingerprint, url, stopping)
        except (OSError, StorageFull, NotImplementedError) as error:
            raise TrainingError(
                f"data set {dataset} cannot be kept in {entry.parent} ({error}); give the worker a larger disk "
                "(deploy.sh --disk), or lower SEEDPOD_CACHE_GB.",
                cause=Cause.DATA,
            ) from error
        except TrainingError as error:
            raise TrainingError(
                f"data set {dataset} could not be fetched from {urlsplit(url).hostname}: {error.message}.",
                cause=error.cause,
            ) from error
        return True

    def _fetch(self, entry: Path, fingerprint: str, url: str, stopping: Callable[[], bool]) -> None:
        """Make the entry of what the address leads to, or of the same object on the volume. The lock is held."""
        name = object_of(url)
        there = self._on_volume(url)
        part = there or entry.with_name(f".{entry.name}.{name[:16]}.part")
        if there is None:
            resumed = part.exists()
            if not (resumed and _is(part, name)):
                self._download(url, part, stopping)
            if resumed and not _is(part, name):  # half of it may be an older accident's
                part.unlink(missing_ok=True)
                self._download(url, part, stopping)
        if not _is(part, name):
            if there is None:
                part.unlink(missing_ok=True)
            raise TrainingError(
                "its bytes are not those that were uploaded (another SHA-256 than its name says); delete the object "
                f"{name}, and start again",
                cause=Cause.DATA,
            )
        if there is not None:
            self._make_room(part.stat().st_size, part.stat().st_size, entry.parent)
        for left in entry.parent.glob(f".{entry.name}.*.tmp"):  # by a worker that was killed
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=".tmp", dir=entry.parent))
        work.chmod(0o755)
        try:
            _unpack(part, work, entry.name, fingerprint)
            if there is None:
                part.unlink()
            _put_away(entry)
            work.rename(entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _download(self, url: str, part: Path, stopping: Callable[[], bool]) -> None:
        def room_for(size: int) -> None:
            arrived = part.stat().st_size if part.exists() else 0
            self._make_room(size, 2 * size - arrived, part.parent)

        began = time.monotonic()
        download(url, part, stopping, room_for, self._tries)
        _log.info("downloaded %s: %.1f MB in %.1f s", part.name, part.stat().st_size / 1e6, time.monotonic() - began)

    def _on_volume(self, url: str) -> Path | None:
        """The object as a file of the mounted volume, where the store is that volume: its bucket is the volume."""
        if self._volume is None:
            return None
        parts = [part for part in unquote(urlsplit(url).path).split("/") if part]
        if ".." in parts:
            return None
        places = (self._volume.joinpath(*parts[1:]), self._volume.joinpath(*parts))
        return next((place for place in places if place.is_file()), None)

    def _make_room(self, size: int, needed: int, folder: Path) -> None:
        """Let go what was used least recently, and is not in use, until ``size`` more bytes are within the limit and
        ``needed`` bytes are free.
        """
        for part in folder.glob(".*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED:
                    part.unlink()
        kept = sorted(_kept(folder))
        total = sum(bytes_of for _, bytes_of, _ in kept)
        for _, bytes_of, entry in kept:
            if total + size <= self._limit and shutil.disk_usage(folder).free >= needed:
                break
            if _let_go(entry):
                total -= bytes_of
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise StorageFull(
                f"it needs {needed / 1e6:,.1f} MB while it is unpacked, and {free / 1e6:,.1f} MB are free"
            )


@contextmanager
def _locked(path: Path, stopping: Callable[[], bool]) -> Iterator[None]:
    lock = filelock.FileLock(path)
    while True:
        try:
            lock.acquire(timeout=_LOOK)
        except filelock.Timeout:
            if stopping():
                raise TrialCancelled("the job was cancelled") from None
        else:
            break
    try:
        yield
    finally:
        lock.release()


def _use(entry: Path) -> BinaryIO | None:
    """Hold a fetched entry while the file that is returned is open; None where there is nothing to hold."""
    path = entry / FETCHED
    with suppress(OSError):
        file = path.open("rb")
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:  # not let go in the meantime
                os.utime(path)
                return file
        except OSError:
            file.close()
            raise
        file.close()
    return None


def _kept(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Last use, bytes and folder of each data set that was fetched; other processes may let them go meanwhile."""
    for mark in folder.glob(f"*/{FETCHED}"):
        with suppress(OSError):
            if not mark.parent.is_symlink():
                yield mark.stat().st_mtime, sum(file.stat().st_size for file in mark.parent.iterdir()), mark.parent


def _let_go(entry: Path) -> bool:
    """Remove an entry that nobody uses; whether it was."""
    with suppress(OSError), (entry / FETCHED).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _put_away(entry)
        return True
    return False


def _put_away(entry: Path) -> None:
    """Remove what stands where an entry is to be; renamed first, so that nobody sees half of it."""
    if entry.is_symlink():
        entry.unlink()
    elif entry.exists():
        away = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=".tmp", dir=entry.parent))
        entry.rename(away / "old")
        shutil.rmtree(away, ignore_errors=True)


def _unpack(part: Path, work: Path, dataset: str, fingerprint: str) -> None:
    try:
        found = unpack(part, work)
    except ValueError as error:
        raise TrainingError(f"it is no packed data set ({error})", cause=Cause.DATA) from error
    if found != (dataset, fingerprint):
        raise TrainingError(
            f"its address leads to data set {found[0]} with fingerprint {found[1]}, and {fingerprint} was asked for",
            cause=Cause.DATA,
        )
    (work / FETCHED).touch()


def _is(file: Path, name: str) -> bool:
    """Whether a file's bytes have the hash that its name tells."""
    with file.open("rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}.tar" == name
