"""Where the API key comes from. It is no setting: settings are saved and shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seedpod.errors import ConfigError
from seedpod.remote.secret import Secret

VARIABLE = "RUNPOD_API_KEY"
ARGUMENT = "runpod_api_key"


def take_key(
    words: Sequence[str], environment: Mapping[str, str], folder: Path, warn: Callable[[str], None]
) -> tuple[list[str], Secret | None]:
    """The command line without the key, and the key.

    Looked for, in this order: ``runpod_api_key=…`` among the words, RUNPOD_API_KEY in the environment, the same in the
    file ``.env`` of ``folder``.

    Args:
        words: The command line.
        environment: The process environment.
        folder: Where ``.env`` may be.
        warn: Gets a line where the key was on the command line, where every user of the machine can read it.

    Raises:
        ConfigError: The key is given twice, cannot be one, or ``.env`` cannot be read.
    """
    given = [word for word in words if _is_key(word)]
    rest = [word for word in words if not _is_key(word)]
    if len(given) > 1:
        raise ConfigError(f"{ARGUMENT} is given twice; keep one, or better set {VARIABLE} in the environment.")
    if given:
        warn(
            f"{ARGUMENT}=... shows in the list of processes and in the shell's history; better set {VARIABLE} in the "
            f"environment or in a file .env here."
        )
        return rest, Secret(given[0].split("=", 1)[1].strip("\"'"))
    found = environment.get(VARIABLE, "").strip() or _from_dotenv(folder / ".env")
    return rest, Secret(found) if found else None


def _is_key(word: str) -> bool:
    name = word.split("=", 1)[0].strip().casefold()
    return "=" in word and name in {ARGUMENT, VARIABLE.casefold(), "api_key"}


def _from_dotenv(path: Path) -> str:
    if not path.is_file():
        return ""
    from dotenv import dotenv_values

    try:
        return (dotenv_values(path, interpolate=False).get(VARIABLE) or "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a list of NAME=value: {error}") from error
