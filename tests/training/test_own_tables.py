"""Tables of paths and labels, arrays, archives and addresses become what a folder would."""

import hashlib
import http.server
import stat
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from photos import encoded, folder, images, picture, prepared
from seedpod.errors import DatasetError


def table(root: Path, labels: list[str], head: str = "path,label", name: str = "t.csv", between: str = ",") -> Path:
    """A table with a picture for each label."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    lines = [head.replace(",", between)]
    for i, label in enumerate(labels):
        picture(i).save(root / "images" / f"{i:03d}.png")
        lines.append(f"images/{i:03d}.png{between}{label}")
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["1", "2", "3"], ("1", "2", "3")),
        (["0", "5", "9"], ("0", "5", "9")),
        (["-1", "1"], ("-1", "1")),
        (["10", "9"], ("9", "10")),
        (["2.0", "1.0"], ("1", "2")),
        (["1e1", "2"], ("2", "10")),
        (["a cat", "żółw"], ("a cat", "żółw")),
        (["1", "x"], ("1", "x")),
        (["007", "7"], ("007", "7")),
    ],
)
def test_labels_of_every_kind(tmp_path: Path, labels: list[str], names: tuple[str, ...]) -> None:
    """Numbers with gaps, negative ones, floats that are whole and names in any script are classes."""
    info, _ = prepared(table(tmp_path, labels * 4), tmp_path / "cache")
    assert info.class_names == names
    assert sum(info.train_counts) + sum(info.test_counts) == 4 * len(labels)


@pytest.mark.parametrize("head", ["path,label", "File,Class", "image , target", "x,filename,category"])
@pytest.mark.parametrize("between", [",", ";", "\t", "|"])
def test_columns_are_found_by_their_names(tmp_path: Path, head: str, between: str) -> None:
    """Whatever people call the columns, and put between them."""
    path = table(tmp_path, ["a", "b"] * 4, head.removeprefix("x,"), between=between)
    if head.startswith("x,"):
        lines = path.read_text().splitlines()
        path.write_text("\ufeff" + "\n".join([head.replace(",", between), *(f"7{between}{x}" for x in lines[1:])]))
    assert prepared(path, tmp_path / "cache")[0].class_names == ("a", "b")


def test_a_table_says_what_is_for_the_test(tmp_path: Path) -> None:
    """A column split holds train, val and test."""
    parts = ["train", "val", "test", "Train"] * 4
    path = table(tmp_path, [f"{'ab'[i // 8]},{part}" for i, part in enumerate(parts)], "path,label,split")
    info, _ = prepared(path, tmp_path / "cache")
    assert (info.train_counts, info.test_counts) == ((6, 6), (2, 2))


def test_bad_rows_are_named(tmp_path: Path) -> None:
    """Rows without a label or a path, with a file that is not there or lies outside, are left out one by one."""
    path = table(tmp_path / "t", ["a", "b"] * 6)
    picture(90).save(tmp_path / "outside.png")
    rows = ["images/000.png,", ",a", "images/gone.png,a", "../outside.png,a", f"{tmp_path}/outside.png,a", "images,a"]
    path.write_text(path.read_text() + "\n".join([*rows, "images\\001.png,b", "images/002.png"]))
    info, what = prepared(path, tmp_path / "cache", max_bad_files=1)
    assert [(each.path, each.reason) for each in what.bad] == sorted(
        [
            ("images/000.png", "it has no label"),
            ("row 14", "it has no path"),
            ("images/gone.png", "No such file or directory"),
            ("../outside.png", "it is a link out of the folder"),
            (f"{tmp_path}/outside.png", "it is a link out of the folder"),
            ("images", "it is a folder"),
            ("images/002.png", "it has no label"),
        ]
    )
    assert sum(info.train_counts) + sum(info.test_counts) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; its first line must name the columns"),
        ("path,label\n", "has no rows"),
        ("a,b\n1,2\n", r"no column of paths \(columns found: a, b\)"),
        ("path,price\nx.png,2\n", "no column of labels"),
        ("path,label\nx.png,0.5\ny.png,1\n", "labels with fractions"),
        ("path,label,split\nx.png,a,holdout\n", "has holdout as parts"),
        ("path,label\nx.png,a\ny.png,b\n", "2 of 2 files cannot be used"),
        ("path,label\nx\0.png,a\n", "NUL"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """A table without columns, rows or classes is refused in a sentence that begins with its path."""
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=words) as refused:
        prepared(path, tmp_path / "cache")
    assert str(refused.value).startswith(f"{path}: ")


def test_latin_1_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Text in another encoding would give broken class names."""
    (tmp_path / "t.csv").write_bytes("path,label\nx.png,żółw\n".encode("iso-8859-2"))
    with pytest.raises(DatasetError, match="UTF-8; save it as such"):
        prepared(tmp_path / "t.csv", tmp_path / "cache")


@pytest.mark.parametrize("labels", [[3, -1], [2.0, 7.0], ["x", "y"], [True, False]])
def test_parquet_is_a_table_too(tmp_path: Path, labels: list[Any]) -> None:
    """The same columns, with numbers that are numbers; None is a row without a label."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table(tmp_path, ["a", "b"] * 4)
    paths = [f"images/{i:03d}.png" for i in range(8)]
    parquet.write_table(
        pyarrow.table({"file": paths, "n": list(range(8)), "label": [*(labels * 4)[:7], None]}), tmp_path / "t.parquet"
    )
    info, what = prepared(tmp_path / "t.parquet", tmp_path / "cache", max_bad_files=0.2)
    assert len(info.class_names) == 2
    assert [each.reason for each in what.bad] == ["it has no label"]


def test_an_npz_of_x_and_y(tmp_path: Path) -> None:
    """The short names are taken, and the wishes hold for arrays as for files."""
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3)).astype(np.uint8)
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(40) % 4)
    info, _ = prepared(tmp_path / "s.npz", tmp_path / "cache")
    assert (info.image_shape, info.test_counts) == ((12, 10, 3), (2, 2, 2, 2))
    wished, _ = prepared(
        tmp_path / "s.npz", tmp_path / "cache", image_size=(6, 5), color_mode="grayscale", max_samples=20, test_size=0.4
    )
    assert (wished.image_shape, wished.train_counts, wished.test_counts) == ((6, 5, 1), (3,) * 4, (2,) * 4)
    assert wished.id != info.id


def test_an_npz_that_tests_with_what_it_trains_on_says_so(tmp_path: Path) -> None:
    """Arrays stay as they are; that some test images are training images is told with their number."""
    x = np.random.default_rng(0).integers(0, 256, (12, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "s.npz", x_train=x, y_train=np.arange(12) % 2, x_test=x[:5], y_test=np.arange(5) % 2)
    _, what = prepared(tmp_path / "s.npz", tmp_path / "cache")
    assert what.notes[0].startswith("5 of 5 test images are training images too")


def zipped(source: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                opened.write(path, f"{top}{path.relative_to(source).as_posix()}")
    return archive


def test_a_zip_is_what_it_holds(tmp_path: Path) -> None:
    """A zip of a folder, a table or an .npz gives the arrays that these give."""
    pets = folder(tmp_path / "pets", {"a": 8, "b": 8})
    bare, _ = prepared(pets, tmp_path / "cache")
    packed, _ = prepared(zipped(pets, tmp_path / "pets.zip"), tmp_path / "cache")
    around, _ = prepared(zipped(pets, tmp_path / "around.zip", "some folder/"), tmp_path / "cache")
    assert packed == bare
    assert around.fingerprint == bare.fingerprint
    rows = table(tmp_path / "t", ["x", "y"] * 4)
    listed, _ = prepared(zipped(tmp_path / "t", tmp_path / "t.zip", "top/"), tmp_path / "cache")
    assert listed.fingerprint == prepared(rows, tmp_path / "cache")[0].fingerprint
    (tmp_path / "n").mkdir()
    np.savez(tmp_path / "n" / "s.npz", x=np.eye(18)[:12].reshape(6, 6, 6), y=[0, 1] * 3)
    arrays, _ = prepared(zipped(tmp_path / "n", tmp_path / "n.zip"), tmp_path / "cache")
    assert arrays.image_shape == (6, 6, 1)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_table_about_something_else_is_no_listing(tmp_path: Path) -> None:
    """Class folders with a table beside them that names no pictures are class folders."""
    pets = folder(tmp_path / "pets", {"a": 8, "b": 8})
    (pets / "metadata.csv").write_text("camera,price\nx,1\n")
    assert prepared(zipped(pets, tmp_path / "pets.zip"), tmp_path / "cache")[0].class_names == ("a", "b")


def test_a_damaged_member_is_a_bad_file(tmp_path: Path) -> None:
    """One picture that the archive has lost is named; the others are used."""
    archive = zipped(folder(tmp_path / "pets", {"a": 15, "b": 15}), tmp_path / "pets.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 255
    archive.write_bytes(data)
    _, what = prepared(archive, tmp_path / "cache")
    assert [each.path for each in what.bad] == ["a/000.png"]
    assert "damaged in the archive" in what.bad[0].reason


def member(name: str, mode: int = 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../evil.png"), "leads out of its folder"),
        (member("a/../../evil.png"), "leads out of its folder"),
        (member("/root/evil.png"), "leads out of its folder"),
        (member("..\\evil.png"), "leads out of its folder"),
        (member("C:/evil.png"), "leads out of its folder"),
        (member("a/link.png", stat.S_IFLNK | 0o777), "a link; pack the files themselves"),
    ],
)
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, bad: zipfile.ZipInfo, words: str) -> None:
    """Nothing of it is unpacked, and nothing is written outside of the cache."""
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/0.png", encoded(picture(0)))
        opened.writestr(bad, "/etc/hostname")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=words):
        prepared(archive, tmp_path / "cache")
    left = [path for path in tmp_path.rglob("*") if path not in before and path.suffix != ".lock" and path.is_file()]
    assert left == []


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """What would unpack to thousands of times its size is refused by its directory alone."""
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened, opened.open("a/0.png", "w") as file:
        file.write(bytes(10_000_000))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (3_000_000_000).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"would unpack to 3,000,000,000 bytes from .*: a zip bomb"):
        prepared(archive, tmp_path / "cache")


def test_an_encrypted_or_pickled_archive_is_refused(tmp_path: Path) -> None:
    """Both say what to do instead."""
    archive = zipped(folder(tmp_path / "pets", {"a": 2}), tmp_path / "pets.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match="encrypted; unpack it"):
        prepared(archive, tmp_path / "cache")
    (tmp_path / "n").mkdir()
    np.savez(tmp_path / "n" / "s.npz", x=np.array([None] * 4), y=[0, 1] * 2)
    with pytest.raises(DatasetError, match="pickled"):
        prepared(zipped(tmp_path / "n", tmp_path / "n.zip"), tmp_path / "cache")


class Files(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges; ends early where it is told to, redirects where it is asked to."""

    content = b""
    cut = 0
    target = ""
    asked: list[str] = []  # noqa: RUF012 - shared on purpose: a server makes a handler for each request

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        if self.target:
            self.send_response(302)
            self.send_header("Location", self.target)
            self.end_headers()
            return
        begin = int(self.headers["Range"].split("=")[1].rstrip("-")) if self.headers.get("Range") else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(self.content[begin : self.cut or None])

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(content: bytes, cut: int = 0, target: str = "") -> Iterator[tuple[str, type[Files]]]:
    handler = type("Serving", (Files,), {"content": content, "cut": cut, "target": target, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/some/pets.zip", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(name="pets")
def archive_of_pets(tmp_path: Path) -> bytes:
    return zipped(folder(tmp_path / "pets", {"a": 8, "b": 8}), tmp_path / "pets.zip").read_bytes()


def test_an_address_is_downloaded_once(tmp_path: Path, pets: bytes) -> None:
    """The file is kept by its address, checked by its hash, and not asked for again."""
    digest = hashlib.sha256(pets).hexdigest()
    with serving(pets) as (address, handler):
        info, _ = prepared(address, tmp_path / "cache", sha256=digest)
        assert prepared(address, tmp_path / "cache")[0] == info
        assert handler.asked == [""]
    assert info.id.startswith("pets-")
    assert len(images(info, tmp_path / "cache")) == 16


def test_a_download_that_never_began(tmp_path: Path) -> None:
    """A server that is out of reach is said to be that: nothing broke off, and there is nothing to go on with."""
    with pytest.raises(DatasetError, match=r"127\.0\.0\.1 cannot be reached \(.*refused\); see to the network"):
        prepared("http://127.0.0.1:1/pets.zip", tmp_path / "cache")


def test_a_download_goes_on_where_it_ended(tmp_path: Path, pets: bytes) -> None:
    """A lost connection is said, and the next start asks for the rest alone."""
    with serving(pets, cut=1000) as (address, handler):
        with pytest.raises(DatasetError, match=r"broke off .* it goes on where it ended"):
            prepared(address, tmp_path / "cache")
        handler.cut = 0
        assert len(images(prepared(address, tmp_path / "cache")[0], tmp_path / "cache")) == 16
        assert handler.asked == ["", "bytes=1000-"]


@pytest.mark.parametrize(
    ("content", "reading", "words"),
    [
        (b"PK\x03\x04", {"sha256": "0" * 64}, "has the SHA-256 [0-9a-f]{64}, and dataset_sha256=0000"),
        (b"PK" + bytes(2_000_000), {"max_download_mb": 1.0}, "more than max_download_mb=1; raise that"),
        (b"<!DOCTYPE html><html>", {}, "a page for a browser and no file"),
        (b"path,label\n", {}, "neither a zip nor an .npz"),
        (b"PK\x03\x04 no zip at all", {}, "is damaged or no zip"),
    ],
)
def test_a_download_that_is_not_what_it_should_be(
    tmp_path: Path, content: bytes, reading: dict[str, Any], words: str
) -> None:
    """Another hash, too many bytes, a page or a table are refused, and nothing becomes an entry."""
    with serving(content) as (address, _), pytest.raises(DatasetError, match=words):
        prepared(address, tmp_path / "cache", **reading)
    assert not list((tmp_path / "cache").glob("datasets/[!.]*"))


@pytest.mark.parametrize(
    ("target", "words"),
    [("http://example.org/x.zip", "not encrypted"), ("file:///etc/passwd", "not allowed")],
)
def test_no_redirect_leads_off_https(tmp_path: Path, target: str, words: str) -> None:
    """A server that sends elsewhere cannot send to what the user could not have given."""
    with serving(b"", target=target) as (address, _), pytest.raises(DatasetError, match=words):
        prepared(address, tmp_path / "cache")


def test_a_hash_of_a_local_file(tmp_path: Path, pets: bytes) -> None:
    """dataset_sha256 holds for files too, and is refused of a folder, which has none."""
    digest = hashlib.sha256(pets).hexdigest()
    assert prepared(tmp_path / "pets.zip", tmp_path / "cache", sha256=digest.upper())
    with pytest.raises(DatasetError, match="has the SHA-256"):
        prepared(tmp_path / "pets.zip", tmp_path / "cache", sha256="0" * 64)
    with pytest.raises(DatasetError, match="is for files"):
        prepared(tmp_path / "pets", tmp_path / "cache", sha256=digest)
