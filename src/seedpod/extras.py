"""What the package's extras bring: whether it is installed, and how to have it."""

import importlib.util
import sys
from collections.abc import Sequence

from seedpod.errors import ConfigError


def require(what: str, packages: Sequence[str], extras: Sequence[str]) -> None:
    """Raise ConfigError with the commands that help, where one of the packages is missing.

    Args:
        what: What needs them, as the user knows it.
        packages: Their import names.
        extras: The extras of seedpod that bring them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {' and '.join(missing)}, not installed in {sys.prefix}. Install with: "
            f"{sys.executable} -m pip install 'seedpod[{','.join(extras)}]', or run with: "
            f"uv run {' '.join(f'--extra {name}' for name in extras)} optimizer.py ..."
        )
