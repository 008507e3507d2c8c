"""A zip -> its files in a folder, and not one byte outside of it."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from seedpod.training.own.found import LeftOut
from seedpod.training.own.listing import is_ignored, refuse, shown

MOST_FILES = 5_000_000
"""In one archive."""

_MOST_TIMES = 200  # what an archive may unpack to, as a multiple of its size; pictures hardly shrink at all
_ALWAYS = 2_000_000_000  # bytes that may be unpacked whatever the archive's size
_PIECE = 1 << 20  # bytes copied at once
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError)

Advance = Callable[[int, int], None]


def unpack(label: str, archive: Path, into: Path, advance: Advance) -> list[LeftOut]:
    """Unpack an archive, but for hidden and system files.

    Args:
        label: Names the source in messages.
        archive: A zip.
        into: An empty folder.
        advance: Is told how many of how many files are unpacked.

    Returns:
        Files that are damaged within the archive.

    Raises:
        DatasetError: It is no zip, or one that was made to do harm; nothing of it is left outside of ``into``.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(label, archive, opened)
            bad = []
            for count, (member, path) in enumerate(members.items(), 1):
                damage = _extract(label, opened, member, into / path)
                if damage:
                    bad.append(LeftOut(shown(str(path)), damage))
                advance(count, len(members))
            return bad
    except _DAMAGED as error:
        refuse(label, f"is damaged or no zip ({' '.join(str(error).split()):.200}); copy it again")
    except OSError as error:
        refuse(label, f"cannot be unpacked ({error.strerror or error}); give a zip that unpacks here")


def _members(label: str, archive: Path, opened: zipfile.ZipFile) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """What is to be unpacked, and where; the whole archive is judged before the first byte."""
    infos = opened.infolist()
    if len(infos) > MOST_FILES:
        refuse(label, f"holds {len(infos):,} files, more than {MOST_FILES:,}; divide it")
    found = {}
    for info in infos:
        path = _inside(label, info)
        if not info.is_dir() and not any(is_ignored(part) for part in path.parts):
            found[info] = path
    if len(set(found.values())) < len(found):
        refuse(label, "holds two files of one name; pack it again")
    size, packed = sum(info.file_size for info in found), archive.stat().st_size
    if size > max(_ALWAYS, _MOST_TIMES * packed):
        refuse(label, f"would unpack to {size:,} bytes from {packed:,}: a zip bomb. Nothing was unpacked")
    return found


def _inside(label: str, info: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member belongs; refuses what leads out of the folder."""
    path = PurePosixPath(info.filename)
    # As it stands in the archive: zipfile itself cuts a name at a NUL and turns backslashes on Windows alone.
    name = info.orig_filename
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or ":" in name.partition("/")[0]:
        refuse(label, f"holds {shown(name)[:100]!r}, a path that leads out of its folder; do not trust it")
    if stat.S_ISLNK(info.external_attr >> 16):
        refuse(label, f"holds {shown(name)[:100]!r}, a link; pack the files themselves")
    if info.flag_bits & 1:
        refuse(label, "is encrypted; unpack it, and give the folder")
    return path


def _extract(label: str, opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> str:
    """Unpack one file; what is wrong with it, empty where nothing is. Never more than its announced size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    try:
        with opened.open(member) as packed, path.open("xb") as file:
            while piece := packed.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    refuse(label, f"holds {shown(str(path.name))}, which is larger than it says; do not trust it")
                file.write(piece)
    except _DAMAGED as error:
        path.unlink(missing_ok=True)
        return f"it is damaged in the archive ({' '.join(str(error).split()):.100})"
    return ""
