"""10,000 trials that do nothing: what each costs, how the coordinator's memory grows, how soon such a search goes on.

``python benchmarks/run.py many_trials``. One search of ours, four trials at once in the coordinator's threads, beside
Optuna's ``n_jobs`` on its journal; then the same run is started again for a few more trials, beside the seconds in
which Optuna alone reads its own journal of as many.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from apart import apart
from rows import Found, Row, Target

TRIALS, QUICK_TRIALS, WORKERS, MORE = 10_000, 300, 4, 4
GROWTH_MB = 50.0
"""That the coordinator may grow by."""


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Cost, memory, and resuming."""
    trials = QUICK_TRIALS if quick else TRIALS
    peer = "Optuna n_jobs, journal"
    with TemporaryDirectory(prefix="seedpod-many-") as folder:
        ours = apart("searching:search", trials=trials, workers=WORKERS, processes=False, folder=folder)
        journal = f"{folder}/optuna.journal"
        theirs = apart(
            "peers:optuna_threads", trials=trials, pause=0.0, workers=WORKERS, storage="journal", journal=journal
        )
        each, beside = (found["seconds"] / trials * 1000 for found in (ours, theirs))
        yield Row(
            "many_trials.cost",
            f"a trial that does nothing, of {trials:,}: the coordinator alone",
            "ms",
            (each,),
            peer,
            (beside,),
        )
        yield Row(
            "many_trials.memory",
            f"what the coordinator's memory grows by over {trials:,} trials",
            "MB",
            (ours["grown"],),
            peer,
            (theirs["grown"],),
            target=None if quick else Target(GROWTH_MB, "ours"),
        )
        ready = [
            apart("searching:search", trials=trials + MORE * again, workers=WORKERS, processes=False, folder=folder)[
                "ready"
            ]
            for again in ((1,) if quick else (1, 2, 3))
        ]
        reads = [apart("peers:optuna_loads", journal=journal) for _ in ready]
        what = f"a search of {trials:,} trials goes on: until its next trial"
        yield Row("many_trials.resume", what, "s", tuple(ready), "Optuna reads its journal", tuple(reads))
        size = (Path(folder) / "searched" / "study.journal").stat().st_size / trials
        beside = Path(journal).stat().st_size / trials
        yield Row("many_trials.journal", f"the study's journal a trial, of {trials:,}", "B", (size,), peer, (beside,))
