"""A small RunPod REST API on loopback: templates and endpoints in memory, and misbehaviour on demand."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "rpa_MADE0UP0KEY0FOR0TESTS"


class RestStandIn:
    """Serves ``templates`` and ``endpoints``.

    Attributes:
        things: What there is, by kind.
        requests: (method, path, body) of each request with the right key.
        misbehave: (method, path without query) to what is answered instead: a status code, "html", "hang", or an object
            to answer as JSON.
    """

    def __init__(self) -> None:
        self.things: dict[str, list[dict[str, Any]]] = {"templates": [], "endpoints": []}
        self.requests: list[tuple[str, str, Any]] = []
        self.misbehave: dict[tuple[str, str], Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()

    def answer(self, method: str, path: str, body: Any) -> Any:
        kind, _, wanted = path.strip("/").partition("/")
        things = self.things[kind]
        if method == "GET":
            return things
        if method == "POST":
            # RunPod marks the names of endpoints with FlashBoot.
            name = body["name"] + (" -fb" if body.get("flashboot") else "")
            things.append({**body, "id": f"{kind[:-1]}{len(things)}", "name": name})
            return things[-1]
        found = next(one for one in things if one["id"] == wanted)
        found.update(body)
        return found

    def reply(self, method: str, path: str, query: str, body: Any) -> tuple[int, bytes]:
        """Status and body of the answer to a request with the right key."""
        self.requests.append((method, path, body))
        wrong = self.misbehave.get((method, path))
        if wrong == "hang":
            time.sleep(3)
        if wrong == "html":
            return 200, b"<html><h1>Just a moment...</h1></html>"
        if isinstance(wrong, int):
            return wrong, json.dumps({"error": f"said with {KEY}"}).encode()
        if wrong is not None:
            return 200, json.dumps(wrong).encode()
        if (method, path) == ("GET", "templates") and "includeEndpointBoundTemplates=true" not in query:
            return 200, b"[]"  # RunPod leaves templates of endpoints out, unless it is asked for them
        return 200, json.dumps(self.answer(method, path, body)).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                path, _, query = self.path.removeprefix("/v1/").partition("?")
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
                if self.headers["Authorization"] == f"Bearer {KEY}":
                    code, said = api.reply(self.command, path, query, body)
                else:
                    code, said = 401, b"{}"
                self.send_response(code)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PATCH = serve  # noqa: N815 - the standard library's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler
