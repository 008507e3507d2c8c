"""Pin every dependency: resolve afresh, and write constraints.txt (for pip) and pyproject.toml (for uv) alike.

Run ``uv run .ci/pin.py`` after a change of dependencies, and commit both. uv.lock itself is not committed: it holds the
download addresses of whoever made it.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPORT = (
    "uv export --all-extras --all-groups --no-group torch --no-hashes --no-annotate --no-header --no-emit-project -q"
)


def main() -> None:
    """Rewrite both files."""
    pyproject = ROOT / "pyproject.toml"
    text = _with_pins(pyproject.read_text(encoding="utf-8"), [])
    pyproject.write_text(text, encoding="utf-8")
    (ROOT / "uv.lock").unlink(missing_ok=True)
    exported = subprocess.run(EXPORT.split(), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pins = [line.strip() for line in exported.splitlines() if "==" in line]
    pyproject.write_text(_with_pins(text, pins), encoding="utf-8")
    (ROOT / "constraints.txt").write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")


def _with_pins(text: str, pins: list[str]) -> str:
    block = "".join(f'    "{pin}",\n' for pin in pins)
    head = "constraint-dependencies = [\n"
    before, _, rest = text.partition(head)
    return before + head + block + rest[rest.index("]\n") :]


if __name__ == "__main__":
    main()
