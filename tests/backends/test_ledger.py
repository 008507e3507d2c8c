"""The ledger of jobs: what it was told is on disk, and what it reads back is what can be taken up."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.backends.ledger import JobLedger, OpenJob
from seedpod.errors import SeedpodError

INTENT = OpenJob("u1", 3, 1, "https://e/v2/x")
POSTED = replace(INTENT, job="j1")


def test_each_step_is_read_back(tmp_path: Path) -> None:
    """An intent, its id and its end are what the next process knows, one after the other."""
    path = tmp_path / "jobs.jsonl"
    assert JobLedger(path).left_of("u1") is None
    steps: list[tuple[Callable[[JobLedger], None], OpenJob | None]] = [
        (lambda ledger: ledger.intend(INTENT), INTENT),
        (lambda ledger: ledger.posted(POSTED), POSTED),
        (lambda ledger: ledger.ended(replace(POSTED, ended="COMPLETED")), replace(POSTED, ended="COMPLETED")),
        (lambda ledger: ledger.dropped(POSTED, "cancelled"), None),
    ]
    for note, known in steps:
        ledger = JobLedger(path)
        note(ledger)
        assert ledger.left_of("u1") == JobLedger(path).left_of("u1") == known


def test_ended_job_no_longer_runs_but_can_be_collected(tmp_path: Path) -> None:
    """A job whose end is known is none that runs; its id stays for whoever needs its result."""
    ledger = JobLedger(tmp_path / "jobs.jsonl")
    ledger.posted(POSTED)
    ledger.posted(replace(POSTED, uid="u2", job="j2"))
    ledger.ended(replace(POSTED, ended="COMPLETED"))
    assert [job.job for job in ledger.running()] == ["j2"]
    assert ledger.left_of("u1") is not None


def test_late_end_of_an_earlier_attempt_changes_nothing(tmp_path: Path) -> None:
    """What becomes of an attempt that has been replaced does not touch the one that runs."""
    path = tmp_path / "jobs.jsonl"
    ledger = JobLedger(path)
    ledger.posted(POSTED)
    second = replace(POSTED, attempt=2, job="j2")
    ledger.posted(second)
    ledger.dropped(POSTED, "gone")
    assert ledger.left_of("u1") == JobLedger(path).left_of("u1") == second


def test_attempt_that_was_replaced_stays_until_it_is_known_to_have_ended(tmp_path: Path) -> None:
    """An attempt that could not be cancelled is remembered beside the one that runs in its place."""
    path = tmp_path / "jobs.jsonl"
    second = replace(POSTED, attempt=2, job="j2")
    for job in (POSTED, second):
        JobLedger(path).posted(job)
    ledger = JobLedger(path)
    assert ledger.running() == (POSTED, second)
    assert [ledger.overtaken(job) for job in ledger.running()] == [True, False]
    ledger.dropped(second, "cancelled")
    assert ledger.left_of("u1") == JobLedger(path).left_of("u1") == POSTED
    assert not ledger.overtaken(POSTED)


@given(st.integers(0, 200))
def test_half_a_last_line_is_cut_off(cut: int) -> None:
    """Wherever a kill cuts the file, the whole lines before are known and the next note is whole again."""
    lines = [json.dumps({"uid": f"u{n}", "trial": n, "attempt": 1, "endpoint": "e", "job": f"j{n}"}) for n in range(4)]
    content = ("\n".join(lines) + "\n").encode()[: cut or None]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.jsonl"
        path.write_bytes(content)
        ledger = JobLedger(path)
        whole = content.count(b"\n")
        assert len(ledger.running()) == whole
        ledger.intend(INTENT)
        assert len(JobLedger(path).running()) == whole + (whole < 2)


@pytest.mark.parametrize("line", ["garbage", "[]", '{"uid": "u"}', '{"uid": "u", "trial": 1, "other": 2}', "null"])
def test_damage_before_the_end_is_refused(tmp_path: Path, line: str) -> None:
    """A damaged line in the middle is named, and the file stays as it is."""
    path = tmp_path / "jobs.jsonl"
    JobLedger(path).posted(POSTED)
    path.write_text(f"{line}\n{path.read_text('utf-8')}half", encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(SeedpodError, match="damaged in line 1; nothing was changed"):
        JobLedger(path)
    assert path.read_bytes() == before


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    """Notes of many threads at once are all there."""
    path = tmp_path / "jobs.jsonl"
    ledger = JobLedger(path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: ledger.posted(OpenJob(f"u{n}", n, 1, "e", f"j{n}")), range(100)))
    assert {job.job for job in JobLedger(path).running()} == {f"j{n}" for n in range(100)}


def test_full_disk_is_said_and_leaves_whole_lines(tmp_path: Path) -> None:
    """Where a note does not fit, no job is posted: the error says so, and the file holds whole lines alone."""
    path = tmp_path / "jobs.jsonl"
    program = f"""
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from seedpod.backends.ledger import JobLedger, OpenJob
from seedpod.errors import SeedpodError
ledger = JobLedger(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    for n in range(100):
        ledger.intend(OpenJob(f"u{{n}}", n, 1, "e"))
except SeedpodError as error:
    print(n, error)
"""
    source = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **source}
    )
    assert f"cannot write {path}" in done.stdout
    assert len(JobLedger(path).running()) == int(done.stdout.split()[0]) > 0
