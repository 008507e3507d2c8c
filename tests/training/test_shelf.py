"""A worker's data sets: fetched once from a real S3 server, whole or not at all, let go when others need the room."""

import http.server
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from seedpod.errors import Cause, TrainingError, TrialCancelled
from seedpod.training.datasets import DatasetInfo, attach, attach_test, prepare
from seedpod.training.packing import Pack, pack
from seedpod.training.shelf import Shelf
from store_rig import CuttingLine, Server, s3_server, save_images, store_at

pytestmark = pytest.mark.processes

ROOM = 10e9


@pytest.fixture(scope="module", name="server")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module", name="home")
def optimizers_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The optimizer's cache folder."""
    return tmp_path_factory.mktemp("home")


def sent(server: Server, home: Path, name: str, count: int = 60, side: int = 8) -> tuple[DatasetInfo, Pack]:
    """A data set that was prepared at home and is in the store."""
    info = prepare(str(save_images(home / f"{name}.npz", count, side, seed=len(name))), home)
    packed = pack(info.id, home)
    store_at(server.url).upload(packed, lambda _: None)
    return info, packed


def fetch(shelf: Shelf, info: DatasetInfo, url: str) -> None:
    with shelf.having(info.id, info.fingerprint, url):
        pass


def same(info: DatasetInfo, one: Path, other: Path) -> bool:
    x, y = (attach(info.id, info.fingerprint, cache) for cache in (one, other))
    return bool(np.array_equal(x.x_train, y.x_train) and np.array_equal(x.y_train, y.y_train))


def names(cache: Path) -> set[str]:
    """What is in a cache folder, but for the lock files, which stay."""
    return {path.name for path in (cache / "datasets").glob("*") if path.suffix != ".lock"}


def test_an_object_is_the_same_everywhere_and_has_no_test_image(home: Path, tmp_path: Path) -> None:
    """Two machines that prepare the same images make the same object, which plain tar reads; the test arrays are not in
    it.
    """
    file = save_images(tmp_path / "same.npz")
    one, other = (pack(prepare(str(file), cache).id, cache) for cache in (home, tmp_path / "other"))
    assert (one.name, one.size) == (other.name, other.size)
    (tmp_path / one.name).write_bytes(one.read(0, one.size))
    with tarfile.open(tmp_path / one.name) as archive:
        assert archive.getnames() == ["manifest.json", "x_train.npy", "y_train.npy"]
    assert b"".join(one.read(at, 1000) for at in range(0, one.size, 1000)) == one.read(0, one.size)


def test_a_data_set_is_fetched_once(server: Server, home: Path, tmp_path: Path) -> None:
    """A fetched data set is bit for bit the optimizer's, has no test image, and is there for the next job without a
    request, the address being of no use any more.
    """
    info, packed = sent(server, home, "once")
    shelf = Shelf(tmp_path, ROOM)
    fetch(shelf, info, store_at(server.url).url(packed.name, 60))
    assert same(info, home, tmp_path)
    with pytest.raises(TrainingError, match="x_test"):
        attach_test(info.id, info.fingerprint, tmp_path)
    fetch(shelf, info, store_at(server.url).url(f"{'0' * 64}.tar", 60))
    assert server.asked("GET", packed.name) == ["200"]
    assert names(tmp_path) == {info.id}


def test_jobs_of_one_worker_share_one_download(server: Server, home: Path, tmp_path: Path) -> None:
    """Six jobs at once, of two worker processes' shelves on one folder, make one request."""
    info, packed = sent(server, home, "shared", 6000, 32)
    url = store_at(server.url).url(packed.name, 60)
    shelves = [Shelf(tmp_path, ROOM), Shelf(tmp_path, ROOM)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: fetch(shelves[number % 2], info, url), range(6)))
    assert server.asked("GET", packed.name) == ["200"]
    assert same(info, home, tmp_path)


def test_a_cut_download_goes_on(server: Server, home: Path, tmp_path: Path) -> None:
    """A connection that is cut twice is taken up again by the byte: little more than the object travels."""
    info, packed = sent(server, home, "cut", 6000, 32)
    line = CuttingLine(server, [packed.size // 3, packed.size // 3])
    fetch(Shelf(tmp_path, ROOM), info, store_at(line.url).url(packed.name, 60))
    line.close()
    assert same(info, home, tmp_path)
    assert server.asked("GET", packed.name) == ["200", "206", "206"]
    with line.carried.locked() as carried:
        assert carried[0] < packed.size + 10_000


def test_a_line_that_is_always_cut_is_told(server: Server, home: Path, tmp_path: Path) -> None:
    """Where no byte comes any more the trial fails as one that may be tried again, and what has arrived is kept: the
    next job goes on with it.
    """
    info, packed = sent(server, home, "dead", 6000, 32)
    line = CuttingLine(server, [packed.size // 2, *[1] * 20])
    with pytest.raises(TrainingError, match=rf"data set {info.id} .* from 127.0.0.1: .*lost") as caught:
        fetch(Shelf(tmp_path, ROOM, tries=3), info, store_at(line.url).url(packed.name, 60))
    line.close()
    assert caught.value.cause is Cause.TRANSFER
    fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))
    assert server.asked("GET", packed.name)[-1] == "206"
    assert same(info, home, tmp_path)


def test_an_expired_address_is_told(server: Server, home: Path, tmp_path: Path) -> None:
    """An address that has run out is named as such, without its signature, and may be tried again with another."""
    info, packed = sent(server, home, "expired")
    url = store_at(server.url).url(packed.name, 1)
    time.sleep(2.1)
    with pytest.raises(TrainingError, match=rf"data set {info.id} .* expired") as caught:
        fetch(Shelf(tmp_path, ROOM), info, url)
    assert caught.value.cause is Cause.TRANSFER
    assert "Signature" not in str(caught.value)
    fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))


def test_a_wrong_hash_is_told(server: Server, home: Path, tmp_path: Path) -> None:
    """An object whose bytes are not those that were uploaded fails the trial for good, and leaves nothing behind."""
    info, packed = sent(server, home, "wrong")
    (stored,) = server.folder.rglob(packed.name)
    stored.write_bytes(bytes(packed.size))
    with pytest.raises(TrainingError, match=rf"data set {info.id} .* SHA-256") as caught:
        fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))
    assert caught.value.cause is Cause.DATA
    assert names(tmp_path) == set()


def test_half_of_an_accident_is_fetched_anew(server: Server, home: Path, tmp_path: Path) -> None:
    """A beginning that a crash has damaged costs a second download, and no trial."""
    info, packed = sent(server, home, "half")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / f".{info.id}.{packed.name[:16]}.part").write_bytes(b"x" * 1000)
    fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))
    assert server.asked("GET", packed.name) == ["206", "200"]
    assert same(info, home, tmp_path)
    assert names(tmp_path) == {info.id}


def test_what_has_arrived_whole_is_not_fetched_again(server: Server, home: Path, tmp_path: Path) -> None:
    """A worker that was killed between the last byte and the unpacking asks for nothing any more."""
    info, packed = sent(server, home, "arrived")
    (tmp_path / "datasets").mkdir()
    part = tmp_path / "datasets" / f".{info.id}.{packed.name[:16]}.part"
    part.write_bytes(packed.read(0, packed.size))
    (tmp_path / "datasets" / f".{info.id}.0.tmp").mkdir()
    fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))
    assert server.asked("GET", packed.name) == []
    assert same(info, home, tmp_path)
    assert names(tmp_path) == {info.id}


def test_another_data_set_is_refused(server: Server, home: Path, tmp_path: Path) -> None:
    """An address of other images than were asked for brings nothing."""
    info, _ = sent(server, home, "asked")
    _, packed = sent(server, home, "others")
    with pytest.raises(TrainingError, match="leads to data set others"):
        fetch(Shelf(tmp_path, ROOM), info, store_at(server.url).url(packed.name, 60))


def test_the_least_recently_used_go_first_and_those_in_use_stay(server: Server, home: Path, tmp_path: Path) -> None:
    """Over its limit a shelf lets go the data set that was used longest ago, and none that a job holds."""
    one, two, three, four = (sent(server, home, f"lru{'x' * n}", 1000, 16) for n in range(4))
    shelf = Shelf(tmp_path, 3.5 * one[1].size)
    store = store_at(server.url)

    def used(info: DatasetInfo, packed: Pack) -> None:
        fetch(shelf, info, store.url(packed.name, 60))
        time.sleep(0.02)  # times of files are no finer on some file systems

    for each in (one, two, three, one):
        used(*each)
    (tmp_path / "datasets" / "of_the_image").mkdir()
    with shelf.having(two[0].id, two[0].fingerprint):
        used(*four)
        assert names(tmp_path) == {each[0].id for each in (one, two, four)} | {"of_the_image"}
        used(*three)
        assert names(tmp_path) == {each[0].id for each in (two, three, four)} | {"of_the_image"}
        assert same(two[0], home, tmp_path)


def test_a_data_set_that_is_larger_than_the_limit_is_fetched_alone(server: Server, home: Path, tmp_path: Path) -> None:
    """A limit of nothing keeps one data set, the one that is needed."""
    shelf = Shelf(tmp_path, 0)
    for info, packed in (sent(server, home, "limit"), sent(server, home, "limited")):
        fetch(shelf, info, store_at(server.url).url(packed.name, 60))
        assert names(tmp_path) == {info.id}


FULL = """
import resource, sys
from pathlib import Path
from seedpod.errors import TrainingError
from seedpod.training.shelf import Shelf
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with Shelf(Path(sys.argv[1]), 1e9).having(*sys.argv[2:]):
        pass
except TrainingError as error:
    print(error.cause, error)
"""


def test_a_full_disk_is_told(server: Server, home: Path, tmp_path: Path) -> None:
    """A worker that cannot write the data set says so, with the data set's name and what to do."""
    info, packed = sent(server, home, "full", 6000, 32)
    url = store_at(server.url).url(packed.name, 60)
    command = [sys.executable, "-c", FULL, str(tmp_path), info.id, info.fingerprint, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"data data set {info.id} cannot be kept in {tmp_path / 'datasets'} (")
    assert "SEEDPOD_CACHE_GB" in done.stdout


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends everybody to another place."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def sending_elsewhere() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{'0' * 64}.tar"
        server.shutdown()


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    """An address that leads to another one is refused, and said."""
    with sending_elsewhere() as url, pytest.raises(TrainingError, match=r"leads elsewhere.*302"):
        Shelf(tmp_path, ROOM).having("x-0123456789ab", "f" * 16, url).__enter__()


def test_a_cancelled_job_waits_for_no_download(tmp_path: Path) -> None:
    """A job that is not wanted any more leaves at once, also while it waits for a line that is dead."""
    url = f"http://127.0.0.1:1/{'0' * 64}.tar"
    with pytest.raises(TrialCancelled), Shelf(tmp_path, ROOM).having("x-0123456789ab", "f" * 16, url, lambda: True):
        pass


def test_a_volume_that_has_the_data_set_is_linked_to(tmp_path: Path) -> None:
    """A data set in the mounted volume's seedpod folder is used from there, without any address."""
    info = prepare(str(save_images(tmp_path / "mounted.npz")), tmp_path / "volume" / "seedpod")
    shelf = Shelf(tmp_path / "cache", 0, tmp_path / "volume")
    fetch(shelf, info, "")
    assert attach(info.id, info.fingerprint, tmp_path / "cache").info == info
    assert (tmp_path / "cache" / "datasets" / info.id).is_symlink()


def test_an_object_on_the_volume_is_not_downloaded(home: Path, tmp_path: Path) -> None:
    """Where the store is the mounted volume, the object is read there and nobody is asked; the volume stays whole."""
    info = prepare(str(save_images(tmp_path / "there.npz")), home)
    packed = pack(info.id, home)
    (tmp_path / "volume" / "p").mkdir(parents=True)
    stored = tmp_path / "volume" / "p" / packed.name
    stored.write_bytes(packed.read(0, packed.size))
    shelf = Shelf(tmp_path / "cache", ROOM, tmp_path / "volume")
    fetch(shelf, info, f"https://nowhere.invalid/volume-id/p/{packed.name}?X-Amz-Signature=0")
    assert same(info, home, tmp_path / "cache")
    assert stored.exists()


def test_what_is_not_there_and_has_no_address_is_left_to_the_trial(tmp_path: Path) -> None:
    """Without address and data set nothing happens here: attaching names what is missing."""
    fetched = []
    with Shelf(tmp_path, ROOM).having("x-0123456789ab", "f" * 16):
        fetched.append(1)
    assert fetched
    assert list(tmp_path.iterdir()) == []
