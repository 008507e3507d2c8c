"""Optuna's figures in the words of this page: its titles in small letters, choices without Python's quotes."""

import re
from collections.abc import Mapping
from typing import Any

_QUOTED = re.compile(r"'(.*)'")
_WORDS = {
    "Trial": "trial",
    "Best Trial": "on the front",
    "Hyperparameter Importance": "share",
    "Hyperparameter": "",  # the section says it, and the names stand there
}


def reworded(figure: Mapping[str, Any]) -> dict[str, Any]:
    """The figure, in the page's words."""
    return {key: _reworded(value) for key, value in figure.items()}


def _reworded(value: Any) -> Any:
    if isinstance(value, str):
        quoted = _QUOTED.fullmatch(value)
        return quoted[1] if quoted else _WORDS.get(value, value)
    if isinstance(value, Mapping):
        return reworded(value)
    return [_reworded(each) for each in value] if isinstance(value, list) else value
