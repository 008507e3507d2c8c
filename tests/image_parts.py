"""What the Dockerfile copies, put together as the image would have it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (keyword, rest), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def copies() -> list[tuple[list[str], str]]:
    """Sources and target of each COPY."""
    found = [rest.split() for keyword, rest in instructions() if keyword == "COPY"]
    return [(words[:-1], words[-1]) for words in found]


def assemble(folder: Path) -> Path:
    """Copy exactly what the Dockerfile copies; returns the image's working folder."""
    app = folder / "app"
    app.mkdir()
    for sources, target in copies():
        for source in sources:
            here, there = ROOT / source, app / target
            there.mkdir(parents=True, exist_ok=True)
            if source.endswith("/"):  # COPY of a folder copies what is in it
                shutil.copytree(here, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(here, there)
    return app
