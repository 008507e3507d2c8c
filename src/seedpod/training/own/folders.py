"""A folder of class folders -> a listing."""

from collections.abc import Iterator
from pathlib import Path

from seedpod.training.own.found import LeftOut
from seedpod.training.own.listing import (
    TEST,
    TRAIN,
    Item,
    Listing,
    counted,
    entries_of,
    look_at,
    refuse,
    shown,
    some_of,
)

_VALIDATION = "validation"
_PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": _VALIDATION,
    "valid": _VALIDATION,
    "validation": _VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_DEEPEST = 5  # folders that hold nothing but another one


def list_folder(label: str, given: Path) -> Listing:
    """List a folder of class folders, or one with such folders in ``train``, ``val`` and ``test``.

    Files may lie in folders below their class's. Links to files within the folder are followed, all others are not.

    Args:
        label: Names the source in messages.
        given: The folder.

    Raises:
        DatasetError: There are no class folders; the message says what to do.
    """
    try:
        root = given.resolve(strict=True)
        top = _top(root)
        parts = _parts(label, top)
        walk = _Walk(root)
        for name, folder in parts:
            walk.add_part(name, folder)
        beside = sum(entry.is_file() for _, folder in parts for entry in entries_of(folder))
    except OSError as error:
        refuse(label, f"cannot be read ({error.strerror}: {error.filename}); give a folder that can")
    if not walk.classes:
        pictures = "holds files and no class folders" if beside else "is empty"
        refuse(label, f"{pictures}; put the pictures of each class into a folder of that class's name")
    notes = []
    if walk.empty:
        names = some_of(sorted(set(walk.empty)))
        notes.append(f"{counted(len(set(walk.empty)), 'class folder')} without a file, left out: {names}.")
    if beside:
        notes.append(f"{counted(beside, 'file')} beside the class folders, left out.")
    if any(name == _VALIDATION for name, _ in parts):
        notes.append("What is for validation is trained and validated on like the rest: validation_split divides it.")
    items = sorted(walk.items, key=lambda item: (item.part, item.name))
    return Listing(root, tuple(items), tuple(walk.bad), tuple(notes), any(name == TEST for name, _ in parts))


def _top(root: Path) -> Path:
    """The folder of the class folders: most archives have one folder around everything."""
    for _ in range(_DEEPEST):
        folders = [entry for entry in entries_of(root) if entry.is_dir(follow_symlinks=False)]
        if len(folders) != 1 or folders[0].name.casefold() in _PARTS:
            break
        inside = Path(folders[0].path)
        if not any(entry.is_dir(follow_symlinks=False) for entry in entries_of(inside)):
            break
        root = inside
    return root


def _parts(label: str, top: Path) -> list[tuple[str, Path]]:
    """Each part's folder; the whole is for training where there are none."""
    found = [
        (_PARTS[entry.name.casefold()], Path(entry.path))
        for entry in entries_of(top)
        if entry.is_dir(follow_symlinks=False) and entry.name.casefold() in _PARTS
    ]
    names = {name for name, _ in found}
    if TRAIN in names:
        return found
    if names == {_VALIDATION, TEST}:
        refuse(label, "has folders for validation and test and none for training; name that one train")
    return [(TRAIN, top)]


class _Walk:
    """Collects the files of class folders."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.items: list[Item] = []
        self.bad: list[LeftOut] = []
        self.classes: set[str] = set()
        self.empty: list[str] = []

    def add_part(self, part: str, folder: Path) -> None:
        """Add the class folders of a folder."""
        for entry in entries_of(folder):
            if entry.is_symlink() and entry.is_dir():
                self.bad.append(
                    LeftOut(self._name(Path(entry.path)), "it is a link to a folder, which is not followed")
                )
            elif entry.is_dir():
                before = len(self.items) + len(self.bad)
                self.classes.add(shown(entry.name))
                self._add_class(TEST if part == TEST else TRAIN, shown(entry.name), Path(entry.path))
                if len(self.items) + len(self.bad) == before:
                    self.empty.append(self._name(Path(entry.path)))

    def _add_class(self, part: str, label: str, folder: Path) -> None:
        for path, is_link in self._files(folder):
            name = self._name(path)
            try:
                stamp = look_at(path, self._root, is_inside=not is_link)
                self.items.append(Item(part, label, path, name, stamp))
            except ValueError as error:
                self.bad.append(LeftOut(name, str(error)))

    def _files(self, folder: Path) -> Iterator[tuple[Path, bool]]:
        """The files below a folder, and whether each is a link."""
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                for entry in entries_of(here):
                    path = Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.is_symlink() and entry.is_dir():
                        self.bad.append(LeftOut(self._name(path), "it is a link to a folder, which is not followed"))
                    else:
                        yield path, entry.is_symlink()
            except OSError as error:
                self.bad.append(LeftOut(self._name(here), f"it cannot be read ({error.strerror})"))

    def _name(self, path: Path) -> str:
        return shown(path.relative_to(self._root).as_posix())
