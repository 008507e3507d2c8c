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
QUICK_PEERS = 4
"""Of them, in a quick run: Syne Tune takes half a minute."""


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The floor first, then each peer beside ours."""
    pause = 0.25 if quick else 1.0
    floor = TRIALS / WORKERS * pause
    what = f"{TRIALS} trials of {pause:g} s, {WORKERS} at once"
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    missing: dict[str, Note] = {}
    for _ in range(1 if quick else 3):  # in turn
        ours.append(_seconds("searching:search", pause))
        for peer, function, given in PEERS[:QUICK_PEERS] if quick else PEERS:
            try:
                theirs.setdefault(peer, []).append(_seconds(function, pause, **given))
            except (NotHere, Broken) as error:
                missing[peer] = Note(f"local_efficiency/{peer}", briefly(error))
    mine = tuple(ours)
    yield Row(
        "local_efficiency", what, "s", mine, "floor", (floor,) * len(mine), target=None if quick else Target(0.97)
    )
    for peer, found in theirs.items():
        if peer not in missing:
            yield Row(f"local_efficiency/{peer}", what, "s", mine, peer, tuple(found))
    yield from missing.values()


def _seconds(what: str, pause: float, **given: str) -> float:
    found: float = apart(what, trials=TRIALS, pause=pause, workers=WORKERS, **given)["seconds"]
    return found
