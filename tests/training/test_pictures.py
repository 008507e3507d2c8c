"""Pictures as people have them, read as models take them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seedpod.training.pictures import Form, PictureError, read_picture, to_image

GREY = Form(8, 6, 1, "uint8", 0.0, 16.0)
COLOUR = Form(4, 4, 3, "uint8", 0.0, 255.0)
SIGNED = Form(4, 4, 1, "float32", -1.0, 1.0)


def saved(image: Image.Image, path: Path, **how: Any) -> Path:
    image.save(path, **how)
    return path


def test_picture_of_an_image_is_read_back_as_the_image(tmp_path: Path) -> None:
    """An image that is saved as a PNG is read as the very same pixels, also where white is 16."""
    pixels = np.random.default_rng(0).integers(0, 17, (8, 6, 1)).astype(np.uint8)
    path = saved(to_image(pixels, GREY), tmp_path / "a.png")
    assert (read_picture(path, GREY) == pixels).all()


def test_floats_from_minus_one(tmp_path: Path) -> None:
    """Black and white are what they were in the data."""
    image = Image.new("L", (4, 4), 0)
    image.putpixel((0, 0), 255)
    got = read_picture(saved(image, tmp_path / "a.png"), SIGNED)
    assert got.dtype == np.float32
    assert (got[0, 0, 0], got[1, 1, 0]) == (1.0, -1.0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("form", [GREY, COLOUR, SIGNED])
def test_every_mode_is_read(tmp_path: Path, mode: str, form: Form) -> None:
    """Black and white, grey, palettes, colours, transparency and 16 bits come out in the form of the data set."""
    high = 65535 if mode == "I;16" else 1 if mode == "1" else 255
    white = Image.fromarray(np.full((9, 5), high, np.uint16)) if mode == "I;16" else Image.new("RGB", (5, 9), "white")
    image = white if mode == "I;16" else white.convert(mode)
    path = saved(image, tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"))
    got = read_picture(path, form)
    assert got.shape == (form.height, form.width, form.channels)
    assert got.dtype == form.dtype
    assert got == pytest.approx(form.white, abs=0.02)


def test_orientation_and_transparency(tmp_path: Path) -> None:
    """A camera's turn is undone, and what is transparent is white."""
    image = Image.new("RGB", (4, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    got = read_picture(saved(image, tmp_path / "turned.png", exif=exif), COLOUR)
    assert got[3, 3].tolist() == [255, 255, 255]
    assert got[0, 0].tolist() == [0, 0, 0]
    clear = read_picture(saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), tmp_path / "clear.png"), COLOUR)
    assert (clear == 255).all()


@pytest.mark.parametrize("kind", ["empty", "text", "half", "missing", "folder", "vast"])
def test_what_is_no_picture_is_refused(tmp_path: Path, kind: str) -> None:
    """Anything that is no whole picture of sensible size is one error in words."""
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "half":
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "folder":
        path.mkdir()
    elif kind == "vast":
        Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(PictureError) as refused:
        read_picture(path, GREY)
    assert str(refused.value)
    assert (kind == "folder") == (f"it is a folder; name its files: {path}/*.png" == str(refused.value))
    assert "\n" not in str(refused.value)
