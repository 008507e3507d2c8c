"""A search by hand with a real page: the board, the aggregator and the server are real, the trials are told."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import samples
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.config import OptimizationConfig
from seedpod.dashboard.web.page import WebDashboard
from seedpod.events import Plan, summarize
from seedpod.progress import ConcurrentProgressAggregator
from seedpod.remote.view import EndpointView
from seedpod.training.datasets import DatasetInfo
from seedpod.trial import TrialResult

DATA = DatasetInfo("digits", "f" * 16, (8, 8, 1), "uint8", 16.0, tuple("0123456789"), (143,) * 10, (36,) * 10)


def plan_of(folder: Path, trials: int = 9) -> Plan:
    return Plan(OptimizationConfig(trials=trials), DATA, folder, 2)


class Search:
    """One search whose trials are told by hand; times are seconds from its start.

    Attributes:
        url: The page's address, as it was said.
        said: All that was said.
    """

    def __init__(
        self,
        folder: Path,
        *,
        trials: int = 9,
        port: int = 0,
        earlier: Iterable[FinishedTrial] = (),
        importances: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.said: list[str] = []
        self.board = TrialBoard(trials, 0.0)
        self.now = 1.0
        self.endpoint: EndpointView | None = None
        self.plan = plan_of(folder, trials)
        self.page = WebDashboard(self.said.append, port=port, earlier=lambda _folder: earlier, importances=importances)
        for trial in earlier:
            self.board.restore(trial)

    @property
    def url(self) -> str:
        return self.said[-1].split()[-1]

    def begin(self) -> None:
        self.page.began(self.plan)
        self.tell()

    def start(self, number: int, **params: Any) -> None:
        self.board.start(samples.spec(number, params={**samples.SPEC.params, **params}), self.now)
        self._progressed()

    def epoch(self, number: int, epoch: int, value: float | None = 0.5) -> None:
        told = replace(samples.PROGRESS, number=number, sequence=epoch, epoch=epoch, value=value, backend="local")
        self.board.report(told, self.now)
        self._progressed()

    def finish(self, result: TrialResult) -> None:
        self.now += 1.0
        finished = self.board.finish(result, self.now)
        assert finished is not None
        self.page.finished(finished, self.board.snapshot())
        self.tell()

    def end(self, outcome: str = "done") -> None:
        snapshot = self.board.snapshot()
        summary = summarize(
            "r", outcome, snapshot, failures=self.board.failures(), importances={"dropout": 1.0}, ended_at=self.now
        )
        self.tell()
        self.page.ended(self.plan, summary)

    def tell(self) -> None:
        look = ConcurrentProgressAggregator(2).aggregate(self.board.snapshot(), self.now, self.endpoint)
        self.page.updated(look)

    def _progressed(self) -> None:
        self.page.progressed(self.board.snapshot())
        self.tell()


@contextmanager
def searching(folder: Path, **how: Any) -> Iterator[Search]:
    search = Search(folder, **how)
    search.begin()
    try:
        yield search
    finally:
        search.page.close()


@dataclass(frozen=True)
class Answer:
    """An answer; of a stream without its body."""

    status: int
    headers: Message
    body: str


def get(url: str, path: str = "/", token: str | None = None, **headers: str) -> Answer:
    """Ask the server of ``url`` for a path, with a token; None is that of ``url``, and empty is none."""
    with closing(_asked(url, path, token, headers)) as connection, connection.getresponse() as answer:
        streams = answer.headers.get("Content-Type", "").startswith("text/event-stream")
        return Answer(answer.status, answer.headers, "" if streams else answer.read().decode())


@contextmanager
def watching(url: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The messages of the page's stream, as they come."""
    with closing(_asked(url, "/events", None, {})) as connection, connection.getresponse() as answer:
        assert answer.status == 200
        yield (json.loads(line[6:]) for line in answer if line.startswith(b"data: "))


def _asked(url: str, path: str, token: str | None, headers: Mapping[str, str]) -> HTTPConnection:
    parts = urlsplit(url)
    query = parts.query if token is None else f"token={token}"
    connection = HTTPConnection(str(parts.hostname), parts.port or 80, timeout=20)
    connection.request("GET", f"{path}?{query}", headers=dict(headers))
    return connection
