"""What the package's extras bring: whether it is installed, and how to have it."""

import importlib.util
import sys
from collections.abc import Sequence

from seedpod.errors import ConfigError

EXPORTS = {
    "onnx": (("onnx", "onnxruntime", "tf2onnx"), ("onnx",)),
    "savedmodel": (("tensorflow",), ()),
    "tflite": (("tensorflow",), ()),
}
"""Packages that write and check a format, and the extras that bring them."""


def require(what: str, packages: Sequence[str], extras: Sequence[str] = ()) -> None:
    """Raise ConfigError with the commands that help, where one of the packages is missing.

    Args:
        what: What needs them, as the user knows it.
        packages: Their import names.
        extras: The extras of seedpod that bring them; none where the packages are named themselves.
    """
    require_all([(what, packages, extras)])


def require_all(needs: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> None:
    """Raise ConfigError where packages are missing: a line for each thing that needs some, and the command for all.

    Args:
        needs: What ``require`` takes, of each.
    """
    lines: list[str] = []
    wanted: dict[str, None] = {}
    named: dict[str, None] = {}
    for what, packages, extras in needs:
        missing = [name for name in packages if not is_installed(name)]
        if missing:
            lines.append(f"{what} needs {' and '.join(missing)}, not installed in {sys.prefix}.")
            wanted |= dict.fromkeys(extras)
            named |= dict.fromkeys([] if extras else missing)
    if lines:
        between = " " if len(lines) == 1 else "\n"
        raise ConfigError("\n".join(lines) + between + how_to_have(tuple(wanted), tuple(named)))


def how_to_have(extras: Sequence[str] = (), packages: Sequence[str] = ()) -> str:
    """The commands that bring extras of seedpod, or packages that no extra brings; pip's where there is a pip.

    uv's environments have none, and uv is what README begins with.
    """
    options = [*(f"--extra {name}" for name in extras), *(f"--with {name}" for name in packages)]
    text = f"Run with: uv run {' '.join(options)} optimizer.py ..."
    if is_installed("pip"):
        wanted = [f"'seedpod[{','.join(extras)}]'"] if extras else []
        text += f" Or install with: {sys.executable} -m pip install {' '.join([*wanted, *packages])}"
    return text


def is_installed(package: str) -> bool:
    """Whether a package can be imported; nothing is."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is known to be missing
        return False
