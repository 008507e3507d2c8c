"""The map of foreign errors is total."""

import inspect
import socket
import ssl
from email.utils import formatdate

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from rig import KEY

from seedpod import errors
from seedpod.errors import (
    BackendError,
    EndpointBusy,
    EndpointRefused,
    EndpointUnreachable,
    JobGone,
    PerhapsSubmitted,
    RequestRefused,
)
from seedpod.remote.address import parse_address
from seedpod.remote.policy import Operation
from seedpod.remote.secret import Secret
from seedpod.remote.trouble import Place, from_answer, from_exception, from_nonsense, seconds_to_wait

PLACE = Place("https://api.example/v2", "ep", Secret(KEY))
FOREIGN = [
    kind
    for module in (requests.exceptions, urllib3.exceptions)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, requests.RequestException | urllib3.exceptions.HTTPError)
]
SYSTEM = [OSError, ConnectionResetError, ConnectionRefusedError, BrokenPipeError, TimeoutError, socket.gaierror]
TLS = [ssl.SSLError, ssl.SSLCertVerificationError, ssl.SSLEOFError]
NEVER_SENT = (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema)


def made(kind: type[BaseException]) -> BaseException:
    """An instance, however its class wants to be made."""
    error = kind.__new__(kind)
    error.args = (f"trouble with {KEY}",)
    for name in ("request", "response", "reason", "length", "partial", "expected"):
        setattr(error, name, 0 if name in {"partial", "expected"} else None)
    return error


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("kind", [*FOREIGN, *SYSTEM, *TLS], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_has_its_error(kind: type[BaseException], operation: Operation, sent: bool) -> None:  # noqa: FBT001
    """Each exception of requests, urllib3 and the system becomes one of ours; a lost submission alone is a perhaps."""
    error = from_exception(PLACE, operation, made(kind), sent=sent)
    if issubclass(kind, (*NEVER_SENT, requests.exceptions.URLRequired)):
        assert type(error) is EndpointRefused
    elif sent and operation is Operation.RUN:
        assert type(error) is PerhapsSubmitted
    else:
        assert type(error) is EndpointUnreachable
    assert KEY not in error.message + error.detail


@pytest.mark.parametrize("operation", list(Operation))
def test_every_status_has_its_error(operation: Operation) -> None:
    """Each status from 100 to 599 is a success or one of our errors, and names the status and the operation."""
    for code in range(100, 600):
        error = from_answer(PLACE, operation, code, b"said")
        if 200 <= code < 300:
            assert error is None
        else:
            assert isinstance(error, BackendError)
            assert f"HTTP {code}" in error.detail
            assert str(operation) in error.detail


@pytest.mark.parametrize(
    ("operation", "code", "kind", "word"),
    [
        ("run", 401, EndpointRefused, "RUNPOD_API_KEY"),
        ("status", 403, EndpointRefused, "RUNPOD_API_KEY"),
        ("run", 402, EndpointRefused, "balance"),
        ("run", 404, EndpointRefused, "RUNPOD_ENDPOINT_ID"),
        ("health", 404, EndpointRefused, "RUNPOD_ENDPOINT_ID"),
        ("status", 404, JobGone, "retention"),
        ("cancel", 404, JobGone, "retention"),
        ("run", 400, RequestRefused, "HTTP 400"),
        ("run", 413, RequestRefused, "HTTP 413"),
        ("run", 301, EndpointRefused, "runpod_service_endpoint"),
        ("run", 405, EndpointRefused, "runpod_service_endpoint"),
        ("run", 429, EndpointBusy, "limits"),
        ("status", 429, EndpointBusy, "limits"),
        ("run", 500, PerhapsSubmitted, "may run"),
        ("run", 502, PerhapsSubmitted, "may run"),
        ("run", 504, PerhapsSubmitted, "may run"),
        ("run", 524, PerhapsSubmitted, "may run"),
        ("run", 408, PerhapsSubmitted, "may run"),
        ("run", 503, EndpointUnreachable, "HTTP 503"),
        ("run", 521, EndpointUnreachable, "HTTP 521"),
        ("status", 500, EndpointUnreachable, "HTTP 500"),
        ("cancel", 524, EndpointUnreachable, "HTTP 524"),
    ],
)
def test_a_status_means_what_it_means_there(operation: str, code: int, kind: type[BackendError], word: str) -> None:
    """The same code means different things to different operations; each message says where to look."""
    error = from_answer(PLACE, Operation(operation), code, b"")
    assert type(error) is kind
    assert word in error.message


def test_every_error_of_the_wire_is_in_use() -> None:
    """The tree has no error for the endpoint that neither this map nor the rest of the package raises."""
    raised = {EndpointUnreachable, EndpointBusy, PerhapsSubmitted, EndpointRefused, RequestRefused, JobGone}
    elsewhere = {errors.BreakerOpen, errors.JobFailed, errors.JobOverdue, errors.ContractMismatch, BackendError}
    ours = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BackendError)}
    assert ours == raised | elsewhere


def test_nonsense_after_a_submission_is_a_perhaps() -> None:
    """A success that cannot be read leaves a submission in doubt, and any other operation to be tried again."""
    assert type(from_nonsense(PLACE, Operation.RUN, "is no JSON", b"<html>")) is PerhapsSubmitted
    assert type(from_nonsense(PLACE, Operation.STATUS, "is no JSON", b"<html>")) is EndpointUnreachable


def test_an_address_without_an_id_says_so() -> None:
    """A URL that is only a host: one that cannot be found is said to be so, and one that answers lacks the id."""
    place = Place("https://api.example", parse_address("https://api.example").endpoint_id, Secret(KEY))
    lost = from_exception(place, Operation.HEALTH, socket.gaierror("no such host"), sent=False)
    assert str(lost) == (
        "no usable answer from https://api.example (health): its name cannot be resolved; look at the URL and the "
        "network."
    )
    stranger = from_nonsense(place, Operation.HEALTH, "is no JSON", b"<html>")
    for error in (
        from_answer(place, Operation.HEALTH, 404, b""),
        from_answer(place, Operation.RUN, 401, b""),
        stranger,
    ):
        assert isinstance(error, EndpointRefused)
        assert str(error) == (
            "runpod_service_endpoint=https://api.example names a host and no endpoint on it. Give the endpoint's id "
            "alone, or a URL that ends in it, such as https://api.runpod.ai/v2/ENDPOINT_ID."
        )


def test_foreign_texts_are_cleaned() -> None:
    """The key, a proxy's password and line ends do not come through; long texts are cut."""
    said = f"{KEY}\n http://user:pass@proxy:1 {'x' * 5000}".encode()
    error = from_answer(PLACE, Operation.RUN, 400, said)
    assert error is not None
    assert not [word for word in (KEY, "pass@", "\n") if word in error.message + error.detail]
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("1e9", None),
        ("0", 0.0),
        ("2", 2.0),
        (" 1.5 ", 1.5),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("Mon, 12 Jan 1970 13:47:40 -0000", 60.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds or an HTTP date; a date that is past is now, and nonsense is none."""
    assert seconds_to_wait(header, None, 1_000_000.0) == seconds


@given(st.text())
def test_no_header_breaks_the_reader(header: str) -> None:
    """Whatever a server sends as Retry-After, reading it raises nothing."""
    wait = seconds_to_wait(header, header, 1_000_000.0)
    assert wait is None or wait >= 0
