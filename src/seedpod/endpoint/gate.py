"""What every request passes before and after its operation: key, endpoint id, limits, faults, counters."""

import asyncio
import hmac
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from seedpod.endpoint.answers import failure, problem, truncated
from seedpod.endpoint.faults import Fault, Kind, on_the_wire
from seedpod.endpoint.service import Service

Operation = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """Wraps operations. A request that is refused meets no fault and does not count against a limit."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def client(self, operation: str, act: Operation) -> Operation:
        """An operation of the client's API: wants ``Bearer`` and the key, and answers in RunPod's words."""

        async def passed(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "")
            refused = self.refusal(request, given.removeprefix("Bearer ") if given.startswith("Bearer ") else "")
            return self._count(operation, refused) if refused else await self._limited(operation, act, request)

        return passed

    async def worker(self, operation: str, act: Operation, request: web.Request) -> web.StreamResponse:
        """An operation of the worker's API: wants the bare key, as the SDK sends it."""
        refused = self.refusal(request, request.headers.get("Authorization", ""))
        return self._count(operation, refused) if refused else await self._faulty(operation, act, request)

    def refusal(self, request: web.Request, key: str) -> web.Response | None:
        """401 for a wrong key, 404 for another endpoint's id, else None."""
        if not hmac.compare_digest(key.encode(), self._service.key.encode()):
            return problem(401)
        if request.match_info.get("endpoint", self._service.endpoint_id) != self._service.endpoint_id:
            return problem(404, "endpoint not found")
        return None

    async def _limited(self, operation: str, act: Operation, request: web.Request) -> web.StreamResponse:
        service = self._service
        if not service.settings.rate_limits:
            return await self._faulty(operation, act, request)
        if not service.limits.admit(operation, service.now()):
            return self._count(operation, problem(429))
        try:
            return await self._faulty(operation, act, request)
        finally:
            service.limits.release(operation)

    async def _faulty(self, operation: str, act: Operation, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self._service.faults.delay(operation))
        fault = self._service.faults.first(operation, on_the_wire)
        if fault is not None and not fault.applied and fault.kind is not Kind.TRUNCATE:
            return self._committed(operation, fault, request)
        response = await act(request)
        if fault is None:
            return self._count(operation, response)
        if fault.kind is Kind.TRUNCATE and isinstance(response, web.Response):
            return self._count(operation, truncated(response))
        return self._committed(operation, fault, request)

    def _committed(self, operation: str, fault: Fault, request: web.Request) -> web.StreamResponse:
        if fault.kind is Kind.STATUS:
            return self._count(operation, failure(fault))
        if request.transport is not None:
            if fault.kind is Kind.RESET:  # closing a socket that does not linger resets its connection
                linger = struct.pack("ii", 1, 0)
                request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.transport.abort()
        self._service.requests[operation, "drop"] += 1
        return web.Response(status=500)  # reaches nobody

    def _count(self, operation: str, response: web.StreamResponse) -> web.StreamResponse:
        self._service.requests[operation, str(response.status)] += 1
        return response
