"""The house's doors, read from the code itself: who may import whom, and which library lives in which room."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rows of rooms, the top one first. A room may import rooms of lower rows, never of its own row or above.
ROWS = (
    ("__main__",),  # optimizer.py beside src
    ("cli",),
    ("commands", "run_commands"),
    ("optimizer", "assembly", "doctor", "keys", "runpod_service"),
    ("reporting", "report"),
    ("dashboard", "results", "search", "tracking"),
    ("backends", "endpoint", "progress", "events", "findings", "money"),
    ("training", "remote", "board", "config"),
    ("tally", "hyperparameters", "reading"),
    ("trial", "clock", "extras"),
    ("objectives", "health"),
    ("errors", "guarded"),
    ("__init__",),
)
HOMES = {
    "optuna": {"search"},
    "requests": {"remote"},
    "boto3": {"remote"},
    "botocore": {"remote"},
    "dotenv": {"keys"},
    "runpod": {"runpod_service", "endpoint"},
    "keras": {"training"},
    "tensorflow": {"training"},
    "jax": {"training"},
    "torch": {"training"},
    "sklearn": {"training"},
    "PIL": {"training"},
    "matplotlib": {"search", "report"},
    "tensorboard": {"tracking"},
    "rich": {"dashboard"},
    "aiohttp": {"endpoint", "dashboard"},
    "plotly": {"dashboard", "report", "search"},
}
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "allocate_lock"}
# asyncio.Event is no lock: it wakes a task of the same thread, and Guarded, which blocks, cannot stand in for it.
LOCK_MAKERS = {
    "threading": LOCKS,
    "_thread": LOCKS,
    "multiprocessing": LOCKS,
    "multiprocessing.synchronize": LOCKS,
    "asyncio": LOCKS - {"Event"},
    "asyncio.locks": LOCKS - {"Event"},
}
LOCK_HOME = "guarded"


@dataclass(frozen=True)
class Imported:
    """One name that a module reaches: ``module`` and, of it, ``name``, which is empty for the module itself."""

    module: str
    name: str
    line: int


def modules(root: Path) -> Iterator[tuple[str, str, str]]:
    """Room, path below the root and text of every module of the house."""
    for path in sorted((root / "src" / "seedpod").rglob("*.py")):
        yield (
            path.relative_to(root / "src" / "seedpod").parts[0].removesuffix(".py"),
            str(path),
            path.read_text("utf-8"),
        )
    yield "__main__", "optimizer.py", (root / "optimizer.py").read_text("utf-8")
    for path in sorted((root / "runpod_service").rglob("*.py")):
        yield "runpod_service", str(path), path.read_text("utf-8")


def reached(tree: ast.AST, package: str) -> Iterator[Imported]:
    """Every import and every attribute of an imported module; relative imports as absolute ones of ``package``."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                yield Imported(alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module or "")))
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{module}.{alias.name}"
                yield Imported(module, alias.name, node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield Imported(aliases[node.value.id], node.attr, node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
                yield Imported(str(node.args[0].value), "", node.lineno)


def room_of(imported: Imported) -> str | None:
    """The room that an import leads to; None where it leads out of the house."""
    parts = imported.module.split(".")
    if parts[0] == "runpod_service":
        return "runpod_service"
    if parts[0] != "seedpod":
        return None
    rooms = {room for row in ROWS for room in row}
    if len(parts) > 1:
        return parts[1]
    return imported.name if imported.name in rooms else "__init__"


def violations(room: str, where: str, text: str) -> list[str]:
    """What one module of a room does that its room must not do."""
    height = {name: row for row, names in enumerate(ROWS) for name in names}
    if room not in height:
        return [f"{where}: room {room!r} stands in no row; give it one in ROWS"]
    found = []
    package = ".".join(["seedpod", *Path(where).parent.parts[len((ROOT / "src" / "seedpod").parts) :]])
    for imported in reached(ast.parse(text), package):
        line = f"{where}:{imported.line}"
        target = room_of(imported)
        if target is not None and target != room and height.get(target, -1) <= height[room]:
            found.append(f"{line}: {room} imports {target}, which is not below it")
        library = imported.module.partition(".")[0]
        if room not in HOMES.get(library, {room}):
            found.append(f"{line}: {library} outside {', '.join(sorted(HOMES[library]))}")
        if imported.name in LOCK_MAKERS.get(imported.module, ()) and room != LOCK_HOME:
            found.append(f"{line}: {imported.module}.{imported.name} outside {LOCK_HOME}")
    return found


def test_house_is_as_drawn() -> None:
    """Imports point downwards only, siblings never meet, each library and every lock stays in its room."""
    assert [line for module in modules(ROOT) for line in violations(*module)] == []


def test_checker_reads_the_whole_house() -> None:
    """The check covers every source file, so that a new room cannot slip past it."""
    rooms = {room for room, _, _ in modules(ROOT)}
    assert {"cli", "optimizer", "training", "search", "results", "board", "guarded", "__main__"} <= rooms
    assert sum(1 for _ in modules(ROOT)) > len(list((ROOT / "src").rglob("*.py")))


@pytest.mark.parametrize(
    ("room", "text", "said"),
    [
        ("trial", "import seedpod.board", "trial imports board"),
        ("trial", "from seedpod.board import TrialBoard", "trial imports board"),
        ("trial", "from seedpod import board", "trial imports board"),
        ("trial", "from seedpod import board as b", "trial imports board"),
        ("trial", "from . import board", "trial imports board"),
        ("trial", "from .board import TrialBoard", "trial imports board"),
        ("trial", "def f():\n    from seedpod.board import TrialBoard", "trial imports board"),
        ("trial", "if TYPE_CHECKING:\n    from seedpod.board import TrialBoard", "trial imports board"),
        ("trial", "import importlib\nimportlib.import_module('seedpod.board')", "trial imports board"),
        ("trial", "__import__('seedpod.board')", "trial imports board"),
        ("trial", "import seedpod\nseedpod.board", "trial imports board"),
        ("results", "from seedpod.search.study import importances", "results imports search"),
        ("dashboard", "from seedpod.results.files import write_atomic", "dashboard imports results"),
        ("training", "from seedpod.remote.client import Client", "training imports remote"),
        ("board", "from seedpod.config import OptimizationConfig", "board imports config"),
        ("clock", "from seedpod.trial import TrialSpec", "clock imports trial"),
        ("guarded", "from seedpod.errors import SeedpodError", "guarded imports errors"),
        ("optimizer", "from seedpod.cli import main", "optimizer imports cli"),
        ("optimizer", "import runpod_service.handler", "optimizer imports runpod_service"),
        ("training", "from seedpod.nowhere import x", "training imports nowhere"),
        ("attic", "import os", "stands in no row"),
        ("board", "import threading\nthreading.Lock()", "threading.Lock outside guarded"),
        ("board", "import threading as t\nt.RLock()", "threading.RLock outside guarded"),
        ("board", "from threading import Condition", "threading.Condition outside guarded"),
        ("board", "from threading import Semaphore as S", "threading.Semaphore outside guarded"),
        ("board", "import threading\nmake = threading.BoundedSemaphore", "threading.BoundedSemaphore outside guarded"),
        ("cli", "import threading\nthreading.Event()", "threading.Event outside guarded"),
        ("cli", "import threading\nthreading.Barrier(2)", "threading.Barrier outside guarded"),
        ("training", "import multiprocessing\nmultiprocessing.Lock()", "multiprocessing.Lock outside guarded"),
        ("training", "from multiprocessing.synchronize import Event", "multiprocessing.synchronize.Event outside"),
        ("runpod_service", "import asyncio\nasyncio.Semaphore(3)", "asyncio.Semaphore outside guarded"),
        ("endpoint", "from asyncio import Lock", "asyncio.Lock outside guarded"),
        ("endpoint", "import asyncio\nasyncio.Condition()", "asyncio.Condition outside guarded"),
        ("optimizer", "import optuna", "optuna outside search"),
        ("results", "from optuna.trial import FrozenTrial", "optuna outside search"),
        ("optimizer", "from seedpod.assembly import make_backend", "optimizer imports assembly"),
        ("cli", "from dotenv import dotenv_values", "dotenv outside keys"),
        ("backends", "import requests", "requests outside remote"),
        ("training", "import boto3", "boto3 outside remote"),
        ("assembly", "from botocore.config import Config", "botocore outside remote"),
        ("backends", "from requests.adapters import HTTPAdapter", "requests outside remote"),
        ("training", "import runpod", "runpod outside endpoint, runpod_service"),
        ("optimizer", "from runpod.serverless import start", "runpod outside endpoint, runpod_service"),
        ("search", "import keras", "keras outside training"),
        ("runpod_service", "from tensorflow import keras", "tensorflow outside training"),
        ("cli", "def f():\n    import tensorflow.keras", "tensorflow outside training"),
        ("reporting", "from aiohttp import web", "aiohttp outside dashboard, endpoint"),
    ],
)
def test_checker_sees_each_violation(room: str, text: str, said: str) -> None:
    """Each way to break a rule, however it is written, is found with its line."""
    where = str(ROOT / "src" / "seedpod" / f"{room}.py")
    assert [line for line in violations(room, where, text) if said in line]


@pytest.mark.parametrize(
    ("room", "text"),
    [
        ("optimizer", "from seedpod.search.study import optimize"),
        ("cli", "from seedpod.optimizer import ModelOptimizer\nimport threading\nthreading.Thread()"),
        ("search", "from seedpod.search.space import SearchSpace\nimport optuna"),
        (
            "training",
            "import seedpod\nimport keras\nfrom seedpod.trial import TrialSpec\nfrom .pool import TrainerPool",
        ),
        ("guarded", "import threading\nthreading.Condition(threading.Lock())"),
        ("remote", "import requests"),
        ("endpoint", "import asyncio\nasyncio.Event()"),
        ("runpod_service", "import runpod\nfrom seedpod.training.pool import TrainerPool\nimport asyncio\nasyncio.run"),
        ("board", "from collections import deque\ncondition.Event"),
    ],
)
def test_checker_lets_the_rest_pass(room: str, text: str) -> None:
    """What the rules allow is not held against anybody."""
    folder = ROOT / "src" / "seedpod"
    where = folder / room / "module.py" if room in {"search", "training", "remote"} else folder / f"{room}.py"
    assert violations(room, str(where), text) == []


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (
            "import seedpod.cli; seedpod.cli.main(['help'])",
            ["tensorflow", "keras", "runpod", "optuna", "numpy", "sklearn", "rich", "yaml", "requests"],
        ),
        (
            "import seedpod.cli; seedpod.cli.main(['config', 'trials=3'])",
            ["tensorflow", "keras", "runpod", "optuna", "numpy", "sklearn", "rich", "requests"],
        ),
        (
            "import seedpod.optimizer, seedpod.dashboard.terminal, seedpod.dashboard.together",
            ["tensorflow", "keras", "runpod", "sklearn", "scipy", "sqlalchemy", "jax", "torch", "aiohttp", "plotly"],
        ),
    ],
)
def test_main_process_stays_light(program: str, absent: list[str]) -> None:
    """Help needs nothing heavy, and a whole search never imports a training library into the main process."""
    check = f"import sys\n{program}\nprint('found', [name for name in {absent} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "found []"
