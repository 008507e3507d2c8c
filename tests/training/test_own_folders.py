"""A folder of class folders becomes a data set, whatever lies in it; what cannot be used is named."""

import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photos import encoded, folder, images, picture, prepared
from seedpod.errors import DatasetError
from seedpod.reading import Reading
from seedpod.training.datasets import attach_test, found, prepare
from seedpod.training.pictures import Form, read_picture

CAUTIOUS = Reading()


def test_a_folder_is_all_that_it_takes(tmp_path: Path) -> None:
    """Classes, size, colours and a test set come from the folder alone."""
    root = folder(tmp_path / "pets", {"cats": 10, "dogs": 15})
    info, what = prepared(root, tmp_path / "cache")
    assert info.class_names == ("cats", "dogs")
    assert info.image_shape == (12, 9, 3)
    assert (info.train_counts, info.test_counts) == ((8, 12), (2, 3))
    assert info.id.startswith("pets-")
    assert what.notes[0] == (
        "25 pictures in 2 classes, from cats with 10 to dogs with 15; read as 12x9 rgb, as all of them are."
    )


def test_every_image_is_what_predict_would_see(tmp_path: Path) -> None:
    """Training's pixels are those that a prediction reads from the same file."""
    root = folder(tmp_path / "f", {"a": 4, "b": 4}, size=(50, 31))
    info, _ = prepared(root, tmp_path / "cache", image_size=(16, 20), color_mode="grayscale")
    form = Form(*info.image_shape, info.dtype, 0.0, info.pixel_max)
    seen = {read_picture(path, form).tobytes() for path in root.rglob("*.png")}
    assert {image.tobytes() for image in images(info, tmp_path / "cache")} == seen


def test_parts_are_kept(tmp_path: Path) -> None:
    """Test images come from test/ alone, and val/ joins the training images, which is said."""
    root = tmp_path / "f"
    for i, (part, count) in enumerate({"train": 5, "valid": 3, "test": 2}.items()):
        folder(root / part, {"a": count, "b": count}, first=100 * i)
    info, what = prepared(root, tmp_path / "cache")
    assert (info.train_counts, info.test_counts) == ((8, 8), (2, 2))
    assert any("validation_split divides it" in note for note in what.notes)
    held_out = attach_test(info.id, info.fingerprint, tmp_path / "cache")
    theirs = {np.asarray(Image.open(path)).tobytes() for path in (root / "test").rglob("*.png")}
    assert {image.tobytes() for image in held_out.x_test} == theirs


def test_a_folder_around_everything_is_looked_through(tmp_path: Path) -> None:
    """The one folder that archives have around everything is no class."""
    folder(tmp_path / "f" / "data" / "v1", {"a": 5, "b": 5})
    (tmp_path / "f" / "README.txt").write_text("about")
    info, _ = prepared(tmp_path / "f", tmp_path / "cache")
    assert info.class_names == ("a", "b")


def test_hidden_and_system_folders_are_no_classes(tmp_path: Path) -> None:
    """What editors and operating systems leave is neither a class nor a bad file."""
    root = folder(tmp_path / "f", {"a": 5, "b": 5, ".ipynb_checkpoints": 3, "__MACOSX": 3})
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._000.png"):
        (root / "a" / name).write_bytes(b"x")
    (root / "notes.txt").write_text("mine")
    info, what = prepared(root, tmp_path / "cache")
    assert info.class_names == ("a", "b")
    assert not what.bad
    assert what.notes[1:] == ("1 file beside the class folders, left out.",)


def test_names_in_any_script_stay_whole(tmp_path: Path) -> None:
    """Spaces and all scripts are kept; a Mac's way to write é is the same class as everybody else's."""
    composed, apart = (unicodedata.normalize(form, "café au lait") for form in ("NFC", "NFD"))
    folder(tmp_path / "f" / "train", {"a cat": 3, "żółw": 3, "猫": 3, composed: 3})
    folder(tmp_path / "f" / "test", {"a cat": 1, apart: 1}, first=50)
    info, _ = prepared(tmp_path / "f", tmp_path / "cache")
    assert info.class_names == ("a cat", composed, "żółw", "猫")
    assert info.test_counts == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("1", "2", "10"), ("1", "2", "10")),
        (("0", "5", "9"), ("0", "5", "9")),
        (("1", "-1"), ("-1", "1")),
        (("10", "9", "x"), ("10", "9", "x")),
    ],
)
def test_numbers_as_names_are_in_order(tmp_path: Path, names: tuple[str, ...], order: tuple[str, ...]) -> None:
    """Folders that are numbers are classes in the order of the numbers, so that labels do not shift."""
    info, _ = prepared(folder(tmp_path / "f", dict.fromkeys(names, 3)), tmp_path / "cache")
    assert info.class_names == order


BAD = {
    "empty.jpg": (b"", "it is empty"),
    "text.jpg": (b"a shopping list, and a long one: " + b"milk, " * 50, "no picture"),
    "page.jpg": (b"<html>404", "a web page"),
    "zeros.png": (bytes(500), "nothing but zeros"),
    "cut.jpg": (encoded(picture(1, (64, 64)), "JPEG")[:900], "truncated"),
    "cut.png": (encoded(picture(2, (64, 64)))[:900], "truncated"),
    "head.png": (encoded(picture(2))[:20], "Truncated"),
    "bomb.png": (encoded(Image.new("1", (20_000, 10_000))), "decompression bomb"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
    "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
}


def test_each_bad_file_is_named_with_its_reason(tmp_path: Path) -> None:
    """Whatever cannot be a picture is left out with its path and the reason, and the rest is prepared."""
    root = folder(tmp_path / "f", {"a": 10, "b": 10})
    for name, (data, _) in BAD.items():
        (root / "a" / name).write_bytes(data)
    (root / "b" / "away.png").symlink_to(tmp_path / "cut.png")
    (tmp_path / "secret.png").write_bytes(encoded(picture(99)))
    (root / "b" / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "b" / "all").symlink_to(tmp_path)
    os.mkfifo(root / "b" / "pipe.png")
    reasons = {f"a/{name}": reason for name, (_, reason) in BAD.items()} | {
        "b/away.png": "No such file",
        "b/out.png": "a link out of the folder",
        "b/all": "a link to a folder",
        "b/pipe.png": "no regular file",
    }
    info, what = prepared(root, tmp_path / "cache", max_bad_files=0.5)
    assert info.train_counts == (8, 8)
    told = {each.path: each.reason for each in what.bad}
    assert set(told) == set(reasons)
    assert all(reason in told[path] for path, reason in reasons.items()), told


def test_too_many_bad_files_stop_it(tmp_path: Path) -> None:
    """Over the limit nothing is prepared; the sentence has the number, the first files and the setting."""
    root = folder(tmp_path / "f", {"a": 10, "b": 10})
    for i in range(2):
        (root / "a" / f"x{i}.png").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"2 of 22 files cannot be used.*max_bad_files=0\.05: a/x0\.png: it is empty"
    ):
        prepared(root, tmp_path / "cache")
    assert prepared(root, tmp_path / "cache", max_bad_files=0.1)[1].files == 22
    # And it holds for what is prepared already.
    with pytest.raises(DatasetError, match="2 of 22"):
        prepare(str(root), tmp_path / "cache", CAUTIOUS)


def test_every_kind_of_picture_becomes_one_form(tmp_path: Path) -> None:
    """Grey, palette, transparency, CMYK and 16 bits become one form; a BMP that is named .jpg is one of them."""
    root = folder(tmp_path / "f", {"a": 4, "b": 4})
    for i, mode in enumerate(["1", "L", "LA", "P", "RGBA", "CMYK"]):
        picture(50 + i, mode=mode).save(root / "a" / f"{mode}.{'tiff' if mode == 'CMYK' else 'png'}")
    Image.fromarray(np.full((12, 9), 65535, np.uint16)).save(root / "b" / "deep.png")
    (root / "b" / "bmp.jpg").write_bytes(encoded(picture(70), "BMP"))
    info, what = prepared(root, tmp_path / "cache")
    assert not what.bad
    assert info.image_shape == (12, 9, 3)
    assert sum(info.train_counts) + sum(info.test_counts) == 16
    assert any((image == 255).all() for image in images(info, tmp_path / "cache"))
    assert "rgb (4 are gray)" in what.notes[0]


def test_grey_stays_grey_and_turned_is_turned(tmp_path: Path) -> None:
    """A folder without colours has one channel; a camera's turn counts for the size too."""
    root = folder(tmp_path / "f", {"a": 4, "b": 4}, mode="L")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / "a").iterdir():
        with Image.open(path) as upright:
            lying = upright.rotate(90, expand=True)
        lying.save(path, exif=exif)
    info, _ = prepared(root, tmp_path / "cache")
    assert info.image_shape == (12, 9, 1)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(9, 12)], (12, 9)),
        ([(640, 480)], (48, 64)),
        ([(100, 100), (200, 200), (300, 300)], (64, 64)),
        ([(30, 20), (40, 20), (50, 20)], (20, 40)),
        ([(1000, 10)], (8, 64)),
    ],
)
def test_the_size_follows_from_the_pictures(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    """The common size where it is small, else the median with at most 64 pixels a side."""
    root = folder(tmp_path / "f", {"a": 0, "b": 0})
    for i in range(9):
        picture(i, sizes[i % len(sizes)]).save(root / "ab"[i % 2] / f"{i}.png")
    info, _ = prepared(root, tmp_path / "cache")
    assert info.image_shape[:2] == shape


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({}, "is empty; put the pictures of each class into a folder"),
        ({"a": 9}, "one class only"),
        ({"a": 9, "b": 0}, "one class only"),
        ({"a": 1, "b": 1}, "single image"),
        ({"val/a": 3, "test/b": 3}, "none for training"),
        ({"train/a": 3, "train/b": 3, "test/c": 3}, "test images of c and none to train on"),
        ({"train/a": 3, "train/b": 3, "test/a": 0}, "no test picture"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path: Path, classes: dict[str, int], words: str) -> None:
    """A folder that makes no data set is refused in a sentence that begins with its path."""
    root = folder(tmp_path / "f", classes)
    root.mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match=words) as refused:
        prepared(root, tmp_path / "cache")
    assert str(refused.value).startswith(f"{root}: ")


def test_a_flat_folder_says_what_to_do(tmp_path: Path) -> None:
    """Pictures without class folders are refused with what to do."""
    folder(tmp_path, {"f": 3})
    with pytest.raises(DatasetError, match="holds files and no class folders; put the pictures of each class into"):
        prepared(tmp_path / "f", tmp_path / "cache")


def test_small_classes_work_and_are_told(tmp_path: Path) -> None:
    """A class with one picture trains, an empty one is left out, one that the test lacks stays, and all is said."""
    folder(tmp_path / "f" / "train", {"a": 5, "b": 5, "one": 1, "none": 0})
    folder(tmp_path / "f" / "test", {"a": 2, "b": 2}, first=60)
    info, what = prepared(tmp_path / "f", tmp_path / "cache")
    assert info.class_names == ("a", "b", "one")
    told = " ".join(what.notes)
    assert "1 class folder without a file, left out: train/none." in told
    assert "1 class with a single picture to train on, which nothing validates: one." in told
    assert "1 class without a test picture, which nothing measures: one." in told


def test_copies_are_in_one_part_alone(tmp_path: Path) -> None:
    """A picture that is in training and test is tested with and not trained on; one in two classes is in none."""
    folder(tmp_path / "f" / "train", {"a": 6, "b": 6})
    folder(tmp_path / "f" / "test", {"a": 2, "b": 2}, first=60)
    train, test = tmp_path / "f" / "train", tmp_path / "f" / "test"
    (train / "a" / "leak.png").write_bytes((test / "a" / "000.png").read_bytes())
    (train / "a" / "twice.png").write_bytes((train / "a" / "000.png").read_bytes())
    (train / "b" / "both.png").write_bytes((train / "a" / "001.png").read_bytes())
    info, what = prepared(tmp_path / "f", tmp_path / "cache", max_bad_files=0.2)
    assert (info.train_counts, info.test_counts) == ((5, 6), (2, 2))
    assert [each.path for each in what.copies] == ["train/a/leak.png", "train/a/twice.png"]
    assert {each.path: each.reason for each in what.bad} == {
        "train/a/001.png": "the same file is in class b too, as train/b/both.png: only one can be right",
        "train/b/both.png": "the same file is in class a too, as train/a/001.png: only one can be right",
    }
    assert any("2 files left out as copies of others" in note for note in what.notes)


def test_fewer_are_of_each_class_its_share(tmp_path: Path) -> None:
    """max_samples takes the same images each time, and of each class its part."""
    root = folder(tmp_path / "f", {"a": 40, "b": 20, "c": 1})
    info, _ = prepared(root, tmp_path / "cache", max_samples=13)
    counts = [sum(pair) for pair in zip(info.train_counts, info.test_counts, strict=True)]
    assert counts == [8, 4, 1]
    assert prepared(root, tmp_path / "other", max_samples=13)[0] == info


def test_other_wishes_are_other_entries(tmp_path: Path) -> None:
    """What changes the arrays is in the id; what only says what is taken is not."""
    root = folder(tmp_path / "f", {"a": 8, "b": 8})
    plain = prepared(root, tmp_path / "cache")[0]
    wishes = ({"image_size": (8, 8)}, {"color_mode": "grayscale"}, {"test_size": 0.5}, {"max_samples": 8})
    ids = {prepared(root, tmp_path / "cache", **wish)[0].id for wish in wishes}
    assert len(ids | {plain.id}) == 5
    assert prepared(root, tmp_path / "cache", max_bad_files=0.5)[0] == plain


def test_the_second_start_opens_no_picture(tmp_path: Path) -> None:
    """While names, sizes and times are the same the pictures are not opened: here they could not even be read."""
    root = folder(tmp_path / "f", {"a": 8, "b": 8})
    info = prepare(str(root), tmp_path / "cache")
    for path in root.rglob("*.png"):
        at = path.stat()
        path.write_bytes(bytes(at.st_size))
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    told: list[str] = []
    assert prepare(str(root), tmp_path / "cache", Reading(), lambda what, *_: told.append(what)) == info
    assert not told
    picture(500).save(root / "a" / "000.png")
    with pytest.raises(DatasetError, match="15 of 16 files cannot be used"):
        prepare(str(root), tmp_path / "cache")


def test_the_same_folder_elsewhere_is_the_same_entry(tmp_path: Path) -> None:
    """The id is of the content: of names, classes and bytes, wherever and whenever they were written."""
    one = prepared(folder(tmp_path / "x" / "f", {"a": 8, "b": 8}), tmp_path / "cache")[0]
    os.utime(tmp_path / "x" / "f" / "a" / "000.png", (1, 1))
    assert prepared(tmp_path / "x" / "f", tmp_path / "cache")[0] == one
    assert prepared(folder(tmp_path / "y" / "f", {"a": 8, "b": 8}), tmp_path / "cache")[0] == one


def test_a_truncated_entry_is_noticed_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cut or changed array is seen at the next start, and the entry is whole again after it."""
    root = folder(tmp_path / "f", {"a": 8, "b": 8})
    info = prepare(str(root), tmp_path / "cache")
    entry = tmp_path / "cache" / "datasets" / info.id
    for damage in (lambda path: os.truncate(path, 500), lambda path: path.write_bytes(bytes(path.stat().st_size))):
        damage(entry / "x_train.npy")
        with caplog.at_level(logging.WARNING):
            assert prepare(str(root), tmp_path / "cache") == info
        assert "is damaged" in caplog.text
        assert len(images(info, tmp_path / "cache")) == 16
        caplog.clear()
        assert prepare(str(root), tmp_path / "cache") == info
        assert not caplog.records


def test_starts_at_once_make_one_entry(tmp_path: Path) -> None:
    """Three processes on an empty cache all get the one entry, and nothing else is left in it."""
    root = folder(tmp_path / "f", {"a": 20, "b": 20})
    program = "import sys; from seedpod.training.datasets import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0] for process in started}
    assert len(answers) == 1
    left = [path.name for path in (tmp_path / "cache" / "datasets").iterdir() if path.suffix != ".lock"]
    assert len(left) == 1
    assert left[0] in answers.pop()


def test_the_helper_tells_how_far_it_is(tmp_path: Path) -> None:
    """Whoever waits hears of every stage, and what was found is kept beside the arrays."""
    root = folder(tmp_path / "f", {"a": 8, "b": 8})
    told: list[tuple[str, int, int]] = []
    info = prepare(str(root), tmp_path / "cache", Reading(), lambda *words: told.append(words))
    assert ("looking at", 16, 16) in told
    assert ("reading", 16, 16) in told
    assert found(info.id, tmp_path / "cache").files == 16


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """Where the arrays do not fit, the cache folder is named and no half entry stays."""
    root = folder(tmp_path / "f", {"a": 30, "b": 30})
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from seedpod.training.datasets import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot write into the cache folder" in done.stdout
    assert not [path for path in (tmp_path / "cache" / "datasets").iterdir() if path.suffix != ".lock"]
