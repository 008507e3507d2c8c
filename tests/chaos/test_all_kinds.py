"""A search through every kind of trouble that an endpoint can make: nothing is lost, doubled or left.

How is counted what was paid for. The endpoint counts each hand-out of a job to a worker, by the trial's uid, over all
of its lives. A trial needs one; every further one must have a cause that the product cannot help:

- the endpoint lost the job's worker and queued it again (``retries``), or delivered it twice (a fault that counts);
- the answer to a submission was lost, so that nobody knows the job's id (an intent in the ledger that has no id);
- a job ended badly, or was gone after the endpoint's restart, so that its trial ran again as the next attempt.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from command_rig import environment
from searches import ROOT, live, lost_intents, noted, records, remote, settings, table, undisturbed, until
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.endpoint.guardian import carriers

pytestmark = pytest.mark.processes

COORDINATOR = Path(__file__).parent / "coordinator.py"
WORKERS = 2
SILENCE = 3.0  # seconds after which a worker that does not ping has lost its jobs
LEFT = {".lock", "best.yaml", "config.yaml", "events.jsonl", "jobs.jsonl", "study.journal", "summary.json", "trials"}
NOTHING: dict[str, Any] = {"threads": [], "descriptors": {}, "children": []}
FOLLOWED = {"COMPLETED", "FAILED", "open"}
"""How an attempt ends of whose job the product knows what was billed in all, or that has no job that it knows."""
ROUNDED = 0.001  # seconds; the endpoint tells whole milliseconds


def fault(operation: str, kind: str, probability: float, **more: Any) -> dict[str, Any]:
    return {"operation": operation, "kind": kind, "probability": probability, **more}


LOST_ANSWER = fault("run", "drop", 0.02, applied=True)  # the job is taken, and nobody is told its id
DUPLICATE = fault("take", "duplicate", 0.03)
FAULTS = [
    fault("run", "status", 0.03, code=429, retry_after=0.1),
    fault("run", "status", 0.01, code=500),
    fault("run", "status", 0.01, code=502, body="html"),
    fault("run", "reset", 0.01),
    LOST_ANSWER,
    fault("run", "latency", 0.03, seconds=0.1, seconds_high=0.5),
    fault("status", "status", 0.01, code=429),
    fault("status", "status", 0.01, code=500),
    fault("status", "status", 0.01, code=502, body="html"),
    fault("status", "reset", 0.01),
    fault("status", "latency", 0.02, seconds=0.1, seconds_high=0.5),
    fault("cancel", "status", 0.1, code=503),
    DUPLICATE,
    fault("take", "drop", 0.01, applied=True),  # the job is handed out, and no worker hears of it
    fault("progress", "late", 0.02, seconds=0.3, clobber=True),
    fault("progress", "reset", 0.02),
    fault("done", "status", 0.01, code=502, body="html"),
    fault("done", "drop", 0.02, applied=True),
    fault("ping", "drop", 0.05),
]
"""A trial is submitted, looked at some times, taken, and done: together these fire about once in three trials."""


@dataclass(frozen=True)
class Size:
    """How long a chaos run is: trials, those between two troubles of processes, jobs of a worker, faults."""

    trials: int
    every: int
    concurrency: int
    faults: list[dict[str, Any]]

    @property
    def at_once(self) -> int:
        return WORKERS * self.concurrency

    @property
    def settings(self) -> dict[str, int]:
        return {"trials": self.trials, "search_lag": 2 * self.at_once}


@dataclass
class Told:
    """What the endpoint has seen, in all of its lives."""

    executions: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    fired: Counter[int] = field(default_factory=Counter)  # by the fault's place in FAULTS

    def hear(self, logs: Path) -> None:
        """Add what an endpoint that was closed has left."""
        state = json.loads((logs / "state.json").read_text("utf-8"))
        (logs / "state.json").unlink()
        self.executions.update(state["executions"])
        self.jobs |= state["jobs"]
        self.count(state)

    def count(self, state: dict[str, Any]) -> None:
        """The faults that it has committed; to be asked for before others are set."""
        self.fired.update(dict(enumerate(state["faults_fired"])))


class Trouble:
    """What befalls the processes of an endpoint while a search runs, each at a number of trials that have ended.

    Args:
        endpoint: The endpoint.
        logs: Its folder of logs.
        ended: Tells how many trials have ended.
        size: Of the chaos run.
    """

    def __init__(self, endpoint: EmbeddedEndpoint, logs: Path, ended: Callable[[], int], size: Size) -> None:
        self.told = Told()
        self.happened: Counter[str] = Counter()
        self._endpoint = endpoint
        self._logs = logs
        self._ended = ended
        self._size = size
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _make(self) -> None:
        kinds = [self._freeze_long, self._kill, self._restart, self._freeze_shortly]
        for turn, due in enumerate(range(self._size.every, 10**9, self._size.every)):
            while self._ended() < due:
                if self._over.wait(0.05):
                    return
            make = kinds[turn % len(kinds)]
            make(turn // len(kinds) % WORKERS)
            self.happened[make.__name__.removeprefix("_")] += 1

    def _kill(self, slot: int) -> None:
        self._endpoint.kill_worker(slot)

    def _freeze_long(self, slot: int) -> None:
        """So long that its jobs are given to others; what it brings when it thaws is stale."""
        self._freeze(slot, 1.5 * SILENCE)

    def _freeze_shortly(self, slot: int) -> None:
        self._freeze(slot, 0.5)

    def _freeze(self, slot: int, seconds: float) -> None:
        self._endpoint.freeze_worker(slot)
        time.sleep(seconds)
        self._endpoint.thaw_worker(slot)

    def _restart(self, _: int) -> None:
        """Every job is gone, every worker too; the API is away for a moment."""
        self._endpoint.close()
        self.told.hear(self._logs)
        time.sleep(0.5)
        self._endpoint.start()
        self._endpoint.set_faults(self._size.faults, seed=self.happened["restart"] + 2)
        self._endpoint.wait_for_workers(timeout=300)


@dataclass
class Disturbed:
    """A search that has gone through it."""

    run: Path
    told: Told
    happened: Counter[str]
    left: dict[str, Any]


def disturbed(folder: Path, cache_dir: Path, size: Size) -> Disturbed:
    scratch, logs, run = folder / "scratch", folder / "logs", folder / "results" / "r"
    scratch.mkdir()
    ours = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")]), "TMPDIR": str(scratch)}
    workers = {
        "SEEDPOD_CACHE_DIR": str(cache_dir),
        "SEEDPOD_TRAINER": "stand_in_trainers:make_slow",
        "STAND_IN_SECONDS": "0.2",
    }
    rules = {"heartbeat_timeout": SILENCE, "claim_grace": 0.5, "take_tick": 0.05, "retain_run": 86_400.0}
    with EmbeddedEndpoint(
        workers=WORKERS, concurrency=size.concurrency, environment=ours | workers, settings=rules, log_dir=logs
    ) as endpoint:
        endpoint.wait_for_workers()
        endpoint.set_faults(size.faults, seed=1)
        trouble = Trouble(endpoint, logs, lambda: sum(1 for _ in (run / "trials").glob("[0-9]*.json")), size)
        with trouble.going_on():
            given = {
                **settings(cache_dir, **size.settings),
                **remote(endpoint),
                "concurrent_workers": size.at_once,
                "trial_retries": 10,
                "timeout_hours": 24,  # never over, whatever the clock says
            }
            done = subprocess.run(
                [sys.executable, str(COORDINATOR), *(f"{name}={value}" for name, value in given.items())],
                cwd=folder,
                env=environment(RUNPOD_API_KEY=endpoint.key, **ours),
                capture_output=True,
                text=True,
                timeout=3300,
                check=False,
            )
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "said.txt").write_text(done.stdout + done.stderr, "utf-8")
        trouble.told.count(endpoint.state())
        endpoint.set_faults([])
        until(lambda: live(endpoint) == [])  # the twins of lost intents
    trouble.told.hear(logs)
    return Disturbed(run, trouble.told, trouble.happened, json.loads(done.stdout.splitlines()[-1]))


def each_has_one_result(found: Disturbed, size: Size) -> None:
    assert [record["number"] for record in records(found.run)] == list(range(size.trials))
    events = [json.loads(line) for line in (found.run / "events.jsonl").read_text("utf-8").splitlines()]
    ends = Counter(event["trial"] for event in events if event["event"] == "trial_finished")
    assert ends == dict.fromkeys(range(size.trials), 1)
    assert (events[-1]["event"], events[-1]["outcome"]) == ("search_ended", "done")
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert max(times) - min(times) < timedelta(minutes=59), "the clock was set by an hour and more"


def nothing_is_paid_twice(found: Disturbed) -> None:
    """See the module's docstring."""
    told, lost = found.told, lost_intents(found.run)
    ends: dict[tuple[str, int], str] = {}  # of each attempt, in the words of the ledger
    jobs: dict[str, set[str]] = {}
    for fact in noted(found.run):
        ends[fact["uid"], fact["attempt"]] = fact.get("ended") or fact.get("dropped") or "open"
        jobs.setdefault(fact["uid"], set()).update({fact["job"]} - {""})
    twins = Counter(job["uid"] for name, job in told.jobs.items() if name not in jobs[job["uid"]])
    assert twins <= lost
    assert twins.total() >= told.fired[FAULTS.index(LOST_ANSWER)]  # a restart may cut off an answer too
    again = sum(max(0, job["executions"] - 1) for job in told.jobs.values())
    assert again <= sum(job["retries"] for job in told.jobs.values()) + told.fired[FAULTS.index(DUPLICATE)]
    assert told.executions.total() == sum(job["executions"] for job in told.jobs.values())
    last = dict(sorted(ends))
    wasted = [key for key, end in ends.items() if key[1] < last[key[0]] and end not in {"FAILED", "gone", "open"}]
    assert wasted == []
    assert sum(end == "open" for end in ends.values()) == lost.total()
    followed = 0
    for record in records(found.run):
        seen = [told.jobs[job] for job in jobs[record["uid"]]]
        to_their_ends = {ends[record["uid"], attempt] for attempt in range(1, last[record["uid"]] + 1)} <= FOLLOWED
        if to_their_ends and all(job["executions"] == 1 and job["status"] in FOLLOWED for job in seen):
            followed += 1
            billed = record["run"]["billed_seconds"]
            assert abs(billed - sum(job["seconds"] for job in seen)) <= ROUNDED * len(seen), record["number"]
    assert followed > 0


def nothing_is_left(found: Disturbed, folder: Path) -> None:
    assert {name: found.left[name] for name in ("threads", "descriptors", "children")} == NOTHING
    assert list(carriers(f"TMPDIR={folder / 'scratch'}")) == []
    assert list((folder / "scratch").iterdir()) == []
    assert {path.name for path in found.run.iterdir()} == LEFT
    assert all(path.name[:-5].isdecimal() for path in (found.run / "trials").iterdir())


def check(found: Disturbed, folder: Path, cache_dir: Path, size: Size) -> None:
    """What must hold whatever has happened."""
    each_has_one_result(found, size)
    assert table(found.run) == undisturbed(folder, cache_dir, **size.settings)
    nothing_is_paid_twice(found)
    nothing_is_left(found, folder)


def test_each_kind_once(tmp_path: Path, digits_cache: Path) -> None:
    """48 trials through each kind of fault, a worker killed, workers frozen, the endpoint restarted, the clock set: the
    undisturbed search's table, one result a trial, nothing paid without need, nothing left.
    """
    size = Size(
        48,
        every=10,
        concurrency=2,
        faults=[{**each, "probability": 1.0, "times": 1, "skip": place % 5} for place, each in enumerate(FAULTS)],
    )
    found = disturbed(tmp_path, digits_cache, size)
    check(found, tmp_path, digits_cache, size)
    assert set(found.happened) == {"freeze_long", "kill", "restart", "freeze_shortly"}
    assert min(found.told.fired[place] for place in range(len(FAULTS))) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_trials(tmp_path: Path, digits_cache: Path, request: pytest.FixtureRequest) -> None:
    """The same at random, with ``--chaos N`` (by default 1,000) trials and a fault for one in five at least; the memory
    of the coordinator grows by less than 30 kB a trial (``benchmarks/soak.py`` looks at that for longer).
    """
    size = Size(request.config.getoption("--chaos"), every=40, concurrency=6, faults=FAULTS)
    found = disturbed(tmp_path, digits_cache, size)
    check(found, tmp_path, digits_cache, size)
    assert found.told.fired.total() >= 0.2 * size.trials
    if size.trials >= 8 * size.every:
        assert set(found.happened) == {"freeze_long", "kill", "restart", "freeze_shortly"}
    memory = found.left["memory"]
    begin = size.trials // 5
    assert memory[-1] - memory[begin] <= 0.03 * (size.trials - begin), memory[::50]
