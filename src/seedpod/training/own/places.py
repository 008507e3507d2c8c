"""What ``dataset=`` leads to."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from seedpod.errors import DatasetError
from seedpod.training.own.folders import list_folder
from seedpod.training.own.listing import Listing, entries_of, refuse
from seedpod.training.own.tables import SUFFIXES, list_table

Advance = Callable[[str, int, int], None]
"""Is told what is done, and how much of how much is."""


class Kind(StrEnum):
    """What is at a place."""

    FOLDER = "folder"
    TABLE = "table"
    ZIP = "zip"
    NPZ = "npz"


@dataclass(frozen=True, slots=True)
class Place:
    """Where images are.

    Attributes:
        label: How messages call it.
        stem: Its name in characters that every file system takes.
        path: A file or folder.
        kind: What that is.
    """

    label: str
    stem: str
    path: Path
    kind: Kind

    def listing(self) -> Listing:
        """The files of a folder or a table."""
        return list_table(self.label, self.path) if self.kind is Kind.TABLE else list_folder(self.label, self.path)


def place_of(label: str, path: Path) -> Place:
    """What is at a path; raises DatasetError where that is nothing that can be read."""
    if path.is_dir():
        return Place(label, _stem(path.resolve().name), path, Kind.FOLDER)
    suffix = path.suffix.casefold()
    kind = Kind.TABLE if suffix in SUFFIXES else Kind.ZIP if suffix == ".zip" else Kind.NPZ
    return Place(label, _stem(path.stem), path, kind)


def inside(label: str, stem: str, folder: Path) -> Place:
    """What an archive holds: an .npz or a table where there is one such file, else class folders.

    Args:
        label: Names the archive in messages.
        stem: Its name.
        folder: What it was unpacked into.
    """
    here = folder
    while True:
        entries = list(entries_of(here))
        files = [Path(entry.path) for entry in entries if entry.is_file()]
        folders = [Path(entry.path) for entry in entries if entry.is_dir()]
        arrays, tables = ([path for path in files if path.suffix.casefold() in each] for each in ((".npz",), SUFFIXES))
        if len(arrays) == 1 and not folders:
            return Place(label, stem, arrays[0], Kind.NPZ)
        if len(tables) == 1 and _is_listing(label, tables[0]):
            return Place(label, stem, tables[0], Kind.TABLE)
        if not folders:
            refuse(label, "holds no class folders, no table and no .npz; pack one of these")
        if len(folders) > 1 or files:
            return Place(label, stem, folder, Kind.FOLDER)
        here = folders[0]


def _is_listing(label: str, table: Path) -> bool:
    """Whether a table beside folders says what their pictures are, or something else."""
    try:
        return bool(list_table(label, table).items)
    except DatasetError:
        return False


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "images"
