"""The page's HTTP side: loopback alone, a token for all that tells of the search, news pushed as server-sent events.

It runs in a thread of its own with an event loop of its own. Each browser has a task there which looks at the state
every half second and sends what that browser does not know yet: a slow one is told less often and never more at once,
and neither the search nor another browser waits for it.
"""

import asyncio
import hmac
import importlib.util
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from seedpod.dashboard.web.metrics import CONTENT_TYPE, exposition
from seedpod.dashboard.web.state import PageState, Told
from seedpod.guarded import Guarded

MOST = 100
"""Browsers at once; one more is asked to come later."""
_PAUSE = 0.5  # seconds between two looks at the state
_STALLED = 20.0  # seconds
_LAST_WORDS = 1.0  # seconds in which browsers may read how the search ended
_ASSETS = Path(__file__).with_name("assets")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    # Styles inline, because plotly makes its own; scripts are ours and plotly's from here, and nothing is fetched
    # elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "Server": "seedpod",
    "X-Content-Type-Options": "nosniff",
}
_NO_TOKEN = "This address needs the token that the search has printed with it.\n"  # noqa: S105 - a sentence

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Run:
    """The thread's loop, as others see it."""

    loop: asyncio.AbstractEventLoop | None = None
    closing: asyncio.Event | None = None
    watchers: int = 0


class Server:
    """Serves one page, from ``start`` until ``close``.

    Args:
        state: What the page shows.
        bound: The socket to listen on; closed with the server.
        token: Who does not have it is told nothing.
        stalled: Seconds after which a browser that reads nothing is given up.
    """

    def __init__(self, state: PageState, bound: socket.socket, token: str, *, stalled: float = _STALLED) -> None:
        self._state = state
        self._bound = bound
        self._token = token.encode()
        self._stalled = stalled
        self._run = Guarded(_Run())
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="web", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Let every browser read the last news, for a second at most, and stop."""
        if self._thread.ident is None:
            self._bound.close()
            return
        self._run.wait_for(lambda run: run.loop, _LAST_WORDS)
        with self._run.locked() as run, suppress(RuntimeError):  # its loop is closed: closed twice
            if run.loop is not None and run.closing is not None:
                run.loop.call_soon_threadsafe(run.closing.set)
        self._thread.join(3 * _LAST_WORDS)

    @property
    def watched(self) -> bool:
        """Whether a browser has the page open."""
        with self._run.locked() as run:
            return run.watchers > 0

    async def _serve(self) -> None:
        closing = asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/events", self._events),
                web.get("/metrics", self._metrics),
                web.get("/proof", self._proof),
                web.get("/assets/{name}", self._asset),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        # Whoever sends rubbish must not fill the search's terminal.
        silent = logging.getLogger("seedpod.web.http")
        silent.setLevel(logging.CRITICAL)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1, logger=silent)
        await runner.setup()
        await web.SockSite(runner, self._bound).start()
        with self._run.locked() as run:
            run.loop, run.closing = asyncio.get_running_loop(), closing
        await closing.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while self.watched:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Nothing that tells of the search goes to one without the token."""
        if request.path.startswith("/assets/") or request.path == "/proof" or self._knows_token(request):
            return await handler(request)
        return web.Response(status=403, text=_NO_TOKEN)

    def _knows_token(self, request: web.Request) -> bool:
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if kind.casefold() == "bearer" else request.query.get("token", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=(_ASSETS / "index.html").read_text("utf-8"), content_type="text/html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = plotly_file() if name == "plotly.min.js" else _own_asset(name)
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8"})

    async def _proof(self, request: web.Request) -> web.StreamResponse:
        """Show that this server knows the token, to a page that has lost its search and will not tell it to anybody."""
        nonce = request.query.get("nonce", "")[:100].encode("utf-8", "replace")
        return web.Response(text=hmac.new(self._token, nonce, "sha256").hexdigest())

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        text = exposition(self._state.plan, *self._state.latest)
        return web.Response(body=text.encode(), headers={"Content-Type": f"{CONTENT_TYPE}; charset=utf-8"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        with self._run.locked() as run:
            full = run.watchers >= MOST
            run.watchers += not full
        if full:
            return web.Response(status=503, text=f"{MOST} browsers watch this search already.\n")
        transport = request.transport  # the request forgets it when the server stops
        response, orderly = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"}), False
        try:
            await response.prepare(request)
            await self._tell(response)
            orderly = True
        except (TimeoutError, ConnectionError):
            pass  # it reads nothing, or has left
        finally:
            if not orderly and transport is not None:
                transport.abort()  # a close would wait for the very buffer that nobody reads
            with self._run.locked() as run:
                run.watchers -= 1
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        with self._run.locked() as run:
            closing = run.closing
        told, last = Told(), False
        while closing is not None and not last:
            last = closing.is_set()
            news, told = self._state.news(told)
            if news:
                async with asyncio.timeout(self._stalled):
                    await response.write(_event(news))
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if last else _PAUSE):
                    await closing.wait()


def plotly_file() -> Path | None:
    """``plotly.min.js`` of the installed plotly, without importing it; None where there is none."""
    found = importlib.util.find_spec("plotly")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    paths = (Path(folder) / "package_data" / "plotly.min.js" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _own_asset(name: str) -> Path | None:
    return next((path for path in _ASSETS.iterdir() if path.name == name and path.suffix != ".html"), None)


def _event(news: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(news, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    # A newer seedpod's assets must reach a page that is opened anew.
    response.headers["Cache-Control"] = "no-cache" if request.path.startswith("/assets/") else "no-store"
    response.headers.update(_HEADERS)
