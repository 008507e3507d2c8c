"""Which backend the settings get, tried on real endpoints and on none."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import InProcess
from runpod_rig import HandWorker, Lines, completes, ignore, new_spec, well
from seedpod.assembly import local_endpoint, make_backend, most_at_once
from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.local import LocalBackend
from seedpod.backends.runpod import RunPodBackend
from seedpod.config import OptimizationConfig
from seedpod.errors import ConfigError, EndpointRefused, EndpointUnreachable, SeedpodError
from seedpod.remote.secret import Secret
from seedpod.trial import TrialBackend


def config(**settings: Any) -> OptimizationConfig:
    return OptimizationConfig(**{"use_runpod_service": True, "runpod_service_endpoint": "abc", **settings})


def made(settings: OptimizationConfig, key: str | None, folder: Path) -> tuple[TrialBackend, list[str]]:
    said = Lines()
    backend = make_backend(
        settings, None if key is None else Secret(key), said, workers=3, cache_dir=folder, jobs=folder / "jobs.jsonl"
    )
    return backend, said.all()


def address(endpoint: InProcess) -> str:
    return f"{endpoint.url}/{endpoint.endpoint_id}"


def test_a_local_search_is_local(tmp_path: Path) -> None:
    """Without the service no endpoint is asked, whatever else is set."""
    backend, said = made(config(use_runpod_service=False), None, tmp_path)
    with closing(backend):
        assert isinstance(backend, LocalBackend)
        assert (backend.at_once, said) == (3, [])


@pytest.mark.parametrize(("fallback", "kind"), [(True, FallbackBackend), (False, RunPodBackend)])
def test_a_well_endpoint_is_used(tmp_path: Path, *, fallback: bool, kind: type[TrialBackend]) -> None:
    """An endpoint that answers runs the trials, as many at once as asked for; the fallback stands behind it or not."""
    with InProcess() as endpoint, HandWorker(endpoint, [completes]):
        asked = config(
            runpod_service_endpoint=address(endpoint), runpod_service_fallback_local=fallback, concurrent_workers=7
        )
        backend, said = made(asked, endpoint.key, tmp_path)
        with closing(backend):
            assert isinstance(backend, kind)
            assert backend.at_once == 7
            assert all("concurrent_workers=7" in line or "cold start" in line for line in said)
            spec = new_spec()
            result = backend.run(spec, ignore)
            assert well(result, spec)
            assert result.backend == "runpod"


UNUSABLE = [
    pytest.param("here", "wrong-key", EndpointRefused, "check RUNPOD_API_KEY", id="bad key"),
    pytest.param("here", None, EndpointRefused, "set RUNPOD_API_KEY in the environment", id="no key"),
    pytest.param("nowhere", "right", EndpointRefused, "check RUNPOD_ENDPOINT_ID", id="unknown endpoint"),
    pytest.param(
        "http://127.0.0.1:9/v2/x",
        "right",
        EndpointUnreachable,
        "it refuses connections",
        id="no server",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "https://invalid-endpoint.invalid", "right", EndpointUnreachable, "its name cannot be resolved", id="no host"
    ),
]


@pytest.mark.parametrize(("where", "key", "kind", "said"), UNUSABLE)
def test_an_endpoint_that_cannot_be_used(
    tmp_path: Path, where: str, key: str | None, kind: type[SeedpodError], said: str
) -> None:
    """Without a fallback its error comes out; with one it is said in one line, and the search is local."""
    with InProcess() as endpoint:
        real = {"here": address(endpoint), "nowhere": f"{endpoint.url}/nowhere"}
        asked = {"runpod_service_endpoint": real.get(where, where)}
        given = endpoint.key if key == "right" else key
        with pytest.raises(kind, match=said):
            made(config(runpod_service_fallback_local=False, **asked), given, tmp_path)
        backend, lines = made(config(**asked), given, tmp_path)
        with closing(backend):
            assert isinstance(backend, LocalBackend)
    (line,) = lines
    assert said in line
    assert line.endswith("The search runs on this machine.")
    assert "\n" not in line
    assert "left alone" not in line  # the breaker's words say less than what opened it


def test_a_plain_http_address_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    """An address that would show the key is refused, fallback or not."""
    with pytest.raises(ConfigError, match="https://"):
        made(config(runpod_service_endpoint="http://example.com/v2/x"), "key", tmp_path)


def test_one_at_a_time_where_not_concurrent() -> None:
    """``concurrent=false`` is one remote trial at a time; else as many as ``concurrent_workers``."""
    assert most_at_once(config(concurrent_workers=9, search_lag=9)) == 9
    assert most_at_once(config(concurrent_workers=9, concurrent=False)) == 1


@pytest.mark.parametrize(("asked", "workers"), [("auto", 4), (2, 2)])
def test_a_local_endpoint_has_as_many_workers_as_asked(asked: Any, workers: int) -> None:
    """``local_endpoint_workers`` counts them; auto is as many as trials at once."""
    settings = config(runpod_service_endpoint="local", concurrent_workers=4, local_endpoint_workers=asked)
    assert local_endpoint(settings, Path("cache")).workers == workers
