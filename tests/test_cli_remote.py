"""The command line with an endpoint: searches, preflight, serving, signals, and the key that shows nowhere."""

import json
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from command_rig import QUICK, eventually, records, run, start
from endpoint_client import Client
from runpod_rig import live, serving, working
from seedpod.endpoint.control import Control
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.endpoint.guardian import carriers

pytestmark = pytest.mark.processes

KEY = "rpa_ABCDEFGHIJKLMNOP0123456789"
EPOCH = 0.3  # seconds that a stand-in epoch takes
LOCAL = ("use_runpod_service=true", "runpod_service_endpoint=local")


@pytest.fixture(scope="module", name="slow_farm")
def endpoint_with_slow_trials(digits_cache: Path) -> Iterator[EmbeddedEndpoint]:
    """Three places."""
    with serving(digits_cache, 1, 3, pause=EPOCH) as endpoint:
        yield endpoint


@pytest.fixture(name="endpoint")
def whole_endpoint(slow_farm: EmbeddedEndpoint) -> Iterator[EmbeddedEndpoint]:
    yield slow_farm
    slow_farm.set_faults([])
    assert eventually(lambda: not live(slow_farm))


def at(endpoint: Control, **changes: str) -> list[str]:
    endpoint_id = changes.get("endpoint_id", endpoint.endpoint_id)
    return ["use_runpod_service=true", f"runpod_service_endpoint={endpoint.url}/{endpoint_id}"]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def most_at_once(trials: list[dict[str, Any]]) -> int:
    """Trials that trained at one time, by the clocks of two processes: with an epoch's slack, of six and more.

    A worker takes its next job a little before the one before it has ended, and what it tells of an end is on its way
    for a while.
    """
    ran = [record["run"]["queue_seconds"] + record["run"]["execution_seconds"] for record in trials]
    ends = [_seconds(record["times"]["started_at"]) + seconds for record, seconds in zip(trials, ran, strict=True)]
    begins = [end - r["times"]["training_seconds"] + EPOCH for end, r in zip(ends, trials, strict=True)]
    running = [[begin <= each < end for begin, end in zip(begins, ends, strict=True)] for each in begins]
    return max(map(sum, running))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def holds(folder: Path, text: str) -> list[Path]:
    """Files below a folder that hold a text, in their name or in them."""
    return [p for p in folder.rglob("*") if text in p.name or (p.is_file() and text.encode() in p.read_bytes())]


def test_a_remote_search_runs_as_many_at_once_as_asked(
    endpoint: EmbeddedEndpoint, tmp_path: Path, digits_cache: Path
) -> None:
    """Six trials, three at once by their records, each with the job and the worker that ran it, key unseen."""
    done = run(
        *at(endpoint),
        "trials=6",
        "run_name=r",
        "concurrent_workers=3",
        "sampler=random",
        "max_epochs_per_trial=6",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        RUNPOD_API_KEY=endpoint.key,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = records(tmp_path / "results" / "r")
    assert [record["status"] for record in found] == ["complete"] * 6
    assert most_at_once(found) == 3
    assert {record["backend"] for record in found} == {"runpod"}
    jobs = endpoint.state()["jobs"]
    assert all(jobs[record["run"]["job"]]["uid"] == record["uid"] for record in found)
    assert not holds(tmp_path, endpoint.key)
    assert endpoint.key not in done.stdout


def test_the_endpoint_and_the_key_come_from_dotenv(
    endpoint: EmbeddedEndpoint, tmp_path: Path, digits_cache: Path
) -> None:
    """With both in .env a search needs no more than use_runpod_service=true."""
    address = f"{endpoint.url}/{endpoint.endpoint_id}"
    (tmp_path / ".env").write_text(f"RUNPOD_API_KEY={endpoint.key}\nRUNPOD_ENDPOINT_ID={address}\n")
    done = run("use_runpod_service=true", "trials=1", f"cache_dir={digits_cache}", *QUICK, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not holds(tmp_path / "results", endpoint.key)


def test_ctrl_c_cancels_every_job(endpoint: EmbeddedEndpoint, tmp_path: Path, digits_cache: Path) -> None:
    """Ctrl-C ends a remote search with exit code 130 within seconds; no job of it is left, and results are saved."""
    with start(
        *at(endpoint),
        "trials=50",
        "run_name=r",
        "concurrent_workers=3",
        "min_epochs_per_trial=19",
        "max_epochs_per_trial=20",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        RUNPOD_API_KEY=endpoint.key,
    ) as search:
        working(endpoint, 3)
        search.send_signal(signal.SIGINT)
        assert search.stdout is not None
        output = search.stdout.read()
        assert search.wait(timeout=30) == 130
    assert not live(endpoint)
    assert "Stopping" in output
    assert summary(tmp_path / "results" / "r")["outcome"] == "interrupted"


def test_a_refusal_in_the_middle_stops_with_exit_code_3(
    endpoint: EmbeddedEndpoint, tmp_path: Path, digits_cache: Path
) -> None:
    """Without a fallback a key that is revoked ends the search: one line, trials saved, jobs cancelled."""
    with start(
        *at(endpoint),
        "runpod_service_fallback_local=false",
        "trials=50",
        "run_name=r",
        "concurrent_workers=3",
        "sampler=random",
        "max_epochs_per_trial=2",
        f"cache_dir={digits_cache}",
        cwd=tmp_path,
        RUNPOD_API_KEY=endpoint.key,
    ) as search:
        folder = tmp_path / "results" / "r"
        assert eventually((folder / "trials" / "0001.json").exists)
        endpoint.set_faults([{"operation": "run", "kind": "status", "code": 401}])
        assert search.stdout is not None
        output = search.stdout.read()
        assert search.wait(timeout=30) == 3
    assert not live(endpoint)
    assert output.count("check RUNPOD_API_KEY") == 1
    assert "Traceback" not in output
    assert summary(folder)["outcome"] == "endpoint"
    assert summary(folder)["trials"]["complete"] >= 2
    assert endpoint.key not in output
    assert not holds(tmp_path, endpoint.key)


UNUSABLE = [
    pytest.param({}, {"RUNPOD_API_KEY": KEY}, "check RUNPOD_API_KEY", id="bad key"),
    pytest.param({}, {}, "set RUNPOD_API_KEY in the environment", id="no key"),
    pytest.param({"endpoint_id": "nowhere"}, None, "check RUNPOD_ENDPOINT_ID", id="unknown endpoint"),
]


@pytest.mark.parametrize(("changes", "keys", "said"), UNUSABLE)
def test_an_unusable_endpoint_is_exit_code_3(
    endpoint: EmbeddedEndpoint, tmp_path: Path, changes: dict[str, str], keys: dict[str, str] | None, said: str
) -> None:
    """Without a fallback an endpoint that refuses at the start is one line and exit code 3, and nothing has begun."""
    given = {"RUNPOD_API_KEY": endpoint.key} if keys is None else keys
    done = run(*at(endpoint, **changes), "runpod_service_fallback_local=false", cwd=tmp_path, **given)
    assert done.returncode == 3
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert all(key not in done.stdout + done.stderr for key in given.values())


@pytest.mark.slow
@pytest.mark.parametrize("unusable", [case.values for case in UNUSABLE], ids=[case.id for case in UNUSABLE])
def test_an_unusable_endpoint_is_a_local_search(
    endpoint: EmbeddedEndpoint, digits_cache: Path, tmp_path: Path, unusable: tuple[Any, Any, str]
) -> None:
    """With a fallback the same line is said once, and all trials complete here."""
    changes, keys, said = unusable
    given = {"RUNPOD_API_KEY": endpoint.key} if keys is None else keys
    where = at(endpoint, **changes)
    done = run(*where, "trials=2", "run_name=r", f"cache_dir={digits_cache}", *QUICK, cwd=tmp_path, **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(said) == 1
    assert [record["backend"] for record in records(tmp_path / "results" / "r")] == ["local"] * 2


def test_an_unreachable_host_is_a_local_search(tmp_path: Path, digits_cache: Path) -> None:
    """The issue's own command: four trials complete locally, and the reason is one clear line."""
    done = run(
        "trials=4",
        "run_name=r",
        "use_runpod_service=true",
        "runpod_service_endpoint=https://invalid-endpoint.invalid",
        "runpod_service_fallback_local=true",
        "local_workers=2",
        f"cache_dir={digits_cache}",
        *QUICK,
        cwd=tmp_path,
        RUNPOD_API_KEY=KEY,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r".*invalid-endpoint\.invalid.*its name cannot be resolved.*", done.stdout)) == 1
    found = records(tmp_path / "results" / "r")
    assert [(record["status"], record["backend"], record["run"]) for record in found] == [("complete", "local", {})] * 4
    assert [line for line in done.stdout.splitlines() if "Cost" in line] == ["Cost: 0 USD, all on this machine"]
    assert KEY not in done.stdout
    assert not holds(tmp_path, KEY)


def test_an_unreachable_host_without_a_fallback_is_exit_code_3(tmp_path: Path) -> None:
    """``runpod_service_fallback_local=false`` stops before anything has begun."""
    done = run(
        "use_runpod_service=true",
        "runpod_service_endpoint=https://invalid-endpoint.invalid",
        "runpod_service_fallback_local=false",
        cwd=tmp_path,
        RUNPOD_API_KEY=KEY,
    )
    assert done.returncode == 3
    assert "its name cannot be resolved" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        [
            f"runpod_api_key={KEY}",
            "use_runpod_service=true",
            "runpod_service_endpoint=https://invalid-endpoint.invalid",
        ],
        [f"runpod_apikey={KEY}"],
        ["--runpod_api_key", KEY],
        ["config", f"runpod_api_key={KEY}"],
        ["config", f"api_kee={KEY}"],
        ["doctor", f"runpod_service_endpoint={KEY}"],
        ["doctor", "runpod_service_endpoint=https://invalid-endpoint.invalid", f"api_key={KEY}"],
        ["endpoint", f"key={KEY}"],
        ["help", KEY],
    ],
)
def test_a_key_on_the_command_line_shows_nowhere(tmp_path: Path, words: list[str]) -> None:
    """Whatever a run with a key among its words comes to, the key is in nothing that it wrote."""
    done = run(
        *words, *([] if words[0] in {"help", "endpoint"} else ["runpod_service_fallback_local=false"]), cwd=tmp_path
    )
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not holds(tmp_path, KEY)


@pytest.mark.parametrize("variable", ["RUNPOD_ENDPOINT_ID", "SEEDPOD_RUNPOD_SERVICE_ENDPOINT"])
def test_a_key_as_the_endpoint_is_not_saved(tmp_path: Path, variable: str) -> None:
    """A key in the endpoint's variable is refused unquoted, also by a local search, whose settings are saved."""
    done = run("trials=1", cwd=tmp_path, **{variable: KEY})
    assert done.returncode == 2
    assert "swapped with RUNPOD_API_KEY" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_a_local_search_says_that_it_ignores_remote_settings(tmp_path: Path, digits_cache: Path) -> None:
    """``concurrent_workers`` without the service is one line that names what to use instead."""
    arguments = ["trials=1", "max_parameters=1", f"cache_dir={digits_cache}"]
    done = run(*arguments, "concurrent_workers=4", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "concurrent_workers" in line]
    assert "local_workers=N" in line
    assert "concurrent" not in run(*arguments, cwd=tmp_path).stdout


@pytest.mark.parametrize(("keys", "said"), [({"RUNPOD_API_KEY": KEY}, "RUNPOD_API_KEY"), ({}, "set RUNPOD_API_KEY")])
def test_doctor_on_an_endpoint_that_cannot_be_used_is_exit_code_3(
    endpoint: EmbeddedEndpoint, tmp_path: Path, keys: dict[str, str], said: str
) -> None:
    """A preflight that finds something bad says what to do and ends with exit code 3."""
    done = run("doctor", *at(endpoint), cwd=tmp_path, **keys)
    assert done.returncode == 3
    assert said in done.stdout + done.stderr


def test_doctor_without_an_endpoint_is_exit_code_2(tmp_path: Path) -> None:
    """There is nothing to examine without an endpoint, and it says how to name one."""
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert "RUNPOD_ENDPOINT_ID" in done.stderr


@pytest.mark.slow
def test_doctor_tries_the_whole_way_on_this_machine(tmp_path: Path, digits_cache: Path) -> None:
    """``doctor runpod_service_endpoint=local`` starts real workers, finds nothing bad, and leaves nothing."""
    mark = f"LC_SEEDPOD_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    arguments = ("doctor", "runpod_service_endpoint=local", f"cache_dir={digits_cache}")
    done = run(*arguments, cwd=tmp_path, **{name: value})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data set digits is there, and the same as here" in done.stdout
    assert "BAD" not in done.stdout
    assert eventually(lambda: not list(carriers(mark)), 10)


@pytest.mark.slow
def test_a_search_on_a_local_endpoint_gives_the_values_of_a_local_search(tmp_path: Path, digits_cache: Path) -> None:
    """Six real trials on real SDK workers, three at once, are what the same search trains without an endpoint."""
    asked = ("trials=6", f"cache_dir={digits_cache}", "sampler=random", "max_epochs_per_trial=6")
    remote = run(*LOCAL, "concurrent_workers=3", "run_name=remote", *asked, cwd=tmp_path)
    assert (remote.returncode, remote.stderr) == (0, "")
    assert run("run_name=here", *asked, cwd=tmp_path).returncode == 0
    there, here = (records(tmp_path / "results" / name) for name in ("remote", "here"))
    assert most_at_once(there) == 3
    for key in ("uid", "params", "value", "history", "best_epoch", "status"):
        assert [record[key] for record in there] == [record[key] for record in here]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_search_on_a_local_endpoint(
    tmp_path: Path, digits_cache: Path, number: signal.Signals
) -> None:
    """Ten seconds after the optimizer's end by a signal no endpoint, worker or trainer process of it is left."""
    mark = f"LC_SEEDPOD_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    with start(*LOCAL, "trials=50", "run_name=r", f"cache_dir={digits_cache}", cwd=tmp_path, **{name: value}) as search:
        assert eventually((tmp_path / "results" / "r" / "trials" / "0000.json").exists, 90)
        family = [psutil.Process(pid) for pid in carriers(mark)]
        assert len(family) >= 1 + 1 + 2 * 3  # the search, the endpoint, and guardian, worker and trainer of each of two
        search.send_signal(number)
        search.communicate(timeout=40)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert not list(carriers(mark))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_endpoint_works_until_it_is_stopped(
    tmp_path: Path, digits_cache: Path, number: signal.Signals
) -> None:
    """``endpoint workers=0`` prints an address and a key that work, and a signal ends it and all below with code 0."""
    with start("endpoint", "workers=0", cwd=tmp_path, SEEDPOD_CACHE_DIR=str(digits_cache)) as served:
        endpoint = announced(served)
        assert Client(endpoint).call("GET", "health")[0] == 200
        family = psutil.Process(served.pid).children(recursive=True)
        served.send_signal(number)
        assert served.wait(timeout=20) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert family
    assert not alive


@pytest.mark.slow
def test_a_search_runs_on_a_served_endpoint(tmp_path: Path, digits_cache: Path) -> None:
    """What ``endpoint workers=1`` prints, pasted into a search, trains for real."""
    with start("endpoint", "workers=1", cwd=tmp_path, SEEDPOD_CACHE_DIR=str(digits_cache)) as served:
        endpoint = announced(served)
        done = run(
            *at(endpoint), "trials=2", f"cache_dir={digits_cache}", *QUICK, cwd=tmp_path, RUNPOD_API_KEY=endpoint.key
        )
        states = [view["status"] for view in endpoint.state()["jobs"].values()]
        served.send_signal(signal.SIGINT)
        assert served.wait(timeout=20) == 0
    assert (done.returncode, done.stderr) == (0, "")
    assert states == ["COMPLETED"] * 2


def announced(served: subprocess.Popen[str]) -> Control:
    """The endpoint that a process says it serves."""
    assert served.stdout is not None
    lines = [served.stdout.readline() for _ in range(4)]
    values = dict(line.strip().split("=", 1) for line in lines if "=" in line and "workers" not in line)
    url, _, endpoint_id = values["runpod_service_endpoint"].rpartition("/")
    return Control(url, endpoint_id, values["RUNPOD_API_KEY"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["worker=2"], "Did you mean workers?"),
        (["workers=many"], "workers=many"),
        (["concurrency=7"], "from 1 to 6"),
        (["trials=3"], "no such option"),
    ],
)
def test_a_mistake_in_endpoint_s_options_is_exit_code_2(tmp_path: Path, words: list[str], said: str) -> None:
    """Options of ``endpoint`` are checked like settings."""
    done = run("endpoint", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
