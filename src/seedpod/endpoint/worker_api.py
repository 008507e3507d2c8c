"""The API that the SDK's workers speak: job-take(-batch), job-stop, job-done, job-stream, ping."""

import json
from typing import Any, NoReturn

from aiohttp import web

from seedpod.endpoint.answers import answer
from seedpod.endpoint.client_api import MIB
from seedpod.endpoint.faults import Kind
from seedpod.endpoint.gate import Gate
from seedpod.endpoint.job import Job, Json
from seedpod.endpoint.service import Service

_LARGEST_BATCH = 1000


class WorkerApi:
    """Handlers; the SDK knows the URLs from its environment (workers.py)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self, gate: Gate) -> list[web.RouteDef]:
        """All routes under ``/v2/{endpoint}``."""
        at = "/v2/{endpoint}"

        async def take(request: web.Request) -> web.StreamResponse:
            return await gate.worker("take", self._take, request)

        async def stop(request: web.Request) -> web.StreamResponse:
            return await gate.worker("stop", self._stop, request)

        async def done(request: web.Request) -> web.StreamResponse:
            body = _parsed(await request.read())
            in_progress = body is not None and body.get("status") == "IN_PROGRESS"
            return await gate.worker("progress" if in_progress else "done", self._done, request)

        async def chunk(request: web.Request) -> web.StreamResponse:
            return await gate.worker("chunk", self._chunk, request)

        async def ping(request: web.Request) -> web.StreamResponse:
            return await gate.worker("ping", self._ping, request)

        return [
            web.get(f"{at}/job-take/{{worker}}", take),
            web.get(f"{at}/job-take-batch/{{worker}}", take),
            web.get(f"{at}/job-stop/{{worker}}", stop),
            web.post(f"{at}/job-done/{{worker}}/{{job}}", done),
            web.post(f"{at}/job-stream/{{worker}}/{{job}}", chunk),
            web.get(f"{at}/ping/{{worker}}", ping),
        ]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        service, worker = self._service, request.match_info["worker"]
        service.fleet.asked(worker, service.now())
        batch = "/job-take-batch/" in request.path
        asked = request.query.get("batch_size", "1") if batch else "1"
        limit = min(max(int(asked), 1), _LARGEST_BATCH) if asked.isdecimal() else 1
        jobs = await service.take(worker, limit)
        if not jobs:
            return web.Response(status=204)
        handed = [{"id": job.id, "input": job.asked.input} for job in jobs]
        response = answer(handed if batch else handed[0])
        try:
            await response.prepare(request)
            await response.write_eof()
        except OSError:  # the worker hung up in this moment
            service.give_back(worker, jobs)
        return response

    async def _stop(self, request: web.Request) -> web.Response:
        worker = self._heard(request)
        found = await self._service.until(
            lambda: self._service.jobs.stops(worker) or None, self._service.settings.stop_hold
        )
        return answer({"jobsToStop": found}) if found else web.Response(status=204)

    async def _done(self, request: web.Request) -> web.Response:
        service, worker, job_id = self._service, self._heard(request), request.match_info["job"]
        raw = await request.read()
        job = service.jobs.get(job_id)
        if job is None:
            return web.Response(status=404)
        body = _parsed(raw)
        if body is None or len(raw) > (20 if job.asked.sync else 10) * MIB:
            return web.Response(status=400)
        if body.get("status") == "IN_PROGRESS":
            self._progress(worker, job, body.get("output"))
        else:
            empty_stream = request.query.get("isStream") == "true" and not body.get("output")
            output = None if empty_stream else body.get("output")
            service.jobs.finish(worker, job_id, service.now(), output=output, error=body.get("error"))
        service.ring()
        return answer({})

    def _progress(self, worker: str, job: Job, output: Any) -> None:
        service = self._service
        fault = service.faults.first("progress", lambda fault: fault.kind is Kind.LATE)
        if fault is None:
            service.jobs.progress(worker, job.id, output, service.now())
            return
        clobber = fault.clobber
        service.later(
            fault.seconds,
            lambda: service.jobs.progress(worker, job.id, output, service.now(), clobber=clobber),
        )

    async def _chunk(self, request: web.Request) -> web.Response:
        self._heard(request)
        body = _parsed(await request.read())
        job_id = request.match_info["job"]
        if self._service.jobs.get(job_id) is None:
            return web.Response(status=404)
        if body is None:
            return web.Response(status=400)
        self._service.jobs.chunk(job_id, body, self._service.now())
        return answer({})

    async def _ping(self, request: web.Request) -> web.Response:
        service, worker = self._service, self._heard(request)
        named = tuple(name for name in request.query.get("job_id", "").split(",") if name)
        failed = request.query.get("check", "unknown check") if request.query.get("status") == "unhealthy" else ""
        service.fleet.pinged(worker, service.now(), named, failed)
        service.jobs.heartbeat(worker, named, service.now())
        return answer({"status": "pong"})

    def _heard(self, request: web.Request) -> str:
        worker = request.match_info["worker"]
        self._service.fleet.heard(worker, self._service.now())
        return worker


def _parsed(raw: bytes) -> Json | None:
    """A JSON object, strictly: NaN and infinity are not JSON. That RunPod refuses them is inferred."""
    try:
        body = json.loads(raw, parse_constant=_refuse)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
