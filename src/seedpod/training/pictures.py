"""Pictures in files -> the arrays that a model takes, and back. The only place that imports Pillow."""

import base64
import io
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from seedpod.errors import SeedpodError

if TYPE_CHECKING:
    from seedpod.training.datasets import Dataset

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""Of Pillow's formats those that are read. Others start programs (EPS), or are no pictures that a camera makes."""

KINDS = "JPEG, PNG, GIF, BMP, TIFF, WebP, PPM, JPEG 2000 or AVIF"
"""The same, as people name them."""

Image.init()  # loads the plugins of these, which else come one by one, in whatever thread asks first
_READ = [name for name in FORMATS if name in Image.OPEN]
_MOST_BYTES = 500_000_000  # of one file
_LARGEST_EXAMPLE = 64  # pixels a side of a picture inside final.json
_SHORTEST = 100  # bytes of a picture
_DEEP = 65535  # white in 16 bits
_DRAFT = 3  # times the wanted size: what a JPEG keeps at least for the resizing
_ORIENTATION = 0x0112  # EXIF's tag
_ON_ITS_SIDE = {5, 6, 7, 8}
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}


class PictureError(SeedpodError):
    """A file that is no picture, or a damaged one; the message says what is wrong, without the file's name."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a data set's images look like, and so what its models take.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1 or 3.
        dtype: ``uint8`` or ``float32``.
        black: What a black pixel holds: 0, or -1 for floats from -1 to 1.
        white: What a white pixel holds.
    """

    height: int
    width: int
    channels: int
    dtype: str
    black: float
    white: float

    @classmethod
    def of(cls, dataset: "Dataset") -> Self:
        """The form of a data set's images."""
        info = dataset.info
        below = info.dtype != "uint8" and float(dataset.x_train.min()) < 0
        return cls(*info.image_shape, info.dtype, -info.pixel_max if below else 0.0, info.pixel_max)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Read a form back."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})

    def to_wire(self) -> dict[str, Any]:
        """The form as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's file says of it before its pixels are decoded.

    Attributes:
        height: Pixels, once it is turned as its EXIF orientation says.
        width: The same.
        grey: Whether it has no colours.
    """

    height: int
    width: int
    grey: bool


@contextmanager
def careful() -> Iterator[None]:
    """Have Pillow refuse pictures of so many pixels that decoding them is an attack, not a wish.

    Around ``decode`` and ``read_header``, which threads may call: filters of warnings are those of the whole process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd about a file and yet can be read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_picture(path: Path, form: Form) -> npt.NDArray[Any]:
    """Read a picture as a model of this form takes it, (height, width, channels).

    Raises:
        PictureError: It cannot be read.
    """
    with careful():
        return decode(read_bytes(path), form)


def read_bytes(path: Path) -> bytes:
    """A picture's file; raises PictureError where it is none that can be read, or no file at all."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise PictureError(f"it is a folder; name its files: {path}/*.png")
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise PictureError("it is no regular file")
        if found.st_size > _MOST_BYTES:
            raise PictureError(f"it has {found.st_size:,} bytes, more than the {_MOST_BYTES:,} that are read")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise PictureError(_brief(error)) from error
    if not data:
        raise PictureError("it is empty")
    return data


def read_header(data: bytes) -> Header:
    """What a picture will be like; raises PictureError."""
    try:
        with Image.open(io.BytesIO(data), formats=_READ) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
            width, height = reversed(image.size) if turned else image.size
            return Header(height, width, image.mode in _GREY)
    except Exception as error:  # damaged files make Pillow's plugins raise nearly anything
        raise PictureError(_reason(error, data)) from error


def decode(data: bytes, form: Form) -> npt.NDArray[Any]:
    """A picture as a model of this form takes it, (height, width, channels): for training and prediction alike.

    It is turned as its EXIF orientation says, laid on white where it is transparent, made grey or coloured, and brought
    to the size, without keeping its proportions. Lanczos averages over all pixels that a smaller one stands for;
    without that, what is fine in a photograph becomes noise in its small picture.

    Args:
        data: The bytes of its file; of an animation or a file of several pages, the first counts.
        form: Of the result.

    Raises:
        PictureError: It cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_READ) as opened:
            # A JPEG that is much larger than needed is decoded at a half, a quarter or an eighth of its size.
            side = _DRAFT * max(form.height, form.width)
            opened.draft(None, (side, side))
            image = ImageOps.exif_transpose(opened)
            image = _opaque(_eight_bit(image)).convert("L" if form.channels == 1 else "RGB")
    except Exception as error:  # as above
        raise PictureError(_reason(error, data)) from error
    return _fitted(image, form)


def reshape(pixels: npt.NDArray[Any], before: Form, form: Form) -> npt.NDArray[Any]:
    """One of a data set's images in another form, brought there as ``decode`` brings pictures there."""
    return _fitted(to_image(pixels, before).convert("L" if form.channels == 1 else "RGB"), form)


def _fitted(image: Image.Image, form: Form) -> npt.NDArray[Any]:
    if image.size != (form.width, form.height):
        image = image.resize((form.width, form.height), Image.Resampling.LANCZOS)
    if (form.dtype, form.black, form.white) == ("uint8", 0, 255):
        return np.asarray(image).reshape(form.height, form.width, form.channels)
    shades = np.asarray(image, np.float32).reshape(form.height, form.width, form.channels) / 255
    pixels = form.black + shades * (form.white - form.black)
    return (np.rint(pixels) if form.dtype == "uint8" else pixels).astype(form.dtype)


def to_image(pixels: npt.NDArray[Any], form: Form) -> Image.Image:
    """One of a data set's images as a picture."""
    shades = (pixels.astype(np.float32) - form.black) / (form.white - form.black)
    eight_bit = np.rint(shades.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(eight_bit[:, :, 0] if form.channels == 1 else eight_bit)


def to_data_uri(pixels: npt.NDArray[Any], form: Form) -> str:
    """One of a data set's images as a PNG for a page, no larger than 64 pixels a side."""
    image = to_image(pixels, form)
    image.thumbnail((_LARGEST_EXAMPLE, _LARGEST_EXAMPLE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Pillow cuts 16 bits down to 8 by clipping them; here white stays white and grey stays grey."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, np.float64) / _DEEP * 255).clip(0, 255).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)


def _reason(error: Exception, data: bytes) -> str:
    if "cannot identify image file" not in str(error):
        return _brief(error)
    if data[4:8] == b"ftyp" and data[8:11] in {b"hei", b"hev", b"mif"}:
        return "it is HEIC, which is not read here; save it as JPEG"
    if data.startswith((b"\xff\xd8", b"\x89PNG")):
        return "it ends before its picture begins" if len(data) < _SHORTEST else "its header is damaged"
    if not data.strip(b"\0"):
        return "it holds nothing but zeros"
    if data[:_SHORTEST].lstrip()[:5].lower() in {b"<html", b"<!doc"}:
        return "it is a web page and no picture"
    return "it is no picture, or one of a kind that is not read"


def _brief(error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{' '.join(why.split()) or type(error).__name__:.200}"
