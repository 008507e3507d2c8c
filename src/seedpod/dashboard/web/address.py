"""Port and token of a run's page. They are kept in the run's folder, so that an open page finds a restarted search."""

import json
import os
import secrets
import socket
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from seedpod.errors import ConfigError

LOOPBACK = "127.0.0.1"
KEPT = ".web.json"
"""The file, readable by its owner alone."""
_SHORTEST = 32  # characters of a token


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run's folder holds."""

    port: int
    token: str


def bind(port: int) -> socket.socket:
    """A socket on loopback, not listening yet; raises OSError where the port is taken."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a search that has just ended is free
        bound.bind((LOOPBACK, port))
        # Binding alone takes a port only from those who do not reuse addresses; listening takes it from all.
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


def bind_asked(port: int) -> socket.socket:
    """A socket on the port that the user asked for.

    Raises:
        ConfigError: It is taken, or not allowed.
    """
    try:
        return bind(port)
    except OSError as error:
        raise ConfigError(
            f"web_port={port}: cannot serve the page there ({error.strerror}). Choose another port, or leave web_port "
            f"out for a free one."
        ) from error


def settle(folder: Path, asked: socket.socket | None) -> tuple[socket.socket, str]:
    """The socket and the token of a run's page: those that the run had, as far as they are free, and kept from now on.

    Args:
        folder: The run's folder.
        asked: A socket on the port that the user asked for; None where any will do.

    Raises:
        OSError: There is no free port, or the folder cannot be written.
    """
    kept = _read(folder / KEPT)
    bound = asked or _bind_kept(kept)
    port = int(bound.getsockname()[1])
    # Who reloads an open page tells the token to whoever listens at the old port now.
    token = kept.token if kept is not None and kept.port == port else secrets.token_urlsafe(32)
    try:
        _write(folder / KEPT, Kept(port, token))
    except OSError:
        bound.close()
        raise
    return bound, token


def _bind_kept(kept: Kept | None) -> socket.socket:
    if kept is not None:
        try:
            return bind(kept.port)
        except OSError:
            pass  # another program's by now
    return bind(0)


def _read(path: Path) -> Kept | None:
    """What is kept; None where there is nothing, or somebody else could have written or read it."""
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            return None
        kept = Kept(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    sound = isinstance(kept.port, int) and 0 < kept.port < 1 << 16 and isinstance(kept.token, str)
    return kept if sound and len(kept.token) >= _SHORTEST and kept.token.isascii() else None


def _write(path: Path, kept: Kept) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{KEPT}.")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(kept), file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
