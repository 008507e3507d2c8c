"""Whether a long search leaks: memory, descriptors, threads, processes and files, sampled while it runs, with a plot.

    python benchmarks/soak.py no-op [trials=10000] [in_flight=64] [sampler=random] [out=FOLDER]
    python benchmarks/soak.py local [trials=10000] [in_flight=4]  [sampler=random] [out=FOLDER]
    python benchmarks/soak.py training [minutes=30] [in_flight=2] [sampler=tpe] [out=FOLDER]

``no-op``: trials that are over at once, on real SDK workers of the embedded endpoint; ``local``: the same in trainer
processes of this machine; ``training``: real networks on the digits, for so many minutes. The search has a process of
its own, as ``optimizer.py`` has, and is looked at from outside. Needs the extras endpoint, worker and report, and
psutil: ``uv run --group test benchmarks/soak.py no-op``. Prints a verdict; ``soak-WAY.json`` and ``soak-WAY.png`` stay
in ``out`` (by default ``results/soak``).
"""

import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from fixed_time_trainer import FixedTimeTrainer

from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.training.datasets import prepare
from seedpod.trial import Report, TrialBackend, TrialResult, TrialSpec

HERE = Path(__file__).resolve().parent
SDK_WORKERS = 4
WARM_UP = 0.25  # of the trials: what is loaded and filled once is no leak
MOST_MB = 5.0  # per 1,000 trials: 50 MB over 10,000
NOISE_MB = 10.0  # by which a short soak may miss that
CONNECTIONS = 1 / 8
"""Of the trials in flight, by how many descriptors a search may grow: connections stay open for the next request, so
there are as many as ever were needed at once, and now and then a new most."""
EVERY = 2.0  # seconds between two looks


class NoTime(FixedTimeTrainer):
    """Epochs that take no time."""

    def train(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        """See FixedTimeTrainer."""
        return super().train(replace(spec, params={**spec.params, "pause": 0.0}), report, check)


def make(cache_dir: Path, _schedulers: int) -> NoTime:
    """What TrainerPool calls."""
    return NoTime(cache_dir)


@dataclass(frozen=True, slots=True)
class Sample:
    """The search's process at a moment, and the files of its run."""

    seconds: float
    trials: int
    rss_mb: float
    descriptors: int
    threads: int
    children: int
    children_mb: float
    journal_mb: float
    events_mb: float


FIELDS = {
    "rss_mb": "coordinator RSS, MB",
    "descriptors": "descriptors",
    "threads": "threads",
    "children": "child processes",
    "children_mb": "child processes' RSS, MB",
    "journal_mb": "study.journal, MB",
    "events_mb": "events.jsonl, MB",
}


def search(way: str, settings: list[str]) -> None:
    """The process that is looked at: one search; what it has left at its end is its last line."""
    from seedpod.assembly import make_backend
    from seedpod.backends.local import LocalBackend
    from seedpod.config import load
    from seedpod.optimizer import ModelOptimizer
    from seedpod.remote.secret import Secret

    config = load(settings, {}).config

    def local(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return LocalBackend(workers, cache_dir, trainer="soak:make")

    remote = partial(make_backend, config, Secret(os.environ.get("RUNPOD_API_KEY", "none")), print)
    ModelOptimizer(config, progress_callback=lambda _: None, make_backend=local if way == "local" else remote).run()
    gc.collect()
    left = {
        "threads": [each.name for each in threading.enumerate() if each is not threading.main_thread()],
        "descriptors": len(os.listdir("/proc/self/fd")) - 1 if sys.platform == "linux" else 0,  # noqa: PTH208
        "children": [child.name() for child in psutil.Process().children(recursive=True)],
    }
    print(json.dumps(left))


def look(process: psutil.Process, run: Path, began: float) -> Sample | None:
    """None while there is nothing to see, or no longer."""
    with suppress(OSError, psutil.Error):
        children = process.children(recursive=True)
        return Sample(
            seconds=round(time.monotonic() - began, 1),
            trials=sum(1 for _ in (run / "trials").glob("[0-9]*.json")),
            rss_mb=process.memory_info().rss / 1e6,
            descriptors=process.num_fds(),
            threads=process.num_threads(),
            children=len(children),
            children_mb=sum(child.memory_info().rss for child in children) / 1e6,
            journal_mb=(run / "study.journal").stat().st_size / 1e6,
            events_mb=(run / "events.jsonl").stat().st_size / 1e6,
        )
    return None


@contextmanager
def endpoint(in_flight: int, cache_dir: Path) -> Iterator[EmbeddedEndpoint]:
    """Real SDK workers with so many places in all; the trials end at once."""
    environment = {"SEEDPOD_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(HERE)}
    with EmbeddedEndpoint(
        workers=SDK_WORKERS,
        concurrency=-(-in_flight // SDK_WORKERS),
        handler=HERE / "no_op_handler.py",
        environment=environment,
    ) as running:
        running.wait_for_workers()
        yield running


def soak(way: str, settings: Mapping[str, object], folder: Path, key: str) -> tuple[list[Sample], dict[str, object]]:
    """Run the search and look at it until it has ended: what was seen, and what it had left."""
    run = folder / "results" / "soak"
    given = {**settings, "results_dir": run.parent, "run_name": run.name}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, __file__, "search", way, *(f"{name}={value}" for name, value in given.items())],
        env={**os.environ, "PYTHONPATH": str(HERE), **({"RUNPOD_API_KEY": key} if key else {})},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        seen, said = [], list[str]()
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
        reader.start()
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            sample = look(watched, run, began)
            if sample is not None:
                seen.append(sample)
            time.sleep(EVERY)
        reader.join()
    if process.returncode != 0:
        sys.exit("".join(said))
    left: dict[str, object] = json.loads(said[-1])
    return seen, left


def slope(samples: list[Sample], field: str) -> float:
    """Per 1,000 trials, by least squares."""
    x = [sample.trials / 1000 for sample in samples]
    y = [float(getattr(sample, field)) for sample in samples]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - middle_x) ** 2 for each in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / max(spread, 1e-9)


def steady(samples: list[Sample], in_flight: int) -> list[Sample]:
    """Those after the warm-up and before the last trials, when threads end and importances are computed by a helper."""
    last = samples[-1].trials
    return [sample for sample in samples if WARM_UP * last <= sample.trials < last - 3 * in_flight]


def verdict(samples: list[Sample], left: Mapping[str, object], in_flight: int) -> tuple[bool, str]:
    """Whether it holds, and a line that says why."""
    seen = steady(samples, in_flight)
    if len(seen) < 4:
        return False, f"no verdict: {len(seen)} looks after the warm-up are too few; make it longer"
    slopes = {field: slope(seen, field) for field in FIELDS}
    thousands = (seen[-1].trials - seen[0].trials) / 1000
    grown = slopes["rss_mb"] * thousands
    holds = (
        grown <= max(MOST_MB * thousands, NOISE_MB)
        and all(abs(slopes[field]) * thousands <= 2 for field in ("threads", "children"))
        and slopes["descriptors"] * thousands <= max(2, CONNECTIONS * in_flight)
        and not left["threads"]
        and not left["children"]
    )
    listed = ", ".join(f"{FIELDS[field]} {value:+.2f}" for field, value in slopes.items())
    return holds, (
        f"{'no leak' if holds else 'LEAK'}: {samples[-1].trials} trials in {samples[-1].seconds:.0f} s; RSS grew by "
        f"{grown:+.1f} MB after the first quarter, {samples[-1].rss_mb - samples[0].rss_mb:+.1f} MB since the start; "
        f"per 1,000 trials: {listed}; left: {len(left['threads'])} threads, {len(left['children'])} processes"
    )


def draw(samples: list[Sample], title: str, path: Path) -> None:
    """A panel for each number, over the trials that have ended."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(FIELDS), 1, figsize=(8, 1.6 * len(FIELDS)), sharex=True, layout="constrained")
    for panel, (field, label) in zip(panels, FIELDS.items(), strict=True):
        panel.plot([each.trials for each in samples], [getattr(each, field) for each in samples], color="#2b6cb0")
        panel.set_title(label, loc="left", fontsize=9)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("trials that have ended")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def main(way: str, given: Mapping[str, str]) -> int:
    """Soak, judge, draw; 1 where something leaks."""
    in_flight = int(given.get("in_flight", {"no-op": 64, "local": 4, "training": 2}[way]))
    trials = int(given.get("trials", 10_000))
    settings: dict[str, object] = {
        "trials": trials,
        "sampler": given.get("sampler", "tpe" if way == "training" else "random"),
        "search_lag": 2 * in_flight,
        "local_workers": in_flight,
        "final_model": "none",
        "report": "none",
    }
    if way == "training":
        settings |= {"trials": 100_000, "timeout_hours": float(given.get("minutes", 30)) / 60}
    out = Path(given.get("out", "results/soak"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        cache_dir = Path(temporary) / "cache"
        prepare("digits", cache_dir)
        settings["cache_dir"] = cache_dir
        with endpoint(in_flight, cache_dir) if way == "no-op" else nullcontext() as served:
            if served is not None:
                settings |= {
                    "use_runpod_service": "true",
                    "runpod_service_endpoint": f"{served.url}/{served.endpoint_id}",
                    "runpod_service_fallback_local": "false",
                    "concurrent_workers": in_flight,
                }
            samples, left = soak(way, settings, Path(temporary), "" if served is None else served.key)
    holds, line = verdict(samples, left, in_flight)
    title = f"{way}: {in_flight} at once, {os.cpu_count()} cores, Python {platform.python_version()}"
    told = {"way": way, "in_flight": in_flight, "verdict": line, "left": left, "samples": [asdict(s) for s in samples]}
    (out / f"soak-{way}.json").write_text(json.dumps(told), "utf-8")
    draw(samples, title, out / f"soak-{way}.png")
    print(f"{title}\n{line}\n{out / f'soak-{way}.png'}")
    return 0 if holds else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["search"]:
        search(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] and sys.argv[1] in {"no-op", "local", "training"}:
        sys.exit(main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:])))
    else:
        sys.exit(__doc__)
