"""What pruning saves on remote workers, and whether it costs the best trial.

    python benchmarks/epochs_saved.py [--trials 30] [--epochs 10] [--dataset digits] [--workers 2]
        [--seeds 42 1 2] [--pruners none asha] [--min-epochs 1] [--json FILE]

Ten minutes a seed on two cores. The same search of the wide space on an endpoint on this machine, with real SDK workers
and real training, once with each pruner: epochs trained, the best value, the cancels that the endpoint has counted, and
the trainer processes that are left when its jobs have ended.
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


def searched(folder: Path, cache: Path, pruner: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One search; what it trained and found."""
    with EmbeddedEndpoint(workers=given.workers, environment={"SEEDPOD_CACHE_DIR": str(cache)}) as endpoint:
        endpoint.wait_for_workers(timeout=300)
        settings = {
            "dataset": given.dataset,
            "search_space": "wide",
            "trials": given.trials,
            "max_epochs_per_trial": given.epochs,
            "min_epochs_per_trial": given.min_epochs,
            "random_seed": seed,
            "pruner": pruner,
            "search_lag": given.workers,
            "use_runpod_service": "true",
            "runpod_service_endpoint": f"{endpoint.url}/{endpoint.endpoint_id}",
            "runpod_service_fallback_local": "false",
            "concurrent_workers": given.workers,
            "cache_dir": cache,
            "run_name": f"{pruner}-{seed}",
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
        json.loads(path.read_bytes())
        for path in sorted((folder / "results" / f"{pruner}-{seed}" / "trials").glob("*.json"))
    ]
    return {
        "pruner": pruner,
        "seed": seed,
        "seconds": seconds,
        "epochs": sum(record["epochs"] for record in records),
        "most": sum(record["max_epochs"] for record in records),
        "best": max(record["value"] for record in records if record["status"] == "complete"),
        "statuses": dict(Counter(record["status"] for record in records)),
        "jobs": dict(Counter(job["status"] for job in jobs)),
        "left": len(_trainers(cache)),
    }


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """ASHA beside no pruner, a repeat for each seed: epochs, and the best trial."""
    sizes = {"trials": 12, "epochs": 5, "seeds": [42]} if quick else {"trials": 30, "epochs": 10, "seeds": [42, 1, 2]}
    given = argparse.Namespace(dataset="digits", workers=2, min_epochs=1, pruners=["none", "asha"], **sizes)
    found = compared(given)
    pruned, plain = ([row for row in found if row["pruner"] == pruner] for pruner in ("asha", "none"))
    what = f"digits, wide, {given.trials} trials of {given.epochs} epochs at most on an endpoint"
    for key, told, unit in (("epochs", "epochs trained", "epochs"), ("best", "the best value", "accuracy")):
        ours, theirs = (tuple(float(row[key]) for row in each) for each in (pruned, plain))
        case = f"epochs_saved.{key}", f"{what}: {told}", unit
        yield Row(*case, ours, "pruner=none", theirs, more_is_better=key == "best")


def compared(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The same search with each seed and each pruner."""
    with tempfile.TemporaryDirectory(prefix="seedpod-saved-") as temporary:
        cache = Path(temporary) / "cache"
        prepare(given.dataset, cache)
        return [
            searched(Path(temporary), cache, pruner, seed, given) for seed in given.seeds for pruner in given.pruners
        ]


def _trainers(cache: Path) -> list[bytes]:
    """Processes that were started for this cache folder and still live."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            lines.append(path.read_bytes())
    return [line for line in lines if str(cache).encode() in line]


def main() -> None:
    """Search with each pruner and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--pruners", nargs="+", default=["none", "asha"])
    parser.add_argument("--min-epochs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = compared(given)
    print(f"{given.dataset}, wide, {given.trials} trials of {given.epochs} epochs at most, {given.workers} workers\n")
    print(
        "| seed | pruner | trials | epochs trained | saved | best | jobs at the endpoint | processes left | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in found:
        counts = [", ".join(f"{count} {name}" for name, count in row[key].items()) for key in ("statuses", "jobs")]
        saved = 1 - row["epochs"] / row["most"]
        print(
            f"| {row['seed']} | {row['pruner']} | {counts[0]} | {row['epochs']} of {row['most']} | {saved:.0%} "
            f"| {row['best']:.4f} | {counts[1]} | {row['left']} | {row['seconds']:.0f} |"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
