"""Where the API key comes from. It is no setting: settings are saved and shown."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seedpod.errors import ConfigError
from seedpod.remote.secret import KEY_PREFIX, Secret

VARIABLE = "RUNPOD_API_KEY"
ARGUMENT = "runpod_api_key"
_FROM_DOTENV = (VARIABLE, "RUNPOD_ENDPOINT_ID")
_NAMES = {ARGUMENT, "api_key"}
_KEY_INSIDE = re.compile(rf"\b{KEY_PREFIX}\w{{8}}")


def with_dotenv(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment, and what it lacks of RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID from the file ``.env`` of ``folder``.

    Raises:
        ConfigError: The file is there and cannot be read.
    """
    found = dict(environment)
    path = folder / ".env"
    if not path.is_file():
        return found
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"{path} cannot be read as a list of NAME=value: {why}.") from None
    for name in _FROM_DOTENV:
        if not found.get(name, "").strip() and values.get(name):
            found[name] = str(values[name])
    return found


def take_key(
    words: Sequence[str], environment: Mapping[str, str], warn: Callable[[str], None]
) -> tuple[list[str], Secret | None]:
    """The command line without the key, and the key: ``runpod_api_key=...`` before RUNPOD_API_KEY.

    Args:
        words: The command line.
        environment: From ``with_dotenv``.
        warn: Gets a line where the key was on the command line, where every user of the machine can read it.

    Raises:
        ConfigError: The key is given twice, stands under another name, or cannot be one. The message does not quote it.
    """
    given = [word for word in words if _is_key(word)]
    rest = [word for word in words if not _is_key(word)]
    if any(_KEY_INSIDE.search(word) for word in rest):
        raise ConfigError(
            f"the command line holds an API key under another name; write {ARGUMENT}=..., or better set {VARIABLE} in "
            f"the environment or in a file .env here."
        )
    if len(given) > 1:
        raise ConfigError(f"{ARGUMENT} is given twice; keep one, or better set {VARIABLE} in the environment.")
    if given:
        warn(
            f"{ARGUMENT}=... shows in the list of processes and in the shell's history; better set {VARIABLE} in the "
            f"environment or in a file .env here."
        )
        return rest, Secret(given[0].split("=", 1)[1].strip().strip("\"'"))
    found = environment.get(VARIABLE, "").strip()
    return rest, Secret(found) if found else None


def _is_key(word: str) -> bool:
    name = word.split("=", 1)[0].strip().lstrip("-").replace("-", "_").casefold()
    return "=" in word and name in _NAMES
