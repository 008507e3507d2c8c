"""Which backend a search gets, from its settings."""

import random
from collections.abc import Callable
from pathlib import Path

from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.final import RemoteFinal
from seedpod.backends.ledger import JobLedger
from seedpod.backends.local import LocalBackend
from seedpod.backends.runpod import OWNED, JobRules, RunPodBackend
from seedpod.backends.sending import Addresses, SentData, no_addresses
from seedpod.clock import SystemClock
from seedpod.config import OptimizationConfig
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import BreakerOpen, EndpointRefused, EndpointUnreachable
from seedpod.findings import time_findings, worker_findings
from seedpod.remote.address import LOCAL, Address, parse_address
from seedpod.remote.client import EndpointClient
from seedpod.remote.gate import Gate
from seedpod.remote.secret import Secret
from seedpod.remote.store import DataStore
from seedpod.training.pool import KERAS_TRAINER
from seedpod.trial import TrialBackend

Say = Callable[[str], None]

# Seconds for which an endpoint that is away is waited for: not at all by a new trial that may run here; for a while by
# one that runs there, since it would begin anew; and where there is no fallback the whole search hangs on it.
_WITH_FALLBACK = {"patience": 20.0, "submit_patience": 0.0}
_WITHOUT = {"patience": 300.0, "submit_patience": 300.0}

NO_KEY = (
    "there is no API key for the endpoint: set RUNPOD_API_KEY in the environment or in a file .env here "
    "(RunPod: Settings, API Keys)."
)


def make_backend(
    config: OptimizationConfig,
    key: Secret | None,
    say: Say,
    *,
    workers: int,
    cache_dir: Path,
    jobs: Path,
    trainer: str = KERAS_TRAINER,
) -> TrialBackend:
    """The backend that the settings ask for, or the local one where the endpoint cannot be used and they allow it.

    Args:
        config: The settings.
        key: The API key of a RunPod endpoint; None where there is none.
        say: Gets a line for the user.
        workers: Trials at once on this machine.
        cache_dir: Where the prepared data sets are.
        jobs: The run's ledger of remote jobs.
        trainer: ``module:factory`` of what the trainer processes of this machine run.

    Raises:
        ConfigError: The endpoint's address or its extra.
        EndpointRefused: Bad or no key, unknown endpoint, and no fallback.
        EndpointUnreachable: No answer, and no fallback.
    """

    def local() -> TrialBackend:
        return LocalBackend(workers, cache_dir, trainer=trainer, memory_mb=config.memory_limit_mb)

    if not config.use_runpod_service:
        return local()
    try:
        remote = _remote(config, key, say, cache_dir, JobLedger(jobs))
    except (EndpointRefused, EndpointUnreachable) as error:
        if not config.runpod_service_fallback_local:
            raise
        say(f"{error.message} The search runs on this machine.")
        return local()
    return FallbackBackend(remote, local, say) if config.runpod_service_fallback_local else remote


def final_elsewhere(
    config: OptimizationConfig, key: Secret | None, say: Say, cache_dir: Path
) -> Callable[[], RemoteFinal] | None:
    """What makes the trainer of final models on the endpoint; None where these settings train them here."""
    if config.final_on != "remote":
        return None

    address = parse_address(config.runpod_service_endpoint)
    store = DataStore(config.data_store, config.data_store_endpoint)

    def make() -> RemoteFinal:
        if key is None:
            raise EndpointRefused(NO_KEY)
        store.check()
        rules = JobRules(timeout=config.runpod_service_timeout, retries=config.trial_retries)
        data = SentData(store, cache_dir, say).address
        return RemoteFinal(connect(address, key, 2), store, data, rules, say)

    return make


def most_at_once(config: OptimizationConfig) -> int:
    """Remote trials at once."""
    return config.concurrent_workers if config.concurrent else 1


def connect(address: Address, key: Secret, connections: int) -> Gate:
    """An endpoint behind its gate."""
    client = EndpointClient(address.base_url, address.endpoint_id, key, connections)
    return Gate(client, SystemClock(), random.Random())


def local_endpoint(config: OptimizationConfig, cache_dir: Path) -> EmbeddedEndpoint:
    """The endpoint that ``runpod_service_endpoint=local`` means: real SDK workers on this machine, not started yet."""
    asked = config.local_endpoint_workers
    return EmbeddedEndpoint(
        workers=most_at_once(config) if asked == "auto" else asked,
        environment={"SEEDPOD_CACHE_DIR": str(cache_dir.absolute())},  # the workers run in a folder of their own
    )


def _say_hello(gate: Gate, config: OptimizationConfig, say: Say) -> None:
    """Ask once, so that a bad key, a wrong id or no network is known now and said once, in its own words.

    What else the answer tells of, and deserves a look, is said too.
    """
    try:
        health = gate.health()
    except BreakerOpen as error:
        raise EndpointUnreachable(error.detail or error.message) from error
    for finding in (*worker_findings(health, most_at_once(config)), *time_findings(config)):
        if not finding.ok:
            say(f"{finding.what}. {finding.to_do}")


def _remote(
    config: OptimizationConfig, key: Secret | None, say: Say, cache_dir: Path, ledger: JobLedger
) -> RunPodBackend:
    at_once = most_at_once(config)
    rules = JobRules(
        timeout=config.runpod_service_timeout,
        retries=config.trial_retries,
        **_WITH_FALLBACK if config.runpod_service_fallback_local else _WITHOUT,
    )
    if config.runpod_service_endpoint == LOCAL:
        endpoint = local_endpoint(config, cache_dir)
        endpoint.start()
        try:
            address = Address(endpoint.url, endpoint.endpoint_id)
            gate = connect(address, Secret(endpoint.key), 2 * at_once)
            return RunPodBackend(
                gate,
                most_at_once=at_once,
                rules=rules,
                say=say,
                on_close=endpoint.close,
                ledger=ledger,
                address=OWNED,
            )
        except BaseException:
            endpoint.close()
            raise
    address = parse_address(config.runpod_service_endpoint)
    if key is None:
        raise EndpointRefused(NO_KEY)
    gate = connect(address, key, 2 * at_once)  # a job that ends and the one that takes its place
    try:
        _say_hello(gate, config, say)
        data = _addresses(config, cache_dir, say)
    except BaseException:
        gate.close()
        raise
    place = f"{address.base_url}/{address.endpoint_id}"
    return RunPodBackend(gate, most_at_once=at_once, rules=rules, say=say, ledger=ledger, address=place, data=data)


def _addresses(config: OptimizationConfig, cache_dir: Path, say: Say) -> Addresses:
    """Where workers get the data set from, if they do not have it by its name."""
    if not (config.data_store and config.own_images):
        return no_addresses
    store = DataStore(config.data_store, config.data_store_endpoint)
    store.check()
    return SentData(store, cache_dir, say).address
