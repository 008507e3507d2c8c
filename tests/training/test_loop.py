"""The training loop beside Keras's own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from seedpod.training.runtime import configure_environment
from seedpod.trial import ParamValue

pytestmark = pytest.mark.processes

HERE = Path(__file__).parent
LONG = 8_000_000
NORMALIZED: dict[str, ParamValue] = {
    "conv_blocks": 2,
    "filters_1": 8,
    "normalization": "batch",
    "residual": True,
    "dropout": 0.3,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "one_cycle",
}
SMOOTHED: dict[str, ParamValue] = {
    "dense_layers": 1,
    "dense_units_0": 8,
    "label_smoothing": 0.1,
    "optimizer": "rmsprop",
    "schedule": "cosine",
    "warmup": 0.2,
}
LAYERED: dict[str, ParamValue] = {"normalization": "layer", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01}
LION: dict[str, ParamValue] = {"optimizer": "lion", "weight_decay": 0.01, "activation": "swish", "global_pooling": True}


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="elsewhere it is Keras's own")
@pytest.mark.parametrize(
    ("params", "execution_bytes"),
    [
        pytest.param(NORMALIZED, LONG, id="normalized"),
        pytest.param(SMOOTHED, 2000, id="smoothed, short executions"),
        pytest.param(LAYERED, LONG, id="layered", marks=pytest.mark.slow),
        pytest.param(LION, LONG, id="lion", marks=pytest.mark.slow),
    ],
)
def test_the_numbers_are_those_of_fit(params: dict[str, ParamValue], execution_bytes: int) -> None:
    """Weights, the optimizer's state and what each epoch is told of are ``fit``'s to the last bit."""
    program = f"""
        from seedpod.training.runtime import configure_backend
        configure_backend()
        import loop_beside_fit
        loop_beside_fit.main({params!r}, {execution_bytes})
    """
    environment = configure_environment({**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"})
    words = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found["loop"]["epochs"]) == 2
    assert found["loop"] == found["fit"]
