"""What a trial that does nothing costs: coordinator, journal, record and warm process, beside peers.

``python benchmarks/run.py per_trial``. Four trials at once through the whole of ours: proposals, board, events, a
record a trial, the study's crash-safe journal, four warm processes. Peers keep less: Optuna's threads run the trial in
the coordinator and write no record. TPE's own growth is the row of its own.
"""

from collections.abc import Iterator

from apart import Broken, NotHere, apart, briefly
from rows import Found, Note, Row, Target

WORKERS = 4
LIMIT_MS = 6.0
"""Of a trial, at 1,000 of them."""


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """A row for each number of trials, and for each peer."""
    repeats = 1 if quick else 3
    for trials in (100, 1_000)[: 1 if quick else 2]:
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(_ours(trials, "random"))
            theirs.append(_milliseconds("peers:optuna_threads", trials, workers=WORKERS, storage="journal"))
        target = Target(LIMIT_MS, "ours") if trials == 1_000 else None
        what = f"a trial that does nothing, of {trials:,}, 4 at once"
        yield Row(
            f"per_trial.{trials}/optuna",
            what,
            "ms",
            tuple(ours),
            "Optuna n_jobs, journal",
            tuple(theirs),
            target=target,
        )
    trials = 50 if quick else 200
    yield from _peers(trials, tuple(_ours(trials, "random") for _ in range(repeats)))
    if not quick:
        many, few = _ours(1_000, "tpe"), _ours(1_000, "random")
        yield Row("per_trial.tpe", "a trial that does nothing, of 1,000, by TPE", "ms", (many,), "random", (few,))


def _ours(trials: int, sampler: str) -> float:
    return _milliseconds("searching:search", trials, sampler=sampler, workers=WORKERS)


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
        yield Row(name, f"a trial that does nothing, of {trials}, 4 at once", "ms", ours, peer, theirs)
