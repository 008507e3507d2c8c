"""How a source of images is read: what the settings say of it, for whoever prepares it."""

import hashlib
import json
import re
from dataclasses import dataclass

SHAPING = ("image_size", "color_mode", "test_size", "max_samples")
"""The settings that decide which arrays a source becomes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a user wants of a source.

    Attributes:
        image_size: (height, width) of every image in pixels; None for what suits the source.
        color_mode: ``grayscale``, ``rgb``, or ``auto``: as the source has it.
        test_size: Share that becomes the test set where the source has none.
        max_samples: Images to take at most, of each class its share; 0 is all.
        max_bad_files: Share of files that may be unusable; over it, nothing is prepared.
        sha256: What a file or a download must have, in hexadecimal digits; empty for anything.
        max_download_mb: A larger download is given up, in units of 10^6 bytes.
    """

    image_size: tuple[int, int] | None = None
    color_mode: str = "auto"
    test_size: float = 0.2
    max_samples: int = 0
    max_bad_files: float = 0.05
    sha256: str = ""
    max_download_mb: float = 2000.0

    @property
    def shape(self) -> str:
        """What of it decides which arrays a source becomes; empty where all of that is as by default."""
        plain = Reading()
        changed = {name: getattr(self, name) for name in SHAPING if getattr(self, name) != getattr(plain, name)}
        return json.dumps(changed) if changed else ""

    def named(self, stem: str, content: str) -> str:
        """An id for what a source of this content becomes: ``<stem>-<12 hex digits>``.

        Args:
            stem: What begins it, of safe characters.
            content: A SHA-256 in hexadecimal digits.
        """
        digest = hashlib.sha256(f"{content} {self.shape}".encode()).hexdigest() if self.shape else content
        return f"{stem}-{digest[:12]}"


def called(dataset: str) -> str:
    """What people call a data set of this id: its name, without the digits of its content."""
    return re.sub(r"-[0-9a-f]{12}$", "", dataset)
