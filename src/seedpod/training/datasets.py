"""One read-only, memory-mapped copy of a data set per machine, prepared once and checked by hash.

::

    <cache_dir>/datasets/<id>/{x_train,y_train,x_test,y_test}.npy, manifest.json
    <cache_dir>/datasets/.<id>.lock      held by the one process that prepares it
    <cache_dir>/datasets/.<id>.*.tmp/    under preparation; renamed when complete
    <cache_dir>/datasets/<id>/fetched    on a worker: brought by ``shelf.py``, and without the test images
    <cache_dir>/keras/datasets/          Keras's files, as downloaded or put there by hand

``prepare`` is for the main process and imports neither scikit-learn nor Keras: a helper process does, which is
this module run as ``python -m seedpod.training.datasets NAME CACHE_DIR``. ``attach`` is for trainer processes. It opens
the training arrays alone: no trial of a search has seen a test image. ``attach_test`` is for the final model.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt

from seedpod.errors import Cause, DatasetError, TrainingError
from seedpod.training import sources
from seedpod.training.helper import how_it_ended, last_lines, run_module
from seedpod.training.sources import Array, Source
from seedpod.trial import canonical_json

NAMES = sources.NAMES
"""The registered data sets."""

FORMAT = 1
"""Version of the cache entry. Raise it with every change to what is stored or how it is split; entries are rebuilt."""

TRAINING = ("x_train", "y_train")
"""The arrays that trials read; a worker may have these alone."""
_ARRAYS = (*TRAINING, "x_test", "y_test")
_TEST_SHARE = 0.2
_TEST_SEED = 0  # the same test images for every search, whatever its random_seed
_REFUSED = 2  # the helper's exit code when its output is a sentence for the user

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is known of a prepared data set without opening its arrays.

    Attributes:
        id: Name of its cache entry: a registered name, or ``<stem>-<12 hex digits>`` for a file.
        fingerprint: First 16 hex digits of the SHA-256 over the arrays' dtype, shape and bytes.
        image_shape: (height, width, channels); channels is 1 or 3.
        dtype: ``uint8`` or ``float32``.
        pixel_max: What a white pixel holds: 16 for digits, 255, or 1 for floats up to 1.
        class_names: The source's own labels as text, in sorted order; the position is the label.
        train_counts: Training images of each class, validation included.
        test_counts: Test images of each class.
    """

    id: str
    fingerprint: str
    image_shape: tuple[int, int, int]
    dtype: str
    pixel_max: float
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a search may see of a prepared data set, memory-mapped and read-only: a machine's processes share its pages.

    Attributes:
        info: What is known of it.
        x_train: (n, h, w, c) uint8 or float32, from 0 (float: -1) to ``info.pixel_max``.
        y_train: (n,) int64, 0 to k - 1.
    """

    info: DatasetInfo
    x_train: Array
    y_train: Array


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The images that judge the final model, once, and nothing else.

    Attributes:
        x_test: (m, h, w, c), as the training images.
        y_test: (m,) int64.
    """

    x_test: Array
    y_test: Array


class _DamagedError(Exception):
    """A cache entry that is not what it was written as."""


def prepare(dataset: str, cache_dir: Path) -> DatasetInfo:
    """Make sure that this machine holds an intact copy, by hash, and describe it.

    May be called by any number of processes and threads at once: one prepares, the others wait and use the result.

    Args:
        dataset: A registered name, or the path of an .npz with ``x_train``, ``y_train`` and, both or none, ``x_test``,
            ``y_test``. Where there is no test set, a stratified fifth becomes one, the same for every search.
        cache_dir: The folder for prepared data; made where missing.

    Raises:
        DatasetError: Unknown, missing, damaged or not usable data, or a cache folder that cannot be written.
    """
    source, cache_dir = sources.find(dataset), cache_dir.absolute()
    entry = _entry(cache_dir, source.id)
    try:
        if entry.exists():
            return _verify(entry)
        _log.info("preparing data set %s", source.id)
    except OSError:
        _log.debug("cannot look at %s; preparing will say why", entry)
    except _DamagedError as damage:
        _log.warning("the prepared data set in %s is damaged (%s); preparing it again", entry, damage)
    if source.path is not None:
        return _build(source, cache_dir)
    _run_helper(dataset, cache_dir)
    try:
        return _info(_read_manifest(entry))
    except _DamagedError as damage:
        raise DatasetError(f"{source.label}: {entry} was damaged as soon as it was written ({damage}).") from damage


def attach(dataset_id: str, fingerprint: str, cache_dir: Path) -> Dataset:
    """Map the training images of a prepared data set into this process, in under a millisecond and without hashing.

    Args:
        dataset_id: ``DatasetInfo.id``.
        fingerprint: ``DatasetInfo.fingerprint``.
        cache_dir: As given to ``prepare``.

    Raises:
        TrainingError: Not there, not whole, or another data set of the same name.
    """
    info, (x, y) = _attached(dataset_id, fingerprint, cache_dir, TRAINING)
    return Dataset(info, x, y)


def attach_test(dataset_id: str, fingerprint: str, cache_dir: Path) -> HeldOut:
    """Map the test images of a prepared data set into this process; arguments and errors as of ``attach``."""
    _, (x, y) = _attached(dataset_id, fingerprint, cache_dir, ("x_test", "y_test"))
    return HeldOut(x, y)


def _attached(
    dataset_id: str, fingerprint: str, cache_dir: Path, names: tuple[str, ...]
) -> tuple[DatasetInfo, list[Array]]:
    where = f"data set {dataset_id!r} (fingerprint {fingerprint}) in {cache_dir / 'datasets'}"
    remedy = f"prepare it on this machine: python -m seedpod.training.datasets NAME_OR_NPZ {cache_dir}"
    try:
        return _open(dataset_id, fingerprint, cache_dir, names)
    except (_DamagedError, OSError, ValueError) as error:
        raise TrainingError(f"{where}: {error}; {remedy}.", cause=Cause.DATA) from error


def holds(dataset_id: str, fingerprint: str, cache_dir: Path) -> bool:
    """Whether ``attach`` will find this data set in this cache folder."""
    try:
        _open(dataset_id, fingerprint, cache_dir, ())
    except (_DamagedError, OSError):
        return False
    return True


def entry_of(dataset_id: str, cache_dir: Path) -> Path:
    """The folder of a prepared data set in this cache folder; raises ValueError where that is no data set's id."""
    if not dataset_id or dataset_id.startswith(".") or not set(dataset_id) <= _ID_CHARACTERS:
        raise ValueError(f"{dataset_id!r} is no data set's id")
    return _entry(cache_dir, dataset_id)


def available(cache_dir: Path) -> dict[str, str]:
    """Fingerprints of the data sets that are prepared in this cache folder, by id; their arrays are not looked at."""
    found = {}
    for path in sorted(cache_dir.glob("datasets/*/manifest.json")):
        with contextlib.suppress(_DamagedError):
            manifest = _read_manifest(path.parent)
            found[str(manifest["id"])] = str(manifest["fingerprint"])
    return found


def split(labels: Array, validation_split: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide images into training and validation: disjoint, complete, stratified, the same for the same arguments.

    Each class's validation count is within one of ``count * validation_split``. A class of two images or more is in
    both parts, a single image trains. Within these bounds the total is ``round(n * validation_split)``: what rounding
    down leaves goes to the classes with the largest remainders, in the order of the labels where they tie.

    Args:
        labels: (n,) whole numbers.
        validation_split: Share for validation, in (0, 1).
        seed: For PCG64.

    Returns:
        Training and validation indices into ``labels``, int64, ascending.

    Raises:
        DatasetError: No class has two images, so that nothing is left to validate with.
    """
    if not 0 < validation_split < 1:
        raise ValueError(f"validation_split is {validation_split}; it must be between 0 and 1")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not (counts > 1).any():
        raise DatasetError(
            "every class has a single image; add images: two of a class at least, to train and validate."
        )
    take = _validation_counts(counts, validation_split)
    # One random key an image: this uses only PCG64's doubles, whose stream NumPy has never changed.
    keys = np.random.Generator(np.random.PCG64(seed)).random(len(inverse))
    order = np.lexsort((keys, inverse))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = rank < take[inverse[order]]
    return np.sort(order[~chosen]).astype(np.int64), np.sort(order[chosen]).astype(np.int64)


def folds(labels: Array, count: int, seed: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Divide images into so many parts, each of which validates what the others train: stratified, the same for the
    same arguments.

    The parts' sizes, and their numbers of images of each class, differ by one at most. A class of a single image
    trains in every fold. A class of fewer images than folds is missing from some parts.

    Args:
        labels: (n,) whole numbers.
        count: Folds, 2 or more.
        seed: For PCG64.

    Returns:
        Training and validation indices into ``labels``, int64, ascending, of each fold.

    Raises:
        DatasetError: Fewer images than folds could validate.
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    keys = np.random.Generator(np.random.PCG64(seed)).random(len(inverse))
    order = np.lexsort((keys, inverse))
    dealt = order[counts[inverse[order]] > 1]
    if len(dealt) < count:
        raise DatasetError(f"cv_folds={count}: there are {len(dealt)} images to deal out; lower it, or add images.")
    # Dealt out like cards, class by class: what a class leaves over goes on with the next class.
    part = np.full(len(inverse), -1)
    part[dealt] = np.arange(len(dealt)) % count
    return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(count)]


def main(arguments: list[str]) -> int:
    """The helper process: prepare one data set; standard output gets one line of JSON or, with exit code 2, trouble."""
    if len(arguments) != 2:
        sys.stdout.write(f"usage: python -m seedpod.training.datasets {{{'|'.join(NAMES)}|FILE.npz}} CACHE_DIR\n")
        return _REFUSED
    try:
        # Keras prints download bars on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            info = _build(sources.find(arguments[0]), Path(arguments[1]).absolute())
    except DatasetError as error:
        sys.stdout.write(f"{error}\n")
        return _REFUSED
    sys.stdout.write(f"{json.dumps({'id': info.id, 'fingerprint': info.fingerprint})}\n")
    return 0


_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def _open(
    dataset_id: str, fingerprint: str, cache_dir: Path, names: tuple[str, ...]
) -> tuple[DatasetInfo, list[Array]]:
    """Map arrays of an entry; the id may come from another machine, so it must not lead out of the cache."""
    try:
        entry = entry_of(dataset_id, cache_dir)
    except ValueError as error:
        raise _DamagedError(str(error)) from error
    manifest = _read_manifest(entry)
    info = _info(manifest)
    if (info.id, info.fingerprint) != (dataset_id, fingerprint):
        raise _DamagedError(f"found {info.id!r} with fingerprint {info.fingerprint} instead")
    _check_sizes(entry, manifest, names or TRAINING)
    return info, [np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names]


def _validation_counts(counts: npt.NDArray[Any], share: float) -> npt.NDArray[np.int64]:
    """How many images of each class validate."""
    exact = counts * share
    high = np.maximum(counts - 1, 0)
    take = np.clip(np.floor(exact).astype(np.int64), np.minimum(1, high), high)
    short = round(float(counts.sum() * share)) - int(take.sum())
    remainder = exact - take
    by_remainder = np.argsort(-remainder, kind="stable")
    open_classes = by_remainder[(remainder[by_remainder] > 0) & (take < high)[by_remainder]]
    take[open_classes[: max(short, 0)]] += 1
    return take


def _run_helper(dataset: str, cache_dir: Path) -> None:
    """Run this module as a process."""
    done = run_module("seedpod.training.datasets", dataset, str(cache_dir))
    if done.returncode == _REFUSED and done.stdout.strip():
        raise DatasetError(done.stdout.strip())
    if done.returncode:
        what = f"dataset={dataset}: the process that prepares it ended with {how_it_ended(done)}"
        raise DatasetError(f"{what}; look at its last lines, {sources.OFFLINE}:\n{last_lines(done)}")


def _build(source: Source, cache_dir: Path) -> DatasetInfo:
    """Prepare an entry unless another process just did."""
    entry = _entry(cache_dir, source.id)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(entry.with_name(f".{source.id}.lock")):
            with contextlib.suppress(_DamagedError):
                return _verify(entry)
            with _work_folder(entry) as work:
                arrays = _with_test(source.label, sources.load(source, cache_dir, work))
                _write(work / "entry", source.id, arrays)
                if entry.exists():
                    entry.rename(work / "damaged")
                (work / "entry").rename(entry)
            return _info(_read_manifest(entry))
    except (OSError, NotImplementedError) as error:  # the latter from filelock, where a file system has no locks
        raise DatasetError(
            f"{source.label}: cannot write into the cache folder {cache_dir} ({error}); free some space there, or set "
            "cache_dir to a folder that can be written."
        ) from error
    except MemoryError as error:
        raise DatasetError(f"{source.label}: does not fit into this machine's memory.") from error


@contextlib.contextmanager
def _work_folder(entry: Path) -> Iterator[Path]:
    """A folder beside the entry, removed at the end; also removes what killed processes left. The lock is held."""
    for stale in entry.parent.glob(f".{entry.name}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=".tmp", dir=entry.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _with_test(label: str, arrays: sources.Arrays) -> sources.Arrays:
    """The same with a test set, cut off where the source has none."""
    if arrays.x_test is None:
        try:
            train, test = split(arrays.y_train, _TEST_SHARE, _TEST_SEED)
        except DatasetError as error:
            raise DatasetError(f"{label}: {error}") from error
        x, y = arrays.x_train, arrays.y_train
        arrays = sources.Arrays(x[train], y[train], x[test], y[test], arrays.class_names, arrays.pixel_max)
    if np.bincount(arrays.y_train).max() < 2:
        raise DatasetError(
            f"{label}: no class has two training images, so nothing is left to validate with; add images (three of a "
            "class where there is no x_test)."
        )
    return arrays


def _write(folder: Path, dataset_id: str, arrays: sources.Arrays) -> None:
    """Write arrays and, last, the manifest."""
    folder.mkdir()
    fingerprint = hashlib.sha256()
    files = {}
    for name in _ARRAYS:
        array = np.ascontiguousarray(getattr(arrays, name))
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        fingerprint.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        fingerprint.update(array.data)
        path = folder / f"{name}.npy"
        with path.open("wb") as file:  # not np.save, which says "2048 requested and 512 written" of a full disk
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)
        files[name] = {"sha256": _sha256(path), "size": path.stat().st_size}
    classes = len(arrays.class_names)
    manifest = {
        "format": FORMAT,
        "id": dataset_id,
        "fingerprint": fingerprint.hexdigest()[:16],
        "image_shape": list(arrays.x_train.shape[1:]),
        "dtype": str(arrays.x_train.dtype),
        "pixel_max": arrays.pixel_max,
        "class_names": list(arrays.class_names),
        "train_counts": np.bincount(arrays.y_train, minlength=classes).tolist(),
        "test_counts": np.bincount(np.asarray(arrays.y_test), minlength=classes).tolist(),
        "files": files,
    }
    text = json.dumps({**manifest, "sha256": _checksum(manifest)}, indent=1)
    (folder / "manifest.json").write_text(text, encoding="ascii")


def _verify(entry: Path) -> DatasetInfo:
    """Check everything, bytes included; raises _DamagedError."""
    manifest = _read_manifest(entry)
    try:
        _check_sizes(entry, manifest, _ARRAYS)
        for name in _ARRAYS:
            if _sha256(entry / f"{name}.npy") != manifest["files"][name]["sha256"]:
                raise _DamagedError(f"{name}.npy has other content than was written")
    except OSError as error:
        raise _DamagedError(str(error)) from error
    return _info(manifest)


def _check_sizes(entry: Path, manifest: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        size, written = (entry / f"{name}.npy").stat().st_size, manifest["files"][name]["size"]
        if size != written:
            raise _DamagedError(f"{name}.npy has {size} of {written} bytes")


def _read_manifest(entry: Path) -> dict[str, Any]:
    """The manifest, whole and of this version; its own checksum vouches for its fields."""
    try:
        manifest = json.loads((entry / "manifest.json").read_bytes())
        checksum = manifest.pop("sha256")
    except OSError as error:
        raise _DamagedError(str(error)) from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _DamagedError("manifest.json is no manifest") from error
    if manifest.get("format") != FORMAT:
        raise _DamagedError(f"it has format {manifest.get('format')!r}, this seedpod reads {FORMAT}")
    if checksum != _checksum(manifest):
        raise _DamagedError("manifest.json has other content than was written")
    return dict(manifest)


def _info(manifest: dict[str, Any]) -> DatasetInfo:
    height, width, channels = manifest["image_shape"]
    return DatasetInfo(
        id=manifest["id"],
        fingerprint=manifest["fingerprint"],
        image_shape=(height, width, channels),
        dtype=manifest["dtype"],
        pixel_max=manifest["pixel_max"],
        class_names=tuple(manifest["class_names"]),
        train_counts=tuple(manifest["train_counts"]),
        test_counts=tuple(manifest["test_counts"]),
    )


def _checksum(manifest: dict[str, Any]) -> str:
    try:
        return hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
    except (ValueError, TypeError) as error:  # NaN, which we never write
        raise _DamagedError("manifest.json has other content than was written") from error


def _entry(cache_dir: Path, dataset_id: str) -> Path:
    return cache_dir / "datasets" / dataset_id


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
