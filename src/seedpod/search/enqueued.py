"""``enqueue=FILE``: hyperparameters that a search tries before its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seedpod.config import OptimizationConfig
from seedpod.config.wording import Refused, did_you_mean, shown
from seedpod.config.yaml_file import compose
from seedpod.errors import ConfigError
from seedpod.hyperparameters import NAMES, known
from seedpod.search.space import Params, SearchSpace
from seedpod.search.values import Choices, read_values
from seedpod.trial import ParamValue

_FORMS = "it must be a list of sets such as `- {learning_rate: 0.003}`, or the best.yaml or the folder of a run."


def read_enqueued(config: OptimizationConfig) -> list[Params]:
    """The sets of hyperparameters that the settings name, as far as they were given.

    Raises:
        ConfigError: The file cannot be read, or a set of it names an unknown hyperparameter or a value that it cannot
            have; one line for each mistake.
    """
    if not config.enqueue:
        return []
    path = _path_of(config)
    try:
        hint = f"Check the path; a run's name is looked for in {shown(config.results_dir)}."
        sets = list(_sets(compose(str(path), "enqueue", hint), str(path)))
    except Refused as refused:
        raise ConfigError(str(refused)) from None
    complaints: list[str] = []
    found = [_read(data, f"{shown(path)}: set {number}", complaints) for number, data in enumerate(sets, 1)]
    if complaints:
        raise ConfigError("\n".join(complaints))
    return found


def place(enqueued: list[Params], space: SearchSpace, label: str) -> list[Params]:
    """The sets as configurations of the space; what they leave open is sensible.

    Raises:
        ConfigError: A value is none that is searched; one line for each.
    """
    placed, complaints = [], []
    for number, params in enumerate(enqueued, 1):
        configuration, wrong = space.placed(params)
        placed.append(configuration)
        complaints += [f"enqueue={shown(label)}: set {number}: {each}." for each in wrong]
    if complaints:
        raise ConfigError("\n".join(complaints))
    return placed


def _path_of(config: OptimizationConfig) -> Path:
    """The file, of a folder its best.yaml; a run is known by its name too."""
    path = Path(config.enqueue).expanduser()
    run = Path(config.results_dir).expanduser() / config.enqueue
    if not path.exists() and run.is_dir():
        path = run
    return path / "best.yaml" if path.is_dir() else path


def _sets(node: Any, where: str) -> Iterator[Any]:
    """The mapping nodes that are sets of hyperparameters."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        inner = next((value for key, value in node.value if key.value == "params"), None)
        yield from _sets(inner, where) if inner is not None else [node]
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for item in node.value:
            if not isinstance(item, yaml.MappingNode):
                raise Refused(f"{shown(where)}:{item.start_mark.line + 1}: {_FORMS}")
            yield from _sets(item, where)
    else:
        raise Refused(f"{shown(where)}: {_FORMS}")


def _read(node: Any, where: str, complaints: list[str]) -> Params:
    found: Params = {}
    for key, value in node.value:
        name = str(key.value)
        try:
            found[name] = _value(name, value)
        except Refused as refused:
            complaints.append(f"{where}, line {key.start_mark.line + 1}: {shown(name)}: {refused}")
    return found


def _value(name: str, node: Any) -> ParamValue:
    import yaml

    hyperparameter = known(name)
    if hyperparameter is None:
        raise Refused(f"there is no such hyperparameter.{did_you_mean(name, NAMES)}")
    if hyperparameter.each and hyperparameter.name == name:
        raise Refused(f"there is one for each layer; name each, such as {name}_0.")
    values = read_values([str(node.value).strip()], hyperparameter.kind) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(values, Choices) or len(values.values) != 1:
        raise Refused("one value is tried at a time.")
    return values.values[0]
