"""The commands beside a search that need an endpoint: ``doctor`` and ``endpoint``."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from seedpod.assembly import NO_KEY, connect, local_endpoint, most_at_once
from seedpod.config import OptimizationConfig
from seedpod.config.kinds import Whole
from seedpod.config.wording import Refused, complaint, did_you_mean
from seedpod.doctor import examine, print_findings
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import ConfigError, EndpointRefused
from seedpod.remote.address import LOCAL, Address, parse_address
from seedpod.remote.gate import Gate
from seedpod.remote.secret import Secret

Show = Callable[[str], None]

_ENDPOINT_OPTIONS = {
    "workers": (Whole(0, 64, "worker processes"), 2),
    "concurrency": (Whole(1, 6, "jobs at once in a worker"), 1),
    "port": (Whole(0, 65535), 0),
}


def doctor(config: OptimizationConfig, key: Secret | None, show: Show) -> bool:
    """Show what stands in the way of a remote search with these settings; whether nothing does.

    Raises:
        ConfigError: No endpoint is named.
    """
    if not config.runpod_service_endpoint:
        raise ConfigError(
            "doctor needs an endpoint: runpod_service_endpoint=ID, RUNPOD_ENDPOINT_ID in the environment, or "
            "runpod_service_endpoint=local, which tries the whole way on this machine."
        )
    cache_dir = Path(config.cache_dir).expanduser()
    with _gate(config, key, cache_dir) as (gate, address):
        return print_findings(examine(config, gate, address, most_at_once(config), cache_dir), show)


def serve_endpoint(words: Sequence[str], cache_dir: Path, show: Show) -> None:
    """Serve an endpoint with real SDK workers on this machine until Ctrl-C or SIGTERM.

    Args:
        words: ``workers=N``, ``concurrency=N`` and ``port=N``.
        cache_dir: Where the workers find the prepared data sets.
        show: Gets lines for the user.

    Raises:
        ConfigError: An option is unknown or out of range, or the extra is not installed.
    """
    options = _endpoint_options(words)
    endpoint = EmbeddedEndpoint(
        workers=options["workers"],
        concurrency=options["concurrency"],
        port=options["port"],
        environment={"SEEDPOD_CACHE_DIR": str(cache_dir.absolute())},
    )
    ends = {signal.SIGINT, signal.SIGTERM}
    with endpoint:
        # Only now, for the processes above would inherit it; and before anybody knows that there is something to end.
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        workers = options["workers"]
        show(f"endpoint {endpoint.endpoint_id} with {workers} worker{'s' * (workers != 1)}, until Ctrl-C")
        show(f"  runpod_service_endpoint={endpoint.url}/{endpoint.endpoint_id}")
        show(f"  RUNPOD_API_KEY={endpoint.key}")
        show(f"  logs of the workers: {endpoint.logs}")
        signal.sigwait(ends)


@contextmanager
def _gate(config: OptimizationConfig, key: Secret | None, cache_dir: Path) -> Iterator[tuple[Gate, Address]]:
    if config.runpod_service_endpoint == LOCAL:
        with local_endpoint(config, cache_dir) as endpoint:
            address = Address(endpoint.url, endpoint.endpoint_id)
            gate = connect(address, Secret(endpoint.key), 4)
            try:
                yield gate, address
            finally:
                gate.close()
        return
    if key is None:
        raise EndpointRefused(NO_KEY)
    address = parse_address(config.runpod_service_endpoint)
    gate = connect(address, key, 4)
    try:
        yield gate, address
    finally:
        gate.close()


def _endpoint_options(words: Sequence[str]) -> Mapping[str, int]:
    found = {name: default for name, (_, default) in _ENDPOINT_OPTIONS.items()}
    for word in words:
        name, _, text = word.partition("=")
        if name not in _ENDPOINT_OPTIONS:
            hint = did_you_mean(name, list(_ENDPOINT_OPTIONS), otherwise=f"It takes {', '.join(_ENDPOINT_OPTIONS)}.")
            # Without the value, which may be a password.
            raise ConfigError(complaint(f"{name}=...", "command line", f"endpoint has no such option.{hint}"))
        kind = _ENDPOINT_OPTIONS[name][0]
        try:
            found[name] = kind.parse(text)
            kind.check(found[name])
        except Refused as refused:
            raise ConfigError(complaint(word, "command line", str(refused))) from refused
    return found
