"""Pictures in files -> the arrays that a model takes, and back. The only place that imports Pillow."""

import base64
import io
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from seedpod.errors import SeedpodError
from seedpod.training.datasets import Dataset

_LARGEST_EXAMPLE = 64  # pixels a side of a picture inside final.json
_DEEP = 65535  # white in 16 bits


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
    def of(cls, dataset: Dataset) -> Self:
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


def read_picture(path: Path, form: Form) -> npt.NDArray[Any]:
    """Read a picture as a model of this form takes it, (height, width, channels).

    It is turned as its EXIF orientation says, laid on white where it is transparent, made grey or coloured, and brought
    to the size, without keeping its proportions, as one of the data set's images of that size would show it.

    Raises:
        PictureError: It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image = _opaque(_eight_bit(image)).convert("L" if form.channels == 1 else "RGB")
    except Exception as error:  # damaged files make Pillow's plugins raise nearly anything
        why = error.strerror if isinstance(error, OSError) and error.strerror else _brief(error)
        raise PictureError(why) from error
    if image.size != (form.width, form.height):
        image = image.resize((form.width, form.height), Image.Resampling.LANCZOS)
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


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "it is no picture" if "cannot identify image file" in text else f"{text:.200}"
