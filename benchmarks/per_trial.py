"""What a trial that does nothing costs: the coordinator alone, and with the way to a process, beside peers.

``python benchmarks/run.py per_trial``. Four trials at once through the whole of ours: proposals, board, events, a
record a trial, the study's crash-safe journal; the trial is a call in the coordinator's threads, as it is with Optuna's
``n_jobs``, or runs in four warm processes, as it is in a search. Peers keep less: no event, no record. What TPE adds as
trials grow is in rows of its own.
"""

from collections.abc import Iterator

from apart import Broken, NotHere, apart, briefly
from rows import Found, Note, Row, Target

WORKERS = 4
LIMIT_MS = 6.0
"""Of a trial, at 1,000 of them."""


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """The coordinator by the number of trials, processes, TPE, and each peer."""
    for trials in (100,) if quick else (100, 1_000):
        ours, processes, theirs = [], [], []
        for _ in range(1 if quick else 3):  # in turn
            ours.append(_ours(trials))
            processes.append(_ours(trials, processes=True))
            theirs.append(_milliseconds("peers:optuna_threads", trials, workers=WORKERS, storage="journal"))
        peer = "Optuna n_jobs, journal", tuple(theirs)
        target = Target(LIMIT_MS, "ours") if trials == 1_000 else None
        what = f"a trial that does nothing, of {trials:,}, 4 at once"
        yield Row(f"per_trial.{trials}", f"{what}: the coordinator alone", "ms", tuple(ours), *peer, target=target)
        yield Row(f"per_trial.{trials}.processes", f"{what}, in warm processes", "ms", tuple(processes), *peer)
        tpe = (_ours(trials, "tpe"),)
        yield Row(f"per_trial.{trials}.tpe", f"{what}: the coordinator alone, TPE", "ms", tpe, "random", (ours[-1],))
    trials = 20 if quick else 200
    yield from _peers(trials, tuple(_ours(trials, processes=True) for _ in range(1 if quick else 2)))


def _ours(trials: int, sampler: str = "random", *, processes: bool = False) -> float:
    return _milliseconds("searching:search", trials, sampler=sampler, workers=WORKERS, processes=processes)


def _milliseconds(what: str, trials: int, **given: object) -> float:
    found: float = apart(what, trials=trials, pause=0.0, **given)["seconds"]
    return found / trials * 1000


def _peers(trials: int, ours: tuple[float, ...]) -> Iterator[Row | Note]:
    peers: list[tuple[str, str, dict[str, object]]] = [
        ("Optuna n_jobs, memory", "peers:optuna_threads", {"workers": WORKERS, "storage": "memory"}),
        ("Optuna n_jobs, SQLite", "peers:optuna_threads", {"workers": WORKERS, "storage": "sqlite"}),
        ("Ray Tune, actors used again", "peers:ray_tune", {"workers": WORKERS}),
        ("Keras Tuner, one at a time", "peers:keras_tuner_random", {}),
        ("Syne Tune, local backend", "peers:syne_tune_local", {"workers": WORKERS}),
    ]
    for peer, function, given in peers:
        name = f"per_trial.{trials}/{peer}"
        try:
            theirs = tuple(_milliseconds(function, trials, **given) for _ in ours)
        except (NotHere, Broken) as error:
            yield Note(name, briefly(error))
            continue
        yield Row(
            name, f"a trial that does nothing, of {trials}, 4 at once, in warm processes", "ms", ours, peer, theirs
        )
