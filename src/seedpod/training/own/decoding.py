"""The pictures of a listing -> one memory-mapped array: in parallel, and in little memory however many there are."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from seedpod.reading import Reading
from seedpod.training.own.choosing import choose
from seedpod.training.own.found import Found, LeftOut
from seedpod.training.own.listing import TEST, Item, Listing, classes_of, counted, refuse, some_of
from seedpod.training.own.rows import Rows
from seedpod.training.pictures import KINDS, Form, Header, PictureError, careful, decode, read_bytes, read_header

LARGEST_SIDE = 64
"""Pixels of the longer side where nobody says: what a CPU trains in minutes, and most classes can be told at."""

_AT_ONCE = 256  # pictures handed to the threads at once
_SMALLEST_SIDE = 8

Array = npt.NDArray[Any]
T = TypeVar("T")
Advance = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A listing's pictures.

    Attributes:
        images: (n, h, w, c) uint8.
        labels: (n,) places in ``classes``.
        test: (n,) whether the source has it for the test.
        classes: In the order of their numbers.
        has_test: Whether the source says which are for the test.
        content: A SHA-256 of all that decides the arrays: the files' names, classes and bytes.
        found: What a user should know.
    """

    images: Rows
    labels: npt.NDArray[np.int64]
    test: npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    has_test: bool
    content: str
    found: Found

    def part(self, *, test: bool) -> tuple[Rows, npt.NDArray[np.int64]]:
        """The images and labels of a part."""
        places = np.flatnonzero(self.test == test)
        return self.images[places], self.labels[places]


def decode_all(label: str, listing: Listing, reading: Reading, work: Path, advance: Advance) -> Decoded:
    """Read a listing's pictures.

    Args:
        label: Names the source in messages.
        listing: What to read.
        reading: Size, colours, and how many.
        work: A folder for the array.
        advance: Is told how far it is.

    Raises:
        DatasetError: Too few can be read, or of one class alone.
    """
    wanted = _chosen(listing.items, reading.max_samples)
    with careful(), ThreadPoolExecutor(_threads()) as threads:
        reader = _Reader(threads, advance)
        headers = reader.headers(wanted)
        good = [item for item in wanted if item in headers]
        bad = [*listing.bad, *reader.bad]
        files = len(wanted) + len(listing.bad)
        Found(files, tuple(bad)).check(label, reading.max_bad_files)
        if not good:
            refuse(label, f"holds no picture that can be read{_first(bad)}; it must be {KINDS}")
        form, told = _form([headers[item] for item in good], reading)
        pixels, hashes = reader.pixels(good, form, work)
    bad = [*listing.bad, *reader.bad]
    kept, copies, contradictions = _unique(good, hashes)
    bad += contradictions
    found = Found(files, tuple(sorted(bad, key=lambda each: each.path)), tuple(copies))
    found.check(label, reading.max_bad_files)
    return _decoded(label, listing, [(good[i], i) for i in kept], (pixels, hashes), (found, told))


class _Reader:
    """Reads files in threads: Pillow decodes outside of the interpreter's lock."""

    def __init__(self, threads: ThreadPoolExecutor, advance: Advance) -> None:
        self._threads = threads
        self._advance = advance
        self.bad: list[LeftOut] = []

    def headers(self, items: Sequence[Item]) -> dict[Item, Header]:
        """What the pictures are like, as far as their headers can be read."""
        return dict(self._each("looking at", items, lambda item: read_header(read_bytes(item.path))))

    def pixels(self, items: Sequence[Item], form: Form, work: Path) -> tuple[Array, dict[int, bytes]]:
        """An array with a place for each of the pictures, and the SHA-256 of those that could be read, by place."""
        shape = (len(items), form.height, form.width, form.channels)
        array = np.lib.format.open_memmap(work / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        # A full disk is an error here, and a crash of whoever writes into a file that is mapped.
        with (work / "pixels.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, array.nbytes + array.offset)
        places = {item: i for i, item in enumerate(items)}

        def read(item: Item) -> bytes:
            data = read_bytes(item.path)
            array[places[item]] = decode(data, form)
            return hashlib.sha256(data).digest()

        return array, {places[item]: digest for item, digest in self._each("reading", items, read)}

    def _each(self, what: str, items: Sequence[Item], read: Callable[[Item], T]) -> Iterator[tuple[Item, T]]:
        def safely(item: Item) -> T | PictureError:
            try:
                return read(item)
            except PictureError as error:
                return error

        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            for item, answer in zip(some, self._threads.map(safely, some), strict=True):
                if isinstance(answer, PictureError):
                    self.bad.append(LeftOut(item.name, str(answer)))
                else:
                    yield item, answer
            self._advance(what, start + len(some), len(items))


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen(items: Sequence[Item], most: int) -> list[Item]:
    if not most:
        return list(items)
    groups = {group: i for i, group in enumerate(sorted({(item.part, item.label) for item in items}))}
    numbers = np.array([groups[item.part, item.label] for item in items], np.int64)
    return [items[i] for i in choose(numbers, most)]


def _form(headers: Sequence[Header], reading: Reading) -> tuple[Form, str]:
    """The one form that the pictures are brought to, and a sentence on why it is that one."""
    sizes = Counter((header.height, header.width) for header in headers)
    grey = sum(header.grey for header in headers)
    channels = {"grayscale": 1, "rgb": 3}.get(reading.color_mode, 1 if grey == len(headers) else 3)
    if reading.image_size is not None:
        (height, width), why = reading.image_size, "as image_size says"
    else:
        (height, width), why = _size(sizes)
    colours = "grayscale" if channels == 1 else "rgb"
    if reading.color_mode == "auto" and 0 < grey < len(headers):
        colours += f" ({grey:,} are gray)"
    return Form(height, width, channels, "uint8", 0.0, 255.0), f"{height}x{width} {colours}, {why}"


def _size(sizes: Counter[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    heights, widths = (np.array([size[i] for size in sizes.elements()]) for i in (0, 1))
    common = (int(np.median(heights)), int(np.median(widths)))
    if len(sizes) == 1 and max(common) <= LARGEST_SIDE and min(common) > 1:
        return common, "as all of them are"
    scale = min(1.0, LARGEST_SIDE / max(common))
    height, width = (max(_SMALLEST_SIDE, round(side * scale)) for side in common)
    if len(sizes) == 1:
        theirs = f"they are {common[0]}x{common[1]}"
    else:
        theirs = f"they are from {heights.min()}x{widths.min()} to {heights.max()}x{widths.max()}"
    return (height, width), f"{theirs}; image_size= chooses another"


def _unique(items: Sequence[Item], hashes: dict[int, bytes]) -> tuple[list[int], list[LeftOut], list[LeftOut]]:
    """The places of pictures that are kept, copies that are left out, and pictures that are in several classes.

    One copy in training and another in the test would make the test a question of memory; so of equal files one is
    kept, that of the test first. A file in two classes is wrong in one of them, and nobody knows in which.
    """
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for place in sorted(hashes):
        by_content[hashes[place]].append(place)
    kept, copies, contradictions = [], [], []
    for places in by_content.values():
        classes = {items[place].label for place in places}
        if len(classes) > 1:
            for place in places:
                other = next(items[i] for i in places if items[i].label != items[place].label)
                reason = f"the same file is in class {other.label} too, as {other.name}: only one can be right"
                contradictions.append(LeftOut(items[place].name, reason))
            continue
        first = min(places, key=lambda place: (items[place].part != TEST, place))
        kept.append(first)
        copies += [LeftOut(items[i].name, f"it is a copy of {items[first].name}") for i in places if i != first]
    return sorted(kept), copies, contradictions


def _decoded(
    label: str,
    listing: Listing,
    kept: Sequence[tuple[Item, int]],
    read: tuple[Array, dict[int, bytes]],
    known: tuple[Found, str],
) -> Decoded:
    (pixels, hashes), (found, told) = read, known
    if not kept:
        refuse(label, f"holds no picture that can be used{_first(found.bad)}")
    classes = classes_of(item.label for item, _ in kept if item.part != TEST)
    missing = sorted({item.label for item, _ in kept} - set(classes))
    if missing:
        refuse(label, f"has test images of {some_of(missing)} and none to train on; add such images or drop them")
    if len(classes) < 2:
        refuse(label, f"holds one class only ({some_of(classes)}); a classifier needs at least two")
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([numbers[item.label] for item, _ in kept], np.int64)
    test = np.array([item.part == TEST for item, _ in kept])
    digest = hashlib.sha256()
    for item, place in kept:
        digest.update(f"{item.part}\0{item.label}\0{item.name}\0".encode() + hashes[place])
    for each in (*found.bad, *found.copies):
        digest.update(f"{each.path}\0{each.reason}\0".encode())
    lost = sorted({item.label for item in listing.items} - set(classes))
    notes = [*_summary(labels, classes, found, told), *listing.notes, *_warnings(labels, test, classes, lost)]
    if listing.has_test and not test.any():
        refuse(label, "has no test picture that can be used; mend them, or leave the part for the test away")
    return Decoded(
        images=Rows(pixels, np.array([place for _, place in kept], np.int64)),
        labels=labels,
        test=test,
        classes=tuple(classes),
        has_test=listing.has_test,
        content=digest.hexdigest(),
        found=Found(found.files, found.bad, found.copies, tuple(notes)),
    )


def _summary(labels: npt.NDArray[np.int64], classes: Sequence[str], found: Found, told: str) -> Iterator[str]:
    counts = np.bincount(labels, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    sizes = (
        f"each with {counts[least]:,}"
        if counts[least] == counts[most]
        else f"from {classes[least]} with {counts[least]:,} to {classes[most]} with {counts[most]:,}"
    )
    yield f"{len(labels):,} pictures in {len(classes)} classes, {sizes}; read as {told}."
    if found.bad:
        first = found.bad[0]
        yield f"{counted(len(found.bad), 'file')} left out as unusable, such as {first.path}: {first.reason}."
    if found.copies:
        yield f"{counted(len(found.copies), 'file')} left out as copies of others: no picture is in two parts."


def _warnings(
    labels: npt.NDArray[np.int64], test: npt.NDArray[np.bool_], classes: Sequence[str], lost: Sequence[str]
) -> Iterator[str]:
    if lost:
        yield f"{counted(len(lost), 'class')} without a usable picture, left out: {some_of(lost)}."
    training = np.bincount(labels[~test], minlength=len(classes))
    alone = [classes[i] for i in np.flatnonzero(training == 1).tolist()]
    if alone:
        yield (
            f"{counted(len(alone), 'class')} with a single picture to train on, which nothing validates: "
            f"{some_of(alone)}."
        )
    if test.any():
        testing = np.bincount(labels[test], minlength=len(classes))
        untested = [classes[i] for i in np.flatnonzero(testing == 0).tolist()]
        if untested:
            named = some_of(untested)
            yield f"{counted(len(untested), 'class')} without a test picture, which nothing measures: {named}."


def _first(bad: Sequence[LeftOut]) -> str:
    return f" (the first: {bad[0].path}: {bad[0].reason})" if bad else ""
