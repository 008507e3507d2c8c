"""From a folder of pictures, some of them broken, to a model that says of its files what its evaluation says."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from command_rig import records, run
from photos import encoded
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import attach_test
from seedpod.training.pictures import Form, PictureError, read_picture
from store_rig import KEYS, UNCONFIGURED, s3_server, table, through

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(1200)]

CLASSES = ("circle", "a square", "Dreieck", "線", "żółw")
PER_CLASS = 1000
BROKEN = 30


def shape_of(kind: int, rng: np.random.Generator) -> Image.Image:
    """A photograph's worth of noise with a shape in it, of 60 to 120 pixels a side."""
    height, width = (int(side) for side in rng.integers(60, 120, 2))
    pixels = rng.integers(0, 80, (height, width, 3)).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    y, x = y - height // 2 - rng.integers(-8, 8), x - width // 2 - rng.integers(-8, 8)
    r = int(rng.integers(14, 24))
    masks: list[npt.NDArray[np.bool_]] = [
        y**2 + x**2 < r * r,
        (abs(y) < r) & (abs(x) < r),
        (y < r) & (y > 2 * abs(x) - r),
        abs(y) < 4,
        abs(x) < 4,
    ]
    pixels[masks[kind]] += rng.integers(10, 40, 3).astype(np.uint8)  # so faint that some are mistaken
    return Image.fromarray(pixels)


def break_file(path: Path, way: int, rng: np.random.Generator) -> None:
    """One of eight ways in which pictures break."""
    data = path.read_bytes()
    if way == 6:
        path.unlink()
        path.symlink_to("/etc/hostname")
        return
    bomb = encoded(Image.new("1", (30_000, 30_000))) if way == 5 else b""
    page = b"<html>404 Not Found</html>"
    ways = (b"", data[: len(data) // 2], page, bytes(len(data)), rng.bytes(len(data)), bomb, b"", data[:20])
    path.write_bytes(ways[way])


@pytest.fixture(scope="module", name="shapes")
def folder_of_shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """5 000 JPEGs in five classes, and the names of the thirty that are broken."""
    root, rng = tmp_path_factory.mktemp("own") / "shapes", np.random.default_rng(0)
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            shape_of(kind, rng).save(root / name / f"{i:04d}.jpg", quality=85)
    paths = sorted(root.rglob("*.jpg"))
    broken = [paths[i] for i in rng.choice(len(paths), BROKEN, replace=False)]
    for i, path in enumerate(broken):
        break_file(path, i % 8, rng)
    for junk in (".ipynb_checkpoints", "__MACOSX"):
        (root / junk).mkdir()
    (root / "circle" / "Thumbs.db").write_bytes(b"x")
    return root, {path.relative_to(root).as_posix() for path in broken}


def test_one_command_from_a_folder_to_a_model(shapes: tuple[Path, set[str]]) -> None:
    """One command gives a search, a report that lists the thirty, and a model whose ``predict`` agrees with its
    evaluation, picture by picture.
    """
    root, broken = shapes
    cwd = root.parent
    words = [
        "trials=3",
        "max_epochs_per_trial=2",
        "image_size=24",
        "search_space=small",
        "cache_dir=cache",
        "run_name=r",
    ]
    done = run("dataset=./shapes", "final_model=retrain", "report=html", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert f"{5 * PER_CLASS - BROKEN:,} pictures in 5 classes" in done.stdout
    folder = cwd / "results" / "r"
    with (folder / "bad_files.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["path"] for row in listed} == broken
    page = (folder / "report.html").read_text("utf-8")
    assert all(f"<td>{name}</td>" in page for name in broken)

    final = json.loads((folder / "final.json").read_text("utf-8"))
    held_out = attach_test(final["dataset"], final["fingerprint"], cwd / "cache")
    form = Form.from_wire(final["form"])
    files = {}
    for path in root.rglob("*.jpg"):
        try:
            files[read_picture(path, form).tobytes()] = path
        except PictureError:
            continue
    tested = [files[image.tobytes()] for image in held_out.x_test]
    assert [path.parent.name for path in tested] == [final["class_names"][label] for label in held_out.y_test]
    predicted = run("predict", "run=r", *map(str, tested), cwd=cwd)
    assert predicted.returncode == 0, predicted.stderr
    # FILE  CLASS  PROBABILITY, and a class may have spaces.
    said = [
        line.removeprefix(str(path)).strip() for line, path in zip(predicted.stdout.splitlines(), tested, strict=True)
    ]
    pairs = Counter(zip((path.parent.name for path in tested), (text.rsplit("  ", 1)[0] for text in said), strict=True))
    names = final["class_names"]
    assert [[pairs[is_, taken] for taken in names] for is_ in names] == final["test"]["confusion"]
    evaluated = run("evaluate", "run=r", cwd=cwd)
    assert evaluated.returncode == 0, evaluated.stderr
    assert final["test"]["right"] < final["test"]["images"], "no mistakes to agree on"
    print(done.stdout, evaluated.stdout, dict(pairs), sep="\n")


def test_the_same_folder_on_workers_through_a_store(shapes: tuple[Path, set[str]], tmp_path: Path) -> None:
    """Two workers that do not have the folder give the trials of the local search, and each has downloaded it once."""
    root, _ = shapes
    words = ["trials=4", "search_lag=2", "max_epochs_per_trial=2", "image_size=24", "search_space=small"]
    common = [f"dataset={root}", *words, f"cache_dir={root.parent / 'cache'}", "final_model=none"]
    done = run(*common, "run_name=here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    caches = {"SEEDPOD_CACHE_DIR": str(tmp_path / "workers")}
    with (
        s3_server(tmp_path / "s3") as server,
        EmbeddedEndpoint(
            workers=2, handler=Path(__file__).with_name("own_cache_handler.py"), environment=caches
        ) as endpoint,
    ):
        endpoint.wait_for_workers(timeout=120)
        there = [*common, "run_name=there", *through(server, endpoint)]
        done = run(*there, cwd=tmp_path, RUNPOD_API_KEY=endpoint.key, **KEYS, **UNCONFIGURED)
        assert done.returncode == 0, done.stderr
        worked = {record["run"]["worker"] for record in records(tmp_path / "results" / "there")}
        assert len(worked) == 2
        assert server.asked("GET", ".tar") == ["200", "200"]
        assert server.asked("PUT", ".tar") == ["200"]
    assert table(tmp_path / "results" / "there") == table(tmp_path / "results" / "here")
