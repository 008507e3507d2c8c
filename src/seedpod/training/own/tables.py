"""A table of paths and labels, in CSV or Parquet -> a listing."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seedpod.extras import how_to_have, is_installed
from seedpod.training.own.found import LeftOut
from seedpod.training.own.listing import TEST, TRAIN, Item, Listing, counted, look_at, refuse, shown, some_of

SUFFIXES = (".csv", ".parquet")

_PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file")
_LABELS = ("label", "class", "target", "category", "class_name", "label_name", "y")
_SPLITS = ("split", "part", "subset", "set")
_PARTS = {
    "": TRAIN,
    "train": TRAIN,
    "training": TRAIN,
    "val": TRAIN,
    "valid": TRAIN,
    "validation": TRAIN,
    "test": TEST,
    "testing": TEST,
}
_DELIMITERS = ",;\t|"
_MOST_BYTES = 2_000_000_000

Column = Sequence[Any]


def list_table(label: str, given: Path) -> Listing:
    """List what a table names. Its paths begin at its own folder and must not lead out of that.

    Columns are found by their names: one of paths (path, file, filename, image), one of labels (label, class, target,
    category) and, where there is one, of parts (split), which holds train, val or test.

    Args:
        label: Names the source in messages.
        given: The table.

    Raises:
        DatasetError: It cannot be read or lacks a column; the message says what to do.
    """
    path = given.resolve()
    columns = _parquet(label, path) if path.suffix.casefold() == ".parquet" else _csv(label, path)
    paths = _column(label, columns, "paths", _PATHS)
    labels = _column(label, columns, "labels", _LABELS)
    split = next((column for name, column in columns.items() if name.strip().casefold() in _SPLITS), None)
    if not len(paths):
        refuse(label, "has no rows; give a line for each picture")
    texts = _labels(label, labels)
    parts = _split(label, split, len(paths))
    items, bad = _items(path.parent, paths, texts, parts)
    twice = len(items) - len({item.path for item in items})
    notes = [f"{counted(twice, 'row')} name a picture that another row names too."] if twice else []
    items.sort(key=lambda item: (item.part, item.name))
    return Listing(path.parent, tuple(items), tuple(bad), tuple(notes), TEST in parts)


def _items(root: Path, paths: Column, labels: Sequence[str], parts: Sequence[str]) -> tuple[list[Item], list[LeftOut]]:
    items, bad = [], []
    for row, (given, label, part) in enumerate(zip(paths, labels, parts, strict=True), 1):
        text = "" if given is None else str(given).strip()
        name = shown(text) or f"row {row}"
        if not text or not label:
            bad.append(LeftOut(name, "it has no label" if text else "it has no path"))
            continue
        try:
            path = _path(root, text)
            items.append(Item(part, label, path, name, look_at(path, root)))
        except ValueError as error:
            bad.append(LeftOut(name, str(error)))
    return items, bad


def _path(root: Path, text: str) -> Path:
    if "\0" in text:
        raise ValueError("its path holds a NUL character")
    path = root / text
    try:
        return root / text.replace("\\", "/") if "\\" in text and not path.exists() else path
    except OSError as error:
        raise ValueError(error.strerror or "its path cannot be used") from error


def _column(label: str, columns: Mapping[str, Column], what: str, names: Iterable[str]) -> Column:
    known = {name.strip().casefold(): column for name, column in columns.items()}
    found = next((known[name] for name in names if name in known), None)
    if found is None:
        there = some_of((shown(name) for name in columns), 8) or "none"
        refuse(label, f"has no column of {what} (columns found: {there}); name it {' or '.join(list(names)[:3])}")
    return found


def _split(label: str, column: Column | None, count: int) -> list[str]:
    if column is None:
        return [TRAIN] * count
    words = ["" if each is None else str(each).strip().casefold() for each in column]
    unknown = sorted(set(words) - set(_PARTS))
    if unknown:
        refuse(label, f"has {some_of(map(shown, unknown))} as parts; write train, val or test")
    return [_PARTS[word] for word in words]


def _labels(label: str, column: Column) -> list[str]:
    """The labels as text; whole numbers however they are written as whole numbers."""
    texts = [_text(value) for value in column]
    numbers = [_number(text) for text in texts if text]
    if any(number is None for number in numbers):
        return [shown(text) for text in texts]
    if any(number is not None and not number.is_integer() for number in numbers):
        refuse(label, "has labels with fractions; a classifier needs classes: whole numbers or names")
    # Of text such as 007 only a whole column of numbers with a decimal point is rewritten.
    if any("." in text or "e" in text.casefold() for text in texts):
        return [str(int(float(text))) if text else "" for text in texts]
    return texts


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip()


def _number(text: str) -> float | None:
    """A finite number; None of anything else. Python's underscores and words such as ``nan`` are names here."""
    if not text.isascii() or "_" in text or not any(c.isdigit() for c in text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _csv(label: str, path: Path) -> dict[str, Column]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            refuse(label, f"is larger than {_MOST_BYTES:,} bytes; divide it")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        refuse(label, "is no text in UTF-8; save it as such")
    except OSError as error:
        refuse(label, f"cannot be read ({error.strerror})")
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        refuse(label, f"is no table in CSV ({error})")
    if not rows:
        refuse(label, "is empty; its first line must name the columns, such as path,label")
    width = len(rows[0])
    # Each in its own line of the file is more than most know of a table; a short row has no label then.
    cells = [[*row, *[""] * (width - len(row))][:width] for row in rows[1:]]
    return {name: [row[i] for row in cells] for i, name in enumerate(rows[0])}


def _parquet(label: str, path: Path) -> dict[str, Column]:
    if not is_installed("pyarrow"):
        refuse(label, f"needs pyarrow to be read. {how_to_have(('parquet',))}; or give a .csv")
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = [n for n in file.schema_arrow.names if n.strip().casefold() in {*_PATHS, *_LABELS, *_SPLITS}]
            there = file.schema_arrow.names
            table = file.read(columns=names) if names else None
        columns = {name: table.column(name).to_pylist() for name in names} if table is not None else {}
    except Exception as error:  # noqa: BLE001 - damaged files make pyarrow raise nearly anything
        refuse(label, f"is damaged or no Parquet file ({' '.join(str(error).split()):.200})")
    return {**dict.fromkeys(there, ()), **columns}
