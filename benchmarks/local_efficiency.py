"""How near 32 trials of 1 s at 4 workers come to 8 s, on this machine, beside peers.

``python benchmarks/run.py local_efficiency``. Ours is the whole search with its crash-safe journal on warm processes.
The floor is the trials' own time. Ours and each peer take turns, so that what else the machine does meets all alike.
"""

from apart import Broken, NotHere, apart, briefly
from rows import Found, Note, Row, Target

TRIALS, WORKERS = 32, 4
PEERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Optuna n_jobs, memory", "peers:optuna_threads", {"storage": "memory"}),
    ("Optuna n_jobs, journal", "peers:optuna_threads", {"storage": "journal"}),
    ("Optuna n_jobs, SQLite", "peers:optuna_threads", {"storage": "sqlite"}),
    ("Ray Tune, actors used again", "peers:ray_tune", {}),
    ("Syne Tune, local backend", "peers:syne_tune_local", {}),
)


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The floor first, then each peer beside ours of its turn."""
    pause, repeats = (0.5, 1) if quick else (1.0, 3)
    floor = TRIALS / WORKERS * pause
    what = f"{TRIALS} trials of {pause:g} s, {WORKERS} at once"
    ours: list[float] = []
    beside: list[Row | Note] = []
    for peer, function, given in PEERS:
        mine, theirs = [], []
        try:
            for _ in range(repeats):
                mine.append(_seconds("searching:search", pause))
                theirs.append(_seconds(function, pause, **given))
        except (NotHere, Broken) as error:
            beside.append(Note(f"local_efficiency/{peer}", briefly(error)))
        else:
            beside.append(Row(f"local_efficiency/{peer}", what, "s", tuple(mine), peer, tuple(theirs)))
        ours += mine
    yield Row("local_efficiency", what, "s", tuple(ours), "floor", (floor,) * len(ours), target=Target(0.97))
    yield from beside


def _seconds(what: str, pause: float, **given: str) -> float:
    found: float = apart(what, trials=TRIALS, pause=pause, workers=WORKERS, **given)["seconds"]
    return found
