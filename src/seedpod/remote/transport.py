"""What requests is given: a body that knows whether it was sent, a key that stays out of sight, a pool that fits."""

from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from seedpod.remote.secret import Secret

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Body:
    """A request's body that knows whether any of it was handed to the connection.

    http.client asks for the body after the connection stands and the headers are out. So a body that was not taken was
    certainly not received, whatever exception came of it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.taken = False

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        self.taken = True
        yield self._data


class Bearer(requests.auth.AuthBase):
    """Puts the key into a request's header, and keeps it out of everything else."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """See requests."""
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        return request


def pooled_session(url: str, connections: int) -> tuple[requests.Session, dict[str, str], bool | str]:
    """A session of the right size, with the environment's proxies and CA bundle for this URL."""
    session = requests.Session()
    session.trust_env = (urlsplit(url).hostname or "") not in LOOPBACK
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount(url, HTTPAdapter(pool_connections=1, pool_maxsize=max(1, connections)))
    verify = found["verify"]
    return session, dict(found["proxies"]), True if verify is None else verify
