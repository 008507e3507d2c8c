"""What pruning saves on remote workers, and whether it costs the best trial.

``python benchmarks/epochs_saved.py [--trials 30] [--epochs 10] [--dataset digits] [--workers 2] [--json FILE]``; twenty
minutes on two cores. The same search of the wide space on an endpoint on this machine, with real SDK workers and real
training, once with ``pruner=none`` and once with ``pruner=asha``: epochs trained, the best value, the cancels that the
endpoint has counted, and the trainer processes that are left when its jobs have ended.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rows import Found, Row

from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import prepare

ROOT = Path(__file__).parents[1]


def searched(folder: Path, cache: Path, pruner: str, given: argparse.Namespace) -> dict[str, Any]:
    """One search; what it trained and found."""
    with EmbeddedEndpoint(workers=given.workers, environment={"SEEDPOD_CACHE_DIR": str(cache)}) as endpoint:
        endpoint.wait_for_workers(timeout=300)
        settings = {
            "dataset": given.dataset,
            "search_space": "wide",
            "trials": given.trials,
            "max_epochs_per_trial": given.epochs,
            "min_epochs_per_trial": 1,
            "pruner": pruner,
            "search_lag": given.workers,
            "use_runpod_service": "true",
            "runpod_service_endpoint": f"{endpoint.url}/{endpoint.endpoint_id}",
            "runpod_service_fallback_local": "false",
            "concurrent_workers": given.workers,
            "cache_dir": cache,
            "run_name": pruner,
            "final_model": "none",
            "report": "none",
            "dashboard": "none",
        }
        command = [sys.executable, str(ROOT / "optimizer.py"), *(f"{key}={value}" for key, value in settings.items())]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SEEDPOD_", "RUNPOD_"))}
        began = time.monotonic()
        subprocess.run(
            command, check=True, cwd=folder, env={**kept, "RUNPOD_API_KEY": endpoint.key}, stdout=subprocess.DEVNULL
        )
        seconds = time.monotonic() - began
        jobs = endpoint.state()["jobs"].values()
    records = [
        json.loads(path.read_bytes()) for path in sorted((folder / "results" / pruner / "trials").glob("*.json"))
    ]
    return {
        "pruner": pruner,
        "seconds": seconds,
        "epochs": sum(record["epochs"] for record in records),
        "most": sum(record["max_epochs"] for record in records),
        "best": max(record["value"] for record in records if record["status"] == "complete"),
        "statuses": dict(Counter(record["status"] for record in records)),
        "jobs": dict(Counter(job["status"] for job in jobs)),
        "left": len(_trainers(cache)),
    }


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """ASHA beside no pruner: epochs, and the best trial."""
    sizes = {"trials": 12, "epochs": 5} if quick else {"trials": 30, "epochs": 10}
    plain, pruned = compared(argparse.Namespace(dataset="digits", workers=2, **sizes))
    what = f"digits, wide, {sizes['trials']} trials of {sizes['epochs']} epochs at most on an endpoint"
    epochs = (float(pruned["epochs"]),), "pruner=none", (float(plain["epochs"]),)
    yield Row("epochs_saved.epochs", f"{what}: epochs trained", "epochs", *epochs)
    best = (pruned["best"],), "pruner=none", (plain["best"],)
    yield Row("epochs_saved.best", f"{what}: the best value", "accuracy", *best, more_is_better=True)


def compared(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The same search without a pruner and with ASHA."""
    with tempfile.TemporaryDirectory(prefix="seedpod-saved-") as temporary:
        cache = Path(temporary) / "cache"
        prepare(given.dataset, cache)
        return [searched(Path(temporary), cache, pruner, given) for pruner in ("none", "asha")]


def _trainers(cache: Path) -> list[bytes]:
    """Processes that were started for this cache folder and still live."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            lines.append(path.read_bytes())
    return [line for line in lines if str(cache).encode() in line]


def main() -> None:
    """Search twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = compared(given)
    print(f"{given.dataset}, wide, {given.trials} trials of {given.epochs} epochs at most, {given.workers} workers\n")
    print("| pruner | trials | epochs trained | saved | best | jobs at the endpoint | processes left | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found:
        counts = [", ".join(f"{count} {name}" for name, count in row[key].items()) for key in ("statuses", "jobs")]
        saved = 1 - row["epochs"] / found[0]["epochs"]
        print(
            f"| {row['pruner']} | {counts[0]} | {row['epochs']} of {row['most']} | {saved:.0%} | {row['best']:.4f} "
            f"| {counts[1]} | {row['left']} | {row['seconds']:.0f} |"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
