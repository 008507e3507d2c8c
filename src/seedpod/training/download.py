"""A file from a presigned address, or to one: goes on where it was cut off, follows nobody elsewhere.

Runs on workers, whose image has no more than the standard library for it.
"""

import re
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from seedpod.errors import Cause, TrainingError, TrialCancelled

_SILENCE = 30.0  # seconds without a byte after which a connection is taken for lost
TRIES = 8
"""In a row that bring no byte, in some 11 s; each byte begins the count anew."""
_CHUNK = 2**20
_PAUSES = (0.05, 5.0)  # seconds before the next try: the first, and the longest
_NOTHING_LEFT = 416  # Range Not Satisfiable
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_TOLD = re.compile(rb"<Code>([A-Za-z]{1,40})</Code>")


class StorageFull(Exception):
    """There was no room for the next bytes, or no right to write them."""


def download(
    url: str,
    file: Path,
    stopping: Callable[[], bool],
    room_for: Callable[[int], None] = lambda _: None,
    tries: int = TRIES,
) -> None:
    """Bring a file, from the byte on that it already has.

    Args:
        url: A checked address, see ``seedpod.trial.object_of``.
        file: Where to; what is there is taken for the beginning.
        stopping: Looked at between pieces.
        room_for: Told the whole size before anything is written.
        tries: Connections in a row that may bring nothing.

    Raises:
        TrainingError: The address has expired or is refused, or the connection is lost for good: cause TRANSFER.
        StorageFull: The file cannot be written.
        TrialCancelled: It was to stop.
    """
    failures, had = 0, -1
    while True:
        try:
            _once(url, file, stopping, room_for)
        except HTTPError as error:
            with error:
                if error.code == _NOTHING_LEFT:  # or what is there is something else: its hash tells the two apart
                    return
                why = _judge(error)
        except (OSError, HTTPException) as error:
            why = f"the connection was lost ({_brief(error)})"
        else:
            return
        has = _size(file)
        failures, had = (0 if has > had else failures + 1), max(has, had)
        if failures >= tries:
            raise TrainingError(f"{why}, {has:,} bytes have arrived", cause=Cause.TRANSFER)
        _pause(min(_PAUSES[0] * 2**failures, _PAUSES[1]), stopping)


def send(file: Path, url: str, stopping: Callable[[], bool], tries: int = TRIES) -> None:
    """Bring a file to an address, all of it at each try; raises as ``download`` does."""
    for failures in range(tries):
        try:
            with file.open("rb") as opened:
                headers = {"Content-Length": str(_size(file)), "Content-Type": "application/octet-stream"}
                request = urllib.request.Request(url, data=opened, headers=headers, method="PUT")  # noqa: S310 - checked
                with _opener(url).open(request, timeout=_SILENCE):
                    return
        except HTTPError as error:
            with error:
                why = _judge(error)
        except (OSError, HTTPException) as error:
            why = f"the connection was lost ({_brief(error)})"
        if failures + 1 < tries:
            _pause(min(_PAUSES[0] * 2**failures, _PAUSES[1]), stopping)
    raise TrainingError(why, cause=Cause.TRANSFER)


def _once(url: str, file: Path, stopping: Callable[[], bool], room_for: Callable[[int], None]) -> None:
    """One connection; raises OSError or HTTPException where it does not bring the rest."""
    has = _size(file)
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={has}-"} if has else {"Accept-Encoding": "identity"}
    with _opener(url).open(urllib.request.Request(url, headers=headers), timeout=_SILENCE) as answer:  # noqa: S310 - checked
        begin, total = _span(answer.status, answer.headers)
        if begin != has:  # it gives all of it, whatever was asked
            file.unlink(missing_ok=True)
            if begin:
                raise ConnectionError(f"it answered from byte {begin:,} on, and not from {has:,}")
        if total is not None:
            room_for(total)
        _save(answer, file, stopping)
    if total is not None and _size(file) < total:
        raise ConnectionError(f"cut off at {_size(file):,} of {total:,} bytes")


def _save(answer: Any, file: Path, stopping: Callable[[], bool]) -> None:
    try:
        target = file.open("ab")
    except OSError as error:
        raise StorageFull(_brief(error)) from error
    with target:
        while chunk := answer.read(_CHUNK):
            if stopping():
                raise TrialCancelled("the job was cancelled")
            try:
                target.write(chunk)
                target.flush()  # so that a full disk is told here, where it is not taken for a lost connection
            except OSError as error:
                raise StorageFull(_brief(error)) from error


def _judge(error: HTTPError) -> str:
    """Why an answer that is no success may be another one next time; raises TrainingError where it will not."""
    if error.code in _PASSING:
        return f"the store answers HTTP {error.code}"
    said = b""
    with suppress(OSError, HTTPException):
        said = error.read(4096)
    found = _TOLD.search(said)
    told = f"HTTP {error.code} {found[1].decode()}" if found else f"HTTP {error.code}"
    if error.code in {400, 401, 403}:
        raise TrainingError(f"its address has expired, or is refused ({told})", cause=Cause.TRANSFER)
    if 300 <= error.code <= 399:
        raise TrainingError(f"its address leads elsewhere, where no worker follows ({told})", cause=Cause.TRANSFER)
    raise TrainingError(f"the store does not have it any more ({told})", cause=Cause.TRANSFER)


def _span(status: int, headers: Message) -> tuple[int, int | None]:
    """The first byte of an answer, and the size of the whole where it is told."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if status == 206 and found:
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() and status == 200 else None


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: an address is checked, where it leads to is not."""

    def redirect_request(self, *_: object) -> None:
        """See urllib."""


def _opener(url: str) -> urllib.request.OpenerDirector:
    proxies: dict[str, str] | None = (
        {} if urlsplit(url).scheme == "http" else None
    )  # http is for loopback alone, which no proxy knows
    return urllib.request.build_opener(_Nowhere, urllib.request.ProxyHandler(proxies))


def _pause(seconds: float, stopping: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while True:
        if stopping():
            raise TrialCancelled("the job was cancelled")
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.1))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
