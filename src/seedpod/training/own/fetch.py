"""An https address -> a file in the cache, downloaded once."""

import hashlib
import http.client
import ipaddress
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from seedpod.reading import Reading
from seedpod.training.own.listing import refuse

SUFFIXES = (".zip", ".npz")
"""What can be downloaded: a table needs its pictures beside it, and so a zip around both."""

_SILENCE = 60.0  # seconds
_PIECE = 1 << 20
_AGENT = "seedpod (a data set for image classification)"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Download:
    """A file that an address gave.

    Attributes:
        path: In the cache.
        sha256: Of its content.
    """

    path: Path
    sha256: str


def is_address(dataset: str) -> bool:
    """Whether ``dataset=`` is an address and no path."""
    return dataset.partition("://")[0].casefold() in {"https", "http"} and "://" in dataset


def known(address: str, cache_dir: Path, sha256: str) -> Download | None:
    """The file that an address gave before, if it is whole and the one that is asked for; asks nobody."""
    folder = _folder(address, cache_dir)
    try:
        note = json.loads((folder / "note.json").read_bytes())
        found = Download(folder / str(note["name"]), str(note["sha256"]))
        whole = bool(_NAME.fullmatch(str(note["name"]))) and found.path.stat().st_size == note["size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if whole and found.sha256.startswith(sha256.casefold()) else None


def fetch(address: str, cache_dir: Path, reading: Reading, advance: Advance) -> Download:
    """Download a file unless it is there; goes on where an earlier download has ended.

    Args:
        address: Of https; of http on this machine alone.
        cache_dir: The file is kept in its ``downloads/``.
        reading: What it must hash to, and its greatest size.
        advance: Is told how many of how many bytes are there; of 0, where that is not known.

    Raises:
        DatasetError: It cannot be had, is too large, or is another one than asked for.
    """
    _check(address)
    folder = _folder(address, cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        found = known(address, cache_dir, reading.sha256)
        if found is not None:
            return found
        try:
            name = _download(address, folder, reading, advance)
        except urllib.error.HTTPError as error:
            refuse(address, f"the server answers {error.code} {error.reason}; check the address")
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            why = getattr(error, "reason", None) or error
            if _has_begun(folder):
                refuse(address, f"the download broke off ({why}); start again, it goes on where it ended")
            host = urllib.parse.urlsplit(address).hostname
            refuse(address, f"{host} cannot be reached ({why}); see to the network and the address, or give a file")
        return _kept(address, folder, name, reading)


def _has_begun(folder: Path) -> bool:
    """Whether anything has arrived."""
    part = folder / "part"
    return part.exists() and part.stat().st_size > 0


def _check(address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        refuse(address, f"is no address ({error})")
    if not host:
        refuse(address, "names no host; write https://HOST/FILE.zip")
    if parts.scheme != "https" and not _is_here(host):
        refuse(address, "is not encrypted, so that anybody between may change it; use https")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows where the new address is one that could have been given."""

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        _check(args[-1])
        return super().redirect_request(*args)


def _download(address: str, folder: Path, reading: Reading, advance: Advance) -> str:
    """Fill ``part``; the name that the file should have."""
    part, most = folder / "part", int(reading.max_download_mb * 1e6)
    etag = _read_text(folder / "etag")
    begun = part.stat().st_size if etag and part.exists() else 0
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={begun}-", "If-Range": etag}
    # No proxy stands between this machine and itself.
    direct = [urllib.request.ProxyHandler({})] if _is_here(urllib.parse.urlsplit(address).hostname or "") else []
    opener = urllib.request.build_opener(_Redirects, *direct)
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - _check has seen its scheme
    try:
        response = opener.open(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # it is complete, or another file by now: begin anew
        return _download(address, folder, reading, advance)
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            begun = 0
        length = response.headers.get("Content-Length", "")
        total = begun + int(length) if length.isdigit() else 0
        if total > most:
            refuse(address, f"has {total:,} bytes, more than max_download_mb={reading.max_download_mb:g}; raise that")
        (folder / "etag").write_text(response.headers.get("ETag", ""), encoding="utf-8")
        with part.open("ab" if begun else "wb") as file:
            while piece := response.read(_PIECE):
                begun += len(piece)
                if begun > most:
                    part.unlink()
                    refuse(address, f"has more than max_download_mb={reading.max_download_mb:g}; raise that")
                file.write(piece)
                advance(begun, total)
        if begun < total:  # http.client ends quietly where the connection does
            raise ConnectionError(f"{begun:,} of {total:,} bytes")
        return _name(response.geturl(), response.headers.get_filename() or "")


def _kept(address: str, folder: Path, name: str, reading: Reading) -> Download:
    part = folder / "part"
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = reading.sha256.casefold()
    trouble = ""
    if head.startswith((b"<!doctype", b"<html")):
        trouble = "gives a page for a browser and no file; find the address of the file itself"
    elif not head.startswith(b"pk"):
        trouble = "gives neither a zip nor an .npz; pack what it gives into a zip"
    elif not digest.startswith(wanted):
        trouble = f"has the SHA-256 {digest}, and dataset_sha256={wanted} is asked for; check both"
    if trouble:
        part.unlink()
        refuse(address, trouble)
    size = part.stat().st_size
    part.replace(folder / name)
    note = {"address": address.partition("?")[0], "name": name, "sha256": digest, "size": size}
    written = folder / f".note.{os.getpid()}"
    written.write_text(json.dumps(note, indent=1), encoding="ascii")
    written.replace(folder / "note.json")
    return Download(folder / name, digest)


def _name(address: str, told: str) -> str:
    """A safe name that ends as the file's own."""
    for name in (told, urllib.parse.unquote(urllib.parse.urlsplit(address).path.rpartition("/")[2])):
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[-100:]
        if safe.casefold().endswith(SUFFIXES):
            return safe
    return "download.zip"


def _folder(address: str, cache_dir: Path) -> Path:
    return cache_dir / "downloads" / hashlib.sha256(address.encode()).hexdigest()[:16]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
