"""A prepared data set as one object that travels: a plain tar of its manifest and its training arrays.

The same data set is the same bytes on every machine, so that the object can be named by its SHA-256. The test arrays
stay behind: no worker has a test image, so no trial can have seen one.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from seedpod.training.datasets import TRAINING, entry_of

MANIFEST = "manifest.json"
_NAMES = (MANIFEST, *(f"{name}.npy" for name in TRAINING))
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20  # bytes that are copied or hashed at a time


@dataclass(frozen=True, slots=True)
class Pack:
    """The object of one prepared data set; its bytes are read from the data set's own files when they are asked for.

    Attributes:
        dataset: The data set's id.
        pieces: What the object is made of, one after the other: bytes, or a file with its size.
        size: Bytes in all.
        sha256: Of all of them, in hex.
    """

    dataset: str
    pieces: tuple[bytes | tuple[Path, int], ...]
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """What the object is called."""
        return f"{self.sha256}.tar"

    def read(self, offset: int, count: int) -> bytes:
        """So many bytes from there on; fewer at the end. Safe from any thread."""
        found, begin = io.BytesIO(), 0
        for piece in self.pieces:
            size = _size_of(piece)
            low, high = max(offset, begin), min(offset + count, begin + size)
            if low < high:
                found.write(_part_of(piece, low - begin, high - low))
            begin += size
        return found.getvalue()


def pack(dataset_id: str, cache_dir: Path) -> Pack:
    """The object of a data set that is prepared in this cache folder. Reads all of it, for its hash."""
    entry = entry_of(dataset_id, cache_dir)
    pieces: list[bytes | tuple[Path, int]] = []
    for name in _NAMES:
        path = entry / name
        size = path.stat().st_size
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644  # and no time or owner, which other machines have otherwise
        pieces += [header.tobuf(tarfile.GNU_FORMAT), (path, size), bytes(-size % _BLOCK)]
    pieces.append(bytes(2 * _BLOCK))
    digest = hashlib.sha256()
    for piece in pieces:
        for offset in range(0, _size_of(piece), _CHUNK):
            digest.update(_part_of(piece, offset, min(_CHUNK, _size_of(piece) - offset)))
    return Pack(dataset_id, tuple(pieces), sum(map(_size_of, pieces)), digest.hexdigest())


def unpack(file: Path, folder: Path) -> tuple[str, str]:
    """Write the files of an object, whose hash was checked, into an empty folder; id and fingerprint of its data set.

    Raises:
        ValueError: It is no object of ours.
    """
    try:
        with tarfile.open(file, "r:") as archive:
            members = archive.getmembers()
            if [member.name for member in members] != list(_NAMES) or not all(member.isreg() for member in members):
                raise ValueError("it holds other files than a packed data set")
            for member in members:
                with _opened(archive, member) as source, (folder / member.name).open("wb") as target:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return str(manifest["id"]), str(manifest["fingerprint"])
    except (tarfile.TarError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


@contextmanager
def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[BinaryIO]:
    source = archive.extractfile(member)
    if source is None:
        raise ValueError(f"{member.name} is no file")
    with source:
        yield source  # type: ignore[misc]  # an IO[bytes]


def _size_of(piece: bytes | tuple[Path, int]) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1]


def _part_of(piece: bytes | tuple[Path, int], offset: int, count: int) -> bytes:
    """A part of a piece; raises OSError where its file has become shorter."""
    if isinstance(piece, bytes):
        return piece[offset : offset + count]
    with piece[0].open("rb") as file:
        found = os.pread(file.fileno(), count, offset)
    if len(found) < count:
        raise OSError(f"{piece[0]} has become shorter while it was read")
    return found
