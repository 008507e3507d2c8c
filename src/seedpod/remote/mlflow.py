"""The few calls of MLflow's REST API 2.0 that a search needs.

MLflow's own client would bring a hundred megabytes along and take seconds to import. Source:
https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from seedpod.errors import SeedpodError

_MOST_METRICS = 1000  # in one request, says the API
_TIMEOUT = (5.0, 20.0)  # seconds to connect and between bytes


class MlflowError(SeedpodError):
    """The server cannot be reached, or refuses; the message says which, in its words."""


class MlflowClient:
    """For one thread. Credentials come from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD.

    Args:
        uri: ``http(s)://HOST:PORT``, with or without a path.
    """

    def __init__(self, uri: str) -> None:
        self._base = f"{uri.rstrip('/')}/api/2.0/mlflow"
        self._session = requests.Session()
        token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif user:
            self._session.auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where it is missing."""
        try:
            found = self._call("GET", "experiments/get-by-name", {"experiment_name": name})
            return str(found["experiment"]["experiment_id"])
        except MlflowError as error:
            if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                raise
        return str(self._call("POST", "experiments/create", {"name": name})["experiment_id"])

    def create_run(self, experiment: str, name: str, at: float, tags: Mapping[str, str]) -> str:
        """Begin a run; its id. ``at`` is in seconds since the epoch, as all times here."""
        body = {"experiment_id": experiment, "run_name": name, "start_time": _ms(at), "tags": _pairs(tags)}
        return str(self._call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def log(
        self, run: str, params: Mapping[str, object], metrics: Sequence[tuple[str, float, float, int]] = ()
    ) -> None:
        """Note parameters and metrics of a run.

        Args:
            run: Its id.
            params: By name.
            metrics: Name, value, time and step of each.
        """
        told = [{"key": name, "value": value, "timestamp": _ms(at), "step": step} for name, value, at, step in metrics]
        for start in range(0, max(1, len(told)), _MOST_METRICS):
            some = told[start : start + _MOST_METRICS]
            self._call("POST", "runs/log-batch", {"run_id": run, "params": _pairs(params), "metrics": some})

    def end_run(self, run: str, status: str, at: float) -> None:
        """End a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._call("POST", "runs/update", {"run_id": run, "status": status, "end_time": _ms(at)})

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _call(self, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        sent: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        try:
            answer = self._session.request(method, f"{self._base}/{path}", timeout=_TIMEOUT, **sent)
            body = answer.json()
        except requests.JSONDecodeError as error:
            raise MlflowError(f"{self._base} answers {path} with {answer.status_code} and no JSON") from error
        except requests.RequestException as error:
            raise MlflowError(f"{self._base} does not answer ({type(error).__name__})") from error
        if not answer.ok:
            raise MlflowError(f"{path}: {body.get('error_code', answer.status_code)}: {body.get('message', '')}"[:300])
        return dict(body)


def _pairs(fields: Mapping[str, object]) -> list[dict[str, str]]:
    return [{"key": name, "value": str(value)} for name, value in fields.items()]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
