"""Small pictures in files, as people have them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seedpod.reading import Reading
from seedpod.training.datasets import DatasetInfo, attach, attach_test, found, prepare_here
from seedpod.training.own.found import Found


def picture(seed: int, size: tuple[int, int] = (9, 12), mode: str = "RGB") -> Image.Image:
    """A picture of noise, (width, height), no two of them alike."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def folder(root: Path, classes: dict[str, int], first: int = 0, **how: Any) -> Path:
    """Class folders with so many pictures each."""
    seed = first
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(seed, **how).save(root / name / f"{i:03d}.png")
            seed += 1
    return root


def prepared(source: Path | str, cache_dir: Path, **reading: Any) -> tuple[DatasetInfo, Found]:
    """What a source becomes, in this process."""
    info = prepare_here(str(source), cache_dir, Reading(**reading))
    return info, found(info.id, cache_dir)


def images(info: DatasetInfo, cache_dir: Path) -> np.ndarray[Any, Any]:
    """All images of an entry, training before test."""
    data = attach(info.id, info.fingerprint, cache_dir)
    held_out = attach_test(info.id, info.fingerprint, cache_dir)
    return np.concatenate([data.x_train, held_out.x_test])
