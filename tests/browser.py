"""Headless Chromium by its DevTools protocol over a pipe: a page as a user meets it, and what it asked for and said."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root in a container has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_AWAY = ("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET")


class Refused(Exception):
    """The browser did not do what it was told: a script raised, or its page has just gone."""


class Browser:
    """One browser with one page. A context manager; for one thread.

    Attributes:
        errors: What the page's console and its scripts complained of, but for requests to a server that is away.
        requested: Every address that it asked for.
    """

    def __init__(self, profile: Path) -> None:
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._profile = profile
        self._calls = 0
        self._session = ""
        self._left = b""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._out)  # Chromium ends when its pipe does
        os.close(self._in)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise Refused(answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Refused(answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 120.0) -> Any:
        """Wait until a JavaScript expression is truthy, also over a page that is still loading; its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                value: Any = self.run(condition)
            except Refused as refused:
                value, said = None, str(refused)
            else:
                said = "" if value else self.text()[:2000]
            if value:
                return value
            assert time.monotonic() < end, f"{condition} did not become true: {said}"
            time.sleep(0.05)

    def text(self, selector: str = "body") -> str:
        """What a user reads in the first element of that kind."""
        read = f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''"
        return str(self.run(read)).strip()

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def scheme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path, *, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _read(self, seconds: float = 30.0) -> dict[str, Any]:
        while b"\0" not in self._left:
            readable, _, _ = select.select([self._in], [], [], seconds)
            assert readable, "Chromium is silent"
            chunk = os.read(self._in, 1 << 16)
            assert chunk, "Chromium has ended"
            self._left += chunk
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.errors.append(str([value.get("value") for value in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            entry = params["entry"]
            if not entry["text"].endswith(_AWAY):
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")
