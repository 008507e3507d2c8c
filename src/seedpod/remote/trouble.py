"""The one place where what went wrong on the wire becomes an error of seedpod's. Pure; total (a test proves it)."""

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
from urllib3.exceptions import NameResolutionError

from seedpod.errors import (
    BackendError,
    EndpointBusy,
    EndpointRefused,
    EndpointUnreachable,
    JobGone,
    PerhapsSubmitted,
    RequestRefused,
)
from seedpod.remote.address import RUNPOD, UNNAMED
from seedpod.remote.policy import Operation
from seedpod.remote.secret import MASK, Secret

_QUOTED = 200  # letters of a foreign text in a message
_DETAIL = 2000  # and in a detail
_NOT_TAKEN = frozenset({503, 521, 523, 525, 526, 530})
"""5xx codes by which a gateway says that the request never reached the service (503; Cloudflare's own others)."""

_BAD_KEY = "refuses the API key: check RUNPOD_API_KEY"
_STRANGER = "does not answer as RunPod does: check runpod_service_endpoint"
_REFUSALS = {
    401: _BAD_KEY,
    402: "wants payment: check your RunPod balance",
    403: _BAD_KEY,
    404: "does not exist: check RUNPOD_ENDPOINT_ID",
    405: _STRANGER,
    410: _STRANGER,
}
_WRONG_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.URLRequired,
)
_WHY: tuple[tuple[type[BaseException], str], ...] = (
    # The first that is found in an error's chain says why; those that say more stand before those that say less.
    (requests.exceptions.ProxyError, "the proxy does not let us through; look at HTTPS_PROXY"),
    (
        ssl.SSLCertVerificationError,
        "its TLS certificate is not valid for it; look at the URL and at REQUESTS_CA_BUNDLE",
    ),
    (requests.exceptions.SSLError, "TLS failed; look at the URL"),
    (NameResolutionError, "its name cannot be resolved; look at the URL and the network"),
    (socket.gaierror, "its name cannot be resolved; look at the URL and the network"),
    (ConnectionRefusedError, "it refuses connections; is it running?"),
    (requests.exceptions.ConnectTimeout, "it took no connection in time; look at the network"),
    (requests.exceptions.Timeout, "it did not answer in time"),
    (requests.exceptions.ChunkedEncodingError, "its answer was cut short"),
    (requests.exceptions.ContentDecodingError, "its answer cannot be unpacked"),
    (ConnectionError, "it cut the connection"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go, for messages.

    Attributes:
        url: Base of the API.
        endpoint_id: The endpoint's id.
        key: What no message may hold.
    """

    url: str
    endpoint_id: str
    key: Secret

    def __str__(self) -> str:
        return self.url if self.endpoint_id == UNNAMED else f"the endpoint {self.endpoint_id} at {self.url}"

    def clean(self, text: str, most: int) -> str:
        """A foreign text without secrets, in one line, cut to so many letters."""
        safe = re.sub(r"//[^/@\s]+@", f"//{MASK}@", self.key.redact(text))  # a proxy's password
        return " ".join(safe.split())[:most]


def from_exception(place: Place, operation: Operation, error: BaseException, *, sent: bool) -> BackendError:
    """What a request without an answer comes to.

    Args:
        place: Where it went.
        operation: What was asked.
        error: What was raised.
        sent: Whether any of the request's body was handed to the connection: from then on a submission may have been
            accepted.
    """
    detail = place.clean(f"{type(error).__name__}: {error}", _DETAIL)
    if isinstance(error, _WRONG_URL):
        return EndpointRefused(
            f"{place.url} is no URL that can be asked; look at runpod_service_endpoint.", detail=detail
        )
    why = next((why for kind, why in _WHY if any(isinstance(one, kind) for one in _chain(error))), "the request failed")
    return _unanswered(place, operation, why, detail, maybe=sent)


def from_answer(
    place: Place, operation: Operation, code: int, said: bytes, retry_after: float | None = None
) -> BackendError | None:
    """What an answer's status comes to; None where it is a success.

    Args:
        place: Where the request went.
        operation: What was asked.
        code: The answer's status.
        said: The answer's body.
        retry_after: Seconds, where the answer has that header.
    """
    if 200 <= code <= 299:
        return None
    quote = place.clean(said.decode(errors="replace"), _QUOTED)
    detail = f"{operation}: HTTP {code} {quote}".rstrip()
    if code >= 500 or code < 200 or code == 408:  # 408 Request Timeout: a gateway's, and what it passed on is not known
        why = f"it answers HTTP {code}"
        return _unanswered(place, operation, why, detail, maybe=code not in _NOT_TAKEN, retry_after=retry_after)
    if place.endpoint_id == UNNAMED:
        return _without_id(place, detail)
    return _refusal(place, operation, code, quote=quote, detail=detail, retry_after=retry_after)


def _refusal(
    place: Place, operation: Operation, code: int, *, quote: str, detail: str, retry_after: float | None
) -> BackendError:
    """What an endpoint that answers, and does not do what was asked, means by that."""
    at = str(place)
    if code == 429:
        message = f"{at} is over its limits (HTTP 429, {operation}); use fewer workers if this goes on."
        return EndpointBusy(message, detail=detail, retry_after=retry_after)
    if code == 404 and operation in {Operation.STATUS, Operation.CANCEL}:
        return JobGone(f"{at} does not know the job: its retention or TTL is over, or it was purged.", detail=detail)
    if code in _REFUSALS or code < 400:
        return EndpointRefused(f"{at} {_REFUSALS.get(code, _STRANGER)} (HTTP {code}).", detail=detail)
    return RequestRefused(f"{at} refuses this request (HTTP {code}, {operation}): {quote}", detail=detail)


def from_nonsense(place: Place, operation: Operation, what: str, said: bytes) -> BackendError:
    """What a success whose body makes no sense comes to; ``what`` says what is wrong with it."""
    detail = f"{operation}: {place.clean(said.decode(errors='replace'), _QUOTED)}"
    if place.endpoint_id == UNNAMED:
        return _without_id(place, detail)
    return _unanswered(place, operation, f"its answer {what}", detail, maybe=True)


def seconds_to_wait(header: str | None, answered: str | None, now: float) -> float | None:
    """A ``Retry-After`` header as seconds, from seconds or an HTTP date; None where it is missing or nonsense.

    Args:
        header: The header.
        answered: The answer's own ``Date``: a date counts from there, whatever our clock was set to.
        now: Seconds since the epoch by our clock, where the answer has no date.
    """
    if header is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d{0,9})?\s*", header, re.ASCII):
        return float(header)
    date = _date(header)
    if date is None:
        return None
    since = _date(answered or "") or datetime.fromtimestamp(now, UTC)
    return max(0.0, (date - since).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _without_id(place: Place, detail: str) -> EndpointRefused:
    return EndpointRefused(
        f"runpod_service_endpoint={place.url} names a host and no endpoint on it. Give the endpoint's id alone, or a "
        f"URL that ends in it, such as {RUNPOD}/ENDPOINT_ID.",
        detail=detail,
    )


def _unanswered(
    place: Place, operation: Operation, why: str, detail: str, *, maybe: bool, retry_after: float | None = None
) -> EndpointUnreachable:
    said = f"no usable answer from {place} ({operation}): {why}."
    if maybe and operation is Operation.RUN:
        message = f"{said} The job was sent, and may run under an id that is not known."
        return PerhapsSubmitted(message, detail=detail, retry_after=retry_after)
    return EndpointUnreachable(said, detail=detail, retry_after=retry_after)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those inside it: requests wraps urllib3's, which wrap the system's."""
    seen: set[int] = set()
    stack = [error]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        stack.extend(each for each in inner if isinstance(each, BaseException))
