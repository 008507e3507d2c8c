"""The API that RunPod's clients speak: run, runsync, status, stream, cancel, retry, purge-queue, health."""

import json
from typing import Any

from aiohttp import web

from seedpod.endpoint.answers import answer, falsified, fits_status, problem, replaced
from seedpod.endpoint.faults import Fault, Kind
from seedpod.endpoint.gate import Gate
from seedpod.endpoint.job import Job, Json, Submission
from seedpod.endpoint.service import Service

MIB = 2**20
_WAIT = (1000, 300_000)  # ms that a client may ask /runsync to wait
_TIME_OUT = (5.0, 604_800.0)  # seconds
_TTL = (10.0, 604_800.0)


class ClientApi:
    """Handlers; each expects that the gate has let the request pass."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self, gate: Gate) -> list[web.RouteDef]:
        """All routes under ``/v2/{endpoint}``."""
        at = "/v2/{endpoint}"
        return [
            web.post(f"{at}/run", gate.client("run", self._run)),
            web.post(f"{at}/runsync", gate.client("runsync", self._runsync)),
            web.get(f"{at}/status/{{job}}", gate.client("status", self._status)),
            web.post(f"{at}/status/{{job}}", gate.client("status", self._status)),
            web.get(f"{at}/stream/{{job}}", gate.client("stream", self._stream)),
            web.post(f"{at}/cancel/{{job}}", gate.client("cancel", self._cancel)),
            web.post(f"{at}/retry/{{job}}", gate.client("retry", self._retry)),
            web.post(f"{at}/purge-queue", gate.client("purge-queue", self._purge)),
            web.get(f"{at}/health", gate.client("health", self._health)),
        ]

    async def _run(self, request: web.Request) -> web.Response:
        submitted = await self._submit(request, "run")
        if isinstance(submitted, web.Response):
            return submitted
        job, fault = submitted
        body: Json = {"id": job.id, "status": str(job.status)}
        if fault is not None and fault.kind is Kind.NO_ID:
            del body["id"]
        return answer(body)

    async def _runsync(self, request: web.Request) -> web.Response:
        wait = request.query.get("wait", "90000")
        if not wait.isdecimal() or not _WAIT[0] <= int(wait) <= _WAIT[1]:
            return problem(400, f"wait is invalid; must be between {_WAIT[0]} and {_WAIT[1]}")
        submitted = await self._submit(request, "runsync")
        if isinstance(submitted, web.Response):
            return submitted
        job, fault = submitted

        def ended() -> Job | None:
            found = self._service.jobs.get(job.id)
            return found if found is not None and found.status.terminal else None

        found = await self._service.until(ended, int(wait) / 1000) or self._service.jobs.get(job.id)
        if found is None:
            return problem(404, "job not found")
        body = self._view(found, "runsync")
        if fault is not None and fault.kind is Kind.NO_ID:
            del body["id"]
        return answer(body)

    async def _status(self, request: web.Request) -> web.Response:
        job = self._job(request)
        self._service.polls[request.match_info["job"]] += 1
        return problem(404, "job not found") if job is None else answer(self._view(job, "status"))

    async def _stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return problem(404, "job not found")
        return answer({"status": str(job.status), "stream": list(self._service.jobs.drain(job.id))})

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return problem(404, "job not found")
        cancelled = self._service.jobs.cancel(job.id, self._service.now())
        self._service.ring()
        return answer(cancelled.view(self._service.now()))

    async def _retry(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return problem(404, "job not found")
        if not self._service.jobs.retry(job.id, self._service.now()):
            return problem(400, f"job is {job.status}; only a failed or timed-out job can be retried")
        self._service.ring()
        return answer({"id": job.id, "status": "IN_QUEUE"})

    async def _purge(self, _request: web.Request) -> web.Response:
        removed = self._service.jobs.purge(self._service.now())
        self._service.ring()
        return answer({"removed": removed, "status": "completed"})

    async def _health(self, _request: web.Request) -> web.Response:
        fault = self._service.faults.first("health", lambda fault: fault.kind is Kind.VALUE)
        health = self._service.health()
        return answer(health if fault is None else replaced(health, fault))

    def _job(self, request: web.Request) -> Job | None:
        return self._service.jobs.get(request.match_info["job"])

    def _view(self, job: Job, operation: str) -> Json:
        fault = self._service.faults.first(operation, lambda fault: fits_status(fault, job))
        return falsified(job.view(self._service.now()), job, fault)

    async def _submit(self, request: web.Request, operation: str) -> tuple[Job, Fault | None] | web.Response:
        raw = await request.read()
        largest = 20 if operation == "runsync" else 10
        if len(raw) > largest * MIB:
            return problem(400, f"bad request: body: exceeded max body size of {largest}MiB")
        body = _parsed(raw)
        if body is None:
            return problem(400, "bad request: body: not a JSON object")
        timing = self._policy(body.get("policy"))
        if timing is None:
            return problem(400, "bad request: policy")
        fault = self._service.faults.first(operation, lambda fault: fault.kind in {Kind.NO_ID, Kind.STUCK, Kind.CANCEL})
        stuck = fault.state if fault is not None and fault.kind is Kind.STUCK else None
        cancel = fault.seconds if fault is not None and fault.kind is Kind.CANCEL else None
        asked = Submission(body.get("input"), *timing, operation == "runsync", stuck, cancel)
        job = self._service.jobs.submit(asked, self._service.now())
        self._service.ring()
        return job, fault

    def _policy(self, policy: Any) -> tuple[float, float] | None:
        """(execution time-out, ttl) in seconds; None where the client's policy breaks the documented bounds."""
        settings = self._service.settings
        given = {} if policy is None else policy
        if not isinstance(given, dict):
            return None
        time_out = _milliseconds(given.get("executionTimeout"), settings.execution_timeout, _TIME_OUT)
        ttl = _milliseconds(given.get("ttl"), settings.ttl, _TTL)
        return None if time_out is None or ttl is None else (time_out, ttl)


def _milliseconds(value: Any, default: float, bounds: tuple[float, float]) -> float | None:
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not bounds[0] <= value / 1000 <= bounds[1]:
        return None
    return value / 1000


def _parsed(raw: bytes) -> Json | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
