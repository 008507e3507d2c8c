"""Several optimizers on one study: each trial runs once, in all exactly N, and the study is that of a single one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import ConfigError
from seedpod.search.lease import Watch
from seedpod.search.sampler import LaggedSampler
from seedpod.search.storage import close_storage, open_storage
from seedpod.search.study import agree, open_study
from studies import half_suggest, proposed, study_of, table
from thread_backend import searched_here

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[1]
TRIALS = 16
SEARCH: dict[str, Any] = {"startup_trials": 4, "pruner": "none", "max_epochs_per_trial": 3}
Rows = list[tuple[int, dict[str, Any], str, float | None]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL of our own, on a Unix socket in a temporary folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        pytest.skip("needs PostgreSQL's initdb: apt-get install postgresql")
    own = os.getuid() != 0
    if not own and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser to be another user")
    before = [] if own else ["runuser", "-u", "postgres", "--"]
    folder = Path(tempfile.mkdtemp(prefix="seedpod-pg-"))
    folder.chmod(0o777)
    data, control = folder / "data", str(Path(initdb).with_name("pg_ctl"))
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    try:
        subprocess.run([*before, initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-N"], check=True, **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        started = [*before, control, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(started, check=True, **quiet)
        yield f"postgresql://postgres@/postgres?host={folder}"
        subprocess.run([*before, control, "-D", str(data), "-m", "immediate", "stop"], check=True, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    """The address of Optuna's gRPC proxy before an SQLite file."""
    program = f"""
import warnings; warnings.simplefilter("ignore")
import optuna, socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0)); port = free.getsockname()[1]
print(port, flush=True)
optuna.storages.run_grpc_proxy_server(
    optuna.storages.RDBStorage("sqlite:///{tmp_path}/behind.db"), host="127.0.0.1", port=port)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"grpc://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def start(folder: Path, name: str, cache_dir: Path, storage: str, jobs: int, **more: Any) -> subprocess.Popen[str]:
    """A search as a program; what is written in capitals is its environment."""
    environment = {key: str(more.pop(key)) for key in list(more) if key.isupper()}
    given = {
        "run_name": name,
        "results_dir": folder,
        "cache_dir": cache_dir,
        "storage": storage,
        "local_workers": jobs,
        "trials": TRIALS,
        **SEARCH,
        **more,
    }
    return subprocess.Popen(
        [
            sys.executable,
            str(TESTS / "shared_search.py"),
            *(f"{key}={value}" for key, value in given.items() if value != ""),
        ],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Callable[[int], Rows]:
    """So many trials of the same search by one optimizer."""

    @cache
    def searched(trials: int) -> Rows:
        folder = tmp_path_factory.mktemp("alone")
        searched_here(folder, digits_cache, trials=trials, **SEARCH)
        journal = open_storage("", folder / "r" / "study.journal")
        return table(optuna.load_study(study_name="r", storage=journal))

    return searched


def ran(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^runs (\d+)$", output, re.MULTILINE)]


def rows(storage: str, name: str) -> Rows:
    opened = open_storage(storage, Path())
    try:
        study = optuna.load_study(study_name=name, storage=opened)
        return table(study)
    finally:
        close_storage(opened)


@pytest.mark.parametrize(
    "kind",
    ["sqlite", "postgres", pytest.param("proxy", marks=pytest.mark.slow)],
)
def test_two_optimizers_share_a_study(
    tmp_path: Path, digits_cache: Path, kind: str, alone: Callable[[int], Rows], request: pytest.FixtureRequest
) -> None:
    """Two optimizers that start at once run each trial once, exactly N in all, and find what a single one finds."""
    storage = str(request.getfixturevalue(kind))
    with (
        start(tmp_path / "a", "r", digits_cache, storage, 3) as first,
        start(tmp_path / "b", "r", digits_cache, storage, 2) as second,
    ):
        outputs = [each.communicate(timeout=120)[0] for each in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert sorted(number for output in outputs for number in ran(output)) == list(range(TRIALS))
    assert all(ran(output) for output in outputs)
    assert all(" done " in output for output in outputs)
    found = rows(storage, "r")
    assert len(found) == TRIALS
    assert found == alone(TRIALS)
    with start(tmp_path / "a", "r", digits_cache, storage, 3) as again:
        output = again.communicate(timeout=60)[0]
    assert ran(output) == []
    assert f"ended done {len(ran(outputs[0]))}" in output


def test_reader_does_not_disturb_sqlite(tmp_path: Path, digits_cache: Path, sqlite: str) -> None:
    """Two optimizers on one SQLite file end well while a third process reads it all the time."""
    over = threading.Event()
    reads: list[int] = []

    def read() -> None:
        while not over.is_set():
            try:
                reads.append(len(rows(sqlite, "r")))
            except (ConfigError, KeyError):
                time.sleep(0.1)  # not laid out yet

    reader = threading.Thread(target=read)
    with (
        start(tmp_path / "a", "r", digits_cache, sqlite, 3) as first,
        start(tmp_path / "b", "r", digits_cache, sqlite, 3) as second,
    ):
        reader.start()
        outputs = [each.communicate(timeout=120)[0] for each in (first, second)]
    over.set()
    reader.join()
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert sorted(number for output in outputs for number in ran(output)) == list(range(TRIALS))
    assert len(reads) > 3


def test_killed_optimizer_of_a_shared_study_goes_on(tmp_path: Path, digits_cache: Path, sqlite: str) -> None:
    """One of two is killed; started again it takes up its own trials and those alone, and all N are there."""
    with start(tmp_path / "a", "r", digits_cache, sqlite, 2) as first:
        assert first.stdout is not None
        lines = [first.stdout.readline() for _ in range(5)]
        first.kill()
        rest = first.stdout.read()
    with start(tmp_path / "a", "r", digits_cache, sqlite, 2) as again:
        output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    twice = set(ran("".join(lines) + rest)) & set(ran(output))
    assert len(twice) <= 2
    assert {row[2] for row in rows(sqlite, "r")} == {"COMPLETE"}
    assert len(rows(sqlite, "r")) == TRIALS


def on_machine(host: str, seconds: float) -> dict[str, Any]:
    """The environment of an optimizer on a machine of that name, with a lease of 3 s and trials of so many seconds."""
    return {"STAND_IN_HOST": host, "STAND_IN_SECONDS": seconds}


class HalfRead(InMemoryStorage):
    """A storage whose next read takes hyperparameters, lets ``between`` happen, and takes the rest of a trial.

    So SQLAlchemy reads from any database; which it reads first is decided by addresses in memory.
    """

    between: Callable[[], object] | None = None

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: ARG002, FBT001, FBT002 - Optuna's signature
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        before = super().get_all_trials(study_id, deepcopy=True, states=states)
        between, self.between = self.between, None
        if between is None:
            return before
        between()
        after = super().get_all_trials(study_id, deepcopy=True, states=states)
        for trial, early in zip(after, before, strict=True):
            trial.params, trial.distributions = early.params, early.distributions
        return after


def test_half_read_trial_is_not_taken_for_whole() -> None:
    """A trial that another optimizer finishes suggesting while the storage is read is seen with all it tries."""
    seen: list[dict[str, Any]] = []

    class Seeing(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
            seen.extend(other.params for other in study.get_trials(deepcopy=False))

    storage = HalfRead()
    theirs, ours = study_of(storage), study_of(storage)
    sampler = LaggedSampler(Seeing, 1, 8, look=0.01)
    first, second = theirs.ask(), ours.ask()
    half_suggest(first)
    half = dict(first.params)
    theirs.sampler = LaggedSampler(Seeing, 1, 8, look=0.01)
    of_ours = ours.get_trials()[second.number]
    storage.between = lambda: proposed(first)
    sampler.before_trial(ours, of_ours)
    assert storage.between is None
    assert 0 < len(half) < len(first.params)
    assert seen == [first.params]


def events(run: Path, event: str) -> list[dict[str, Any]]:
    facts = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    return [fact for fact in facts if fact["event"] == event]


@pytest.mark.parametrize("jobs", [1, 3])
def test_trials_of_a_dead_machine_are_taken_over(tmp_path: Path, digits_cache: Path, sqlite: str, jobs: int) -> None:
    """One of two optimizers on two machines is killed with trials in flight: the other one runs those too.

    With one trial at a time it has to lay its own aside for that, which waits for them.
    """
    with start(tmp_path / "a", "r", digits_cache, sqlite, 2, **on_machine("one", 5.0), search_lag=3) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.stdout.readline()
        first.kill()
    with start(tmp_path / "b", "r", digits_cache, sqlite, jobs, **on_machine("two", 0.05), search_lag=3) as second:
        output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert "runs again: nothing was heard of one:" in output
    found = rows(sqlite, "r")
    assert [row[0] for row in found] == list(range(TRIALS))
    assert {row[2] for row in found} == {"COMPLETE"}
    assert len(ran(output)) == len(set(ran(output)))


@pytest.mark.slow
@pytest.mark.parametrize("wakes", ["while they run", "when they have ended"])
def test_machine_that_only_slept_counts_nothing_twice(
    tmp_path: Path, digits_cache: Path, sqlite: str, alone: Callable[[int], Rows], wakes: str
) -> None:
    """An optimizer that is stopped for longer than the lease and goes on finds its trials taken: each counts once.

    What comes second is late, is recorded as such, and the study is that of a single optimizer.
    """
    seconds = 4.0 if wakes == "while they run" else 0.05
    with start(tmp_path / "a", "r", digits_cache, sqlite, 2, **on_machine("one", 2.0), trials=6) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.stdout.readline()
        first.send_signal(signal.SIGSTOP)
        second = start(tmp_path / "b", "r", digits_cache, sqlite, 2, **on_machine("two", seconds), trials=6)
        assert second.stdout is not None
        said = ""
        while "runs again: nothing was heard of one:" not in said:
            line = second.stdout.readline()
            assert line, said
            said += line
        if wakes == "when they have ended":
            time.sleep(3.0)
        first.send_signal(signal.SIGCONT)
        outputs = [first.communicate(timeout=120)[0], said + second.communicate(timeout=120)[0]]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert rows(sqlite, "r") == alone(6)
    late = events(tmp_path / "a" / "r", "job_late") + events(tmp_path / "b" / "r", "job_late")
    assert late
    # One whose trial had ended by then is stopped at its next epoch.
    assert all(fact["value"] is not None or fact["status"] == "cancelled" for fact in late)
    ended = [
        fact["trial"]
        for run in ("a", "b")
        for fact in events(tmp_path / run / "r", "trial_finished")
        if fact["status"] == "complete"
    ]
    assert sorted(ended) == list(range(6))


def test_silence_is_measured_by_our_own_clock() -> None:
    """Whoever does not count up is silent since we first saw it so, whatever times the others' counts show."""
    watch = Watch()
    assert watch.silence({"a": [9e9, 1], "b": None}, 100.0) == {"a": 0.0, "b": 0.0}
    assert watch.silence({"a": [0.0, 2], "b": None}, 130.0) == {"a": 0.0, "b": 30.0}
    assert watch.silence({"b": None}, 140.0) == {"b": 40.0}
    assert watch.silence({"a": [0.0, 2], "b": [1.0, 1]}, 170.0) == {"a": 0.0, "b": 0.0}


def test_other_settings_are_refused(tmp_path: Path, digits_cache: Path, sqlite: str) -> None:
    """An optimizer on another machine that has another seed is refused by name."""
    with start(tmp_path / "a", "r", digits_cache, sqlite, 2, trials=2) as first:
        assert first.wait(60) == 0
    with start(tmp_path / "b", "r", digits_cache, sqlite, 2, trials=2, random_seed=7) as second:
        output = second.communicate(timeout=60)[0]
    assert "random_seed=7, begun with 42" in output
    assert ran(output) == []


def test_one_of_two_that_start_at_once_is_refused(sqlite: str) -> None:
    """Of optimizers that settle a study's terms at the same moment with different ones, the first alone goes on."""
    studies = [open_study("s", sqlite, Path(), f"o{number}") for number in range(4)]
    meet = threading.Barrier(len(studies))

    def settle(number: int) -> bool:
        meet.wait()
        try:
            agree(studies[number], {"random_seed": str(number)}, 8, any_lag=False)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(len(studies)) as threads:
        assert sum(threads.map(settle, range(len(studies)))) == 1


@pytest.mark.parametrize(
    "address", ["sqlite:////nowhere/at/all/x.db", "postgresql://me@127.0.0.1:1/db", "grpc://127.0.0.1:1"]
)
def test_storage_that_does_not_answer_is_said(address: str) -> None:
    """A database that cannot be used is one sentence with its address, before anything runs."""
    if address.startswith("grpc"):
        pytest.skip("waits ten seconds")
    with pytest.raises(ConfigError, match=r"^storage=.*it cannot be used"):
        open_study("s", address, Path(), "me")


def test_an_address_is_told_as_it_was_written() -> None:
    """The four slashes of SQLite stay, what SQLAlchemy wraps errors in does not, and the next step is named."""
    with pytest.raises(ConfigError) as refused:
        open_study("s", "sqlite:////nowhere/at/all/x.db", Path(), "me")
    assert str(refused.value) == (
        "storage=sqlite:////nowhere/at/all/x.db: it cannot be used (unable to open database file). See that its folder "
        "is there, and may be written to."
    )
