"""A key that does not show: not in a repr, a log, a traceback, a copy of the settings or a foreign message."""

from typing import NoReturn, Self
from urllib.parse import quote

from seedpod.errors import ConfigError

MASK = "***"
KEY_PREFIX = "rpa_"
"""Of the keys that RunPod issues."""


class Secret:
    """Holds an API key. ``reveal()`` alone gives it out, and is called where the request's header is built.

    Args:
        key: The key; blanks around it, as from a copied line, are dropped.

    Raises:
        ConfigError: It is empty or cannot stand in an HTTP header; the message does not quote it.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        key = key.strip()
        if not key:
            raise ConfigError("the API key is empty: set RUNPOD_API_KEY.")
        if not all("!" <= letter <= "~" for letter in key):
            raise ConfigError("the API key holds a blank or a letter that no key has: check RUNPOD_API_KEY.")
        self._key = key

    def reveal(self) -> str:
        """The key itself."""
        return self._key

    def redact(self, text: str) -> str:
        """The text with the key, as it is or as it stands in a URL, masked."""
        return text.replace(self._key, MASK).replace(quote(self._key, safe=""), MASK)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled: hand the key to another process by its environment.")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        self.__reduce__()
