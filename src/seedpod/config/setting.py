"""What a field of the config says about itself."""

from dataclasses import dataclass
from typing import Any

from seedpod.config.kinds import Kind, Raw
from seedpod.config.wording import Refused


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: The key, as in ``key=value``.
        default: The value where nothing else is given.
        group: The heading that it stands under.
        kind: Its type, range or choices, and unit.
        help: What it does, in a few words.
        awaits: The work without which only the default is taken; empty once that is built.
    """

    name: str
    default: Any
    group: str
    kind: Kind
    help: str
    awaits: str = ""

    def parse(self, raw: Raw) -> Any:
        """The valid value that a text stands for; raises Refused."""
        value = self.kind.parse(raw)
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Raises Refused where the setting does not take ``value``."""
        if self.awaits and value != self.default:
            raise Refused(
                f"this version of seedpod does not have {self.name} yet; it awaits {self.awaits}. "
                f"Leave it at its default, {self.kind.show(self.default)}."
            )
        self.kind.check(value)


def about(group: str, kind: Kind, text: str, *, awaits: str = "") -> dict[str, Any]:
    """A field's metadata: the arguments of its ``Setting`` that the field itself does not know."""
    return {"group": group, "kind": kind, "help": text, "awaits": awaits}
