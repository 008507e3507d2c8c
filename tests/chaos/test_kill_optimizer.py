"""The optimizer is killed at random moments; its study ends as if nothing had happened, and no paid job is lost."""

import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from searches import (
    FAULTS,
    live,
    lost_intents,
    noted,
    posted,
    records,
    settings,
    start,
    table,
    undisturbed,
    until,
)
from seedpod.endpoint.embedded import EmbeddedEndpoint

pytestmark = pytest.mark.processes


def test_live_jobs_are_polled_and_not_posted_again(
    tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint
) -> None:
    """After kill -9 with jobs live at the endpoint, the next start polls the same ids and posts none of them anew."""
    run = tmp_path / "results" / "r"
    given = settings(digits_cache, trials=8)
    with start(tmp_path, endpoint, **given) as first:
        until(lambda: len(live(endpoint)) >= 4 and set(live(endpoint)) <= posted(run))
        first.kill()
    left = {fact["job"]: fact["uid"] for fact in noted(run) if fact["job"] in live(endpoint)}
    before = endpoint.state()
    assert len(left) >= 4 - 1  # one may have ended since
    with start(tmp_path, endpoint, **given) as second:
        output = second.communicate(timeout=60)[0]
        assert second.returncode == 0, output
    after = endpoint.state()
    assert table(run) == undisturbed(tmp_path, digits_cache, trials=8)
    for job, uid in left.items():
        assert after["jobs"][job]["polls"] > 0
        assert job in output
        assert [one for one, facts in after["jobs"].items() if facts["uid"] == uid] == [job]
        assert after["executions"][uid] == 1
    assert before["submitted"] < after["submitted"] <= 8 + sum(lost_intents(run).values())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_stop_cancels_every_live_job(
    tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint, number: signal.Signals, code: int
) -> None:
    """A signal with six jobs live cancels all six at the endpoint and ends the search within 5 s; it can go on."""
    given = settings(digits_cache, trials=12)
    with start(tmp_path, endpoint, **given) as search:
        until(lambda: len(live(endpoint)) == 6)
        search.send_signal(number)
        output = search.communicate(timeout=30)[0]
        assert search.returncode == code, output
    assert live(endpoint) == []
    assert all(facts["status"] in {"CANCELLED", "COMPLETED"} for facts in endpoint.state()["jobs"].values())
    with start(tmp_path, endpoint, **given) as search:
        assert search.wait(60) == 0
    assert table(tmp_path / "results" / "r") == undisturbed(tmp_path, digits_cache, trials=12)


@pytest.mark.slow
def test_stop_waits_for_no_dead_endpoint(tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint) -> None:
    """Ctrl-C ends a search within 5 s also where the endpoint no longer answers; the jobs are noted."""
    with start(tmp_path, endpoint, **settings(digits_cache)) as search:
        until(lambda: len(live(endpoint)) == 6)
        assert endpoint.pid is not None
        os.kill(endpoint.pid, signal.SIGSTOP)
        try:
            search.send_signal(signal.SIGINT)
            output = search.communicate(timeout=30)[0]
            assert search.returncode == 130, output
        finally:
            os.kill(endpoint.pid, signal.SIGCONT)
    with start(tmp_path, endpoint, **settings(digits_cache)) as search:
        assert search.wait(60) == 0
    assert table(tmp_path / "results" / "r") == undisturbed(tmp_path, digits_cache)


@pytest.mark.slow
def test_second_signal_ends_at_once(tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint) -> None:
    """Two Ctrl-C end the process at once, and the next start takes up what they have left."""
    given = settings(digits_cache, trials=12)
    with start(tmp_path, endpoint, **given) as search:
        until(lambda: len(live(endpoint)) == 6)
        search.send_signal(signal.SIGINT)
        search.send_signal(signal.SIGINT)
        assert search.wait(10) == 130
    with start(tmp_path, endpoint, **given) as search:
        assert search.wait(60) == 0
    assert table(tmp_path / "results" / "r") == undisturbed(tmp_path, digits_cache, trials=12)


def has_done_something(search: subprocess.Popen[str], journal: Path, size: int) -> bool:
    return search.poll() is not None or (journal.exists() and journal.stat().st_size > size)


def killed(
    folder: Path, endpoint: EmbeddedEndpoint, kills: int, given: dict[str, object], chance: random.Random
) -> int:
    """Run a search to its end through so many kills; how many it took."""
    journal = folder / "results" / "r" / "study.journal"
    for kill in range(kills):
        size = journal.stat().st_size if journal.exists() else 0
        with start(folder, endpoint, **given) as search:
            until(partial(has_done_something, search, journal, size))
            time.sleep(chance.uniform(0, 0.8))
            if search.poll() is not None:
                return kill
            search.kill()
            search.communicate()
    with start(folder, endpoint, **given) as search:
        output = search.communicate(timeout=120)[0]
        assert search.returncode == 0, output
    return kills


def check(folder: Path, endpoint: EmbeddedEndpoint, cache_dir: Path, trials: int) -> None:
    """What must hold after a search that was killed."""
    run = folder / "results" / "r"
    found = records(run)
    assert [record["number"] for record in found] == list(range(trials))
    assert table(run) == undisturbed(folder, cache_dir, trials=trials)
    until(lambda: live(endpoint) == [])  # the twins of lost intents
    state, lost = endpoint.state(), lost_intents(run)
    by_uid = {record["uid"]: state["executions"].get(record["uid"], 0) for record in found}
    assert set(state["executions"]) == set(by_uid)
    for uid, executions in by_uid.items():
        assert 1 <= executions <= 1 + lost[uid], (uid, executions, lost[uid])
    unpolled = [job for job, facts in state["jobs"].items() if facts["polls"] == 0]
    assert not set(unpolled) & posted(run), "a job whose id was known was polled by nobody"
    assert len(unpolled) <= sum(lost.values())


def test_six_kills(tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint) -> None:
    """Six kills at random moments, with latency and 10 % faults: one result a trial, the undisturbed run's table."""
    endpoint.set_faults(FAULTS, seed=1)
    kills = killed(tmp_path, endpoint, 6, settings(digits_cache), random.Random(1))
    assert kills >= 3
    check(tmp_path, endpoint, digits_cache, 24)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_kills(
    tmp_path: Path, digits_cache: Path, endpoint: EmbeddedEndpoint, request: pytest.FixtureRequest
) -> None:
    """The same with ``--kills N`` (by default 50) and eight trials a kill."""
    kills = request.config.getoption("--kills") or int(os.environ.get("SEEDPOD_TEST_KILLS", "50"))
    endpoint.set_faults(FAULTS, seed=2)
    survived = killed(tmp_path, endpoint, kills, settings(digits_cache, trials=4 * kills), random.Random(2))
    assert survived == kills
    check(tmp_path, endpoint, digits_cache, 4 * kills)
