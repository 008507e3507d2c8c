"""Search spaces as people write them: a YAML file or a name, and what the command line changes of it.

::

    conv_blocks: 1..4                                          # values, see seedpod.search.values
    optimizer: {values: [adamw, sgd], default: sgd}            # trial 0 tries sgd
    momentum: {values: 0.8..0.98, when: {optimizer: sgd}}      # elsewhere momentum is what it is without a line
    filters: 16..64:16                                         # of every block
    filters_0: 8..32:8                                         # of the first block
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from seedpod.config import OptimizationConfig
from seedpod.config.wording import Refused, complaint, did_you_mean, joined, shown
from seedpod.config.yaml_file import compose
from seedpod.errors import ConfigError
from seedpod.hyperparameters import NAMES, Hyperparameter, expanded, known
from seedpod.search.values import Choices, Values, read_values, show
from seedpod.trial import ParamValue

if TYPE_CHECKING:
    import yaml

SHIPPED = ("small", "default", "wide")
_KEYS = ("values", "when", "default")
_FORMS = "write a value, a list, a range such as 16..64:16, or {values: ..., when: ..., default: ...}."


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a space says of one hyperparameter.

    Attributes:
        values: What may be tried; None where the space says nothing, which fixes it at what is sensible.
        when: Values that other hyperparameters must have for these values to be tried; elsewhere it is sensible.
        default: What trial 0 tries.
        origin: Where it is written.
    """

    values: Values | None = None
    when: tuple[tuple[str, Values], ...] = ()
    default: ParamValue | None = None
    origin: str = ""

    def __str__(self) -> str:
        """All that decides a study: equal texts, equal searches."""
        conditions = ", ".join(f"{name}={values}" for name, values in self.when)
        parts = [
            str(self.values) if self.values else "sensible",
            f"when {conditions}" if conditions else "",
            f"default {show(self.default)}" if self.default is not None else "",
        ]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Definition:
    """A search space before it meets images.

    Attributes:
        label: How the user named it.
        parameters: By the names that trials have; all of them, each behind those that it depends on.
    """

    label: str
    parameters: Mapping[str, Parameter]

    @property
    def terms(self) -> dict[str, str]:
        """What must be equal for two runs to search alike, by name."""
        return {f"space.{name}": str(parameter) for name, parameter in self.parameters.items()}


def read_definition(config: OptimizationConfig) -> Definition:
    """The space that the settings name, with what they change of it.

    Raises:
        ConfigError: The file cannot be read, or a line of it or a change is no use; one line for each mistake, each
            with file, line, path of the key and what is allowed.
    """
    label = f"search_space={shown(config.search_space)}"
    found, complaints = _from_file(_path_of(config.search_space), config.search_space)
    changes = [("space", text) for text in config.space] + [("fix", text) for text in config.fix]
    if config.activation:
        changes.insert(0, ("", f"activation={','.join(config.activation)}"))
    for setting, text in changes:
        name, _, values = text.partition("=")
        origin = f"{setting}.{name}={values}" if setting else text
        try:
            _change(found, name, values, origin, fixed=setting == "fix")
        except Refused as refused:
            complaints.append(f"{shown(origin)}: {refused}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return Definition(label, _ordered({name: found.get(name, Parameter()) for name in _all_names()}))


def _path_of(space: str) -> Path:
    """The file of a space; one that comes with seedpod lies in its package, or in a checkout in ``configs``."""
    if space not in SHIPPED:
        return Path(space).expanduser()
    inside = Path(__file__).parents[1] / "search_spaces" / f"{space}.yaml"
    return inside if inside.is_file() else Path(__file__).parents[3] / "configs" / "search_spaces" / f"{space}.yaml"


def _from_file(path: Path, label: str) -> tuple[dict[str, Parameter], list[str]]:
    """What a file says, by the names that trials have, and what is wrong with it."""
    import yaml

    name = label if label in SHIPPED else str(path)
    try:
        hint = did_you_mean(label, SHIPPED)
        node = compose(str(path), "search_space", f"Check the path, or use one of {joined(SHIPPED)}.{hint}")
    except Refused as refused:
        return {}, [str(refused)]
    if node is None or (isinstance(node, yaml.MappingNode) and not node.value):
        how = f"write a line for each hyperparameter, such as `kernel_size: [3, 5]`, or use one of {joined(SHIPPED)}."
        return {}, [f"{shown(name)}: is empty, so that there is nothing to search; {how}"]
    if not isinstance(node, yaml.MappingNode):
        return {}, [
            f"{shown(name)}:{node.start_mark.line + 1}: a search space is lines of the form `kernel_size: [3, 5]`."
        ]
    found: dict[str, Parameter] = {}
    written: dict[str, int] = {}
    complaints: list[str] = []
    for key, value in node.value:
        where = f"{shown(name)}:{key.start_mark.line + 1}"
        word = str(getattr(key, "value", ""))
        if word in written:
            complaints.append(f"{where}: {shown(word)}: is given twice, first in line {written[word]}; keep one.")
            continue
        written[word] = key.start_mark.line + 1
        try:
            parameter = replace(_parameter(word, value), origin=f"{where}: {word}")
        except Refused as refused:
            complaints.append(f"{where}: {shown(word)}: {refused}")
            continue
        for each in _names_of(word):
            if each == word or each not in written:  # a line for one layer wins over that for all
                found[each] = parameter
    return found, complaints


def _parameter(name: str, node: "yaml.Node") -> Parameter:
    import yaml

    hyperparameter = _known(name)
    if not isinstance(node, yaml.MappingNode):
        return Parameter(_values(hyperparameter, node))
    parts = {str(key.value): value for key, value in node.value}
    wrong = next((key for key in parts if key not in _KEYS), None)
    if wrong is not None:
        raise Refused(f"{shown(wrong)} is not known here; {_FORMS}{did_you_mean(wrong, _KEYS)}")
    if "values" not in parts:
        raise Refused(f"values is missing; {_FORMS}")
    values = _values(hyperparameter, parts["values"], "values: ")
    default = None
    if "default" in parts:
        chosen = _values(hyperparameter, parts["default"], "default: ")
        if not isinstance(chosen, Choices) or len(chosen.values) != 1:
            raise Refused("default: is one value.")
        default = chosen.values[0]
        if not values.holds(default):
            raise Refused(f"default: {show(default)} is none of its values, {values}.")
    return Parameter(values, tuple(_conditions(name, parts["when"])) if "when" in parts else (), default)


def _conditions(name: str, node: "yaml.Node") -> Iterator[tuple[str, Values]]:
    import yaml

    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise Refused("when: names other hyperparameters and their values, such as {optimizer: [sgd, adamw]}.")
    for key, value in node.value:
        other = str(key.value)
        try:
            hyperparameter = _known(other)
        except Refused as refused:
            raise Refused(f"when: {shown(other)}: {refused}") from None
        if other not in _all_names():
            raise Refused(f"when: {other}: there is one for each layer; name one, such as {other}_0.")
        if other == name:
            raise Refused("when: it cannot depend on itself.")
        yield other, _values(hyperparameter, value, f"when: {other}: ")


def _values(hyperparameter: Hyperparameter, node: "yaml.Node", where: str = "") -> Values:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        if not node.value or not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise Refused(f"{where}a list holds one value or more, and nothing nested.")
        text: str | list[str] = [str(item.value).strip() for item in node.value]
    elif isinstance(node, yaml.ScalarNode):
        text = str(node.value).strip()
    else:
        raise Refused(f"{where}{_FORMS}")
    if not text:
        raise Refused(f"{where}the value is empty; {_FORMS}")
    try:
        return read_values(text, hyperparameter.kind)
    except Refused as refused:
        raise Refused(f"{where}{refused}") from None


def _change(found: dict[str, Parameter], name: str, text: str, origin: str, *, fixed: bool) -> None:
    """Apply one ``fix.name=text`` or ``space.name=text``."""
    hyperparameter = _known(name)
    for each in _names_of(name):
        before = found.get(each, Parameter())
        values = read_values(text, hyperparameter.kind, before.values)
        if fixed and not (isinstance(values, Choices) and len(values.values) == 1):
            raise Refused(f"takes one value; several are written space.{name}={shown(text)}.")
        default = before.default if before.default is not None and values.holds(before.default) else None
        found[each] = Parameter(values, () if fixed else before.when, default, origin)


def _known(name: str) -> Hyperparameter:
    found = known(name)
    if found is None:
        hint = did_you_mean(name, NAMES, otherwise=f"There are {joined(NAMES, 'and')}.")
        raise Refused(f"there is no such hyperparameter.{hint}")
    return found


def _names_of(name: str) -> tuple[str, ...]:
    return expanded(name) if name in NAMES else (name,)


def _all_names() -> tuple[str, ...]:
    return tuple(each for name in NAMES for each in expanded(name))


def _needs(name: str, parameter: Parameter) -> list[str]:
    """The hyperparameters that must be known before this one."""
    inherent = known(name)
    needs = [other for other, _ in parameter.when]
    if inherent is not None and inherent.each:
        needs.append(inherent.each)
    if inherent is not None and inherent.only is not None:
        needs.append(inherent.only.name)
    return needs


def _ordered(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters, each behind those that it depends on; raises ConfigError where they depend in a circle."""
    ordered: dict[str, Parameter] = {}
    left = dict(parameters)
    while left:
        ready = next((n for n, p in left.items() if all(need in ordered for need in _needs(n, p))), None)
        if ready is None:
            circle = [name for name, parameter in left.items() if parameter.when]
            origin = left[circle[0]].origin
            raise ConfigError(complaint(origin, "", f"when: {joined(circle, 'and')} depend on each other in a circle."))
        ordered[ready] = left.pop(ready)
    return ordered
