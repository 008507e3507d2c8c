"""The aiohttp application: routes, and the service's loops as long as it lives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from seedpod.endpoint.client_api import MIB, ClientApi
from seedpod.endpoint.control_api import ControlApi, Hands
from seedpod.endpoint.gate import Gate
from seedpod.endpoint.service import Service
from seedpod.endpoint.worker_api import WorkerApi

LOOPBACK = "127.0.0.1"


def application(service: Service, hands: Hands) -> web.Application:
    """One endpoint as an application."""
    app = web.Application(client_max_size=64 * MIB)
    gate = Gate(service)
    app.add_routes(ClientApi(service).routes(gate))
    app.add_routes(WorkerApi(service).routes(gate))
    app.add_routes(ControlApi(service, hands).routes(gate))

    async def loops(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(service.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(loops)
    return app


async def listen(app: web.Application, port: int) -> tuple[web.AppRunner, int]:
    """Serve on loopback only; returns the runner to clean up and the port in use.

    A handler is cancelled when its client hangs up: a dead worker's open ``job-take`` must not swallow a job.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, port)
    await site.start()
    return runner, int(runner.addresses[0][1])
