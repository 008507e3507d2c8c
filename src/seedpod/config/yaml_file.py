"""``config=FILE.yaml``: one ``key: value`` a line. Every scalar is text here, so that `1e-05`, `yes` and `08` mean in a
file what they mean on the command line.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from seedpod.config.kinds import Raw
from seedpod.config.wording import Refused, shown

if TYPE_CHECKING:
    import yaml

Line = tuple[str, Raw, int]
"""Key, value, and the line that the key stands on, from 1."""

_TEXT_TAG = "tag:yaml.org,2002:str"
_LIST_TAG = "tag:yaml.org,2002:seq"
_NOTHING = {"", "~", "null"}


def read_yaml(path: str) -> tuple[list[Line], list[str]]:
    """The file's settings in order, and a complaint for each line that is not one.

    Keys may come twice and need not be known: that is the caller's to judge.
    """
    try:
        node = compose(path, "config")
        pairs = _pairs(path, node)
    except Refused as refused:
        return [], [str(refused)]
    lines: list[Line] = []
    complaints: list[str] = []
    for key, value in pairs:
        try:
            lines.append((_key(key), _value(value), key.start_mark.line + 1))
        except Refused as refused:
            complaints.append(f"{shown(path)}:{key.start_mark.line + 1}: {refused}")
    return lines, complaints


def compose(path: str, setting: str, otherwise: str = "Check the path.") -> "yaml.Node | None":
    """The file's content, every scalar as text with its line; None where it is empty.

    Args:
        path: Of the file.
        setting: That names it on the command line.
        otherwise: What to do where there is no such file.

    Raises:
        Refused: It cannot be read, or is no YAML; the message is the whole complaint.
    """
    import yaml

    text = _read(path, setting, otherwise)
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        # A forbidden character; `position` counts from the start of the text.
        line = text.count("\n", 0, error.position) + 1
        raise Refused(f"{shown(path)}:{line}: the file holds a character that YAML does not allow.") from None
    except yaml.MarkedYAMLError as error:
        # A line without its colon is noticed only after it; where it began is the context then.
        mark = error.context_mark if error.context == "while scanning a simple key" else error.problem_mark
        line = mark.line + 1 if mark else 1
        problem = shown(error.problem or error.context or "unreadable")
        raise Refused(f"{shown(path)}:{line}: this is not valid YAML: {problem}.") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        # PyYAML lets chr() and int() fail on odd escapes, and recurses into nested lists.
        raise Refused(f"{shown(path)}:1: this is not valid YAML: {shown(error)}.") from None
    return node


def _read(path: str, setting: str, otherwise: str) -> str:
    where = f"{setting}={shown(path)}" + (" (command line)" if setting == "config" else "")
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Refused(f"{where}: there is no such file. {otherwise}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Refused(f"{shown(path)}:{line}: the file is not UTF-8 text.") from None
    except OSError as error:
        raise Refused(f"{where}: the file cannot be read: {error.strerror}.") from None
    except (ValueError, RuntimeError):  # NUL in the name; ~ of somebody unknown
        raise Refused(f"{where}: this is not a path.") from None


def _pairs(path: str, node: "yaml.Node | None") -> "list[tuple[yaml.Node, yaml.Node]]":
    import yaml

    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise Refused(f"{shown(path)}:{line}: the file must hold lines of the form `key: value`, such as `trials: 5`.")
    return list(node.value)


def _key(node: "yaml.Node") -> str:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise Refused("a key must be one word, such as `trials`.")
    return str(node.value)


def _value(node: "yaml.Node") -> Raw:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        if node.tag != _LIST_TAG or not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise Refused("a list may hold plain values only.")
        return tuple(_scalar(item) for item in node.value)
    if not isinstance(node, yaml.ScalarNode):
        raise Refused("settings are not nested; write each as one `key: value`.")
    return _scalar(node)


def _scalar(node: "yaml.ScalarNode") -> str:
    text = str(node.value)
    if node.tag != _TEXT_TAG:
        raise Refused(f"the tag {shown(node.tag)} is not read; write the value alone.")
    if node.style is None and text.casefold() in _NOTHING:
        raise Refused("the value is empty. Remove the line to have the default.")
    return text
