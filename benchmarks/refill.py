"""What hides the SDK's refill sleep: efficiency against ideal, by how a worker is refilled and how jobs are offered.

``python benchmarks/refill.py [WORKERS] [JOBS] [SECONDS]``; needs the extras endpoint and worker.
"""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

from rows import Found, Row

from seedpod.endpoint.embedded import EmbeddedEndpoint

HANDLER = Path(__file__).parent / "refill_handler.py"
POLL = 0.02  # seconds


class Client:
    """The least client: one connection."""

    def __init__(self, endpoint: EmbeddedEndpoint) -> None:
        address, _, prefix = endpoint.url.removeprefix("http://").partition("/")
        self._connection = http.client.HTTPConnection(address)
        self._at = f"/{prefix}/{endpoint.endpoint_id}"
        self._headers = {"Authorization": f"Bearer {endpoint.key}"}

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request."""
        self._connection.request(
            method, f"{self._at}/{path}", None if body is None else json.dumps(body), self._headers
        )
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer


def wall(client: Client, jobs: int, seconds: float, in_flight: int) -> float:
    """Seconds for all jobs, with at most so many submitted and unfinished at one time."""
    begun, left = time.monotonic(), jobs
    live: list[str] = []
    while left or live:
        while left and len(live) < in_flight:
            live.append(client.call("POST", "run", {"input": {"seconds": seconds}})["id"])
            left -= 1
        time.sleep(POLL)
        live = [job for job in live if client.call("GET", f"status/{job}")["status"] != "COMPLETED"]
    return time.monotonic() - begun


def rows(quick: bool) -> Found:  # noqa: FBT001 - each benchmark's form
    """Our handler's way beside none, with one job more than there are places."""
    workers, jobs, seconds = 2, 6 if quick else 10, 3
    found = {}
    for refill in ("early", "plain"):
        with _endpoint(workers, refill) as endpoint:
            endpoint.wait_for_workers()
            found[refill] = wall(Client(endpoint), jobs, seconds, workers + 1)
    what = f"{jobs} jobs of {seconds} s, {workers} workers, places told as free early"
    yield Row("refill", what, "s", (found["early"],), "the SDK's own refill", (found["plain"],))


def _endpoint(workers: int, refill: str) -> EmbeddedEndpoint:
    environment = {"SEEDPOD_REFILL": refill}
    return EmbeddedEndpoint(workers=workers, handler=HANDLER, settings={"rate_limits": False}, environment=environment)


def main(workers: int = 2, jobs: int = 10, seconds: int = 3) -> None:
    """Print one row per way to refill."""
    ideal = -(-jobs // workers) * seconds
    offers = {"as many as slots": workers, "one more": workers + 1, "twice as many": 2 * workers, "all at once": jobs}
    print(f"{workers} workers, {jobs} jobs of {seconds} s, ideal {ideal} s: efficiency by jobs in flight")
    print(f"{'refill':8}" + "".join(f"{name:>18}" for name in offers))
    for refill in ("plain", "spare", "early"):
        row = f"{refill:8}"
        with _endpoint(workers, refill) as endpoint:
            endpoint.wait_for_workers()
            for in_flight in offers.values():
                row += f"{ideal / wall(Client(endpoint), jobs, seconds, in_flight):18.1%}"
                time.sleep(1.5)  # every worker's take is open again
        print(row, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
