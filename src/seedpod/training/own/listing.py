"""What every kind of source comes to: files with their classes. Nothing here opens a picture."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from seedpod.errors import DatasetError
from seedpod.training.own.found import LeftOut

TRAIN, TEST = "train", "test"

_SYSTEM = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
}


@dataclass(frozen=True, slots=True)
class Item:
    """A file that should be a picture.

    Attributes:
        part: ``train`` or ``test``.
        label: Its class.
        path: Where it is.
        name: The same as messages call it: from the source's own folder on.
        stamp: Size and time of its last change.
    """

    part: str
    label: str
    path: Path
    name: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source.

    Attributes:
        root: Its folder.
        items: In an order that is the same on every machine.
        bad: Files that cannot be used, as far as that is known without opening them.
        notes: What a user should know.
        has_test: Whether the source says which of them are for the test.
    """

    root: Path
    items: tuple[Item, ...]
    bad: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    has_test: bool

    @property
    def key(self) -> str:
        """A SHA-256 that changes when a file is added, removed, renamed, or written to: by names, sizes and times."""
        digest = hashlib.sha256(f"{self.root}\0".encode(errors="surrogateescape"))
        for item in self.items:
            line = f"{item.part}\0{item.label}\0{item.name}\0{item.stamp}\n"
            digest.update(line.encode(errors="surrogateescape"))
        for each in self.bad:
            digest.update(f"{each.path}\0{each.reason}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def newest(self) -> float:
        """When a file was last written to, in seconds since the epoch."""
        return max((int(item.stamp.partition(" ")[2]) for item in self.items), default=0) / 1e9


def classes_of(labels: Iterable[str]) -> list[str]:
    """The classes in the order of their numbers: by value where all are whole numbers, else by their letters."""
    found = set(labels)
    numbers = all(_is_whole(label) for label in found)
    return sorted(found, key=lambda label: (int(label) if numbers else 0, label))


def is_ignored(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or an operating system's."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def shown(name: str) -> str:
    """A name as one line of text: composed, so that a Mac's names are those of others, without control characters."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in unicodedata.normalize("NFC", text))


def look_at(path: Path, root: Path, *, is_inside: bool = False) -> str:
    """The stamp of a file that may be used; raises ValueError with the reason where it may not.

    Args:
        path: Of the file.
        root: A resolved folder that it must not lead out of.
        is_inside: Whether it is known to be in there: looking at each folder on the way takes longest of all.
    """
    try:
        if not is_inside and not path.resolve(strict=True).is_relative_to(root):
            raise ValueError("it is a link out of the folder")
        found = path.stat()
    except (OSError, RuntimeError) as error:
        raise ValueError(getattr(error, "strerror", None) or "it cannot be reached") from error
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if not found.st_size:
        raise ValueError("it is empty")
    return f"{found.st_size} {found.st_mtime_ns}"


def entries_of(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder but for what is ignored, by name; raises OSError."""
    with os.scandir(folder) as found:
        yield from sorted((each for each in found if not is_ignored(each.name)), key=lambda each: each.name)


def counted(count: int, what: str) -> str:
    """``1 file``, ``2 files``."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def some_of(names: Iterable[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return f"{', '.join(every[:most]):.200}{more}"


def refuse(label: object, what: str) -> NoReturn:
    """Raise DatasetError."""
    raise DatasetError(f"{label}: {what}.")


def _is_whole(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 18
