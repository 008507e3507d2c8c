"""The worker image, proved by its parts: what the Dockerfile copies, what the requirement files install."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from endpoint_client import Client
from image_parts import ROOT, assemble, copies, instructions
from samples import on_digits
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import prepare
from seedpod.trial import ParamValue, Status, TrialRequest, TrialResult

pytestmark = pytest.mark.processes

SERVICE = ROOT / "runpod_service"
OTHERS = ("optuna", "yaml", "psutil", "pytest")
"""What the optimizer and the tests need and the worker must not. Keras brings ``rich``, the SDK ``requests``."""


def pins(file: Path) -> dict[str, set[str]]:
    """Package to its pinned versions, with their markers."""
    found: dict[str, set[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        pin = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[[a-z-]+\])?==(\S+)( ; .*)?", line)
        assert pin or line.startswith(("#", "-r requirements.txt")), line
        if pin:
            # One package has a build for each platform in constraints.txt; the image has one platform.
            marker = "" if "platform_machine" in (pin[3] or "") else pin[3] or ""
            found.setdefault(pin[1], set()).add(pin[2] + marker)
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-cpu.txt", "requirements-gpu.txt"])
def test_requirements_are_pinned_as_in_the_constraints(name: str) -> None:
    """Each requirement is one exact version, and the one that everything else is tested with."""
    ours, constraints = pins(SERVICE / name), pins(ROOT / "constraints.txt")
    assert ours
    assert {package: ours[package] for package in ours if package in constraints} == {
        package: constraints[package] for package in ours if package in constraints
    }


def test_the_base_and_the_entrypoint_are_exact() -> None:
    """The base has an exact tag, python is process 1 in exec form, and the user is not root."""
    said = instructions()
    [base] = [rest for keyword, rest in said if keyword == "FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert said[-1] == ("ENTRYPOINT", '["python", "handler.py"]')
    assert ("USER", "worker") in said
    assert "PYTHONDONTWRITEBYTECODE" not in str(said)


def test_the_build_sees_what_is_copied_and_nothing_else() -> None:
    """.dockerignore lets exactly the Dockerfile's sources through."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert (rules[0], rules[-1]) == ("*", "**/__pycache__")
    allowed = {path.relative_to(ROOT) for rule in rules[1:-1] for path in ROOT.glob(rule.removeprefix("!"))}
    assert allowed == {Path(source) for sources, _ in copies() for source in sources}


def digits(cache_dir: Path) -> TrialRequest:
    texts = {"activation": "relu", "initializer": "he_normal", "pooling": "max", "optimizer": "adam"}
    numbers = {
        "conv_blocks": 1,
        "convs_per_block": 1,
        "filters_0": 16,
        "kernel_size": 3,
        "dense_layers": 0,
        "batch_size": 64,
    }
    texts |= {"normalization": "batch", "schedule": "constant"}
    rates = {"dropout": 0.0, "learning_rate": 0.01, "warmup": 0.0, "label_smoothing": 0.0, "augmentation": 0.3}
    truths = {"residual": False, "global_pooling": False, "flip": False}
    params: dict[str, ParamValue] = {**texts, **numbers, **rates, **truths}
    spec = on_digits(cache_dir, number=5, params=params, seed=1, split_seed=1, max_epochs=3)
    return TrialRequest(spec, 1, 120.0)


def train_in(app: Path, python: Path, cache_dir: Path, paths: Sequence[Path] = ()) -> TrialResult:
    """Run a real digits job on a real SDK worker, started as the image's entrypoint is: in its folder, alone."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "SEEDPOD_CACHE_DIR": str(cache_dir)}
    # The endpoint starts handlers by the tests' own interpreter and environment; this one then becomes the other.
    entrypoint = app.parent / "entrypoint.py"
    entrypoint.write_text(
        f"import os\nos.chdir({str(app)!r})\nos.execve({str(python)!r}, [{str(python)!r}, 'handler.py'],"
        f" {{**os.environ, **{environment!r}}})\n"
    )
    with EmbeddedEndpoint(workers=1, handler=entrypoint) as endpoint:
        endpoint.wait_for_workers(timeout=120.0)
        client = Client(endpoint)
        view = client.ended(client.run(**digits(cache_dir).to_wire()))
    assert view["status"] == "COMPLETED", view
    return TrialResult.from_wire(view["output"]["result"])


ISOLATE = f"""
import sys
for name in {OTHERS!r}:
    sys.modules[name] = None
sys.path[:] = [path for path in sys.path if "site-packages" in path or not path.startswith({str(ROOT)!r})]
"""


def test_the_copied_files_are_all_that_a_worker_needs(tmp_path: Path, digits_cache: Path) -> None:
    """With the copied files alone, and none of the optimizer's packages, a worker trains a real job."""
    app = assemble(tmp_path)
    # Python runs it at each start, in the worker and in its trainers alike.
    isolation = tmp_path / "isolation"
    isolation.mkdir()
    (isolation / "sitecustomize.py").write_text(ISOLATE)
    environment = {**os.environ, "PYTHONPATH": str(isolation)}
    for module, found in (("seedpod.trial", True), ("seedpod.search", False), ("optuna", False), ("yaml", False)):
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], env=environment, cwd=app, capture_output=True, check=False
        )
        assert (done.returncode == 0) is found
    result = train_in(app, Path(sys.executable), digits_cache, [isolation])
    assert result.status is Status.COMPLETE, result.error
    assert (result.number, result.backend) == (5, "runpod")
    assert (result.value or 0) > 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_new_environment_of_the_workers_requirements_trains(tmp_path: Path, digits_cache: Path) -> None:
    """A new environment with requirements-cpu.txt alone prepares digits, runs the copied handler and trains a job."""
    app, python = assemble(tmp_path), tmp_path / "venv" / "bin" / "python"
    minor = re.match(r"python:(3\.\d+)\.", dict(instructions())["FROM"])
    assert minor is not None
    base = shutil.which(f"python{minor[1]}") or sys.executable
    subprocess.run([base, "-m", "venv", str(tmp_path / "venv")], check=True)
    words = next(rest for keyword, rest in instructions() if "pip install" in rest).partition("pip install")[2].split()
    arguments = [word.strip('"').replace("$DEVICE", "cpu") for word in words]
    install = subprocess.run(
        [str(python), "-m", "pip", "install", *arguments], cwd=app, capture_output=True, text=True, check=False
    )
    if re.search(r"NewConnectionError|Temporary failure in name resolution", install.stderr):
        pytest.skip("no network to install the worker's requirements from")
    assert install.returncode == 0, install.stderr
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    prepared = [str(python), "-m", "seedpod.training.datasets", "digits", str(tmp_path / "data")]
    subprocess.run(prepared, cwd=app, env=environment, check=True)
    assert prepare("digits", tmp_path / "data") == prepare("digits", digits_cache)
    result = train_in(app, python, tmp_path / "data")
    assert result.status is Status.COMPLETE, result.error
    assert (result.value or 0) > 0.8
