"""One seed, one study: the table of 24 real trainings on digits, byte for byte, wherever and however they run.

``python benchmarks/same_study.py [--trials 24] [--epochs 2] [--json FILE]``; ten minutes on two cores. TPE at 1,
2, 4 and 6 local workers; on 1, 3 and 6 workers of an endpoint on this machine, with latency and one fault in ten
requests; and in a run that is killed with SIGKILL three times at random moments and goes on. Exit code 1 where a table
differs.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import Found, Row, Target

from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import prepare

ROOT = Path(__file__).parents[1]
FAULTS = [
    {"operation": "run", "kind": "latency", "seconds": 0.05, "seconds_high": 0.5},
    {"operation": "run", "kind": "status", "code": 503, "probability": 0.1},
    {"operation": "status", "kind": "latency", "seconds": 0.05, "seconds_high": 0.5},
    {"operation": "status", "kind": "status", "code": 502, "probability": 0.05},
    {"operation": "status", "kind": "drop", "probability": 0.05},
]


class Runs:
    """Searches of one configuration, each in a process of its own."""

    def __init__(self, folder: Path, trials: int, epochs: int) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        prepare("digits", self.cache)
        self._common = {
            "trials": trials,
            "startup_trials": 8,
            "max_epochs_per_trial": epochs,
            "final_model": "none",
            "report": "none",
            "cache_dir": self.cache,
        }

    def start(self, name: str, key: str = "", **more: Any) -> subprocess.Popen[bytes]:
        """``optimizer.py`` under this name."""
        given = {**self._common, "run_name": name, **more}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SEEDPOD_", "RUNPOD_"))}
        return subprocess.Popen(
            [sys.executable, str(ROOT / "optimizer.py"), *(f"{k}={v}" for k, v in given.items())],
            cwd=self.folder,
            env={**kept, "RUNPOD_API_KEY": key} if key else kept,
            stdout=subprocess.DEVNULL,
        )

    def table(self, name: str) -> str:
        """Number, parameters, status and value of every trial."""
        paths = sorted((self.folder / "results" / name / "trials").glob("[0-9]*.json"))
        records = [json.loads(path.read_text("utf-8")) for path in paths]
        return "\n".join(json.dumps([r["number"], r["params"], r["status"], r["value"]]) for r in records)

    def to_the_end(self, name: str, key: str = "", **more: Any) -> None:
        """Run it; raises where it fails."""
        with self.start(name, key, **more) as search:
            if search.wait():
                raise SystemExit(f"{name} ended with exit code {search.returncode}")

    def remote(self, name: str, workers: int) -> None:
        """Run it on an endpoint of so many workers, with faults."""
        with EmbeddedEndpoint(workers=workers, environment={"SEEDPOD_CACHE_DIR": str(self.cache)}) as endpoint:
            endpoint.wait_for_workers(timeout=300)
            endpoint.set_faults(FAULTS, seed=workers)
            self.to_the_end(
                name,
                endpoint.key,
                use_runpod_service="true",
                runpod_service_endpoint=f"{endpoint.url}/{endpoint.endpoint_id}",
                runpod_service_fallback_local="false",
                concurrent_workers=workers,
            )

    def killed(self, name: str, kills: int, chance: random.Random) -> None:
        """Run it through so many kills."""
        trials = self.folder / "results" / name / "trials"
        for _ in range(kills):
            with self.start(name, local_workers=2) as search:
                before = len(list(trials.glob("[0-9]*.json")))
                while search.poll() is None and len(list(trials.glob("[0-9]*.json"))) < before + 3:
                    time.sleep(0.05)
                time.sleep(chance.uniform(0, 1.5))
                if search.poll() is not None:
                    raise SystemExit(f"{name} ended before it could be killed; give it more trials")
                search.kill()
        self.to_the_end(name, local_workers=2)


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """How many of the ways give the first one's table."""
    trials, epochs = (12, 1) if quick else (24, 2)
    digests = [str(found["sha256"]) for found in compared(trials, epochs)]
    same = float(digests.count(digests[0]))
    what = f"digits, {trials} trials, one seed: ways to search that give the same table"
    total = (float(len(digests)),)
    yield Row("same_study", what, "ways", (same,), "all", total, more_is_better=True, target=Target(1.0))


def main() -> int:
    """Run all and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print("| run | seconds | trials | pruned | SHA-256 of the table |\n|---|---|---|---|---|", flush=True)
    found = []
    for row in compared(given.trials, given.epochs):
        found.append({name: row[name] for name in ("run", "seconds", "sha256")})
        counts = f"{row['trials']} | {row['pruned']}"
        print(f"| {row['run']} | {row['seconds']:.0f} | {counts} | {row['sha256'][:16]} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(len({row["sha256"] for row in found}) > 1)


def compared(trials: int, epochs: int) -> Iterator[dict[str, Any]]:
    """The same search in each way."""
    with tempfile.TemporaryDirectory(prefix="seedpod-same-") as folder:
        runs = Runs(Path(folder), trials, epochs)
        ways: list[tuple[str, Any]] = [
            *((f"local-{n}", lambda name, n=n: runs.to_the_end(name, local_workers=n)) for n in (1, 2, 4, 6)),
            *((f"endpoint-{n}", lambda name, n=n: runs.remote(name, n)) for n in (1, 3, 6)),
            ("killed-3-times", lambda name: runs.killed(name, 3, random.Random(1))),
        ]
        for name, go in ways:
            began = time.monotonic()
            go(name)
            table = runs.table(name)
            digest = hashlib.sha256(table.encode()).hexdigest()
            counts = {"trials": len(table.splitlines()), "pruned": table.count('"pruned"')}
            yield {"run": name, "seconds": time.monotonic() - began, "sha256": digest, **counts}


if __name__ == "__main__":
    sys.exit(main())
