"""Preflight: each thing that can stand in the way is found, and the finding says what to do."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import InProcess, eventually
from runpod_rig import Act, HandWorker, answers, gate_to, live
from seedpod.config import OptimizationConfig
from seedpod.doctor import examine, print_findings
from seedpod.endpoint.control import Control
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.findings import Finding
from seedpod.remote.address import Address
from seedpod.training.datasets import prepare
from seedpod.trial import WorkerReport
from store_rig import BUCKET, KEYS, UNCONFIGURED, s3_server, save_images, variables

pytestmark = pytest.mark.processes

Examine = Callable[..., list[Finding]]


@pytest.fixture(name="examined")
def examination(digits_cache: Path) -> Examine:
    def examined(control: Control, at_once: int = 2, probe_seconds: float = 20.0, **settings: Any) -> list[Finding]:
        config = OptimizationConfig(cache_dir=str(digits_cache), runpod_service_endpoint="here", **settings)
        with closing(gate_to(control)) as gate:
            address = Address(control.url, control.endpoint_id)
            return list(examine(config, gate, address, at_once, digits_cache, probe_seconds=probe_seconds))

    return examined


@pytest.fixture(name="bare")
def endpoint_without_workers() -> Iterator[InProcess]:
    with InProcess() as endpoint:
        yield endpoint
        eventually(lambda: not live(endpoint))


@pytest.fixture(name="report")
def good_report(digits_cache: Path) -> WorkerReport:
    from seedpod import __version__

    return WorkerReport(__version__, 1, 0, {"digits": prepare("digits", digits_cache).fingerprint})


def reports(report: WorkerReport) -> Act:
    return answers(output={"probe": report.to_wire()})


def about(findings: list[Finding], words: str) -> Finding:
    (found,) = [finding for finding in findings if words in finding.what]
    return found


def test_a_whole_endpoint_has_nothing_against_it(farm: EmbeddedEndpoint, examined: Examine) -> None:
    """Real workers with our handler pass every look, and the probe leaves no job behind."""
    findings = examined(farm)
    assert [finding.what for finding in findings if finding.ok is not True] == []
    assert [finding.to_do for finding in findings if finding.to_do] == []
    assert about(findings, "contract as ours").what == "a worker answers: CPU, 3 jobs side by side, contract as ours"
    assert about(findings, "data set").what == "data set digits is there, and the same as here"
    assert not live(farm)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "wrong"}, "check RUNPOD_API_KEY"),
        ({"endpoint_id": "nowhere"}, "check RUNPOD_ENDPOINT_ID"),
        ({"url": "http://127.0.0.1:9/v2"}, "it refuses connections"),
    ],
)
def test_an_endpoint_that_cannot_be_used_ends_it(
    bare: InProcess, examined: Examine, changes: dict[str, str], said: str
) -> None:
    """Bad key, unknown endpoint and no network are the only finding, and say what to check."""
    known = {"url": bare.url, "endpoint_id": bare.endpoint_id, "key": bare.key}
    (finding,) = examined(Control(**{**known, **changes}))
    assert finding.ok is False
    assert said in finding.to_do


@pytest.mark.parametrize(
    ("gpu", "asked", "said"),
    [
        ("NVIDIA L4", "", "a second of it costs 0.00019 USD (L4, as of"),
        ("NVIDIA L4", "l4", "a second of it costs"),
        ("NVIDIA L4", "4090", "gpu=4090, and the worker has a NVIDIA L4"),
        ("NVIDIA GTX 750", "", "what a NVIDIA GTX 750 costs is not known here"),
    ],
)
def test_price_of_the_workers_gpu_is_said(  # noqa: PLR0917
    bare: InProcess, examined: Examine, report: WorkerReport, gpu: str, asked: str, said: str
) -> None:
    """The worker tells its GPU: its price is shown; one that is unknown, or not what the settings say, is said."""
    with HandWorker(bare, [reports(replace(report, devices=1, gpu=gpu))]):
        findings = examined(bare, gpu=asked)
    assert about(findings, said).ok is (True if "costs 0.0" in said or asked == "l4" else None)
    assert about(findings, "a worker answers").what == f"a worker answers: 1 {gpu}, one job at a time, contract as ours"


def test_fewer_workers_than_wanted_is_said(farm: EmbeddedEndpoint, examined: Examine) -> None:
    """Two workers for ten trials at once deserve a look, with the number to set."""
    finding = about(examined(farm, at_once=10), "workers:")
    assert finding.ok is None
    assert "concurrent_workers=10" in finding.what
    assert "maximum of workers to 10" in finding.to_do


def test_no_worker_is_said_and_the_probe_does_not_wait_for_ever(bare: InProcess, examined: Examine) -> None:
    """Without a worker the probe gives up, cancels its job, and says where to look."""
    findings = examined(bare, probe_seconds=0.5)
    assert about(findings, "no worker is up now").ok is None
    last = findings[-1]
    assert (last.ok, last.what) == (False, "no worker answered a probe")
    assert "IN_QUEUE after 0.5 s" in last.to_do
    assert [view["status"] for view in bare.state()["jobs"].values()] == ["CANCELLED"]


@pytest.mark.parametrize(
    ("field", "said"), [("throttled", "3 workers throttled"), ("unhealthy", "3 unhealthy"), ("inQueue", "3 jobs wait")]
)
def test_troubled_workers_and_a_full_queue_are_said(bare: InProcess, examined: Examine, field: str, said: str) -> None:
    """What /health tells of trouble is a look each, with what to do."""
    bare.set_faults([{"operation": "health", "kind": "value", "field": field, "value": 3}])
    finding = about(examined(bare, probe_seconds=0.1), said)
    assert finding.ok is None
    assert finding.to_do


def test_a_time_out_below_the_trials_own_limit_is_said(bare: InProcess, examined: Examine) -> None:
    """A job limit under max_training_time_minutes is bad, with the value to set."""
    findings = examined(bare, probe_seconds=0.1, max_training_time_minutes=60, runpod_service_timeout=600)
    finding = about(findings, "max_training_time_minutes=60")
    assert finding.ok is False
    assert "runpod_service_timeout=3900" in finding.to_do


@pytest.mark.parametrize(
    ("act", "what", "to_do"),
    [
        (answers(output={"accuracy": 1}), "not as ours do", "Run deploy.sh"),
        (answers(output={"probe": {"schema": 0}}), "not as ours do", "[Rr]edeploy"),
        (answers(error="ImportError: no keras\nframes"), "no worker answered", "FAILED: ImportError: no keras"),
    ],
    ids=["stranger", "schema", "broken"],
)
def test_an_image_that_is_not_ours_is_said(bare: InProcess, examined: Examine, act: Act, what: str, to_do: str) -> None:
    """A strange, a stale and a broken image are told apart, and none is taken for good."""
    import re

    with HandWorker(bare, [act]):
        last = examined(bare)[-1]
    assert last.ok is False
    assert what in last.what
    assert re.search(to_do, last.to_do)


def test_another_version_with_our_contract_deserves_a_look(
    bare: InProcess, examined: Examine, report: WorkerReport
) -> None:
    """An image of another version that speaks our schema may do."""
    with HandWorker(bare, [reports(replace(report, version="0.0.1"))]):
        finding = about(examined(bare), "holds seedpod 0.0.1")
    assert finding.ok is None


@pytest.mark.parametrize(
    ("held", "wanted"),
    [({}, (None, "--datasets digits")), ({"digits": "0" * 16}, (False, "deploy.sh again"))],
    ids=["missing", "different"],
)
def test_a_data_set_that_is_not_there_or_not_the_same_is_said(
    bare: InProcess, examined: Examine, report: WorkerReport, held: dict[str, str], wanted: Any
) -> None:
    """A data set that the image lacks may be downloaded there; one that differs is bad."""
    with HandWorker(bare, [reports(replace(report, datasets=held))]):
        finding = about(examined(bare), "data set digits")
    assert finding.ok is wanted[0]
    assert wanted[1] in finding.to_do


def test_a_device_is_told(bare: InProcess, examined: Examine, report: WorkerReport) -> None:
    """GPUs are counted in the finding."""
    with HandWorker(bare, [reports(replace(report, devices=2))]):
        assert "2 GPUs" in about(examined(bare), "a worker answers").what


def test_findings_are_shown_as_they_come() -> None:
    """Each finding is a line with its mark, what to do is a line below, and one bad finding spoils the whole."""
    shown: list[str] = []
    findings = [Finding(True, "a"), Finding(None, "b", "do b"), Finding(False, "c", "do c")]
    assert not print_findings(iter(findings), shown.append)
    assert shown == ["ok    a", "look  b", "      do b", "BAD   c", "      do c"]
    assert print_findings(iter(findings[:2]), shown.append)


OWN = [
    ({}, False, "no worker can make it", "Set data_store="),
    ({"data_store": f"s3://{BUCKET}/p"}, True, f"workers will fetch it from s3://{BUCKET}/p", ""),
    ({"data_store": "s3://elsewhere/p"}, False, "its store cannot be used", "no such bucket"),
]


def test_images_of_ones_own_need_a_way_to_the_workers(
    bare: InProcess, examined: Examine, report: WorkerReport, tmp_path: Path
) -> None:
    """Without a store, or with one that cannot be used, it says so; with a good one it says where they come from."""
    own = str(save_images(tmp_path / "own.npz"))
    with (
        s3_server(tmp_path / "s3") as server,
        variables({**KEYS, **UNCONFIGURED}),
        HandWorker(bare, [reports(report)]),
    ):
        for settings, ok, what, to_do in OWN:
            more = {"data_store_endpoint": server.url} if settings else {}
            found = about(examined(bare, dataset=own, **settings, **more), "data set")
            assert found.ok is ok
            assert what in found.what
            assert to_do in found.to_do
