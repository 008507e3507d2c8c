"""The page's server: who is told what, and who delays whom."""

import hmac
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

import samples
from command_rig import eventually
from seedpod.board import FinishedTrial
from seedpod.dashboard.web.address import KEPT, bind
from seedpod.dashboard.web.server import MOST, Server
from seedpod.dashboard.web.state import PageState
from seedpod.guarded import Guarded
from web_rig import get, plan_of, searching, watching

OPEN = ("main.js", "plots.js", "tables.js", "store.js", "stream.js", "format.js", "page.css", "icon.svg")
CLOSED = ("/", "/events", "/metrics", "/nothing", "/.web.json", "/assets")


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("token", ["", "wrong", "x" * 43, "%00", "%C3%BC"])
def test_without_the_token_nothing_is_told(tmp_path: Path, path: str, token: str) -> None:
    """No token or a wrong one gets 403 and a sentence, whatever is asked for, and nothing of the search."""
    with searching(tmp_path) as search:
        search.start(0)
        answer = get(search.url, path, token)
        assert answer.status == 403
        assert answer.body == "This address needs the token that the search has printed with it.\n"
        headers = str(answer.headers)
        assert tmp_path.name not in headers
        assert search.url.rpartition("=")[2] not in answer.body + headers


def test_token_in_the_address_or_as_bearer(tmp_path: Path) -> None:
    """Both ways open all of it; a wrong bearer is not mended by a right address."""
    with searching(tmp_path) as search:
        token = search.url.rpartition("=")[2]
        assert get(search.url, "/").status == 200
        assert get(search.url, "/metrics", "", Authorization=f"Bearer {token}").status == 200
        assert get(search.url, "/metrics", "", Authorization=f"bearer  {token} ").status == 200
        assert get(search.url, "/metrics", token, Authorization="Bearer wrong").status == 403
        assert get(search.url, "/metrics", "", Authorization=f"Basic {token}").status == 403


def test_server_proves_that_it_knows_the_token(tmp_path: Path) -> None:
    """Who has the token can tell this server from another one without telling it; the proof is of one text alone."""
    with searching(tmp_path) as search:
        token = search.url.rpartition("=")[2]
        answer = get(search.url, "/proof", "&nonce=abc")
        assert answer.body == hmac.new(token.encode(), b"abc", "sha256").hexdigest()
        assert get(search.url, "/proof", "&nonce=abd").body != answer.body


def test_page_asks_nobody_else_and_tells_no_referrer(tmp_path: Path) -> None:
    """The page's policy lets scripts and data come from here alone, and the address goes nowhere."""
    with searching(tmp_path) as search:
        answer = get(search.url)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "connect-src 'self'" in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "http:" not in answer.body
        assert "https:" not in answer.body


@pytest.mark.parametrize("name", [*OPEN, "plotly.min.js"])
def test_assets_come_from_this_machine(tmp_path: Path, name: str) -> None:
    """Every file of the page is served from the installed packages, with its type, and none of ours leads away."""
    with searching(tmp_path) as search:
        answer = get(search.url, f"/assets/{name}", "")
        assert answer.status == 200
        assert answer.headers["Content-Type"].split(";")[0] in {"text/javascript", "text/css", "image/svg+xml"}
        assert len(answer.body) > 100
        assert name == "plotly.min.js" or "://" not in answer.body.replace("http://www.w3.org/2000/svg", "")
        again = get(search.url, f"/assets/{name}", "", **{"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fserver.py", "%2e%2e%2fserver.py", "..%5cserver.py"])
def test_no_other_file_is_served(tmp_path: Path, name: str) -> None:
    """Names that are no asset lead nowhere."""
    with searching(tmp_path) as search:
        assert get(search.url, f"/assets/{name}", "").status in {403, 404}


def test_stream_tells_all_and_then_what_is_new(tmp_path: Path) -> None:
    """The first message holds the search as it is, later ones the changes, the last one its end."""
    with searching(tmp_path) as search, watching(search.url) as stream:
        first = next(stream)
        search.start(0)
        assert first["plan"]["dataset"] == "digits"
        assert first["now"]["queued"] == 9
        search.epoch(0, 1, 0.25)
        second = next(stream)
        assert [row["number"] for row in second["now"]["rows"]] == [0]
        assert "plan" not in second
        assert second["points"]["0"]["points"] == [[1, 0.25]]
        search.finish(samples.complete(0, 0.5))
        search.end()
        rest = list(stream)
        assert any("ended" in message for message in rest)
        assert rest[-1]["over"]["outcome"] == "done"


def test_metrics_are_served(tmp_path: Path) -> None:
    """The Prometheus text comes with its type and reads as such."""
    with searching(tmp_path) as search:
        search.start(0)
        answer = get(search.url, "/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name for family in text_string_to_metric_families(answer.body)}
        assert {"seedpod_trials", "seedpod_elapsed_seconds"} <= families


@contextmanager
def serving(folder: Path, stalled: float) -> Iterator[tuple[PageState, Server, str]]:
    """A server whose buffers are soon full, and its page's address."""
    state, bound = PageState(plan_of(folder, 100_000)), bind(0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # those that it accepts have the same
    server = Server(state, bound, "t", stalled=stalled)
    server.start()
    try:
        yield state, server, f"http://127.0.0.1:{bound.getsockname()[1]}/?token=t"
    finally:
        server.close()


def fail(state: PageState, number: int) -> None:
    state.finished(FinishedTrial(samples.spec(number), samples.failed(number), 0.0, 1.0))


def test_browser_that_never_reads_delays_nobody(tmp_path: Path) -> None:
    """One whose buffers are full gets no more; another one, the search and the server's end go on."""
    with serving(tmp_path, 60.0) as (state, server, url), closing(deaf(url)), watching(url) as stream:
        next(stream)
        seen = 0
        for turn in range(3):
            for number in range(1000):
                fail(state, 1000 * turn + number)
            while seen < 1000 * (turn + 1):
                seen = max([seen, *(row["order"] for row in next(stream).get("ended", []))])
        before = time.monotonic()
        server.close()
        assert time.monotonic() - before < 10


def test_browser_that_never_reads_is_given_up(tmp_path: Path) -> None:
    """Once its buffers are full and it has read nothing for a while, its connection is closed."""
    with serving(tmp_path, 0.2) as (state, server, url), closing(deaf(url)):
        assert eventually(lambda: server.watched)
        for number in range(1000):
            fail(state, number)
        assert eventually(lambda: not server.watched)


def deaf(url: str) -> socket.socket:
    """A browser that asks for the stream and reads nothing of it."""
    parts = urlsplit(url)
    connection = socket.create_connection((str(parts.hostname), parts.port or 80))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET /events?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def test_fifty_browsers_see_the_same(tmp_path: Path) -> None:
    """50 connections at once all get the first message and the last."""
    with searching(tmp_path) as search, ExitStack() as stack:
        streams = [stack.enter_context(watching(search.url)) for _ in range(50)]
        assert {next(stream)["plan"]["run"] for stream in streams} == {tmp_path.name}
        search.start(0)
        search.finish(samples.complete(0, 0.5))
        search.end()
        assert {list(stream)[-1]["over"]["outcome"] for stream in streams} == {"done"}


def test_one_browser_too_many_is_asked_to_come_later(tmp_path: Path) -> None:
    """There is an end to connections, and one that has left makes room."""
    with searching(tmp_path) as search:
        with ExitStack() as stack:
            for _ in range(MOST):
                next(stack.enter_context(watching(search.url)))
            assert get(search.url, "/events").status == 503
        search.start(0)
        deadline = time.monotonic() + 20
        while get(search.url, "/events").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("rubbish", [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"A" * 100_000, b""])
def test_rubbish_is_nobodys_business(tmp_path: Path, rubbish: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no request leaves no word on the search's terminal, and the page is there as before."""
    with caplog.at_level(logging.WARNING), searching(tmp_path) as search:
        parts = urlsplit(search.url)
        with socket.create_connection((str(parts.hostname), parts.port or 80)) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        assert get(search.url).status == 200
    assert caplog.records == []


def test_other_methods_are_refused(tmp_path: Path) -> None:
    """Nothing can be sent to the page."""
    with searching(tmp_path) as search:
        parts = urlsplit(search.url)
        with closing(HTTPConnection(str(parts.hostname), parts.port or 80)) as connection:
            connection.request("POST", f"/?{parts.query}", body=b"x")
            with connection.getresponse() as answer:
                assert answer.status == 405


def test_restart_has_the_same_address(tmp_path: Path) -> None:
    """The page of the run's next start is at the same address, also at once after a close with open streams."""
    with searching(tmp_path) as search, watching(search.url) as stream:
        next(stream)
        first = search.url
    with searching(tmp_path) as search:
        assert search.url == first
        assert get(search.url).status == 200


def test_taken_port_moves_the_page(tmp_path: Path) -> None:
    """Where the port is another program's by now, the page is elsewhere and says where."""
    with searching(tmp_path) as search:
        first = urlsplit(search.url)
    with closing(bind(first.port or 0)), searching(tmp_path) as search:
        assert urlsplit(search.url).port != first.port
        assert get(search.url).status == 200


def test_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the address cannot be kept, that is said once and the search goes on without the page."""
    with searching(tmp_path / "missing") as search:
        search.start(0)
        search.epoch(0, 1)
        search.finish(samples.complete(0, 0.5))
        search.end()
    assert search.said == []
    assert [record.getMessage() for record in caplog.records] == [
        "the page cannot be served (No such file or directory); the search goes on without it"
    ]


def test_importances_are_computed_while_somebody_looks(tmp_path: Path) -> None:
    """Nobody looks, nothing is computed; somebody looks, and after new trials the importances come."""
    calls = Guarded([0])

    def importances() -> dict[str, float]:
        with calls.locked() as count:
            count[0] += 1
        return {"learning_rate": 0.75, "dropout": 0.25}

    with searching(tmp_path, importances=importances) as search:
        search.start(0)
        search.finish(samples.complete(0, 0.5))
        assert calls.wait_for(lambda count: count[0] or None, 2.5) is None
        with watching(search.url) as stream:
            found = next(message["importances"] for message in stream if "importances" in message)
        assert found == [["learning_rate", 0.75], ["dropout", 0.25]]
        assert calls.wait_for(lambda count: count[0] > 1 or None, 2.5) is None


def test_importances_that_fail_are_asked_for_again(tmp_path: Path) -> None:
    """A computation that raises costs nothing but itself."""
    calls = Guarded([0])

    def importances() -> dict[str, float]:
        with calls.locked() as count:
            count[0] += 1
            first = count[0] == 1
        if first:
            raise ZeroDivisionError
        return {"dropout": 1.0}

    with searching(tmp_path, importances=importances) as search, watching(search.url) as stream:
        next(stream)
        for number in range(2):
            search.start(number)
            search.finish(samples.complete(number, 0.5))
            assert calls.wait_for(lambda count, n=number: count[0] > n or None, 10)  # type: ignore[misc]
        assert any("importances" in message for message in stream)


def test_token_is_in_no_other_file(tmp_path: Path) -> None:
    """The token is in the file that is for its owner alone, and nowhere else in the run's folder."""
    with searching(tmp_path) as search:
        token = search.url.rpartition("=")[2].encode()
        get(search.url)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and token in path.read_bytes()]
    assert [path.name for path in files] == [KEPT]
