"""What was found in a source on the way to its arrays; kept beside them as ``found.json``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from seedpod.errors import DatasetError

FILE = "found.json"
"""Its name in the entry of a data set."""

_NAMED = 3  # files that a refusal names


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not among the images.

    Attributes:
        path: As in the source.
        reason: In words.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a user should know of a source.

    Attributes:
        files: Files that should be pictures.
        bad: Those that cannot be used.
        copies: Those that are the same, byte by byte, as another one of their class.
        notes: What was found and what was done, a sentence or two each.
    """

    files: int = 0
    bad: tuple[LeftOut, ...] = ()
    copies: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, entry: Path) -> Self:
        """What was found when an entry was made; nothing where that is not known."""
        try:
            data = json.loads((entry / FILE).read_bytes())
            bad, copies = (tuple(LeftOut(*map(str, pair)) for pair in data[name]) for name in ("bad", "copies"))
            return cls(int(data["files"]), bad, copies, tuple(map(str, data["notes"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return cls()

    def write(self, entry: Path) -> None:
        """Keep it."""
        record: Mapping[str, Any] = {
            "files": self.files,
            "bad": [[each.path, each.reason] for each in self.bad],
            "copies": [[each.path, each.reason] for each in self.copies],
            "notes": self.notes,
        }
        (entry / FILE).write_text(json.dumps(record, indent=1), encoding="ascii")

    def check(self, label: str, most: float) -> None:
        """Raise DatasetError where more than this share of the files cannot be used; the message names the first."""
        if not self.bad or len(self.bad) <= most * self.files:
            return
        some = "; ".join(f"{each.path}: {each.reason}" for each in self.bad[:_NAMED])
        more = f" and {len(self.bad) - _NAMED:,} more" if len(self.bad) > _NAMED else ""
        raise DatasetError(
            f"{label}: {len(self.bad):,} of {self.files:,} files cannot be used, more than max_bad_files={most:g}: "
            f"{some:.900}{more}. Mend or remove them, or set max_bad_files=1 to go on without them."
        )
