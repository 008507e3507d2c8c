"""The interface beside RunPod's, under ``/__seedpod/``: faults, settings, state, traces, workers. Wants the key too."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from seedpod.endpoint.answers import answer, problem
from seedpod.endpoint.faults import FaultBook
from seedpod.endpoint.gate import Gate, Operation
from seedpod.endpoint.job import Job, Json
from seedpod.endpoint.service import Service
from seedpod.errors import ConfigError


class Hands(Protocol):
    """What may be done to worker processes."""

    def act(self, slot: int, action: str) -> None:
        """``kill``, ``freeze`` or ``thaw`` the worker in a slot; raises ConfigError."""

    def wire(self) -> list[Json]:
        """Each slot's worker id, process id and log file."""


class ControlApi:
    """Handlers of the control interface."""

    def __init__(self, service: Service, hands: Hands) -> None:
        self._service = service
        self._hands = hands

    def routes(self, gate: Gate) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.put("/__seedpod/faults", self._guarded(gate, self._faults)),
            web.patch("/__seedpod/settings", self._guarded(gate, self._settings)),
            web.get("/__seedpod/state", self._guarded(gate, self._state)),
            web.get("/__seedpod/trace/{job}", self._guarded(gate, self._trace)),
            web.post("/__seedpod/workers/{slot:\\d+}/{action}", self._guarded(gate, self._worker)),
        ]

    @staticmethod
    def _guarded(gate: Gate, act: Callable[[web.Request], Awaitable[web.Response]]) -> Operation:
        async def passed(request: web.Request) -> web.StreamResponse:
            refused = gate.refusal(request, request.headers.get("Authorization", "").removeprefix("Bearer "))
            if refused is not None:
                return refused
            try:
                return await act(request)
            except (ConfigError, ValueError) as error:
                return problem(400, str(error))

        return passed

    async def _faults(self, request: web.Request) -> web.Response:
        body = await _object(request)
        self._service.faults = FaultBook.from_wire(body.get("faults"), body.get("seed", 0))
        return answer({})

    async def _settings(self, request: web.Request) -> web.Response:
        self._service.settings = self._service.settings.updated(await _object(request))
        self._service.ring()
        return answer({})

    async def _state(self, _request: web.Request) -> web.Response:
        return answer(state_of(self._service, self._hands))

    async def _trace(self, request: web.Request) -> web.Response:
        job = self._service.jobs.get(request.match_info["job"])
        if job is None:
            return problem(404, "job not found")
        return answer([{"at": mark.at, "what": mark.what, "detail": mark.detail} for mark in job.trace])

    async def _worker(self, request: web.Request) -> web.Response:
        self._hands.act(int(request.match_info["slot"]), request.match_info["action"])
        return answer({})


def state_of(service: Service, hands: Hands) -> Json:
    """All that the endpoint has seen and done, as plain data."""
    jobs = service.jobs
    requests: dict[str, dict[str, int]] = {}
    for (operation, outcome), count in sorted(service.requests.items()):
        requests.setdefault(operation, {})[outcome] = count
    return {
        "submitted": jobs.submitted,
        "forgotten": jobs.forgotten,
        "retried": jobs.retried,
        "deaths": service.fleet.deaths,
        "faults_fired": service.faults.fired(),
        "executions": {uid: count for uid, count in jobs.executions.items() if uid},
        "jobs": {job.id: _job(job, service) for job in jobs},
        "workers": service.fleet.wire(service.now()),
        "processes": hands.wire(),
        "requests": requests,
    }


def _job(job: Job, service: Service) -> Json:
    return {
        "status": str(job.status),
        "uid": job.asked.uid,
        "worker": job.worker,
        "executions": job.executions,
        "seconds": job.view(service.now()).get("executionTime", 0) / 1000,  # as billed: those of its last hand-out
        "retries": job.retries,
        "polls": service.polls[job.id],
    }


async def _object(request: web.Request) -> dict[str, Any]:
    body = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ConfigError("the endpoint's control interface expects a JSON object.")
    return body
