"""Whether a run may go on with other settings than it was begun with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seedpod.config import OptimizationConfig, load, settings
from seedpod.config.settings import HARMLESS
from seedpod.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Change:
    """A setting whose value differs from the one that the run was begun with."""

    name: str
    before: object
    now: object


def check_resumable(run: str, saved: Path, config: OptimizationConfig) -> None:
    """Let harmless changes pass, and refuse by name those that would make another study of it.

    Raises:
        ConfigError: A setting differs that decides what trials are, or the saved configuration cannot be read.
    """
    changes = list(_changes(load([f"config={saved}"], {}).config, config))
    if changes:
        told = "\n".join(
            f"{change.name}={_shown(change.now)}: run {run} was begun with {change.name}={_shown(change.before)}, and "
            f"its trials depend on it. Leave it as it was, or choose another run_name."
            for change in changes
        )
        raise ConfigError(told)


def decisive(config: OptimizationConfig) -> dict[str, str]:
    """The settings that decide what trials are, as shown to the user; but for the lag, which may be `auto`, and the
    storage, which has a name on every machine.
    """
    return {
        setting.name: _shown(getattr(config, setting.name))
        for setting in settings()
        if setting.name not in HARMLESS | {"search_lag", "storage"}
    }


def _changes(before: OptimizationConfig, now: OptimizationConfig) -> Iterator[Change]:
    for setting in settings():
        was, is_now = getattr(before, setting.name), getattr(now, setting.name)
        if setting.name not in HARMLESS and was != is_now:
            yield Change(setting.name, was, is_now)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
