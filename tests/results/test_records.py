"""Records: plain data, described key by key in docs/results.md, equal for equal trials but for their times."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.errors import Cause
from seedpod.events import Summary, group_failures, summarize
from seedpod.results.records import best_record, read_trial, summary_record, trial_record
from seedpod.trial import SCHEMA, Status, TrialFailure, TrialResult, TrialSpec

DOCUMENT = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
FREE = {
    "params",
    "metrics",
    "values",
    "components",
    "environment",
    "run",
    "importances",
    "history",
}  # objects whose keys are names of the user's world


def finished(result: TrialResult, spec: TrialSpec = samples.SPEC) -> FinishedTrial:
    return FinishedTrial(spec, result, started_at=1_700_000_000.0, ended_at=1_700_000_002.5)


def summary(*results: TrialResult, importances: Mapping[str, float] | None = None) -> Summary:
    board = TrialBoard(10, started_at=1_700_000_000.0)
    for result in results:
        board.start(samples.spec(result.number), 1_700_000_000.0)
        board.finish(result, 1_700_000_001.0)
    return summarize(
        "run",
        "done",
        board.snapshot(),
        failures=board.failures(),
        limits=board.failures(Status.PRUNED),
        importances=importances or {},
        ended_at=1_700_000_010.0,
    )


def documented(heading: str) -> list[str]:
    """The keys of the table under a heading of docs/results.md, in order."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def keys(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a record as the document writes them: ``a``, ``a.b``, ``a[].b``."""
    for key, value in record.items():
        yield f"{prefix}{key}"
        if key in FREE or key == "best":
            continue
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from keys(value[0], f"{prefix}{key}[].")


FAILED = samples.failed(3)
EVERYTHING = summary(
    replace(samples.complete(0, 0.5), health=samples.HEALTH),
    samples.failed(1),
    TrialResult(2, Status.PRUNED, error=TrialFailure(Cause.DEADLINE, "3 of 10 epochs after 60 s")),
    importances={"dropout": 1.0},
)


def test_document_describes_a_trial() -> None:
    """docs/results.md lists exactly the keys of a trial's record, in its order."""
    everything = replace(FAILED, health=samples.HEALTH)
    assert documented("trials/NNNN.json") == list(keys(trial_record(finished(everything))))
    assert set(keys(trial_record(finished(samples.RESULT)))) < set(documented("trials/NNNN.json"))


def test_document_describes_the_summary() -> None:
    """docs/results.md lists exactly the keys of a summary, in its order."""
    assert documented("summary.json") == list(keys(summary_record(EVERYTHING)))


def test_document_describes_the_best() -> None:
    """docs/results.md lists exactly the keys of best.yaml, in its order; a summary holds the same."""
    assert EVERYTHING.best is not None
    assert documented("best.yaml") == list(keys(best_record(EVERYTHING.best)))
    assert summary_record(EVERYTHING)["best"] == best_record(EVERYTHING.best)


def test_document_names_every_status_and_outcome() -> None:
    """The words that a status can be are in the document."""
    assert all(f"`{status}`" in DOCUMENT for status in Status)
    assert all(f"`{outcome}`" in DOCUMENT for outcome in ("done", "timeout", "interrupted", "endpoint", "error", "bug"))


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "times"}


def test_all_that_differs_is_under_times() -> None:
    """The same trial at another time and speed has the same record but for ``times``."""
    first = finished(samples.RESULT)
    again = FinishedTrial(first.spec, replace(first.result, seconds=99.0), 1_800_000_000.0, 1_800_000_099.0)
    assert trial_record(first) != trial_record(again)
    assert without_times(trial_record(first)) == without_times(trial_record(again))


def test_a_record_holds_what_decides_the_trial() -> None:
    """From its record a trial's spec can be made again, with the same uid."""
    record = json.loads(json.dumps(trial_record(finished(samples.RESULT))))
    again = TrialSpec.from_wire({"schema": SCHEMA, **{name: record[name] for name in TrialSpec.__slots__}})
    assert again == samples.SPEC
    assert again.uid == record["uid"]


def test_times_are_utc() -> None:
    """Times are ISO 8601 in UTC, to the millisecond."""
    assert trial_record(finished(samples.RESULT))["times"] == {
        "started_at": "2023-11-14T22:13:20.000+00:00",
        "ended_at": "2023-11-14T22:13:22.500+00:00",
        "training_seconds": 2.5,
        "peak_memory_mb": None,
    }


@given(samples.specs, samples.results)
def test_every_record_is_strict_json(spec: TrialSpec, result: TrialResult) -> None:
    """Any spec with any result gives a record that strict JSON holds and gives back unchanged."""
    record = trial_record(finished(result, spec))
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_numbers_that_are_not_finite_are_null() -> None:
    """A metric that became NaN or infinite is null in the record."""
    wild = replace(samples.RESULT, metrics={"loss": float("nan")}, history=({"loss": float("inf")},))
    record = trial_record(finished(wild))
    assert (record["metrics"], record["history"]) == ({"loss": None}, [{"loss": None}])


def test_summary_without_a_complete_trial() -> None:
    """Where nothing completed there is no best, and the failures say why."""
    record = summary_record(summary(samples.failed(0), samples.failed(1)))
    assert record["best"] is None
    assert record["trials"] == {"complete": 0, "pruned": 0, "failed": 2, "cancelled": 0}
    assert [(group["cause"], group["count"], group["example"]) for group in record["failures"]] == [("diverged", 2, 0)]


@pytest.mark.parametrize(
    ("failures", "groups"),
    [
        ([], []),
        ([(5, "data")], [("data", 1, 5)]),
        ([(5, "data"), (2, "data")], [("data", 2, 2)]),
        ([(9, "data"), (3, "diverged"), (4, "diverged")], [("diverged", 2, 3), ("data", 1, 9)]),
        ([(9, "data"), (3, "diverged")], [("diverged", 1, 3), ("data", 1, 9)]),
    ],
)
def test_failures_are_grouped(failures: list[tuple[int, str]], groups: list[tuple[str, int, int]]) -> None:
    """Failures are grouped by cause, the most frequent first, each with its lowest-numbered trial as example."""
    given_failures = [(number, TrialFailure(Cause(cause), f"trial {number}")) for number, cause in failures]
    found = group_failures(given_failures)
    assert [(group.cause, group.count, group.example) for group in found] == groups
    assert all(group.message == f"trial {group.example}" for group in found)


@given(st.permutations([(number, samples.FAILURE) for number in range(6)]))
def test_groups_do_not_depend_on_the_order(failures: list[tuple[int, TrialFailure]]) -> None:
    """Which failure came first changes nothing."""
    assert group_failures(failures) == group_failures(sorted(failures, key=lambda pair: pair[0]))


def test_peak_of_memory_is_no_part_of_what_is_equal() -> None:
    """The memory that a trial took is recorded under ``times``, where equal runs may differ, and is read back."""
    trial = finished(replace(samples.RESULT, run={"gpu": "NVIDIA L4", "peak_memory_mb": 612}))
    record = trial_record(trial)
    assert record["run"] == {"gpu": "NVIDIA L4"}
    assert record["times"]["peak_memory_mb"] == 612
    assert read_trial(record) == trial


def test_record_of_before_class_weights_is_read() -> None:
    """A record that an earlier version has written, without class weights and memory, is the same trial."""
    record = trial_record(finished(samples.RESULT))
    del record["class_weights"], record["times"]["peak_memory_mb"]
    assert read_trial(record) == finished(samples.RESULT)
