"""HTTP answers: RunPod's bodies, and what faults make of them. Pure but for aiohttp's response objects."""

import json
from typing import Any

from aiohttp import web

from seedpod.endpoint.faults import Fault, Kind
from seedpod.endpoint.job import Job, JobStatus, Json

_TITLES = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_HTML = "<html><head><title>{code}</title></head><body><h1>{code}</h1><p>nginx</p></body></html>"


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer; NaN and infinity go out bare, as a careless server sends them."""
    return web.Response(text=json.dumps(body), status=status, content_type="application/json")


def problem(status: int, detail: str = "") -> web.Response:
    """RunPod's form of an error."""
    title = _TITLES.get(status, "Error")
    return answer({"status": status, "title": title, **({"detail": detail} if detail else {})}, status)


def failure(fault: Fault) -> web.Response:
    """The answer of a ``status`` fault."""
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    if fault.body == "html":
        text = _HTML.format(code=fault.code)
        return web.Response(text=text, status=fault.code, content_type="text/html", headers=headers)
    if fault.body == "empty":
        return web.Response(status=fault.code, headers=headers)
    response = problem(fault.code, "injected by a fault setting")
    response.headers.update(headers)
    return response


def truncated(response: web.Response) -> web.Response:
    """The same answer, its text cut in half."""
    text = response.text or ""
    return web.Response(text=text[: len(text) // 2], status=response.status, content_type="application/json")


def fits_status(fault: Fault, job: Job) -> bool:
    """Whether a fault of the answer's meaning has something to falsify in this job's status."""
    return {
        Kind.NO_OUTPUT: job.status is JobStatus.COMPLETED,
        Kind.NO_ERROR: job.status is JobStatus.FAILED,
        Kind.LEFTOVER: job.status.terminal and job.progress is not None,
        Kind.VALUE: job.output is not None,
    }.get(fault.kind, False)


def falsified(view: Json, job: Job, fault: Fault | None) -> Json:
    """The status body as the fault has it."""
    if fault is None:
        return view
    if fault.kind is Kind.NO_OUTPUT:
        return {name: value for name, value in view.items() if name != "output"}
    if fault.kind is Kind.NO_ERROR:
        return {name: value for name, value in view.items() if name != "error"}
    if fault.kind is Kind.LEFTOVER:
        return {**view, "output": job.progress}
    if fault.kind is Kind.VALUE:
        return {**view, "output": replaced(view["output"], fault)}
    return view


def replaced(data: Any, fault: Fault) -> Any:
    """The data with the fault's value in each field of that name, at any depth."""
    if isinstance(data, dict):
        return {name: fault.value if name == fault.field else replaced(value, fault) for name, value in data.items()}
    if isinstance(data, list):
        return [replaced(item, fault) for item in data]
    return data
