"""The client against the real embedded endpoint, its faults, and servers that misbehave below HTTP."""

import logging
import pickle
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rig import JOB, KEY, Server, answer, client_at, client_of, endpoint, submit, wait_until

from seedpod import __version__
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import (
    BackendError,
    ConfigError,
    EndpointBusy,
    EndpointRefused,
    EndpointUnreachable,
    JobGone,
    PerhapsSubmitted,
    RequestRefused,
)
from seedpod.remote.client import EndpointClient
from seedpod.remote.secret import Secret
from seedpod.remote.wire import JobState


@pytest.fixture(scope="module")
def served() -> Iterator[EmbeddedEndpoint]:
    with endpoint() as running:
        yield running


@pytest.fixture
def control(served: EmbeddedEndpoint) -> EmbeddedEndpoint:
    """The endpoint, without faults."""
    served.set_faults([])
    return served


@pytest.fixture
def client(control: EmbeddedEndpoint) -> Iterator[EndpointClient]:
    made = client_of(control)
    yield made
    made.close()


def outcome(call: Callable[[], object]) -> BackendError:
    """The error that a call raises."""
    with pytest.raises(BackendError) as caught:
        call()
    return caught.value


def test_a_job_is_submitted_followed_and_cancelled(client: EndpointClient, control: EmbeddedEndpoint) -> None:
    """run, status, cancel and health speak the endpoint's language."""
    job = submit(client)
    assert client.status(job).state is JobState.IN_QUEUE
    assert client.health().jobs.in_queue >= 1
    assert client.cancel(job).state is JobState.CANCELLED
    assert client.status(job).state is JobState.CANCELLED
    assert control.state()["jobs"][job]["uid"] == JOB["uid"]


def test_time_limits_are_kept_within_the_documented_bounds(client: EndpointClient) -> None:
    """A time limit of 1 s or 30 days, which RunPod answers with 400, is sent as its nearest bound."""
    assert client.run(JOB, execution_timeout=1.0, ttl=1.0)
    assert client.run(JOB, execution_timeout=2.6e6, ttl=2.6e6)


def test_a_wrong_key_is_refused(control: EmbeddedEndpoint) -> None:
    """401 says which variable to check, and is never tried again."""
    error = outcome(lambda: submit(client_of(control, key="wrong")))
    assert type(error) is EndpointRefused
    assert "RUNPOD_API_KEY" in error.message
    assert not error.retryable


def test_an_unknown_endpoint_is_refused(control: EmbeddedEndpoint) -> None:
    """404 on /run and /health says which variable to check."""
    stranger = client_of(control, endpoint_id="other")
    for error in (outcome(lambda: submit(stranger)), outcome(stranger.health)):
        assert type(error) is EndpointRefused
        assert "RUNPOD_ENDPOINT_ID" in error.message


def test_a_job_that_the_endpoint_forgot_is_gone(client: EndpointClient, control: EmbeddedEndpoint) -> None:
    """404 on /status and /cancel, after retention, means the job alone."""
    control.set_settings(retain_run=0.0)
    job = submit(client)
    client.cancel(job)
    wait_until(lambda: job not in control.state()["jobs"])
    assert type(outcome(lambda: client.status(job))) is JobGone
    assert type(outcome(lambda: client.cancel(job))) is JobGone
    control.set_settings(retain_run=1800.0)


def test_a_job_that_is_too_large_is_refused_alone(client: EndpointClient) -> None:
    """A body over 10 MiB is this request's fault, not the endpoint's."""
    error = outcome(lambda: client.run({"x": "x" * (11 * 2**20)}, execution_timeout=60.0, ttl=600.0))
    assert type(error) is RequestRefused
    assert "10MiB" in error.message


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "code": 429}, EndpointBusy),
        ({"kind": "status", "code": 503}, EndpointUnreachable),
        ({"kind": "status", "code": 500}, PerhapsSubmitted),
        ({"kind": "status", "code": 502, "body": "html"}, PerhapsSubmitted),
        ({"kind": "status", "code": 524, "body": "html", "applied": True}, PerhapsSubmitted),
        ({"kind": "status", "code": 200, "body": "html"}, PerhapsSubmitted),
        ({"kind": "status", "code": 200, "body": "empty"}, PerhapsSubmitted),
        ({"kind": "drop"}, PerhapsSubmitted),
        ({"kind": "drop", "applied": True}, PerhapsSubmitted),
        ({"kind": "truncate"}, PerhapsSubmitted),
        ({"kind": "no_id"}, PerhapsSubmitted),
    ],
)
def test_a_submission_that_fails_says_whether_the_job_may_exist(
    client: EndpointClient, control: EmbeddedEndpoint, fault: dict[str, Any], kind: type[BackendError]
) -> None:
    """Where the endpoint has the job the error is never "certainly not accepted"; and each fault has its error."""
    before = control.state()["submitted"]
    control.set_faults([{"operation": "run", **fault}])
    error = outcome(lambda: submit(client))
    assert type(error) is kind
    assert control.state()["submitted"] == before or isinstance(error, PerhapsSubmitted)


@pytest.mark.parametrize("operation", ["status", "cancel", "health"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "code": 500},
        {"kind": "status", "code": 502, "body": "html"},
        {"kind": "status", "code": 524, "body": "empty"},
        {"kind": "status", "code": 200, "body": "html"},
        {"kind": "drop", "applied": True},
        {"kind": "truncate"},
    ],
)
def test_other_operations_that_fail_may_be_tried_again(
    client: EndpointClient, control: EmbeddedEndpoint, operation: str, fault: dict[str, Any]
) -> None:
    """A 5xx, HTML instead of JSON, a cut connection and half a JSON are all "no usable answer"."""
    job = submit(client)
    control.set_faults([{"operation": operation, **fault}])
    error = outcome(client.health if operation == "health" else lambda: getattr(client, operation)(job))
    assert type(error) is EndpointUnreachable
    assert error.retryable


@pytest.mark.parametrize("operation", ["run", "status"])
def test_an_answer_that_is_too_late_is_a_time_out(control: EmbeddedEndpoint, operation: str) -> None:
    """After the read time-out a submission may exist, and any other operation is to be tried again."""
    control.set_faults([{"operation": operation, "kind": "latency", "seconds": 1.0}])
    hasty = client_of(control, read=0.2)
    error = outcome(lambda: submit(hasty) if operation == "run" else hasty.status("x"))
    assert type(error) is (PerhapsSubmitted if operation == "run" else EndpointUnreachable)
    assert "in time" in error.message


@pytest.mark.parametrize(("asked", "given"), [({}, None), ({"retry_after": 2}, 2.0), ({"retry_after": 0.5}, 0.5)])
def test_retry_after_seconds_arrive(
    client: EndpointClient, control: EmbeddedEndpoint, asked: dict[str, float], given: float | None
) -> None:
    """429 carries what the endpoint asked for, or nothing."""
    control.set_faults([{"operation": "run", "kind": "status", "code": 429, **asked}])
    error = outcome(lambda: submit(client))
    assert isinstance(error, EndpointBusy)
    assert error.retry_after == given


def test_a_retry_after_date_arrives_as_seconds() -> None:
    """429 with an HTTP date is as long as it is from now."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with Server(answer({}, 429, f"Retry-After: {date}")) as server:
        error = outcome(lambda: submit(client_at(server.url)))
    assert isinstance(error, EndpointBusy)
    assert error.retry_after == pytest.approx(30.0, abs=3.0)


def test_a_retry_after_date_counts_from_the_answers_own() -> None:
    """Where the answer tells its date, it does not matter what our clock was set to."""
    with Server(
        answer(
            {},
            429,
            "Date: Wed, 01 Jan 2020 00:00:00 GMT",
            "Retry-After: Wed, 01 Jan 2020 00:00:30 GMT",
        )
    ) as server:
        error = outcome(lambda: submit(client_at(server.url)))
    assert isinstance(error, EndpointBusy)
    assert error.retry_after == 30.0


@pytest.mark.parametrize(
    "said",
    [b"\xff\xfe\xfa", b"\xc3\x28", b"[" * 100_000, b'{"status": ', b"<html>", b"null", b'"COMPLETED"', b"[]", b"{}"],
    ids=["utf16", "latin", "deep", "half", "html", "null", "text", "list", "empty"],
)
def test_bytes_that_are_no_status_are_no_usable_answer(said: bytes) -> None:
    """What is not UTF-8, not JSON, endlessly nested or no status is told apart from an answer."""
    with Server(answer(said)) as server:
        assert type(outcome(lambda: client_at(server.url).status("j"))) is EndpointUnreachable
        assert type(outcome(lambda: submit(client_at(server.url)))) is PerhapsSubmitted


def test_a_bare_nan_costs_nothing_but_itself() -> None:
    """A status with NaN is read: times that are NaN are unknown, and the output is left to who judges outputs."""
    said = b'{"id": "j", "status": "COMPLETED", "executionTime": NaN, "output": {"value": NaN}}'
    with Server(answer(said)) as server:
        status = client_at(server.url).status("j")
    assert (status.state, status.execution) == (JobState.COMPLETED, None)
    assert status.output["value"] != status.output["value"]


def test_a_connection_that_is_reset_after_the_request_leaves_a_submission_in_doubt() -> None:
    """A reset after the body was sent may have come after the job was taken."""
    with Server(b"", reset=True) as server:
        assert type(outcome(lambda: submit(client_at(server.url)))) is PerhapsSubmitted
        assert type(outcome(lambda: client_at(server.url).status("j"))) is EndpointUnreachable


@pytest.mark.parametrize(
    "said",
    [answer({"id": "j"})[:-5], b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"\0\1\2\r\n\r\n", b""],
    ids=["short", "chunks", "binary", "nothing"],
)
def test_an_answer_that_breaks_http_leaves_a_submission_in_doubt(said: bytes) -> None:
    """A body that is shorter than announced, broken chunks and no HTTP at all are no usable answer."""
    with Server(said) as server:
        assert type(outcome(lambda: submit(client_at(server.url)))) is PerhapsSubmitted
        assert type(outcome(lambda: client_at(server.url).status("j"))) is EndpointUnreachable


def test_a_refused_connection_certainly_submitted_nothing() -> None:
    """Where nobody listens the error says so, and a submission is in no doubt."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v2"
    error = outcome(lambda: submit(client_at(url)))
    assert type(error) is EndpointUnreachable
    assert "refuses connections" in error.message


def test_a_name_that_does_not_resolve_certainly_submitted_nothing() -> None:
    """An unknown host is said in these words, within seconds."""
    error = outcome(lambda: submit(client_at("https://invalid-endpoint.invalid/v2")))
    assert type(error) is EndpointUnreachable
    assert "cannot be resolved" in error.message


def test_a_redirect_is_not_followed() -> None:
    """A redirect takes neither the key nor the job elsewhere: it is an endpoint that is not RunPod's."""
    with (
        Server(answer({"id": "stolen"})) as elsewhere,
        Server(answer(b"", 307, f"Location: {elsewhere.url}")) as server,
    ):
        for error in (outcome(lambda: submit(client_at(server.url))), outcome(client_at(server.url).health)):
            assert type(error) is EndpointRefused
            assert "runpod_service_endpoint" in error.message
        assert elsewhere.requests == []


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A self-signed certificate and its key, in one file."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return path


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Server]:
    """A server whose certificate nobody has signed but itself."""
    server = Server(answer({"id": "j"}))
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate(tmp_path))
    with server:
        yield server


def test_a_certificate_that_nobody_signed_is_not_trusted(tls: Server) -> None:
    """TLS is verified: the request, with its key, is not sent, and a submission is in no doubt."""
    error = outcome(lambda: submit(client_at(tls.url)))
    assert type(error) is EndpointUnreachable
    assert "certificate" in error.message
    assert tls.requests == []


def test_speech_that_is_no_tls_certainly_submitted_nothing() -> None:
    """Https to a server that speaks plain HTTP fails before anything is sent."""
    with Server(answer({"id": "j"})) as server:
        error = outcome(lambda: submit(client_at(server.url.replace("http:", "https:"), read=1.0)))
    assert type(error) is EndpointUnreachable


def test_a_request_carries_what_it_should_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User-Agent and key are there; no cookie that was set, no login from .netrc, no other key."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Server(answer({"id": "j"}, 200, "Set-Cookie: a=b; Path=/")) as server:
        client = client_at(server.url)
        submit(client)
        submit(client)
        assert not list(client._session.cookies), "threads would share a jar that changes"
    for request in server.requests:
        head = request.partition(b"\r\n\r\n")[0].decode()
        assert f"User-Agent: seedpod/{__version__}\r\n" in head
        assert f"Authorization: Bearer {KEY}" in head
        assert "cookie" not in head.lower()
        assert "Basic" not in head
    assert b'"policy": {"executionTimeout": 60000, "ttl": 600000}' in server.requests[1]


def test_no_proxy_stands_before_loopback(monkeypatch: pytest.MonkeyPatch, control: EmbeddedEndpoint) -> None:
    """A proxy in the environment is not asked for the endpoint on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client_of(control).health()


def test_a_proxy_that_is_down_certainly_submitted_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used for other hosts; its password is in no message."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hushhush@127.0.0.1:9")
    error = outcome(lambda: submit(client_at("https://api.example.invalid/v2")))
    assert type(error) is EndpointUnreachable
    assert "HTTPS_PROXY" in error.message
    assert "hushhush" not in error.message + error.detail


def test_connections_are_kept(client: EndpointClient, caplog: pytest.LogCaptureFixture) -> None:
    """Many requests in a row go over one connection."""
    with caplog.at_level(logging.DEBUG, "urllib3"):
        for _ in range(10):
            client.health()
    assert sum("Starting new" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("url", "endpoint_id"),
    [
        ("http://api.example/v2", "ep"),
        ("ftp://api.example/v2", "ep"),
        ("https://me:pass@api.example/v2", "ep"),
        ("https://api.example/v2?key=1", "ep"),
        ("https://", "ep"),
        ("local", "ep"),
        ("https://api.example/v2", ""),
        ("https://api.example/v2", "a/../b"),
        ("https://api.example/v2", KEY),
        ("https://api.example/v2", "rpa_ANOTHERKEY"),
        (f"https://{KEY}.example/v2", "ep"),
    ],
)
def test_a_place_that_cannot_be_one_is_a_wrong_setting(url: str, endpoint_id: str) -> None:
    """Plain http to elsewhere, users in URLs and ids that are paths are refused by the setting's name."""
    with pytest.raises(ConfigError, match=r"runpod_service_endpoint|RUNPOD_ENDPOINT_ID") as caught:
        EndpointClient(url, endpoint_id, Secret(KEY), 1)
    assert not [word for word in (KEY, "rpa_", "pass@") if word in str(caught.value)]


def test_a_job_id_is_no_path(control: EmbeddedEndpoint) -> None:
    """An id with slashes asks for that job, not for another address."""
    assert type(outcome(lambda: client_of(control).status("../health"))) is JobGone


def test_the_key_is_in_nothing_that_a_failing_client_says(caplog: pytest.LogCaptureFixture) -> None:
    """Errors, their tracebacks with all locals, pickles, reprs and the libraries' debug logs are free of the key."""
    caplog.set_level(logging.DEBUG)
    said = [
        answer({"detail": f"bad key {KEY}"}, 401),
        answer(KEY.encode(), 400),
        answer(KEY.encode()),
        answer(b"", 302),
    ]
    found = []
    for each in said:
        with Server(each) as server:
            client = client_at(server.url)
            found += [repr(client), *(shown(call) for call in (lambda: submit(client), client.health))]  # noqa: B023
    for url in ("https://invalid-endpoint.invalid/v2", "http://127.0.0.1:9/v2"):
        client = client_at(url)
        found += [shown(lambda: submit(client)), shown(lambda: client.cancel("j"))]  # noqa: B023
    with Server(b"", reset=True) as server:
        found.append(shown(lambda: submit(client_at(server.url))))
    assert len(found) == 17
    assert not [text for text in [*found, caplog.text] if KEY in text]


def shown(call: Callable[[], object]) -> str:
    """All that can be seen of the error that a call raises."""
    error = outcome(call)
    assert error.__cause__ is None
    assert error.__context__ is None
    full = traceback.TracebackException.from_exception(error, capture_locals=True)
    pickled = pickle.dumps(error).decode("latin-1")
    return "".join([*full.format(), str(error), repr(error), error.detail, pickled])
