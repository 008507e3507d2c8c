"""One endpoint, one request at a time: sends it, reads the answer, maps every trouble. Retries nothing."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import HTTPError

from seedpod import __version__
from seedpod.clock import Clock, SystemClock
from seedpod.errors import BackendError, ConfigError
from seedpod.remote.policy import Operation
from seedpod.remote.secret import KEY_PREFIX, Secret
from seedpod.remote.transport import LOOPBACK, Bearer, Body, pooled_session
from seedpod.remote.trouble import Place, from_answer, from_exception, from_nonsense, seconds_to_wait
from seedpod.remote.wire import EndpointHealth, JobStatus, text

T = TypeVar("T")

USER_AGENT = f"seedpod/{__version__}"
_EXECUTION_TIMEOUT = (5_000, 604_800_000)  # ms; documented bounds of policy.executionTimeout
_TTL = (10_000, 604_800_000)  # ms; and of policy.ttl


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for each piece of an answer."""

    connect: float = 5.0
    read: float = 30.0


class EndpointClient:
    """RunPod's client API for one endpoint.

    Thread-safe. The one session that all threads share is never changed after ``__init__`` and used for ``send`` alone:
    each request is prepared by itself, the pool below (urllib3's) locks itself, and the cookie jar, the only thing that
    ``send`` would write to, takes no cookie.

    Proxies and CA bundles come from the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE), read once; for an
    endpoint on loopback no proxy is used. Keys never do: no ``.netrc``, no user in the URL. Redirects are not followed,
    since they would carry the key, and the job, elsewhere.

    Args:
        base_url: Such as ``https://api.runpod.ai/v2``. ``http`` only to loopback: the key would travel in the clear.
        endpoint_id: The endpoint's id.
        key: The API key.
        connections: Connections kept open; as many as there are threads that follow jobs.
        user_agent: Sent with each request.
        timeouts: How long to wait.
        clock: Tells what a ``Retry-After`` date is worth in an answer without date.

    Raises:
        ConfigError: The URL or the id cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        endpoint_id: str,
        key: Secret,
        connections: int,
        *,
        user_agent: str = USER_AGENT,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.connections = connections
        self._place = Place(_checked_url(base_url, key), _checked_id(endpoint_id, key), key)
        self._clock = clock or SystemClock()
        wait = timeouts or Timeouts()
        self._timeout = (wait.connect, wait.read)
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"}
        self._session, self._proxies, self._verify = pooled_session(self._place.url, connections)

    def __repr__(self) -> str:
        return f"EndpointClient({self._place.url}, {self._place.endpoint_id})"

    def run(self, job: Mapping[str, Any], *, execution_timeout: float, ttl: float) -> str:
        """Submit a job and return its id.

        Args:
            job: The job's input, plain JSON data; not empty (RunPod fails an empty one).
            execution_timeout: Seconds that it may run; RunPod takes 5 s to 7 days, and so does this.
            ttl: Seconds from now until it is deleted, even while running; 10 s to 7 days.

        Raises:
            PerhapsSubmitted: It was sent and the answer was lost: it may run, under an id that nobody knows.
            EndpointUnreachable: It was certainly not accepted; EndpointBusy where that is for a while only.
            EndpointRefused: Bad key or unknown endpoint.
            RequestRefused: Malformed or too large.
        """
        policy = {
            "executionTimeout": _milliseconds(execution_timeout, _EXECUTION_TIMEOUT),
            "ttl": _milliseconds(ttl, _TTL),
        }
        return self._ask(Operation.RUN, "run", _job_id, {"input": dict(job), "policy": policy})

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands.

        Raises:
            JobGone: The endpoint does not know it (any more).
            EndpointUnreachable: No usable answer.
            EndpointRefused: Bad key.
        """
        return self._job(Operation.STATUS, job_id)

    def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job; one that has ended comes back as it ended. Raises like ``status``."""
        return self._job(Operation.CANCEL, job_id)

    def health(self) -> EndpointHealth:
        """Jobs and workers of the endpoint; raises like ``run`` but for PerhapsSubmitted."""
        return self._ask(Operation.HEALTH, "health", EndpointHealth.from_answer)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._session.close()

    def _job(self, operation: Operation, job_id: str) -> JobStatus:
        return self._ask(operation, f"{operation}/{quote(job_id, safe='')}", JobStatus.from_answer)

    def _ask(self, operation: Operation, path: str, read: Callable[[object], T | None], content: object = None) -> T:
        """Send one request; what ``read`` makes of the answer."""
        found = self._read(operation, self._send(operation, path, content), read)
        if isinstance(found, BackendError):
            # Raised here, not where it was caught, so that no foreign exception hangs on it, which holds the request
            # with its key, and no answer stands in the frames of its traceback.
            raise found
        return found

    def _read(
        self, operation: Operation, said: bytes | BackendError, read: Callable[[object], T | None]
    ) -> T | BackendError:
        if isinstance(said, BackendError):
            return said
        try:
            found = read(json.loads(said))  # a bare NaN passes: trial.py judges outputs, wire.py drops it elsewhere
        except (ValueError, RecursionError):
            return from_nonsense(self._place, operation, "is no JSON", said)
        return from_nonsense(self._place, operation, f"is none to {operation}", said) if found is None else found

    def _send(self, operation: Operation, path: str, content: object) -> bytes | BackendError:
        body = None if content is None else Body(json.dumps(content, allow_nan=False).encode())
        try:
            response = self._session.send(
                self._prepared(operation, path, body),
                timeout=self._timeout,
                verify=self._verify,
                proxies=self._proxies,
                allow_redirects=False,
            )
        except (OSError, HTTPError) as error:  # requests' own are OSErrors
            return from_exception(self._place, operation, error, sent=body is not None and body.taken)
        wait = seconds_to_wait(response.headers.get("Retry-After"), response.headers.get("Date"), self._clock.now())
        return from_answer(self._place, operation, response.status_code, response.content, wait) or response.content

    def _prepared(self, operation: Operation, path: str, body: Body | None) -> requests.PreparedRequest:
        method = "POST" if operation in {Operation.RUN, Operation.CANCEL} else "GET"
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        url = f"{self._place.url}/{self._place.endpoint_id}/{path}"
        return requests.Request(method, url, headers, data=body, auth=Bearer(self._place.key)).prepare()


def _checked_url(url: str, key: Secret) -> str:
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    _no_key_in("runpod_service_endpoint", url, key)
    if parts.username is not None or parts.query or parts.fragment or not parts.hostname:
        raise ConfigError(f"runpod_service_endpoint is {shown!r}; it must be a plain URL, without user or query.")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ConfigError(
            f"runpod_service_endpoint is {shown!r}; it must begin with https://, or the key would travel in clear."
        )
    return url.rstrip("/")


def _checked_id(endpoint_id: str, key: Secret) -> str:
    _no_key_in("RUNPOD_ENDPOINT_ID", endpoint_id, key)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", endpoint_id):
        raise ConfigError(f"RUNPOD_ENDPOINT_ID is {endpoint_id!r:.80}; it must be letters, digits, - and _.")
    return endpoint_id


def _no_key_in(setting: str, value: str, key: Secret) -> None:
    """Both stand in messages; a key that was pasted into the wrong one would, too."""
    if key.reveal().lower() in value.lower() or value.startswith(KEY_PREFIX):
        raise ConfigError(f"{setting} holds an API key: is it swapped with RUNPOD_API_KEY?")


def _job_id(body: object) -> str | None:
    return (text(body.get("id")) if isinstance(body, dict) else "") or None


def _milliseconds(seconds: float, bounds: tuple[int, int]) -> int:
    return min(max(round(seconds * 1000), bounds[0]), bounds[1])
