"""Damaged files give a data set, a skip or a sentence; never a traceback, a hang, or a file outside the cache."""

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from photos import encoded, folder, picture, prepared
from seedpod.errors import DatasetError
from seedpod.training.datasets import attach
from seedpod.training.own.archives import unpack
from seedpod.training.own.tables import list_table
from seedpod.training.pictures import Form, PictureError, careful, decode, read_header

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FORM = Form(8, 8, 3, "uint8", 0.0, 255.0)

PATCHES = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=5)
CUTS = st.one_of(st.just(1.0), st.floats(0, 1))


def damaged(data: bytes, patches: list[tuple[int, float, bytes]], cut: float) -> bytes:
    """Bytes that are overwritten and inserted at places, and cut off."""
    found = bytearray(data)
    for insert, place, patch in patches:
        at = int(place * len(found))
        found[at : at if insert else at + len(patch)] = patch
    return bytes(found[: int(cut * len(found))])


@contextmanager
def nothing_outside(folder: Path, *but: Path) -> Iterator[None]:
    """Whatever runs within this writes no file into a folder but below some."""
    before = set(folder.rglob("*"))
    yield
    new = {path for path in set(folder.rglob("*")) - before if not any(path.is_relative_to(each) for each in but)}
    assert not new


T = TypeVar("T")


def answer(ask: Callable[[], T]) -> T | str:
    """What comes out, or the sentence that refuses."""
    try:
        return ask()
    except (DatasetError, PictureError) as error:
        return str(error)


def usable_or_sentence(source: Path, cache_dir: Path) -> None:
    with nothing_outside(source.parent, cache_dir):
        got = answer(lambda: prepared(source, cache_dir, max_bad_files=1))
    if isinstance(got, str):
        assert got.startswith(f"{source}: ")
        assert "Traceback" not in got
        return
    info, what = got
    assert attach(info.id, info.fingerprint, cache_dir).info == info
    assert all(each.path and each.reason for each in what.bad)


def image_or_sentence(data: bytes) -> None:
    with careful():
        header, image = answer(lambda: read_header(data)), answer(lambda: decode(data, FORM))
    for got in (header, image):
        assert not isinstance(got, str) or (got and "\n" not in got)
    assert isinstance(image, str) or (image.shape == (8, 8, 3) and image.dtype == np.uint8)


KINDS = {"JPEG": "RGB", "PNG": "P", "GIF": "P", "BMP": "RGB", "TIFF": "CMYK", "WEBP": "RGBA", "PPM": "L"}
PICTURES = [encoded(picture(i, (24, 20), mode), kind) for i, (kind, mode) in enumerate(KINDS.items())]


@FUZZ
@given(base=st.sampled_from(PICTURES), patches=PATCHES, cut=CUTS)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it reads all the same
def test_damaged_pictures_are_read_or_refused(base: bytes, patches: list[tuple[int, float, bytes]], cut: float) -> None:
    """Of whatever bytes a picture's file has, an image of the right form comes out, or the reason why not."""
    image_or_sentence(damaged(base, patches, cut))


@FUZZ
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a"]),
)
def test_any_bytes_are_no_crash(data: bytes, head: bytes) -> None:
    """Random bytes behind the beginning of a picture are refused in words."""
    image_or_sentence(head + data)


TABLE = "path,label,split\r\n" + "".join(f'"p/{i}.png",{"ab"[i % 2]},train\r\n' for i in range(8))


@FUZZ
@given(patches=PATCHES, cut=CUTS, junk=st.text(max_size=30))
def test_damaged_tables_are_listed_or_refused(
    tmp_path: Path, patches: list[tuple[int, float, bytes]], cut: float, junk: str
) -> None:
    """A table of whatever bytes is a listing whose files lie in its folder, or a sentence."""
    path = (tmp_path if (tmp_path / "p").exists() else folder(tmp_path, {"p": 8})) / "t.csv"
    path.write_bytes(damaged(TABLE.encode() + junk.encode(errors="replace"), patches, cut))
    listing = answer(lambda: list_table(str(path), path))
    if isinstance(listing, str):
        assert listing.startswith(f"{path}: ")
        return
    assert all(item.path.resolve().is_relative_to(tmp_path) for item in listing.items)
    assert listing.key


def archive_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in "ab":
            for i in range(3):
                opened.writestr(f"{name}/{i}.png", encoded(picture(ord(name) + i)))
    return file.getvalue()


ARCHIVE = archive_bytes()
NAMES = [b"../", b"/etc", b"..\\", b"a/a/", b"\0"]


@FUZZ
@given(patches=PATCHES, cut=CUTS, name=st.none() | st.sampled_from(NAMES))
def test_damaged_archives_stay_in_their_folder(
    tmp_path: Path, patches: list[tuple[int, float, bytes]], cut: float, name: bytes | None
) -> None:
    """A zip of whatever bytes is unpacked into its folder, in part or whole, or refused."""
    data = ARCHIVE if name is None else ARCHIVE.replace(b"a/0"[: len(name)], name)
    path = tmp_path / "z.zip"
    path.write_bytes(damaged(data, patches, cut))
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    for left in sorted(into.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    with nothing_outside(tmp_path, into):
        bad = answer(lambda: unpack(str(path), path, into, lambda *_: None))
    if isinstance(bad, str):
        assert bad.startswith(f"{path}: ")
        return
    assert all(each.path and each.reason for each in bad)


@settings(FUZZ, max_examples=25)
@given(patches=PATCHES, cut=CUTS)
def test_damaged_archives_from_end_to_end(tmp_path: Path, patches: list[tuple[int, float, bytes]], cut: float) -> None:
    """The whole way from a damaged zip ends in an entry that can be attached, or in a sentence."""
    path = tmp_path / "z.zip"
    path.write_bytes(damaged(ARCHIVE, patches, cut))
    usable_or_sentence(path, tmp_path / "cache")


@settings(FUZZ, max_examples=15)
@given(
    data=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(PICTURES), PATCHES, CUTS), min_size=1, max_size=6)
)
def test_damaged_folders_from_end_to_end(
    tmp_path: Path, data: list[tuple[str, bytes, list[tuple[int, float, bytes]], float]]
) -> None:
    """A folder of damaged pictures is prepared as far as it goes, or refused."""
    root = folder(tmp_path / "f", {"a": 3, "b": 3})
    for i, (name, base, patches, cut) in enumerate(data):
        (root / name / f"x{i}.jpg").write_bytes(damaged(base, patches, cut))
    usable_or_sentence(root, tmp_path / "cache")


def short_npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(480).reshape(12, 8, 5) % 256, y=np.arange(12) % 3)
    return file.getvalue()


@settings(FUZZ, max_examples=60)
@given(patches=PATCHES, cut=CUTS)
def test_damaged_arrays_from_end_to_end(tmp_path: Path, patches: list[tuple[int, float, bytes]], cut: float) -> None:
    """An .npz of whatever bytes is an entry or a sentence."""
    path = tmp_path / "s.npz"
    path.write_bytes(damaged(short_npz(), patches, cut))
    usable_or_sentence(path, tmp_path / "cache")


def test_a_picture_of_vast_size_costs_nothing() -> None:
    """A header that announces more pixels than any camera has is refused before memory is asked for."""
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    with careful(), pytest.raises(PictureError):
        decode(bytes(data), FORM)
