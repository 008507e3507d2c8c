"""How soon an end is known, and how soon a trial that is to end has ended: here and on an endpoint.

``python benchmarks/run.py latency``. A trial's end to its result in the optimizer's hands: beside a bare process pool
here, and beside the official SDK's client on the embedded endpoint with real SDK workers. From the word that ends a
trial (a prune) here until its process is free for the next one, beside the trainer's own look for a stop, each 10 ms as
between two batches; on an endpoint until that has cancelled the job, beside a cancel by the official client. And, for a
trial that looks for no stop, until its process is gone, beside the seconds of grace that it has by design.
"""

import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from apart import CACHE, apart
from rows import Found, Row

WORKERS = 2
REMOTE_SECONDS = 2.0
_GONE_WITHIN = 60.0  # seconds


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Ends known, and trials ended; here, then on an endpoint."""
    trials, few = (20, 2) if quick else (100, 5)
    known, pooled = apart("latency:known_here", trials=trials), apart("latency:known_by_pool", trials=trials)
    what = "from a local trial's end until its result is known"
    yield Row("latency.known", what, "ms", tuple(known), "concurrent.futures' process pool", tuple(pooled))
    here = apart("latency:ended_here", trials=few)
    what = "from a prune here until its trial has ended"
    free = tuple(here["free"])
    yield Row("latency.here.pruned", what, "ms", free, "a look for a stop, at most", (here["look"],) * len(free))
    yield _gone("here", here)
    there = apart("latency:on_an_endpoint", trials=few)
    what = "from a remote job's end until its result is known"
    ours, theirs = tuple(there["known"]), tuple(there["sdk"])
    yield Row("latency.remote.known", what, "ms", ours, "official SDK client, output()", theirs)
    what, theirs = "from a prune on an endpoint until that has cancelled the job", tuple(there["cancels"])
    yield Row("latency.remote.pruned", what, "ms", tuple(there["free"]), "official SDK client, cancel()", theirs)
    yield _gone("remote", there)


def _gone(where: str, found: dict[str, Any]) -> Row:
    gone = tuple(found["gone"])
    what = (
        f"from a prune {'here' if where == 'here' else 'on an endpoint'} until the process of a trial that looks for "
    )
    grace = (found["grace"],) * len(gone)
    return Row(f"latency.{where}.gone", what + "no stop is gone", "ms", gone, "grace before the kill", grace)


def known_here(trials: int) -> list[float]:
    """Milliseconds from each trial's end to its result, on a warm process of ours."""
    from searching import TRAINER, spec

    from seedpod.backends.local import LocalBackend

    backend = LocalBackend(1, Path("cache"), trainer=TRAINER)
    try:
        found = []
        for number in range(trials + 1):
            result = backend.run(spec(number, pause=0.02), lambda _: None)
            found.append(1000 * (time.monotonic() - float(result.metrics["ended"] or 0.0)))
        return found[1:]
    finally:
        backend.close()


def known_by_pool(trials: int) -> list[float]:
    """The same by ``ProcessPoolExecutor``."""
    found = []
    with ProcessPoolExecutor(1) as pool:
        for _ in range(trials + 1):
            ended = pool.submit(_sleep_and_tell, 0.02).result()
            found.append(1000 * (time.monotonic() - ended))
    return found[1:]


def _sleep_and_tell(seconds: float) -> float:
    time.sleep(seconds)
    return time.monotonic()


def ended_here(trials: int) -> dict[str, Any]:
    """Milliseconds from a prune to the end of its trial, and to the end of a deaf one's process."""
    from fixed_time_trainer import LOOK
    from searching import TRAINER

    from seedpod.backends.local import LocalBackend
    from seedpod.training.child import PoolLimits

    backend = LocalBackend(1, Path("cache"), trainer=TRAINER)
    try:
        return {**_pruned(backend.run, Path("cache"), trials), "look": 1000 * LOOK, "grace": 1000 * PoolLimits().grace}
    finally:
        backend.close()


def on_an_endpoint(trials: int) -> dict[str, Any]:
    """The same there, and from each job's end to its result by ours and by the official client."""
    import runpod
    from remote_efficiency import endpoint_of
    from searching import spec

    from seedpod.backends.runpod import RunPodBackend
    from seedpod.clock import SystemClock
    from seedpod.remote.client import EndpointClient
    from seedpod.remote.gate import Gate
    from seedpod.remote.secret import Secret
    from seedpod.trial import TrialRequest, TrialResult

    numbers = itertools.count()
    with endpoint_of(WORKERS, Path(CACHE)) as endpoint:
        client = EndpointClient(endpoint.url, endpoint.endpoint_id, Secret(endpoint.key), 2 * WORKERS)
        backend = RunPodBackend(Gate(client, SystemClock(), random.Random()), most_at_once=WORKERS)
        known, sdk = [], []
        runpod.api_key, runpod.endpoint_url_base = endpoint.key, endpoint.url
        theirs = runpod.Endpoint(endpoint.endpoint_id)
        chance = random.Random(0)
        try:
            for _ in range(2 * trials):
                pause = REMOTE_SECONDS + chance.random()  # not in step with anybody's polls
                result = backend.run(spec(next(numbers), pause=pause), lambda _: None)
                known.append(1000 * (time.monotonic() - float(result.metrics["ended"] or 0.0)))
                request = TrialRequest(spec(next(numbers), pause=pause), 1, 600.0)
                answer = theirs.run(request.to_wire()).output(timeout=600)
                ended = TrialResult.from_wire(answer["result"]).metrics["ended"] or 0.0
                sdk.append(1000 * (time.monotonic() - float(ended)))
            cancels = []
            for _ in range(trials):
                job = theirs.run(TrialRequest(spec(next(numbers), epochs=100, pause=1.0), 1, 600.0).to_wire())
                while job.status() != "IN_PROGRESS":
                    time.sleep(0.05)
                began = time.monotonic()
                job.cancel()
                cancels.append(1000 * (time.monotonic() - began))
            return {
                "known": known,
                "sdk": sdk,
                "cancels": cancels,
                **_pruned(backend.run, Path(CACHE), trials),
                "grace": 500.0,  # runpod_service/handler.py, KILL_GRACE
            }
        finally:
            backend.close()


def _pruned(run: Callable[..., Any], cache_dir: Path, trials: int) -> dict[str, list[float]]:
    from fixed_time_trainer import DEAF
    from searching import spec

    from seedpod.errors import TrialPruned

    def milliseconds(number: int, *, deaf: bool) -> float:
        said = 0.0

        def report(_: object) -> None:
            nonlocal said
            said = time.monotonic()
            raise TrialPruned("for the benchmark")

        try:
            run(spec(number, epochs=100, pause=1.0, deaf=deaf), report)
        except TrialPruned:
            if deaf:
                _until_gone(int((cache_dir / DEAF).read_text(encoding="ascii")))
            return 1000 * (time.monotonic() - said)
        raise RuntimeError("a pruned trial went on")

    return {
        "free": [milliseconds(10_000 + number, deaf=False) for number in range(trials)],
        "gone": [milliseconds(20_000 + number, deaf=True) for number in range(trials)],
    }


def _until_gone(pid: int) -> None:
    end = time.monotonic() + _GONE_WITHIN
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # dead; its parent has not looked yet
            return
        time.sleep(0.002)
    raise RuntimeError(f"process {pid} still lives {_GONE_WITHIN:g} s after it was to end")
