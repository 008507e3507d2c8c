"""Real networks that were made ill in one way: that component falls, and the others stay. Keras is elsewhere."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samples import on_digits
from seedpod.health import COMPONENTS, Health, LayerHealth, advice
from seedpod.training.child import PoolLimits
from seedpod.training.pool import TrainerPool
from seedpod.trial import ParamValue, TrialProgress

pytestmark = pytest.mark.processes

# Every warning is an error but one, which Keras 3.15 causes inside itself on torch.
WARNINGS = "error,ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
TESTS = Path(__file__).parents[1]
WELL: dict[str, ParamValue] = {
    "activation": "relu",
    "learning_rate": 2e-3,
    "epochs": 12,
    "batch_size": 32,
    "images": 2000,
    "noise": False,
    "depth": 0,
    "harm": "",
}
STAYS = 0.12
"""How far a component of an ill network may be from that of the well one, where it is not the ill one."""


class Clinic:
    def __init__(self, cache_dir: Path) -> None:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": WARNINGS}
        trainer, limits = "ill_networks:make", PoolLimits(trials=100)
        self.pool = TrainerPool(1, cache_dir, limits=limits, trainer=trainer, environment=environment, standby=0)
        self._spec = on_digits(cache_dir, params={}, seed=3, split_seed=3, max_epochs=1, max_parameters=1)
        self._known: dict[str, Health] = {}

    def look(self, **changes: ParamValue) -> Health:
        params = WELL | changes
        spec = replace(self._spec, params=params)
        if spec.uid not in self._known:
            health = self.pool.run(spec, ignore).health
            assert health is not None
            self._known[spec.uid] = health
        return self._known[spec.uid]


def ignore(_: TrialProgress) -> None:
    pass


@pytest.fixture(name="clinic", scope="module")
def one_clinic(digits_cache: Path) -> Iterator[Clinic]:
    clinic = Clinic(digits_cache)
    with clinic.pool:
        yield clinic


def assert_only(ill: str, health: Health, well: Health, *, also: tuple[str, ...] = ()) -> None:
    fell = {name: well.components[name] - health.components[name] for name in COMPONENTS}
    assert fell[ill] > 0.3, str(fell)
    assert all(change < STAYS for name, change in fell.items() if name not in {ill, *also}), str(fell)
    assert health.overall < well.overall


def layer(health: Health, name: str) -> LayerHealth:
    return next(layer for layer in health.layers if layer.name == name)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "tanh"])
def test_well(clinic: Clinic, activation: str) -> None:
    """A sensible network is healthy in every component, whatever its activation; its layers have names and norms."""
    health = clinic.look(activation=activation)
    # Seen with TensorFlow, JAX and PyTorch: 0.62 to 0.72 of ReLUs live, all else from 0.85, overall from 0.93.
    least = {"live_units": 0.6 if activation == "relu" else 0.95}
    assert all(value >= least.get(name, 0.8) for name, value in health.components.items()), health.components
    assert health.overall >= 0.92
    assert [layer.name for layer in health.layers] == ["conv_1", "conv_2", "dense_1", "output"]
    assert [layer.units for layer in health.layers] == [16, 32, 32, 0]
    assert all(layer.gradient and layer.update for layer in health.layers)


def test_dead_by_bias(clinic: Clinic) -> None:
    """ReLUs whose bias lets them never fire are dead, are counted in their layer, and are told with what may help."""
    health = clinic.look(harm="no_bias_lets_them_fire")
    assert_only("live_units", health, clinic.look())
    assert layer(health, "conv_2").dead >= 24
    assert layer(health, "conv_1") == replace(layer(clinic.look(), "conv_1"), gradient=layer(health, "conv_1").gradient)
    (said,) = [line for line in advice(health, WELL) if "conv_2" in line]
    dead = layer(health, "conv_2").dead
    assert said == f"{dead} of 32 units of conv_2 never fire: a smaller learning rate or leaky_relu"


def test_saturated(clinic: Clinic) -> None:
    """Neurons that work where their activation is flat are saturated, not dead."""
    health = clinic.look(activation="tanh", harm="far_out")
    assert_only("unsaturated_units", health, clinic.look(activation="tanh"))
    assert layer(health, "dense_1").saturated >= 20
    assert any("units of dense_1 pass nearly no gradient" in line for line in advice(health, WELL))


def test_gradients_vanish_by_depth(clinic: Clinic) -> None:
    """Through many sigmoid layers the gradient vanishes, though their units are neither dead nor saturated."""
    health = clinic.look(activation="sigmoid", depth=6, epochs=1, learning_rate=1e-6)
    assert health.components["gradient_flow"] <= 0.3
    assert health.components["live_units"] >= 0.9
    assert health.components["unsaturated_units"] >= 0.9
    norms = [layer.gradient or 0.0 for layer in health.layers]
    assert norms[0] < norms[3] < norms[5]
    assert any("times smaller than that of" in line for line in advice(health, WELL))


def test_gradients_vanish_by_saturation(clinic: Clinic) -> None:
    """Through few layers that are saturated it vanishes too, and they are told as such."""
    well, health = (clinic.look(activation="tanh", depth=6, epochs=4, harm=harm) for harm in ("", "all_far_out"))
    assert well.components["gradient_flow"] >= 0.9
    assert health.components["gradient_flow"] <= 0.5
    assert health.components["unsaturated_units"] <= 0.6


def test_a_rate_that_is_too_high(clinic: Clinic) -> None:
    """A loss that has blown up is unstable; units, which an activation without a dead side keeps, stay alive."""
    health = clinic.look(activation="leaky_relu", learning_rate=0.5, epochs=6)
    well = clinic.look(activation="leaky_relu")
    assert_only("loss_stability", health, well, also=("update_ratio", "convergence", "unsaturated_units"))


def test_steps_that_are_too_small(clinic: Clinic) -> None:
    """Steps of a ten-millionth of the weights are told from those of a thousandth; such a network learns nothing."""
    health = clinic.look(activation="leaky_relu", learning_rate=1e-8, epochs=4)
    assert_only("update_ratio", health, clinic.look(activation="leaky_relu"), also=("convergence",))
    assert health.components["convergence"] == 0.0
    assert any("of its size a step: a higher learning rate" in line for line in advice(health, WELL))


def test_overfitting(clinic: Clinic) -> None:
    """A network that knows 100 images with labels by chance by heart does not generalize."""
    health = clinic.look(images=100, noise=True, epochs=60, batch_size=20, learning_rate=5e-3, activation="leaky_relu")
    assert_only("generalization", health, clinic.look(activation="leaky_relu"))
    assert health.components["generalization"] == 0.0
    assert any("at least 30 points above validation accuracy" in line for line in advice(health, WELL))


def test_not_converged(clinic: Clinic) -> None:
    """A network that stopped while its loss fell fast has not converged."""
    health = clinic.look(epochs=4, learning_rate=1e-4)
    assert_only("convergence", health, clinic.look())
    assert any("more epochs" in line for line in advice(health, WELL))
