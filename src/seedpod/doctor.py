"""Preflight: is everything there that a remote search needs? Each finding says what to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from seedpod import __version__
from seedpod.config import OptimizationConfig
from seedpod.errors import BackendError, BreakerOpen, ConfigError, ContractMismatch, DatasetError
from seedpod.findings import Finding, time_findings, worker_findings
from seedpod.money import listed
from seedpod.remote.address import Address
from seedpod.remote.gate import Gate
from seedpod.remote.store import DataStore
from seedpod.remote.wire import JobState, JobStatus
from seedpod.training.datasets import NAMES, prepare
from seedpod.trial import WorkerReport, probe_wire

PROBE_SECONDS = 300.0
"""A cold start of a heavy image takes 40 to 50 s; a throttled endpoint takes for ever."""
_LOOK = 1.0  # seconds


def examine(
    config: OptimizationConfig,
    gate: Gate,
    address: Address,
    at_once: int,
    cache_dir: Path,
    *,
    probe_seconds: float = PROBE_SECONDS,
) -> Iterator[Finding]:
    """Look at everything, cheapest first; ends at the first finding that makes the rest pointless.

    Args:
        config: The search's settings.
        gate: The endpoint.
        address: Where it is, for messages.
        at_once: Remote trials at once.
        cache_dir: Where the prepared data sets are.
        probe_seconds: How long a worker may take to answer.
    """
    try:
        health = gate.health()
    except BackendError as error:
        why = error.detail if isinstance(error, BreakerOpen) else error.message
        yield Finding(False, f"endpoint {address.endpoint_id} cannot be used", why)
        return
    yield Finding(True, f"endpoint {address.endpoint_id} answers, and takes the key")
    yield from worker_findings(health, at_once)
    yield from time_findings(config)
    try:
        report = _probe(gate, probe_seconds)
    except ContractMismatch as error:
        yield Finding(False, "a worker answers, and not as ours do", error.message)
        return
    except BackendError as error:
        yield Finding(False, "no worker answered a probe", error.message)
        return
    yield from _image(report)
    yield from _price(config, report)
    yield from _dataset(config, report, cache_dir)


def _probe(gate: Gate, patience: float) -> WorkerReport:
    """Ask one worker what it is; raises BackendError, and leaves no job behind."""
    job_id = gate.run(probe_wire(), execution_timeout=60.0, ttl=patience + 60.0)
    ended = False
    try:
        status = _end_of(gate, job_id, patience)
        ended = True
    finally:
        if not ended:
            with suppress(BackendError):  # what went wrong is on its way already
                gate.cancel(job_id)
    if status.state is not JobState.COMPLETED:
        said = next(iter(status.error.splitlines()), "no reason was given")
        raise BackendError(f"the probe's job {status.id} ended {status.state}: {said:.300}. Look at its worker's log.")
    if not isinstance(status.output, dict) or "probe" not in status.output:
        raise ContractMismatch("it answered without a report: its image is not seedpod's, or too old. Run deploy.sh.")
    return WorkerReport.from_wire(status.output["probe"])


def _end_of(gate: Gate, job_id: str, patience: float) -> JobStatus:
    deadline = time.monotonic() + patience
    while True:
        status = gate.status(job_id)
        if status.state.ended:
            return status
        if time.monotonic() > deadline:
            raise BackendError(
                f"the probe's job still is {status.state} after {patience:g} s. Look at the workers on RunPod."
            )
        time.sleep(min(_LOOK, patience))


def _image(report: WorkerReport) -> Iterator[Finding]:
    kind = report.gpu or ("GPU" if report.devices == 1 else "GPUs")
    hardware = f"{report.devices} {kind}" if report.devices else "CPU"
    jobs = f"{report.concurrency} jobs side by side" if report.concurrency > 1 else "one job at a time"
    yield Finding(True, f"a worker answers: {hardware}, {jobs}, contract as ours")
    if report.version != __version__:
        yield Finding(
            None, f"the image holds seedpod {report.version}, this is {__version__}", "Run deploy.sh when it suits you."
        )


def _price(config: OptimizationConfig, report: WorkerReport) -> Iterator[Finding]:
    """What a second of this worker costs, and whether that is what the settings say; nothing of one without a GPU."""
    if not report.gpu or config.gpu_price_per_second:
        return
    told = listed(report.gpu)
    asked = listed(config.gpu) if config.gpu else told
    if told is None:
        yield Finding(
            None,
            f"what a {report.gpu} costs is not known here",
            "Set gpu_price_per_second= to what RunPod asks for it.",
        )
    elif asked != told:
        yield Finding(
            None,
            f"gpu={config.gpu}, and the worker has a {report.gpu}",
            "Leave gpu away, and each trial costs its own.",
        )
    else:
        yield Finding(True, f"a second of it costs {told.per_second:g} USD ({told.origin})")


def _dataset(config: OptimizationConfig, report: WorkerReport, cache_dir: Path) -> Iterator[Finding]:
    try:
        data = prepare(config.dataset, cache_dir, config.reading)
    except DatasetError as error:
        yield Finding(False, f"data set {config.dataset} is not usable here", str(error))
        return
    theirs = report.datasets.get(data.id)
    if theirs == data.fingerprint:
        yield Finding(True, f"data set {data.id} is there, and the same as here")
    elif theirs is None and data.id not in NAMES:
        yield from _store(config, data.id)
    elif theirs is None:
        yield Finding(
            None,
            f"data set {data.id} is not in the image",
            f"Build the image with it (deploy.sh --datasets {data.id}), or let its workers download it at their start.",
        )
    else:
        yield Finding(
            False, f"data set {data.id} differs: {theirs} there, {data.fingerprint} here", "Run deploy.sh again."
        )


def _store(config: OptimizationConfig, dataset: str) -> Iterator[Finding]:
    """Whether workers can get images that are the user's own."""
    if not config.data_store:
        yield Finding(
            False,
            f"data set {dataset} is not there, and no worker can make it",
            "Set data_store=s3://BUCKET/PREFIX, which brings it there.",
        )
        return
    try:
        DataStore(config.data_store, config.data_store_endpoint).check()
    except (BackendError, ConfigError) as error:
        yield Finding(False, f"data set {dataset} is not there, and its store cannot be used", str(error))
    else:
        yield Finding(True, f"data set {dataset} is not there yet; workers will fetch it from {config.data_store}")


def print_findings(findings: Iterator[Finding], show: Callable[[str], None]) -> bool:
    """Show each finding as it comes; whether none was bad."""
    good = True
    for finding in findings:
        mark = {True: "ok  ", None: "look", False: "BAD "}[finding.ok]
        show(f"{mark}  {finding.what}")
        if finding.to_do:
            show(f"      {finding.to_do}")
        good = good and finding.ok is not False
    return good
