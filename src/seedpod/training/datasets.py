"""One read-only, memory-mapped copy of a data set per machine, prepared once and checked by hash.

::

    <cache_dir>/datasets/<id>/{x_train,y_train,x_test,y_test}.npy, manifest.json
                            /found.json  of a user's own: files left out, and what else was noticed
    <cache_dir>/known/                   which entry a folder or file becomes, and which entries were seen to be whole
    <cache_dir>/datasets/.<id>.lock      held by the one process that prepares it
    <cache_dir>/datasets/.<id>.*.tmp/    under preparation; renamed when complete
    <cache_dir>/datasets/<id>/fetched    on a worker: brought by ``shelf.py``, and without the test images
    <cache_dir>/keras/datasets/          Keras's files, as downloaded or put there by hand
    <cache_dir>/downloads/               what https addresses have given

``prepare`` is for the main process and imports neither scikit-learn nor Keras, and decodes no picture: a helper process
does, which is this module run as ``python -m seedpod.training.datasets NAME CACHE_DIR``.

``attach`` is for trainer processes. It opens
the training arrays alone: no trial of a search has seen a test image. ``attach_test`` is for the final model.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import filelock
import numpy as np
import numpy.typing as npt

from seedpod.errors import Cause, DatasetError, TrainingError
from seedpod.reading import Reading
from seedpod.training import sources
from seedpod.training.helper import follow_module, how_it_ended, last_lines
from seedpod.training.own import archives, fetch
from seedpod.training.own.found import Found
from seedpod.training.own.listing import Listing
from seedpod.training.own.places import Kind, Place, inside, place_of
from seedpod.training.own.rows import pieces
from seedpod.training.sources import Array, Arrays, Source
from seedpod.trial import canonical_json

NAMES = sources.NAMES
"""The registered data sets."""

FORMAT = 1
"""Version of the cache entry. Raise it with every change to what is stored or how it is split; entries are rebuilt."""

TRAINING = ("x_train", "y_train")
"""The arrays that trials read; a worker may have these alone."""
_ARRAYS = (*TRAINING, "x_test", "y_test")
_TEST_SEED = 0  # the same test images for every search, whatever its random_seed
_REFUSED = 2  # the helper's exit code when its output is a sentence for the user
_TICK = 0.1  # seconds: two changes of a file within it may leave the same time
_TOLD = 0.2  # seconds between two words of the helper on how far it is

_log = logging.getLogger(__name__)

Advance = Callable[[str, int, int], None]
"""Is told what is done, and how much of how much is."""


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


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


def prepare(
    dataset: str,
    cache_dir: Path,
    reading: Reading = Reading(),  # noqa: B008 - it never changes
    advance: Advance = _silent,
) -> DatasetInfo:
    """Make sure that this machine holds an intact copy, by hash, and describe it.

    May be called by any number of processes and threads at once: one prepares, the others wait and use the result.

    A folder, table or zip that has become an entry before is not opened again while its files keep their names, sizes
    and times of change; a download is not asked for again.

    Args:
        dataset: A registered name; a folder of class folders, also in ``train``, ``val`` and ``test``; an .npz with
            ``x_train``, ``y_train`` and, both or none, ``x_test``, ``y_test``, or with ``x`` and ``y``; a .csv or
            .parquet of paths and labels; a .zip of one of these; or the https address of a .zip or .npz.
        cache_dir: The folder for prepared data; made where missing.
        reading: How to read it. Where there is no test set, a stratified ``test_size`` becomes one, the same for every
            search.
        advance: Is told how far it is, from time to time.

    Raises:
        DatasetError: Unknown, missing, damaged or not usable data, or a cache folder that cannot be written.
    """
    cache_dir = cache_dir.absolute()
    place = _place(dataset, cache_dir, reading)
    if place is not None:
        info = _known(place, cache_dir, reading)
        if info is None:
            answer = _run_helper(dataset, cache_dir, reading, advance)
            info = _just_made(dataset, _entry(cache_dir, answer))
        found(info.id, cache_dir).check(place.label, reading.max_bad_files)
        return info
    source = sources.find(dataset, reading)
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
        return _build(source, cache_dir, reading)
    _run_helper(dataset, cache_dir, reading, advance)
    return _just_made(source.label, entry)


def prepare_here(dataset: str, cache_dir: Path, reading: Reading, advance: Advance = _silent) -> DatasetInfo:
    """Do the helper's work in this process; arguments and errors as of ``prepare``."""
    cache_dir = cache_dir.absolute()
    try:
        if fetch.is_address(dataset):
            got = fetch.fetch(dataset, cache_dir, reading, lambda done, total: advance("downloading", done, total))
            advance(f"SHA-256 {got.sha256}", 0, 0)
        place = _place(dataset, cache_dir, reading)
        if place is None:
            return _build(sources.find(dataset, reading), cache_dir, reading)
        return _build_own(place, cache_dir, reading, advance)
    except (OSError, NotImplementedError) as error:
        raise _unwritable(dataset, cache_dir, error) from error


def found(dataset_id: str, cache_dir: Path) -> Found:
    """What was found in a user's own source when its entry was made; nothing for registered names."""
    return Found.read(_entry(cache_dir, dataset_id))


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


def validation_images(counts: Sequence[int], validation_split: float) -> int:
    """How many images ``split`` holds out of so many of each class."""
    there = np.array([count for count in counts if count])
    return int(_validation_counts(there, validation_split).sum()) if len(there) else 0


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
    """The helper process: prepare one data set; standard output gets one line of JSON or, with exit code 2, trouble.

    With a reading in JSON as a third argument, lines on how far it is come before, and it ends when its input does.
    """
    if len(arguments) not in {2, 3}:
        sys.stdout.write(f"usage: python -m seedpod.training.datasets {{{'|'.join(NAMES)}|PATH|URL}} CACHE_DIR\n")
        return _REFUSED
    out, reading = sys.stdout, Reading()
    advance: Advance = _silent
    if len(arguments) == 3:
        threading.Thread(target=_end_with_input, daemon=True).start()
        given = json.loads(arguments[2])
        size = given.pop("image_size")
        reading, advance = Reading(image_size=tuple(size) if size else None, **given), _teller(out)
    try:
        # Keras prints download bars on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            info = prepare_here(arguments[0], Path(arguments[1]), reading, advance)
    except DatasetError as error:
        out.write(f"{error}\n")
        return _REFUSED
    out.write(f"{json.dumps({'id': info.id, 'fingerprint': info.fingerprint})}\n")
    return 0


def _end_with_input() -> None:
    """End when the process that has started this one is gone."""
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold when the interpreter ends
        pass
    os._exit(_REFUSED + 1)


def _teller(out: TextIO) -> Advance:
    last = [0.0]

    def tell(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] >= _TOLD or done == total:
            last[0] = now
            out.write(f"{json.dumps({'at': [what, done, total]})}\n")
            out.flush()

    return tell


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


def _run_helper(dataset: str, cache_dir: Path, reading: Reading, advance: Advance) -> str:
    """Run this module as a process; the id of what it has made."""

    def hear(line: str) -> bool:
        told = line.startswith('{"at": ')
        if told:
            advance(*json.loads(line)["at"])
        return told

    how = json.dumps(asdict(reading))
    done = follow_module("seedpod.training.datasets", dataset, str(cache_dir), how, hear=hear)
    if done.returncode == _REFUSED and done.stdout.strip():
        raise DatasetError(done.stdout.strip())
    if done.returncode:
        what = f"dataset={dataset}: the process that prepares it ended with {how_it_ended(done)}"
        raise DatasetError(f"{what}; look at its last lines, {sources.OFFLINE}:\n{last_lines(done)}")
    return str(json.loads(done.stdout.splitlines()[-1])["id"])


def _just_made(label: str, entry: Path) -> DatasetInfo:
    try:
        return _info(_read_manifest(entry))
    except _DamagedError as damage:
        raise DatasetError(f"{label}: {entry} was damaged as soon as it was written ({damage}).") from damage


def _unwritable(label: str, cache_dir: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"{label}: cannot write into the cache folder {cache_dir} ({error}); free some space there, or set "
        "cache_dir to a folder that can be written."
    )


def _build(source: Source, cache_dir: Path, reading: Reading) -> DatasetInfo:
    """Prepare an entry unless another process just did."""
    entry = _entry(cache_dir, source.id)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(entry.with_name(f".{source.id}.lock")):
            with contextlib.suppress(_DamagedError):
                return _verify(entry)
            with _work_folder(entry) as work:
                arrays, notes = _shaped(source, sources.load(source, cache_dir, work), reading)
                _write(work / "entry", source.id, _with_test(source.label, arrays, reading.test_size))
                if notes:
                    Found(notes=notes).write(work / "entry")
                _put(work, entry)
            return _info(_read_manifest(entry))
    except (OSError, NotImplementedError) as error:  # the latter from filelock, where a file system has no locks
        raise _unwritable(source.label, cache_dir, error) from error
    except MemoryError as error:
        raise DatasetError(f"{source.label}: does not fit into this machine's memory.") from error


def _shaped(source: Source, arrays: Arrays, reading: Reading) -> tuple[Arrays, tuple[str, ...]]:
    """Arrays as they are wished, and what a user should know of his own."""
    notes: tuple[str, ...] = ()
    if source.path is not None and arrays.x_test is not None:
        from seedpod.training.own.arrays import in_both

        same = in_both(arrays)
        if same:
            what = f"{same:,} of {len(arrays.x_test):,} test images are training images too"
            notes = (f"{what}, so that the test flatters: leave them out.",)
    if not reading.shape:
        return arrays, notes
    from seedpod.training.own.arrays import shaped

    return shaped(arrays, reading), notes


def _put(work: Path, entry: Path) -> None:
    """Make what is written the entry; what was in its place goes with the work folder."""
    if entry.exists():
        entry.rename(work / "damaged")
    (work / "entry").rename(entry)


def _place(dataset: str, cache_dir: Path, reading: Reading) -> Place | None:
    """Where a user's own pictures are; None for registered names, an .npz, and what is not there."""
    if dataset in NAMES:
        return None
    label = f"dataset={dataset}"
    if fetch.is_address(dataset):
        got = fetch.known(dataset, cache_dir, reading.sha256)
        return place_of(label, got.path) if got else Place(label, "", Path(), Kind.ZIP)
    try:
        path = Path(dataset).expanduser()
        there = bool(dataset) and (path.is_dir() or path.is_file())
    except (OSError, ValueError, RuntimeError):
        return None
    place = place_of(str(path), path) if there else None
    return None if place is None or place.kind is Kind.NPZ else place


def _known(place: Place, cache_dir: Path, reading: Reading) -> DatasetInfo | None:
    """The intact entry that a place is known to become; None where nobody has looked yet, or its files have changed."""
    if place.path == Path():  # not downloaded yet
        return None
    return _noted(_note(place, _listing(place), cache_dir, reading), place, cache_dir)


def _noted(note: Path, place: Place, cache_dir: Path) -> DatasetInfo | None:
    try:
        dataset_id = str(json.loads(note.read_bytes())["id"])
        if not set(dataset_id) <= _ID_CHARACTERS or not _entry(cache_dir, dataset_id).exists():
            return None
        return _verify(_entry(cache_dir, dataset_id))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    except _DamagedError as damage:
        _log.warning("the prepared data set of %s is damaged (%s); preparing it again", place.label, damage)
        return None


def _listing(place: Place) -> Listing | None:
    return place.listing() if place.kind in {Kind.FOLDER, Kind.TABLE} else None


def _note(place: Place, listing: Listing | None, cache_dir: Path, reading: Reading) -> Path:
    """Where it is noted which entry a place becomes, as long as its files keep their names, sizes and times."""
    if listing is None:
        at = place.path.stat()
        state = f"{place.path.resolve()} {at.st_size} {at.st_mtime_ns}"
    else:
        state = listing.key
    name = hashlib.sha256(f"{FORMAT} {state} {reading.shape}".encode(errors="surrogateescape")).hexdigest()[:24]
    return cache_dir / "known" / f"{place.stem}-{name}.json"


def _build_own(place: Place, cache_dir: Path, reading: Reading, advance: Advance) -> DatasetInfo:
    """Prepare the entry of a user's own pictures unless another process just did."""
    if reading.sha256 and place.kind in {Kind.FOLDER, Kind.TABLE}:
        raise DatasetError(f"{place.label}: dataset_sha256 is for files; leave it out, or give a zip.")
    if reading.sha256:
        sources.check_sha256(place.label, _sha256(place.path), reading)
    listing = _listing(place)
    newest = place.path.stat().st_mtime if listing is None else listing.newest
    time.sleep(min(max(0.0, newest + _TICK - time.time()), _TICK))  # whoever writes to a file now changes its time
    note = _note(place, listing, cache_dir, reading)
    for folder in (note.parent, cache_dir / "datasets"):
        folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(note.with_suffix(".lock")):
        info = _noted(note, place, cache_dir)
        if info is None:
            with _work_folder(_entry(cache_dir, note.stem)) as work:
                info = _build_pictures(place, cache_dir, reading, work, advance)
            if _note(place, _listing(place), cache_dir, reading) == note:  # nothing was changed meanwhile
                _write_whole(note, {"id": info.id})
    return info


def _build_pictures(place: Place, cache_dir: Path, reading: Reading, work: Path, advance: Advance) -> DatasetInfo:
    from seedpod.training.own.decoding import decode_all  # which imports Pillow

    label, damaged, at = place.label, [], place
    if place.kind is Kind.ZIP:
        unpacked = work / "unpacked"
        unpacked.mkdir()
        damaged = archives.unpack(label, place.path, unpacked, lambda done, all_: advance("unpacking", done, all_))
        at = inside(label, place.stem, unpacked)
    if at.kind is Kind.NPZ:
        return _build(sources.of_file(label, at.path, place.stem, _sha256(at.path), reading), cache_dir, reading)
    listing = at.listing()
    listing = replace(listing, bad=(*listing.bad, *damaged))
    decoded = decode_all(label, listing, reading, work, advance)
    entry = _entry(cache_dir, reading.named(place.stem, decoded.content))
    with filelock.FileLock(entry.with_name(f".{entry.name}.lock")):
        with contextlib.suppress(_DamagedError):
            return _verify(entry)
        x_train, y_train = decoded.part(test=False)
        x_test, y_test = decoded.part(test=True) if decoded.has_test else (None, None)
        arrays = Arrays(x_train, y_train, x_test, y_test, decoded.classes, 255.0)
        advance("writing", 0, 1)
        _write(work / "entry", entry.name, _with_test(label, arrays, reading.test_size))
        decoded.found.write(work / "entry")
        _put(work, entry)
        time.sleep(_TICK)
        _write_whole(_seen(entry), _state(entry))  # its hashes are of what was just written
    return _info(_read_manifest(entry))


def _write_whole(path: Path, record: dict[str, Any]) -> None:
    """Write a small file that is whole at any moment; where that cannot be, there is none."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(record), encoding="ascii")
        beside.replace(path)


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


def _with_test(label: str, arrays: Arrays, share: float) -> Arrays:
    """The same with a test set, cut off where the source has none."""
    if arrays.x_test is None:
        try:
            train, test = split(arrays.y_train, share, _TEST_SEED)
        except DatasetError as error:
            raise DatasetError(f"{label}: {error}") from error
        x, y = arrays.x_train, arrays.y_train
        arrays = Arrays(x[train], y[train], x[test], y[test], arrays.class_names, arrays.pixel_max)
    if np.bincount(arrays.y_train).max() < 2:
        raise DatasetError(
            f"{label}: no class has two training images, so nothing is left to validate with; add images (three of a "
            "class where there are no test images)."
        )
    return arrays


def _write(folder: Path, dataset_id: str, arrays: Arrays) -> None:
    """Write arrays and, last, the manifest."""
    folder.mkdir()
    fingerprint = hashlib.sha256()
    files = {}
    for name in _ARRAYS:
        array = getattr(arrays, name)
        dtype = array.dtype.newbyteorder("<")
        fingerprint.update(f"{name} {dtype.str} {array.shape}\n".encode())
        path = folder / f"{name}.npy"
        with path.open("wb") as file:  # not np.save, which says "2048 requested and 512 written" of a full disk
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces(array):
                data = np.ascontiguousarray(piece, dtype).data
                fingerprint.update(data)
                file.write(data)
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
    """Check everything, bytes included; raises _DamagedError.

    Bytes are read again only where a file is another one, or was written to, since they were found right: by its
    number, size and times, so that a large data set starts at once.
    """
    manifest = _read_manifest(entry)
    seen = _seen(entry)
    try:
        _check_sizes(entry, manifest, _ARRAYS)
        state = _state(entry)
        if _read_json(seen) == state:
            return _info(manifest)
        for name in _ARRAYS:
            if _sha256(entry / f"{name}.npy") != manifest["files"][name]["sha256"]:
                raise _DamagedError(f"{name}.npy has other content than was written")
        if max(time_ns for *_, time_ns in state.values()) < time.time_ns() - _TICK * 1e9:
            _write_whole(seen, state)
    except OSError as error:
        raise _DamagedError(str(error)) from error
    return _info(manifest)


def _seen(entry: Path) -> Path:
    """Where it is noted in which state an entry's hashes were right."""
    return entry.parents[1] / "known" / f"{entry.name}.seen"


def _state(entry: Path) -> dict[str, list[int]]:
    """What changes when somebody writes to an array's file, the system's own time of its last change last."""
    found = {name: (entry / f"{name}.npy").stat() for name in _ARRAYS}
    return {name: [at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns] for name, at in found.items()}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


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
