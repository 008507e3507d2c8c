"""Defaults < ``config=FILE.yaml`` < environment < ``key=value``. Nothing is ignored silently.

``resume=RUN`` is ``config=`` with the file that the run was last started with, and its ``run_name``.

Values of every layer are checked, also those that a later layer overrides, and all mistakes are reported at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from seedpod.config import command_line
from seedpod.config.kinds import Assignments, Raw, unquoted
from seedpod.config.settings import ALIASES, OptimizationConfig, conflicts, settings
from seedpod.config.wording import Refused, complaint, did_you_mean, joined, shown
from seedpod.config.yaml_file import read_yaml
from seedpod.errors import ConfigError

PREFIX = "SEEDPOD_"
FOREIGN = {"RUNPOD_ENDPOINT_ID": "runpod_service_endpoint"}
"""Variables that RunPod's own tools read too, and the settings that they stand for where nothing of ours is given."""
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config, and where each of its values came from.

    Attributes:
        config: The settings.
        origins: By setting, in the order of the fields: ``default``, ``configs/x.yaml:3``,
            ``environment SEEDPOD_TRIALS`` or ``command line``.
    """

    config: OptimizationConfig
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One value, as one layer gives it."""

    key: str
    raw: Raw
    origin: str


def load(
    arguments: Sequence[str], environment: Mapping[str, str], *, named_by: str = command_line.RESUME
) -> LoadedConfig:
    """Read all layers.

    Args:
        arguments: The command line without the program and the command: ``["dataset=mnist", "trials=5"]``.
        environment: The process environment; looked at are RUNPOD_ENDPOINT_ID and what starts with ``SEEDPOD_``.
        named_by: What the user has written for ``resume``: complaints name it so.

    Raises:
        ConfigError: One line for each mistake, in all layers; each says what, where and what to do.
    """
    given, complaints = command_line.read_arguments(arguments)
    path = given.pop(command_line.CONFIG, None)
    run = given.pop(command_line.RESUME, None)
    if run is not None:
        what = f"{named_by}={shown(run)}"
        found = _run_at(run)
        name = run if found is None else found.name
        if path is not None or given.get("run_name", name) != name:
            why = "names the run and its configuration; leave out config= and run_name=."
            raise ConfigError(complaint(what, command_line.WHERE, why))
        if found is not None and not _is_in(found, given.get("results_dir")):
            why = "is a path, and in another folder than results_dir= says; leave one of them out."
            raise ConfigError(complaint(what, command_line.WHERE, why))
        given["run_name"] = name
        given["results_dir"] = _results_dir(given, environment) if found is None else str(found.parent)
        path = _config_of(name, given["results_dir"], what)
    from_file, file_complaints = ([], []) if path is None else _from_file(path)
    from_environment, environment_complaints = _from_environment(environment)
    from_arguments = [_Entry(key, text, command_line.WHERE) for key, text in given.items()]
    complaints += file_complaints + environment_complaints
    return _merge([*from_file, *from_environment, *from_arguments], complaints)


def _results_dir(given: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Where the runs are, as far as that is known before their configuration is."""
    default: str = next(setting.default for setting in settings() if setting.name == "results_dir")
    return given.get("results_dir") or unquoted(environment.get(f"{PREFIX}RESULTS_DIR", "")).strip() or default


def _run_at(run: str) -> Path | None:
    """The run's folder where it is given by its path, as a shell completes it; None where it is given by its name."""
    if "/" not in run:
        return None
    try:
        folder = Path(run).expanduser()
        folder = folder if folder.name not in {"", ".."} else folder.resolve()
        return folder if (folder / "config.yaml").is_file() else None
    except (OSError, RuntimeError, ValueError):  # name too long, no permission, no home folder, NUL
        return None


def _is_in(folder: Path, results_dir: str | None) -> bool:
    return results_dir is None or folder.parent.resolve() == Path(results_dir).expanduser().resolve()


def _config_of(run: str, results_dir: str, what: str) -> str:
    """The file that a run was last started with; raises ConfigError where there is no such run."""
    folder = Path(results_dir).expanduser()
    path = folder / run / "config.yaml"
    if path.is_file():
        return str(path)
    runs = [found.parent.name for found in folder.glob("*/config.yaml")] if folder.is_dir() else []
    hint = did_you_mean(run, runs, otherwise=f"There are {joined(sorted(runs))}." if runs else "There is none.")
    why = f"there is no such run in {shown(results_dir)}.{hint}"
    raise ConfigError(complaint(what, command_line.WHERE, why))


def _merge(entries: Sequence[_Entry], complaints: Sequence[str]) -> LoadedConfig:
    values: dict[str, Any] = {setting.name: setting.default for setting in settings()}
    origins = dict.fromkeys(values, DEFAULT)
    known = {setting.name: setting for setting in settings()}
    found = list(complaints)
    refused_keys = set()
    for entry in entries:
        try:
            setting = known[entry.key]
            value = setting.parse(entry.raw)
            if isinstance(setting.kind, Assignments):
                value = setting.kind.merged(values[entry.key], value)  # each name is a key of its own
            values[entry.key] = value
            origins[entry.key] = entry.origin
        except Refused as refused:
            found.append(complaint(f"{entry.key}={_typed(entry.raw)}", entry.origin, str(refused)))
            refused_keys.add(entry.key)
    found += conflicts({key: value for key, value in values.items() if key not in refused_keys}, origins)
    if found:
        raise ConfigError("\n".join(found))
    return LoadedConfig(OptimizationConfig(**values), MappingProxyType(origins))


def _from_file(path: str) -> tuple[list[_Entry], list[str]]:
    lines, complaints = read_yaml(path)
    names = [setting.name for setting in settings()]
    entries: dict[str, _Entry] = {}
    for written, raw, line in lines:
        key = ALIASES.get(written, written)
        where = f"{shown(path)}:{line}"
        if key not in names:
            hint = did_you_mean(key, names, otherwise=command_line.SEE_HELP)
            complaints.append(complaint(f"{key}: ...", where, f"there is no setting {shown(key)!r}.{hint}"))
        elif key in entries:
            why = f"{key} is given twice, first at {entries[key].origin}; keep one."
            complaints.append(complaint(f"{key}: {_typed(raw)}", where, why))
        else:
            entries[key] = _Entry(key, raw, where)
    return list(entries.values()), complaints


def _from_environment(environment: Mapping[str, str]) -> tuple[list[_Entry], list[str]]:
    names = {PREFIX + setting.name.upper(): setting.name for setting in settings()}
    names |= {PREFIX + alias.upper(): name for alias, name in ALIASES.items()}
    entries = [
        _Entry(key, unquoted(environment[variable]), f"environment {variable}")
        for variable, key in FOREIGN.items()
        if environment.get(variable, "").strip()
    ]
    complaints: list[str] = []
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX):
            continue
        what = f"{variable}=..."  # without the value, which may be a password under a wrong name
        if variable not in names:
            hint = did_you_mean(variable, names, otherwise=command_line.SEE_HELP)
            complaints.append(complaint(what, "environment", f"there is no setting for this variable.{hint}"))
        elif not text.strip():
            complaints.append(complaint(what, "environment", "the value is empty. Unset it to have the default."))
        else:
            entries.append(_Entry(names[variable], unquoted(text), f"environment {variable}"))
    return entries, complaints


def _typed(raw: Raw) -> str:
    return raw if isinstance(raw, str) else f"[{', '.join(raw)}]"
