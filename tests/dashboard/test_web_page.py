"""The page in a real browser: a search as its user watches it, and what a search may throw at it."""

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

import samples
from browser import Browser, needs_chromium
from command_rig import WITHOUT_KERAS, eventually, start
from seedpod.board import FinishedTrial
from seedpod.errors import Cause
from seedpod.remote.breaker import BreakerState, BreakerView
from seedpod.remote.counters import GateCounters
from seedpod.remote.policy import Operation
from seedpod.remote.view import EndpointView
from seedpod.remote.wire import EndpointHealth, JobCounts, WorkerCounts
from seedpod.trial import TrialFailure
from web_rig import Search, searching

pytestmark = [needs_chromium, pytest.mark.processes]

STATUS = "document.getElementById('status').dataset.kind"
CURVES = "(document.getElementById('curves').data ?? [])"
POINTS = f"{CURVES}.filter((t) => t.text.at(-1) === ' #%d').map((t) => t.x.length)[0]"
ALL_POINTS = f"{CURVES}.map((t) => t.x.length).reduce((a, b) => a + b, 0)"
ROWS = "document.querySelectorAll('#trials tbody tr').length"


@pytest.fixture(scope="module", name="chromium")
def running_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(name="browser")
def clean_browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, whose page has complained of nothing and asked nobody else in the end."""
    chromium.open("about:blank")
    chromium.run("1")
    chromium.errors.clear()
    chromium.requested.clear()
    chromium.size(1400, 900)
    yield chromium
    assert chromium.errors == []
    hosts = {urlsplit(url).hostname for url in chromium.requested if not url.startswith(("about:", "data:"))}
    assert hosts <= {"127.0.0.1"}


def shown(browser: Browser, search: Search) -> None:
    browser.open(search.url)
    browser.until(f"{STATUS} === 'running'")


def started(folder: Path, cache: Path, trials: int) -> tuple["subprocess.Popen[str]", str]:
    """A search of short trials with its page, and the page's address; trials 0 and 1 are too large."""
    process = start(
        *("dashboard=web", "run_name=r", f"trials={trials}", "local_workers=2", f"cache_dir={cache}"),
        *("max_epochs_per_trial=4", "sampler=random"),
        cwd=folder,
        program=WITHOUT_KERAS,
        STAND_IN_SECONDS="5",
        STAND_IN_TOO_LARGE="2",
    )
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
        if found:
            return process, found.group()
    raise AssertionError("the page's address was not printed")


def test_search_and_its_restart(browser: Browser, tmp_path: Path, digits_cache: Path) -> None:
    """Trials appear, failed ones at once, and curves grow. The optimizer is killed and starts again under its name:
    the page goes on by itself, sees the search end, and still shows it when the optimizer has gone.
    """
    process, url = started(tmp_path, digits_cache, 4)
    try:
        browser.open(url)
        browser.until("document.querySelector('#running tbody').innerText.includes('#2')")
        first = browser.until(ALL_POINTS)
        browser.until(f"{ALL_POINTS} > {first}")
        browser.until(f"{ROWS} >= 1")
        process.kill()
        process.communicate()
        browser.until(f"{STATUS} === 'away'")
        assert "goes on by itself" in browser.text("#status")
        before = browser.run(ROWS)
        process, again = started(tmp_path, digits_cache, 4)
        assert again == url
        browser.until(f"{STATUS} === 'running'")
        assert browser.run(ROWS) >= before
        browser.until(f"{STATUS} === 'done'")
        process.communicate()
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert browser.text("#status").startswith("Done after")
    assert browser.text("#ended") == "4"
    assert browser.run(ROWS) == 4
    assert "too large" in browser.text("#trials")
    assert browser.text("#mattered") == "Known from eight complete trials on; 2 trials are complete."
    assert browser.run("document.getElementById('next').hidden")  # it makes no final model and no report
    browser.until("(document.getElementById('tried').data ?? []).length > 1")


def test_curve_grows_point_by_point(browser: Browser, tmp_path: Path) -> None:
    """Each epoch adds a point to its trial's curve, and the row says how far it is."""
    with searching(tmp_path) as search:
        shown(browser, search)
        search.start(3)
        for epoch in (1, 2, 3):
            search.epoch(3, epoch, epoch / 10)
            browser.until(f"{POINTS % 3} === {epoch}")
        browser.until("document.querySelector('#running tbody').innerText.includes('3/4')")
        assert "0.3000" in browser.text("#running")


def test_states_without_trials_say_so(browser: Browser, tmp_path: Path) -> None:
    """Before the first trial every part says what it waits for."""
    with searching(tmp_path) as search:
        shown(browser, search)
        text = browser.text()
        for part in ("appears with its first epoch", "first trial that ends", "No trial is running", "Not known yet"):
            assert part in text
        assert "No trial has ended yet" in text
        assert browser.text("h1") == tmp_path.name


def test_failures_are_told_with_their_causes(browser: Browser, tmp_path: Path) -> None:
    """A failed trial is in the table with cause and message, a mark in the plot, and the filter finds it."""
    with searching(tmp_path) as search:
        shown(browser, search)
        for number in range(3):
            search.start(number)
            search.finish(samples.failed(1) if number == 1 else samples.complete(number, 0.5))
        browser.until(f"{ROWS} === 3")
        assert "1 failed" in browser.text("#counts")
        browser.run("document.querySelector('[data-filter=failed]').click()")
        browser.until(f"{ROWS} === 1")
        assert "diverged the loss became nan in epoch 2" in browser.text("#trials tbody")
        browser.run("document.querySelector('[data-filter=pruned]').click()")
        browser.until(f"{ROWS} === 0")
        browser.until("document.body.innerText.includes('None of that kind')")
        marks = "document.getElementById('history').data.filter((t) => t.yaxis === 'y2')[0].x.length"
        assert browser.run(marks) == 1


def test_endpoint_and_its_gate(browser: Browser, tmp_path: Path) -> None:
    """Workers by state, queue, breaker and requests of the endpoint are told; an open breaker stands out."""
    counts = {(Operation.RUN, "sent"): 12, (Operation.STATUS, "sent"): 300, (Operation.STATUS, "retried"): 2}
    with searching(tmp_path) as search:
        search.endpoint = EndpointView(
            GateCounters.of(counts, BreakerView(BreakerState.OPEN, 0.0, 5.0, 5)),
            EndpointHealth(JobCounts(in_queue=3), WorkerCounts(running=2, initializing=1)),
            4,
            8,
        )
        search.tell()
        shown(browser, search)
        browser.until("document.querySelector('#workers').innerText.includes('open')")
        text = " ".join(browser.text("#workers").split())
        for part in ("in flight 4 of 8", "1 starting", "2 running", "queue 3 jobs", "Requests 312", "retried 2"):
            assert part in text
        assert browser.text("#workers dd.bad") == "open"


def test_words_of_others_stay_words(browser: Browser, tmp_path: Path) -> None:
    """A message or a parameter that looks like markup is shown as it is."""
    hostile = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "<b>bold", "<a href=//x.y>z</a>"]
    with searching(tmp_path) as search:
        shown(browser, search)
        for number, word in enumerate(hostile):
            search.start(number, **{word: word})
            search.finish(samples.complete(number, 0.5))
        search.start(9, **{word: word for word in hostile})
        search.finish(samples.failed(9, TrialFailure(Cause.EXCEPTION, " ".join(hostile))))
        browser.until(f"{ROWS} === 5")
        browser.until("(document.getElementById('tried').data ?? []).length > 0")
        text = browser.run("document.querySelector('#trials').textContent")
        assert all(word in text for word in hostile)
        assert browser.run("document.querySelectorAll('main img, main script, td b b, td a').length") == 0


def test_ten_thousand_trials(browser: Browser, tmp_path: Path) -> None:
    """With 10 000 earlier trials the page has a hundred rows, says of how many, and a new trial appears as ever."""
    params = {"conv_blocks": 2, "learning_rate": 0.001, "activation": "relu", "dropout": 0.25}
    earlier = [
        FinishedTrial(
            samples.spec(number, params={**params, "learning_rate": 1e-4 * (1 + number % 97)}),
            samples.failed(number) if number % 9 == 4 else samples.complete(number, (number * 7919 % 9973) / 9973),
            float(number),
            number + 1.0,
        )
        for number in range(10_000)
    ]
    with searching(tmp_path, trials=20_000, earlier=earlier) as search:
        shown(browser, search)
        browser.until(f"{ROWS} === 100")
        assert browser.text("#ended") == "10,000"
        assert "the latest 1,000 of 10,000" in browser.text("#ended-sub")
        browser.run("document.getElementById('more').click()")
        browser.until(f"{ROWS} === 200")
        search.start(10_000)
        search.finish(samples.complete(10_000, 0.5))
        browser.until("document.querySelector('#trials tbody').innerText.includes('#10000')")
        browser.until("(document.getElementById('tried').data ?? []).length > 0")
        assert browser.run("document.querySelectorAll('*').length") < 15_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_screen(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """Nothing is wider than the screen, with long words in every place; plots follow the colour scheme."""
    long = samples.failed(0, TrialFailure(Cause.EXCEPTION, "a_word_without_an_end" * 20))
    with searching(tmp_path) as search:
        browser.scheme(scheme)
        shown(browser, search)
        search.start(0, a_long_name_of_a_parameter="a_long_value_of_it" * 4)
        search.finish(long)
        search.start(1, learning_rate=0.00012345)
        search.finish(replace(samples.complete(1, 0.5), backend="runpod", run={"worker": "worker-abcdef0123456789"}))
        for number in (2, 3, 4):
            search.start(number)
            search.epoch(number, 1, 0.4)
        browser.until(f"{CURVES}.length === 4")
        browser.until("document.querySelectorAll('#running tbody tr').length === 3")
        for width in (375, 768, 1400):
            browser.size(width, 800, phone=width < 500)
            browser.until(f"document.documentElement.scrollWidth <= {width}")
        font = browser.run("document.getElementById('curves').layout.font.color")
        assert font == {"light": "#566058", "dark": "#9ba8a0"}[scheme]


def test_scheme_may_change_while_it_is_open(browser: Browser, tmp_path: Path) -> None:
    """A system that goes dark in the evening takes the plots along."""
    with searching(tmp_path) as search:
        browser.scheme("light")
        shown(browser, search)
        search.start(0)
        search.epoch(0, 1)
        browser.until("document.getElementById('curves').layout?.font.color === '#566058'")
        browser.scheme("dark")
        browser.until("document.getElementById('curves').layout?.font.color === '#9ba8a0'")
        browser.scheme("light")


def test_end_of_a_search_stays(browser: Browser, tmp_path: Path) -> None:
    """A search that was stopped says how, and what is made of it now; the page keeps what it knew after the server has
    gone.
    """
    with searching(tmp_path) as search:
        shown(browser, search)
        search.start(0)
        search.finish(samples.complete(0, 0.5))
        search.end("max_cost")
    browser.until(f"{STATUS} === 'bad'")
    assert browser.text("#status") == "Stopped by max_cost after 2.0 s"
    assert browser.text("#best") == "0.5000"
    assert "the final model (model.keras) and the report (report.html)" in browser.text("#next")
    browser.until("(document.getElementById('mattered').data ?? []).length === 1")


class Impostor(BaseHTTPRequestHandler):
    """Another user's server at the port of a search that is away."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.path + str(self.headers))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"00" * 32)

    def log_message(self, *_: object) -> None:
        pass


def test_token_is_not_told_to_whoever_takes_the_port(browser: Browser, tmp_path: Path) -> None:
    """While its search is away, a page asks who is there before it tells the token; and it finds the search again."""
    with searching(tmp_path) as search:
        shown(browser, search)
        url = search.url
    port, token = urlsplit(url).port, url.rpartition("=")[2]
    with ThreadingHTTPServer(("127.0.0.1", port or 0), Impostor) as server:
        threading.Thread(target=server.serve_forever).start()
        assert eventually(lambda: len(Impostor.heard) > 1)
        server.shutdown()
    assert not [heard for heard in Impostor.heard if token in heard]
    with searching(tmp_path) as search:
        assert search.url == url
        browser.until(f"{STATUS} === 'running'")


def test_page_without_the_token_is_none(browser: Browser, tmp_path: Path) -> None:
    """Who leaves the token out sees a sentence and no page."""
    with searching(tmp_path) as search:
        browser.open(search.url.partition("?")[0])
        browser.until("document.readyState === 'complete'")
        assert browser.text() == "This address needs the token that the search has printed with it."
        assert tmp_path.name not in browser.run("document.documentElement.outerHTML")
    browser.errors = [error for error in browser.errors if "403" not in error]  # Chromium's own word for it
