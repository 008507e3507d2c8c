"""What the setting ``runpod_service_endpoint`` means."""

from dataclasses import dataclass
from urllib.parse import urlsplit

RUNPOD = "https://api.runpod.ai/v2"
UNNAMED = "unnamed"
"""Stands for the id where a URL holds none."""
LOCAL = "local"
"""The word for an endpoint that is started on this machine."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint answers: ``base_url/endpoint_id/run`` and so on."""

    base_url: str
    endpoint_id: str


def parse_address(text: str) -> Address:
    """The address of an endpoint's id, or of a URL whose last part is the id, also with ``/run`` behind it.

    A URL without a path names a host and no endpoint on it: the host is asked all the same, for it may be wrong too,
    and what is missing is said once it answers (``trouble.from_answer``).
    """
    if "://" not in text:
        return Address(RUNPOD, text)
    parts = urlsplit(text.rstrip("/"))
    path = parts.path.removesuffix("/run").removesuffix("/runsync")
    base, _, endpoint_id = path.rpartition("/")
    return Address(parts._replace(path=base).geturl(), endpoint_id or UNNAMED)
