"""Where images come from: a registered name or a user's .npz, brought to one form or refused with a sentence.

Names are read in the helper process of ``datasets.prepare``, so that scikit-learn and Keras stay out of the main one.
"""

import filecmp
import hashlib
import os
import re
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
import numpy.typing as npt

from seedpod.errors import DatasetError
from seedpod.reading import Reading
from seedpod.training.own.rows import Rows

Array = npt.NDArray[Any]
Images = Array | Rows

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
"""The registered data sets."""

OFFLINE = "or use dataset=digits, which needs no network"

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_SHORT = {"x": "x_train", "y": "y_train"}  # as people call the arrays that have no test set
_DIGITS_MAX = 16.0
_DOWNLOAD_SILENCE_SECONDS = 60.0
_MNIST_SHAPES = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}
_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"

# Data set -> the name that Keras gives each of its files, below ``datasets/`` -> where the file comes from.
_KERAS_FILES: Mapping[str, Mapping[str, str]] = {
    "mnist": {"mnist.npz": f"{_GOOGLE}mnist.npz"},
    "fashion_mnist": {
        f"fashion-mnist/{name}": f"{_GOOGLE}{name}"
        for name in (
            "train-labels-idx1-ubyte.gz",
            "train-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
        )
    },
    "cifar10": {"cifar-10-batches-py-target_archive": f"{_TORONTO}cifar-10-python.tar.gz"},
    "cifar100": {"cifar-100-python-target_archive": f"{_TORONTO}cifar-100-python.tar.gz"},
}


@dataclass(frozen=True, slots=True)
class Source:
    """What ``dataset=`` names.

    Attributes:
        id: The registered name; for a file, its stem and the first 12 hex digits of its SHA-256. Where the arrays are
            to be others than by default, such digits of that too.
        label: How messages call it.
        path: The file; None for a registered name.
        name: The registered name; empty for a file.
    """

    id: str
    label: str
    path: Path | None
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Images and labels in the one form that is stored.

    Attributes:
        x_train: (n, h, w, c) uint8 or float32, c is 1 or 3; or the same as rows of a larger array.
        y_train: (n,) int64, 0 to k - 1.
        x_test: (m, h, w, c) of the same dtype; None where the source has no test set.
        y_test: (m,) int64; None where the source has no test set.
        class_names: The source's own labels as text, in sorted order; the position is the label.
        pixel_max: What a white pixel holds.
    """

    x_train: Images
    y_train: Array
    x_test: Images | None
    y_test: Array | None
    class_names: tuple[str, ...]
    pixel_max: float


def find(dataset: str, reading: Reading = Reading()) -> Source:  # noqa: B008 - it never changes
    """Look up a registered name or an .npz.

    Raises:
        DatasetError: Neither, or not the file that ``reading.sha256`` asks for; the message names the nearest.
    """
    if dataset in NAMES:
        changed = reading.named(dataset, "") if reading.shape else dataset
        return Source(changed, f"dataset={dataset}", None, dataset)
    label = f"dataset={dataset}"
    try:
        path = Path(dataset).expanduser()
        if path.exists() and not path.is_file():
            _refuse(label, f"is no regular file; give a folder, a file or one of {', '.join(NAMES)}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        near = get_close_matches(dataset, NAMES, n=1)
        hint = f"did you mean {near[0]}? It" if near else "it"
        _refuse(
            label,
            f"no such file; {hint} must be the path of a folder, an .npz, .csv, .parquet or .zip, an https address, or "
            f"one of {', '.join(NAMES)}",
        )
    except (OSError, ValueError, RuntimeError) as error:
        _refuse(label, f"cannot be read ({error}); give a path that can")
    check_sha256(str(path), digest, reading)
    return of_file(str(path), path, path.stem, digest, reading)


def of_file(label: str, path: Path, stem: str, digest: str, reading: Reading) -> Source:
    """The source that an .npz of this SHA-256 is."""
    return Source(reading.named(re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:60], digest), label, path, "")


def check_sha256(label: str, digest: str, reading: Reading) -> None:
    """Raise DatasetError where a file is not the one that is asked for."""
    if not digest.startswith(reading.sha256.casefold()):
        _refuse(label, f"has the SHA-256 {digest}, and dataset_sha256={reading.sha256} is asked for; check both")


def load(source: Source, cache_dir: Path, work: Path) -> Arrays:
    """Read a source.

    Args:
        source: What to read.
        cache_dir: Keras's files are looked for, and kept, in its ``keras/datasets/``.
        work: An empty folder on the same file system for downloads under way; the caller removes it.

    Raises:
        DatasetError: Missing, damaged or not usable.
    """
    if source.path is not None:
        return clean(source.label, read_npz(source.path))
    if source.name == "digits":
        return _digits()
    return clean(source.label, _from_keras(source.name, cache_dir, work))


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz in Keras's own format, or ``x`` and ``y``; ``x_test`` and ``y_test`` may both be missing.

    Raises:
        DatasetError: Not an .npz, truncated, pickled, or a key is missing.
    """
    try:
        # A damaged file makes zipfile, zlib and NumPy raise nearly anything: whatever it is, the file is at fault.
        with path.open("rb") as opened, _as_npz(opened) as file:
            names = list(file.files)
            wanted = {key: key for key in _KEYS} if "x_train" in names else {**{key: key for key in _KEYS}, **_SHORT}
            arrays = {key: np.asarray(file[name]) for name, key in wanted.items() if name in names}
    except Exception as error:  # noqa: BLE001
        pickled = "Object arrays" in str(error) or "pickle" in str(error)
        if pickled:
            _refuse(path, "holds pickled (object) data, which could run code; save plain numeric arrays with np.savez")
        _refuse(path, f"is damaged or no .npz ({_brief(error)}); copy it again, or write it with np.savez")
    optional = [] if not {"x_test", "y_test"} & set(arrays) else ["x_test", "y_test"]
    missing = [key for key in ("x_train", "y_train", *optional) if key not in arrays]
    if missing:
        found = ", ".join(names[:8]) or "none"
        _refuse(
            path, f"lacks {' and '.join(missing)} (keys found: {found:.200}); save it with np.savez(x_train=..., ...)"
        )
    return arrays


def _as_npz(file: BinaryIO) -> np.lib.npyio.NpzFile:
    """What ``np.load`` gives of a zip archive, where it would also give a single array."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("it holds no whole zip archive")
    file.seek(0)
    return cast("np.lib.npyio.NpzFile", np.load(file, allow_pickle=False))


def clean(label: str, raw: Mapping[str, Array]) -> Arrays:
    """Bring arrays as people save them to the stored form.

    Args:
        label: Names the source in messages.
        raw: ``x_train``, ``y_train`` and, both or none, ``x_test``, ``y_test``.

    Raises:
        DatasetError: What is wrong with which array, and what to do.
    """
    has_test = "x_test" in raw
    parts = ("train", "test") if has_test else ("train",)
    images = {part: _images(label, f"x_{part}", raw[f"x_{part}"]) for part in parts}
    labels = {part: _labels(label, f"y_{part}", raw[f"y_{part}"]) for part in parts}
    for part in parts:
        if len(images[part][0]) != len(labels[part]):
            counts = f"x_{part} has {len(images[part][0])} images but y_{part} has {len(labels[part])} labels"
            _refuse(label, f"{counts}; save one label for each image")
    classes, y_train = np.unique(labels["train"], return_inverse=True)
    if len(classes) < 2:
        _refuse(label, f"y_train holds one class only ({classes.tolist()[0]!r}); a classifier needs at least two")
    x_train, pixel_max = images["train"]
    x_test, y_test = None, None
    if has_test:
        x_test = _same_form(label, images["train"], images["test"])
        y_test = _test_labels(label, classes, labels["test"])
    names = tuple(str(name) for name in classes.tolist())
    return Arrays(x_train, y_train.astype(np.int64), x_test, y_test, names, pixel_max)


def _images(label: str, key: str, x: Array) -> tuple[Array, float]:
    """``(n, h, w, c)`` uint8 or float32, and what a white pixel holds."""
    if x.ndim not in {3, 4}:
        _refuse(
            label, f"{key} has shape {x.shape}; it must be (images, height, width) or (images, height, width, 1 or 3)"
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    count, height, width, channels = x.shape
    if count == 0:
        _refuse(label, f"{key} is empty; save at least one image, or leave x_test and y_test out")
    if channels not in {1, 3}:
        first = "; the channels must come last (np.moveaxis(x, 1, -1))" if x.shape[1] in {1, 3} else ""
        _refuse(label, f"{key} has {channels} channels {x.shape}; save 1 (grayscale) or 3 (RGB, without alpha){first}")
    if height < 2 or width < 2:
        _refuse(label, f"{key} has images of {height}x{width} pixels; they must be at least 2x2")
    return _pixels(label, key, x)


def _pixels(label: str, key: str, x: Array) -> tuple[Array, float]:
    """The same images as uint8 or float32, and what a white pixel holds."""
    if x.dtype.kind not in "buif":
        _refuse(label, f"{key} has dtype {x.dtype}; save uint8 pixels, or floats from 0 to 1")
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        _refuse(label, f"{key} holds NaN or infinite pixels; replace them (np.nan_to_num) and save it again")
    if x.dtype.kind == "f" and low >= -1.0 and high <= 1.0:
        return x.astype(np.float32), 1.0
    if low < 0 or high > 255:
        _refuse(label, f"{key} holds pixels from {low:g} to {high:g}; scale them to 0..255 (uint8) or 0..1 (float)")
    if x.dtype.kind == "b":
        return x.astype(np.uint8), 1.0
    return x.astype(np.float32 if x.dtype.kind == "f" else np.uint8), 255.0


def _labels(label: str, key: str, y: Array) -> Array:
    """``(n,)`` int64 or text."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        _refuse(label, f"{key} has shape {y.shape}; it must be one label an image (of one-hot rows: y.argmax(axis=1))")
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all() and (np.abs(y) < 2**53).all()):
        _refuse(label, f"{key} holds fractions, NaN or infinity; labels must be whole numbers or text")
    if y.dtype.kind == "u" and y.size and int(y.max()) >= 2**63:
        _refuse(label, f"{key} holds {int(y.max())}; labels must be below 2**63")
    if y.dtype.kind in "buif":
        return y.astype(np.int64)
    if y.dtype.kind not in "SU":
        _refuse(label, f"{key} has dtype {y.dtype}; labels must be whole numbers or text")
    try:
        text = np.strings.decode(y, "utf-8") if y.dtype.kind == "S" else y
        return np.array([name.encode().decode() for name in text.tolist()], dtype=np.str_)
    except ValueError as error:
        _refuse(label, f"{key} holds text that is no valid Unicode ({error}); save the labels as UTF-8 or as numbers")


def _same_form(label: str, train: tuple[Array, float], test: tuple[Array, float]) -> Array:
    """The test images, if they are of the training images' size, dtype and scale."""
    forms = [f"{x.shape[1:]} {x.dtype} up to {pixel_max:g}" for x, pixel_max in (train, test)]
    if forms[0] != forms[1]:
        _refuse(label, f"x_train has images of {forms[0]}, x_test of {forms[1]}; save both in the same form")
    return test[0]


def _test_labels(label: str, classes: Array, y: Array) -> Array:
    """The test labels as positions in ``classes``."""
    if y.dtype.kind != classes.dtype.kind:
        _refuse(label, "y_train and y_test mix numbers with text; save both as the same kind")
    unknown = np.setdiff1d(y, classes).tolist()
    if unknown:
        some = ", ".join(repr(name) for name in unknown[:3])
        _refuse(
            label, f"y_test holds labels that y_train lacks ({some:.120}); add such images to training or drop them"
        )
    return np.searchsorted(classes, y).astype(np.int64)


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = clean("dataset=digits", {"x_train": digits.images.astype(np.uint8), "y_train": digits.target})
    return Arrays(arrays.x_train, arrays.y_train, None, None, arrays.class_names, _DIGITS_MAX)


def _from_keras(name: str, cache_dir: Path, work: Path) -> dict[str, Array]:
    """Read Keras's files, downloading the missing ones.

    Keras works on copies: it deletes a file whose hash it does not know before it has a new one, leaves half a file
    when it is killed, and falls back to ``/tmp`` where it may not write. What it fetched is kept only once it was read.
    """
    kept = cache_dir / "keras" / "datasets"
    homes = (kept, Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets")
    found = {target: _locate(target, url, homes) for target, url in _KERAS_FILES[name].items()}
    repacked = _repacked_mnist(found.get("mnist.npz"))
    if repacked is not None:
        return repacked
    staged = work / "keras" / "datasets"
    for target, path in found.items():
        (staged / target).parent.mkdir(parents=True, exist_ok=True)
        if path is not None:
            shutil.copyfile(path, staged / target)
    read = _keras_loader(name, staged.parent)
    try:
        (x_train, y_train), (x_test, y_test) = read()
    except Exception as error:  # noqa: BLE001 (Keras raises a plain Exception; damaged archives nearly anything)
        _refuse_keras(name, found, kept, _brief(error))
    for target, path in found.items():
        if path is None or not filecmp.cmp(path, staged / target, shallow=False):
            (kept / target).parent.mkdir(parents=True, exist_ok=True)
            (staged / target).replace(kept / target)
    return dict(zip(_KEYS, (x_train, y_train, x_test, y_test), strict=True))


def _repacked_mnist(path: Path | None) -> dict[str, Array] | None:
    """MNIST from an intact file. Keras knows the hash of one packing; the same arrays packed again are as good."""
    if path is None:
        return None
    try:
        arrays = read_npz(path)
    except DatasetError:
        return None
    return arrays if {key: x.shape for key, x in arrays.items()} == _MNIST_SHAPES else None


def _locate(target: str, url: str, homes: tuple[Path, ...]) -> Path | None:
    """The file under Keras's name for it or under the name that a browser gives it."""
    names = (target, str(Path(target).parent / url.rpartition("/")[2]))
    return next((home / name for home in homes for name in names if (home / name).is_file()), None)


def _keras_loader(name: str, home: Path) -> Callable[[], Any]:
    """Keras's own loader, reading from and downloading to ``home``.

    The NumPy backend would be lighter than TensorFlow's 3 s, but Keras 3.15 imports JAX for it; so the configured one.
    """
    for heavy in ("sklearn", "matplotlib"):  # TensorFlow imports them where they are installed: 3.4 s instead of 2.2
        sys.modules.setdefault(heavy, None)  # type: ignore[arg-type]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ["KERAS_HOME"] = str(home)
    socket.setdefaulttimeout(_DOWNLOAD_SILENCE_SECONDS)
    import keras

    loader: Callable[[], Any] = getattr(keras.datasets, name).load_data
    return loader


def _refuse_keras(name: str, found: Mapping[str, Path | None], kept: Path, reason: str) -> NoReturn:
    missing = [target for target, path in found.items() if path is None]
    wanted = missing or list(found)
    urls = [_KERAS_FILES[name][target] for target in wanted]
    if missing:
        files = ", ".join(url.rpartition("/")[2] for url in urls)
        state = f"not on this machine, and could not be downloaded: {files}"
    else:
        state = f"damaged, and no new copy could be downloaded: {' or '.join(str(path) for path in found.values())}"
    folder = (kept / wanted[0]).parent
    _refuse(f"dataset={name}", f"{state} ({reason}); put an intact copy ({', '.join(urls)}) into {folder}, {OFFLINE}")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text:.200}"


def _refuse(label: object, what: str) -> NoReturn:
    raise DatasetError(f"{label}: {what}.")
