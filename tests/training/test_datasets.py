"""Data sets are prepared once, intact, the same everywhere, or refused with a sentence that helps."""

import gzip
import io
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seedpod.errors import Cause, DatasetError, TrainingError
from seedpod.training.datasets import DatasetInfo, attach, attach_test, folds, prepare, split

DIGITS_FINGERPRINT = "23b50268ec4d2b4f"

PREPARE = """
import json, sys
from pathlib import Path
from seedpod.errors import DatasetError
from seedpod.training.datasets import prepare
try:
    info = prepare(sys.argv[1], Path(sys.argv[2]))
except DatasetError as error:
    print(json.dumps({"error": str(error)}))
else:
    inode = (Path(sys.argv[2]) / "datasets" / info.id).stat().st_ino
    heavy = sorted({"keras", "tensorflow", "sklearn"} & set(sys.modules))
    print(json.dumps({"fingerprint": info.fingerprint, "counts": info.train_counts, "inode": inode, "heavy": heavy}))
"""


def start(dataset: str, cache_dir: Path, before: str = "", **environment: str) -> subprocess.Popen[str]:
    """A process that prepares a data set; the network is behind a proxy that refuses."""
    offline = {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    return subprocess.Popen(
        [sys.executable, "-c", before + PREPARE, dataset, str(cache_dir)],
        env={**os.environ, **offline, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """All that the process printed, which must be one JSON line."""
    output, _ = process.communicate(timeout=120)
    found: dict[str, Any] = json.loads(output)
    return found


def images(count: int = 12, **changes: Any) -> dict[str, Any]:
    """A small usable data set, with changes; None leaves a key out."""
    x = np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
    arrays = {"x_train": x, "y_train": np.arange(count) % 3, "x_test": x[:6], "y_test": np.arange(6) % 3, **changes}
    return {key: value for key, value in arrays.items() if value is not None}


def save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def entries(cache_dir: Path) -> list[str]:
    """Names in the cache but for the lock files, which stay."""
    return sorted(path.name for path in (cache_dir / "datasets").glob("*") if path.suffix != ".lock")


def args(info: DatasetInfo) -> tuple[str, str]:
    return info.id, info.fingerprint


def test_digits_is_prepared_and_attached(digits_cache: Path) -> None:
    """Digits becomes 1 797 read-only memory-mapped images of 8x8x1 from 0 to 16."""
    info = prepare("digits", digits_cache)
    data, held_out = attach("digits", info.fingerprint, digits_cache), attach_test(*args(info), digits_cache)
    assert data.info == info
    assert (info.image_shape, info.dtype, info.pixel_max) == ((8, 8, 1), "uint8", 16.0)
    assert info.class_names == tuple("0123456789")
    assert len(data.x_train) + len(held_out.x_test) == 1797
    assert data.x_train.shape[1:] == held_out.x_test.shape[1:] == (8, 8, 1)
    assert data.x_train.max() == 16
    for array in (data.x_train, data.y_train, held_out.x_test, held_out.y_test):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert data.y_train.dtype == np.int64
    assert info.train_counts == tuple(np.bincount(data.y_train))


def test_digits_is_the_same_everywhere(digits_cache: Path) -> None:
    """The fingerprint of digits, its test part included, is a constant."""
    assert prepare("digits", digits_cache).fingerprint == DIGITS_FINGERPRINT


def test_digits_test_part_is_stratified(digits_cache: Path) -> None:
    """A fifth of each class, within one image, is the test part, and no image is in both parts' places twice."""
    info = prepare("digits", digits_cache)
    for train, test in zip(info.train_counts, info.test_counts, strict=True):
        assert abs(test - 0.2 * (train + test)) <= 1
    assert sum(info.test_counts) == round(0.2 * 1797)


def test_attach_reads_no_image(digits_cache: Path) -> None:
    """Attaching maps the files: it reads a small part of their bytes."""
    before = bytes_read()
    data = attach("digits", DIGITS_FINGERPRINT, digits_cache)
    assert bytes_read() - before < 0.2 * data.x_train.nbytes


def bytes_read() -> int:
    """What this process has read so far, from the page cache too."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


def test_four_processes_at_once_prepare_one_entry(tmp_path: Path) -> None:
    """Four first starts on an empty cache end with one intact entry that all saw, and none of them imports Keras."""
    answers = [answer(process) for process in [start("digits", tmp_path) for _ in range(4)]]
    assert all(found == answers[0] for found in answers)
    assert answers[0]["fingerprint"] == DIGITS_FINGERPRINT
    assert answers[0]["heavy"] == []
    assert entries(tmp_path) == ["digits"]


def test_damaged_digits_are_rebuilt_by_the_helper(
    tmp_path: Path, digits_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit in a registered data set is noticed, logged and repaired."""
    shutil.copytree(digits_cache, tmp_path, dirs_exist_ok=True)
    flip(tmp_path / "datasets/digits/x_train.npy", 5000)
    with caplog.at_level(logging.WARNING):
        assert prepare("digits", tmp_path).fingerprint == DIGITS_FINGERPRINT
    assert "x_train.npy has other content" in caplog.text
    caplog.clear()
    prepare("digits", tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda entry: os.truncate(entry / "x_train.npy", 150), "150 of 320 bytes"),
        (lambda entry: flip(entry / "y_test.npy", 140), "other content"),
        (lambda entry: (entry / "x_test.npy").unlink(), "x_test.npy"),
        (lambda entry: (entry / "manifest.json").unlink(), "manifest.json"),
        (lambda entry: os.truncate(entry / "manifest.json", 40), "no manifest"),
        (lambda entry: (entry / "manifest.json").write_text("[NaN]"), "no manifest"),
        (lambda entry: replace(entry / "manifest.json", '"pixel_max": 255.0', '"pixel_max": 25.0'), "other content"),
        (lambda entry: replace(entry / "manifest.json", '"pixel_max": 255.0', '"pixel_max": NaN'), "other content"),
        (lambda entry: replace(entry / "manifest.json", '"format": 1', '"format": 0'), "format 0"),
        (lambda entry: shutil.rmtree(entry) or entry.touch(), "Not a directory"),  # type: ignore[func-returns-value]
    ],
)
def test_a_damaged_entry_is_rebuilt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], reason: str
) -> None:
    """Whatever happens to a cache entry, the next start says so and has the same data again."""
    path = save(tmp_path / "some.npz", images())
    info = prepare(str(path), tmp_path)
    damage(tmp_path / "datasets" / info.id)
    assert prepare(str(path), tmp_path) == info
    assert reason in caplog.text
    attach(info.id, info.fingerprint, tmp_path)
    assert entries(tmp_path) == [info.id]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """A half-written folder of a killed process never becomes an entry and is cleaned up."""
    path = save(tmp_path / "some.npz", images())
    info = prepare(str(path), tmp_path)
    shutil.move(tmp_path / "datasets" / info.id, tmp_path / "datasets" / f".{info.id}.killed.tmp")
    assert prepare(str(path), tmp_path) == info
    assert entries(tmp_path) == [info.id]


def test_attach_refuses_with_a_remedy(tmp_path: Path, digits_cache: Path) -> None:
    """A trainer without the data, with other data or with half of it fails its trial and says how to prepare it."""
    shutil.copytree(digits_cache, tmp_path, dirs_exist_ok=True)
    cases = [
        ("mnist", DIGITS_FINGERPRINT, "No such file"),
        ("digits", "0" * 16, DIGITS_FINGERPRINT),
        ("../datasets/digits", DIGITS_FINGERPRINT, "no data set's id"),
        ("", DIGITS_FINGERPRINT, "no data set's id"),
    ]
    os.truncate(shutil.copytree(tmp_path / "datasets/digits", tmp_path / "cut/datasets/digits") / "x_train.npy", 99)
    for dataset_id, fingerprint, words in cases:
        with pytest.raises(TrainingError, match=words) as caught:
            attach(dataset_id, fingerprint, tmp_path)
        assert caught.value.cause is Cause.DATA
        assert "python -m seedpod.training.datasets" in caught.value.message
    with pytest.raises(TrainingError, match="99 of"):
        attach("digits", DIGITS_FINGERPRINT, tmp_path / "cut")


def test_a_truncated_keras_file_without_network_is_named(tmp_path: Path) -> None:
    """A damaged mnist.npz in Keras's folder gives one sentence with file, folder and digits; the file is left alone."""
    home = tmp_path / "home"
    (home / "datasets").mkdir(parents=True)
    whole = save(tmp_path / "whole.npz", images()).read_bytes()
    (home / "datasets/mnist.npz").write_bytes(whole[:300])
    error = answer(start("mnist", tmp_path / "cache", KERAS_HOME=str(home)))["error"]
    assert f"damaged, and no new copy could be downloaded: {home}/datasets/mnist.npz (" in error
    assert f"into {tmp_path}/cache/keras/datasets, or use dataset=digits, which needs no network" in error
    assert "Traceback" not in error
    assert (home / "datasets/mnist.npz").read_bytes() == whole[:300]
    assert entries(tmp_path / "cache") == []
    assert not list(tmp_path.glob("cache/keras/**/*.npz"))


def test_keras_files_are_found_and_half_of_them_is_not_enough(tmp_path: Path) -> None:
    """Fashion-MNIST is read from the user's Keras folder by Keras's own loader; a missing part is named."""
    home = tmp_path / "home"
    folder = home / "datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(bytes(8) + bytes(range(10)) * (count // 10))
        )
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + bytes(range(196)) * 4 * count))
    environment = {"KERAS_HOME": str(home)}
    whole = start("fashion_mnist", tmp_path / "cache", **environment)
    found = answer(whole)
    assert found["counts"] == [4] * 10
    assert found["heavy"] == []
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    error = answer(start("fashion_mnist", tmp_path / "empty", **environment))["error"]
    assert "not on this machine, and could not be downloaded: t10k-labels-idx1-ubyte.gz (" in error
    assert "train-images" not in error
    assert f"into {tmp_path}/empty/keras/datasets/fashion-mnist" in error


@pytest.mark.slow
def test_the_real_mnist_by_name_and_by_path(tmp_path: Path, mnist_file: Path) -> None:
    """An mnist.npz put into the cache's Keras folder serves dataset=mnist, whichever way it was packed."""
    folder = tmp_path / "keras/datasets"
    folder.mkdir(parents=True)
    shutil.copyfile(mnist_file, folder / "mnist.npz")
    by_path = prepare(str(mnist_file), tmp_path)
    by_name = prepare("mnist", tmp_path)
    assert by_path.fingerprint == by_name.fingerprint
    assert (by_name.id, sum(by_name.train_counts), sum(by_name.test_counts)) == ("mnist", 60000, 10000)


SMALL = np.ones((4, 4, 4), np.uint8)
NAN = np.full((12, 4, 4), np.nan)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": None}, r"lacks x_train \(keys found: y_train, x_test, y_test\)"),
        ({"y_test": None}, "lacks y_test"),
        (
            {"x_train": None, "y_train": None, "x_test": None, "y_test": None, "a": [1]},
            "lacks x_train and y_train.*: a",
        ),
        ({"y_train": np.zeros(12, int)}, "one class only"),
        ({"y_train": np.arange(11) % 3}, "12 images but y_train has 11 labels"),
        ({"y_train": np.arange(12) / 4}, "fractions"),
        ({"y_train": np.full(12, np.nan)}, "fractions, NaN"),
        ({"y_train": np.eye(12)}, "one-hot"),
        ({"y_train": np.array([None] * 12)}, "pickled"),
        ({"y_train": np.arange(12) + 1j}, "complex128"),
        ({"y_train": np.full(12, 2**64 - 1, np.uint64)}, "below"),
        ({"y_train": np.array([b"\xff", b"a"] * 6)}, "no valid Unicode"),
        ({"y_train": np.array(["a", "b"] * 6)}, "mix numbers with text"),
        ({"y_test": np.array([0, 1, 2, 7, 8, 9])}, "y_train lacks .7, 8, 9"),
        ({"x_train": NAN}, "NaN or infinite"),
        ({"x_train": np.arange(192, dtype=float).reshape(12, 4, 4) * 9}, "from 0 to 1719; scale"),
        ({"x_train": np.full((12, 4, 4), 7.0)}, "same form"),
        ({"x_train": np.ones((12, 5, 5), np.uint8)}, "same form"),
        ({"x_train": np.ones((12, 4, 4), "S1")}, "dtype"),
        ({"x_train": np.ones((12, 16), np.uint8)}, "shape .12, 16."),
        ({"x_train": np.ones((12, 4, 4, 4), np.uint8)}, "4 channels.*without alpha"),
        ({"x_train": np.ones((12, 3, 4, 4), np.uint8)}, "channels must come last"),
        ({"x_train": np.ones((12, 1, 4), np.uint8)}, "1x4 pixels"),
        ({"x_train": SMALL[:0], "y_train": np.zeros(0, int)}, "x_train is empty"),
        ({"x_test": SMALL[:0], "y_test": np.zeros(0, int)}, "leave x_test and y_test out"),
        ({"x_train": SMALL, "y_train": np.arange(4), "x_test": None, "y_test": None}, "single image"),
        ({"x_train": SMALL, "y_train": np.arange(4) // 2, "x_test": None, "y_test": None}, "two training images"),
        ({"x_train": SMALL, "y_train": np.arange(4)}, "two training images"),
    ],
)
def test_an_unusable_npz_is_refused_by_a_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """What is wrong with which array of which file, on one line, and nothing of it is left in the cache."""
    path = save(tmp_path / "my data.npz", images(**changes))
    with pytest.raises(DatasetError, match=words) as caught:
        prepare(str(path), tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", b"\x80\x04]\x94.", b"\x93NUMPY\x01\x00"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, text, cut, pickled and .npy files are refused by name."""
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"data\.npz: is damaged or no \.npz"):
        prepare(str(path), tmp_path)


def test_an_npy_is_no_npz(tmp_path: Path) -> None:
    """A single array is refused, whatever the file is called."""
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, SMALL)
    with pytest.raises(DatasetError, match="is damaged or no"):
        prepare(str(tmp_path / "data.npz"), tmp_path)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("mnits", "did you mean mnist"),
        ("nowhere/data.npz", "no such file; it must be the path"),
        ("", "no regular file"),
        ("/dev/zero", "no regular file"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_an_unknown_name_is_refused(tmp_path: Path, dataset: str, words: str) -> None:
    """A name that is neither registered nor a file is refused with the nearest."""
    with pytest.raises(DatasetError, match=words):
        prepare(dataset, tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3], ("1", "2", "3")),
        ([0, 5, 9], ("0", "5", "9")),
        ([-1, 1], ("-1", "1")),
        ([10, 9], ("9", "10")),
        ([2.0, 1.0], ("1", "2")),
        ([True, False], ("0", "1")),
        (["żółw", "a cat"], ("a cat", "żółw")),
        ([b"dog", "猫".encode()], ("dog", "猫")),
    ],
)
def test_any_distinct_labels_become_positions(tmp_path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    """Labels become 0 to k - 1 in sorted order, and the source's own stay as class names."""
    y = np.array(labels * 6)
    path = save(tmp_path / "data.npz", images(len(y), y_train=y[:, np.newaxis], x_test=None, y_test=None))
    info = prepare(str(path), tmp_path)
    data, held_out = attach(*args(info), tmp_path), attach_test(*args(info), tmp_path)
    assert info.class_names == names
    assert set(data.y_train) == set(held_out.y_test) == set(range(len(names)))


@pytest.mark.parametrize(
    ("x", "dtype", "pixel_max", "shape"),
    [
        (np.ones((12, 4, 5), np.uint8), "uint8", 255.0, (4, 5, 1)),
        (np.full((12, 4, 5, 3), 255, np.int64), "uint8", 255.0, (4, 5, 3)),
        (np.ones((12, 4, 5), bool), "uint8", 1.0, (4, 5, 1)),
        (np.linspace(0, 1, 240).reshape(12, 4, 5), "float32", 1.0, (4, 5, 1)),
        (np.linspace(-1, 1, 240).reshape(12, 4, 5, 1), "float32", 1.0, (4, 5, 1)),
        (np.linspace(0, 255, 240, dtype=">f4").reshape(12, 4, 5), "float32", 255.0, (4, 5, 1)),
    ],
)
def test_pixels_keep_their_kind(
    tmp_path: Path, x: npt.NDArray[Any], dtype: str, pixel_max: float, shape: tuple[int, int, int]
) -> None:
    """Whole numbers are stored as uint8, floats as float32, with what white is."""
    path = save(tmp_path / "data.npz", images(x_train=x, x_test=None, y_test=None))
    info = prepare(str(path), tmp_path)
    assert (info.dtype, info.pixel_max, info.image_shape) == (dtype, pixel_max, shape)


def test_a_files_id_is_its_safe_name_and_hash(tmp_path: Path) -> None:
    """Files of one name and other content have other entries; equal arrays have equal fingerprints."""
    one = prepare(str(save(tmp_path / "../my set (1).npz", images())), tmp_path)
    np.savez_compressed(tmp_path / "my set (1).npz", **images())
    other = prepare(str(tmp_path / "my set (1).npz"), tmp_path)
    assert one.id.startswith("my_set_1_-")
    assert one.id != other.id
    assert one.fingerprint == other.fingerprint


def test_an_unwritable_cache_folder_is_named(tmp_path: Path) -> None:
    """A cache folder that cannot be made is refused with its name, from the helper too."""
    (tmp_path / "file").write_text("")
    path = save(tmp_path / "data.npz", images())
    for dataset in (str(path), "digits"):
        with pytest.raises(DatasetError, match=f"{tmp_path}/file/cache .*Not a directory"):
            prepare(dataset, tmp_path / "file/cache")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the disk takes no more bytes, the error names folder and cause, and no half entry stays."""
    path = save(tmp_path / "data.npz", images(4000))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
    error = answer(start(str(path), tmp_path / "cache", before=limit))["error"]
    assert f"the cache folder {tmp_path}/cache ([Errno 27] File too large)" in error
    assert entries(tmp_path / "cache") == []


def test_the_helpers_crash_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    """What the helper did not expect reaches the user with its last lines, not as a bare exit code."""
    error = answer(start("mnist", tmp_path, KERAS_BACKEND="abacus", KERAS_HOME=str(tmp_path)))["error"]
    assert "ended with exit code 1" in error
    assert "abacus" in error
    assert entries(tmp_path) == []


@given(
    labels=hnp.arrays(np.int64, st.integers(2, 300), elements=st.integers(0, 12)),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_stratified_disjoint_and_complete(labels: npt.NDArray[np.int64], share: float, seed: int) -> None:
    """Every image is in one part, each class within one of its share, in both parts from two images on."""
    counts = np.bincount(labels)
    if counts.max() < 2:
        with pytest.raises(DatasetError, match="single image"):
            split(labels, share, seed)
        return
    train, validation = split(labels, share, seed)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels)))
    assert train.dtype == validation.dtype == np.int64
    held = np.bincount(labels[validation], minlength=len(counts))
    assert (np.abs(held - counts * share) <= 1).all()
    assert (held[counts > 1] >= 1).all()
    assert (held[counts > 0] < counts[counts > 0]).all()
    again = split(labels, share, seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(validation, again[1])


@given(count=st.integers(10, 200), classes=st.integers(2, 8), share=st.floats(0.1, 0.5))
def test_split_has_the_rounded_total(count: int, classes: int, share: float) -> None:
    """Where no class is too small to bend it, the total is n times the share, rounded."""
    labels = np.repeat(np.arange(classes), count)
    _, validation = split(labels, share, 0)
    assert len(validation) == round(len(labels) * share)


def test_split_follows_its_seed() -> None:
    """The indices of a seed are constants, and another seed gives others."""
    labels = np.arange(20) % 2
    assert split(labels, 0.3, 7)[1].tolist() == [3, 4, 6, 11, 12, 13]
    assert split(labels, 0.3, 8)[1].tolist() != split(labels, 0.3, 7)[1].tolist()


def dataset_or_sentence(path: Path, cache_dir: Path) -> bool:
    try:
        info = prepare(str(path), cache_dir)
    except DatasetError as error:
        return str(error).startswith(f"{path}: ")
    return attach(info.id, info.fingerprint, cache_dir).info == info


def packed(compressed: bool) -> bytes:  # noqa: FBT001 (a value of the strategy below)
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **images())
    return file.getvalue()


FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@FUZZ
@given(
    base=st.sampled_from([packed(compressed=False), packed(compressed=True), b""]),
    cut=st.integers(0, 2000),
    patches=st.lists(st.tuples(st.integers(0, 1999), st.binary(min_size=1, max_size=6)), max_size=4),
)
def test_damaged_bytes_give_a_dataset_or_a_sentence(
    tmp_path: Path, base: bytes, cut: int, patches: list[tuple[int, bytes]]
) -> None:
    """However an .npz is cut or overwritten, no exception but DatasetError comes out."""
    data = bytearray(base)
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    path = tmp_path / "fuzz.npz"
    path.write_bytes(data[: len(data) - cut] if cut % 2 else data)
    assert dataset_or_sentence(path, tmp_path)


ARRAYS = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=3), hnp.byte_string_dtypes(max_len=3)),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
LABELS: st.SearchStrategy[npt.NDArray[Any]] = st.sampled_from(["i1", "u8", "f2", "U2", "S2"]).flatmap(
    lambda kind: hnp.arrays(np.dtype(kind), st.integers(0, 8))
)


@FUZZ
@given(x=ARRAYS, y=st.one_of(ARRAYS, LABELS), with_test=st.booleans())
def test_any_arrays_give_a_dataset_or_a_sentence(
    tmp_path: Path, x: npt.NDArray[Any], y: npt.NDArray[Any], *, with_test: bool
) -> None:
    """Whatever dtypes and shapes an .npz holds, no exception but DatasetError comes out."""
    test = {"x_test": x, "y_test": y} if with_test else {}
    assert dataset_or_sentence(save(tmp_path / "any.npz", {"x_train": x, "y_train": y, **test}), tmp_path)


@given(
    labels=st.lists(st.integers(0, 6), min_size=2, max_size=200),
    count=st.integers(2, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_are_stratified(labels: list[int], count: int, seed: int) -> None:
    """Each image that is not the only one of its class validates in one fold and trains in all others; parts, and
    their numbers of images of each class, differ by one at most.
    """
    y = np.array(labels)
    counts = np.bincount(y)
    single = counts[y] == 1
    if (~single).sum() < count:
        with pytest.raises(DatasetError, match=f"cv_folds={count}"):
            folds(y, count, seed)
        return
    found = folds(y, count, seed)
    assert len(found) == count
    for train, validation in found:
        assert sorted([*train, *validation]) == list(range(len(y)))
    validating = np.concatenate([validation for _, validation in found])
    assert sorted(validating) == list(np.flatnonzero(~single))
    sizes = [len(validation) for _, validation in found]
    assert max(sizes) - min(sizes) <= 1
    for label in np.unique(y[~single]):
        of_class = [int((y[validation] == label).sum()) for _, validation in found]
        assert max(of_class) - min(of_class) <= 1


def test_folds_follow_from_the_seed() -> None:
    """Equal seeds give equal folds, and other seeds others."""
    y = np.arange(300) % 10
    one, again, other = (folds(y, 3, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0][1], other[0][1])
