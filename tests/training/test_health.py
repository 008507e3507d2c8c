"""The definitions of health, by numbers that can be reckoned by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from seedpod.health import COMPONENTS, Health, LayerHealth, advice, mean_health, weighed
from seedpod.training.health import (
    convergence,
    generalization,
    gradient_flow,
    health_of,
    live_units,
    loss_stability,
    unsaturated_units,
    update_ratio,
)

LAYER = LayerHealth("conv_1", 64, 0, 0, 0.1, 1e-3)
GUESSING = math.log(10)
WELL = dict.fromkeys(COMPONENTS, 1.0)


def layers(**columns: list[Any]) -> list[LayerHealth]:
    rows = zip(*columns.values(), strict=True)
    return [replace(LAYER, name=f"conv_{n}", **dict(zip(columns, row, strict=True))) for n, row in enumerate(rows, 1)]


def test_units_of_the_worst_layer_count() -> None:
    """Dead and saturated units are shares of the worst layer's; dead ones are not saturated; layers without units are
    left out, and no layer at all is well.
    """
    some = [*layers(dead=[16, 32], saturated=[24, 0]), LayerHealth("output", 0, 0, 0, 0.1, 1e-3)]
    assert live_units(some) == 0.5
    assert unsaturated_units(some) == 0.5
    assert unsaturated_units(layers(dead=[64])) == 1.0
    assert (live_units([]), unsaturated_units([]), gradient_flow([]), update_ratio([])) == (1.0,) * 4


@pytest.mark.parametrize(
    ("gradients", "value"),
    [
        ([1.0, 30.0], 1.0),
        ([1e-3, 1e-3 * 10**2.75], 0.5),
        ([10.0, 1e-4], 0.0),
        ([0.0, 1e-9], 0.0),
        ([0.0, 0.0], 1.0),
        ([None, 1.0], 0.0),
    ],
)
def test_gradient_flow(gradients: list[float | None], value: float) -> None:
    """It is one within a factor of 30, nothing from 10,000 on, whatever the layer; and nothing where one is lacking."""
    for order in (gradients, gradients[::-1]):
        assert gradient_flow(layers(gradient=order)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("update", "value"),
    [(1e-3, 1.0), (1e-4, 1.0), (1e-2, 1.0), (1e-1, 0.5), (1.0, 0.0), (1e-6, 0.0), (0.0, 0.0), (None, 0.0)],
)
def test_update_ratio(update: float | None, value: float) -> None:
    """The layer whose steps are farthest from a thousandth of its weights counts, in powers of ten."""
    assert update_ratio(layers(update=[1e-3, update])) == pytest.approx(value)


@pytest.mark.parametrize(
    ("losses", "value"),
    [
        ([2.0, 1.0, 0.5], 1.0),
        ([GUESSING * 1.9, 1.0], 1.0),
        ([1.0, 1.0 + GUESSING / 4, 0.5], 0.5),
        ([1.0, 3.0], 0.0),
        ([50.0, 2.3, 2.3], 0.0),
        ([0.1, 0.11] * 50, 1 - 0.01 / (GUESSING / 2)),
    ],
)
def test_loss_stability(losses: list[float], value: float) -> None:
    """The deepest relapse counts, a first epoch far above guessing too; many small ones do not add up."""
    assert loss_stability([GUESSING, *losses]) == pytest.approx(value)


def test_generalization() -> None:
    """A gap of 0.3 is the worst; a validation accuracy above that of training is none."""
    values = [generalization(*pair) for pair in ((0.9, 0.95), (0.9, 0.75), (0.9, 0.5))]
    assert values == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("losses", "value"),
    [
        ([1.0], 0.0),
        ([2.0, 1.5, 1.0, 0.5], 0.0),
        ([0.5, 0.1, 0.1, 0.1, 0.1], 1.0),
        ([0.5, 0.1, 0.2, 0.3, 0.2], 1.0),
        ([2.3] * 5, 0.0),
        ([GUESSING * 2, GUESSING * 2], 0.0),
        ([GUESSING * 0.99] * 5, 0.1),
    ],
)
def test_convergence(losses: list[float], value: float) -> None:
    """A loss that falls to its end has not converged, one that has settled has, and one that never fell has not."""
    assert convergence([GUESSING, *losses]) == pytest.approx(value, abs=0.015)


rows = st.fixed_dictionaries({"loss": st.floats(0, 1e30), "accuracy": st.floats(0, 1), "val_accuracy": st.floats(0, 1)})
seen = st.builds(
    LayerHealth,
    name=st.sampled_from(["conv_1", "dense_2", "output"]),
    units=st.integers(10, 99),
    dead=st.integers(0, 5),
    saturated=st.integers(0, 5),
    gradient=st.none() | st.floats(0, 1e38),
    update=st.none() | st.floats(0, 1e38),
)


@given(st.lists(seen, max_size=4), st.lists(rows, min_size=1, max_size=9), st.integers(2, 1000))
def test_any_network_has_a_health(some: list[LayerHealth], history: list[dict[str, float]], classes: int) -> None:
    """Whatever a network shows, its components are in [0, 1], their mean is the overall one, advice can be given, and
    it is the same after a way over the wire.
    """
    health = health_of(some, history, classes)
    assert 0 <= health.overall <= 1
    assert health.overall == pytest.approx(sum(health.components.values()) / len(COMPONENTS))
    assert Health.from_plain(health.to_plain()) == health
    if some:
        assert all(line.isprintable() for line in advice(health, {"activation": "relu"}))


LAYERS = (LAYER, replace(LAYER, name="dense_1", units=10, dead=10, gradient=0.0, update=0.0))


def test_folds_are_averaged() -> None:
    """Of several folds, each component is the mean, and the layers are those of the last."""
    first, last = Health(WELL, ()), Health({**WELL, "convergence": 0.0}, LAYERS)
    assert mean_health([first, last]) == Health({**WELL, "convergence": 0.5}, LAYERS)


def test_weighed() -> None:
    """Objective and health together are (1 - weight) of the one and weight of the other, and stay in [0, 1]."""
    half = Health(dict.fromkeys(COMPONENTS, 0.5))
    assert weighed(1.0, half, 0.3) == pytest.approx(0.85)
    assert (weighed(0.8, half, 0.0), weighed(0.8, half, 1.0)) == (0.8, 0.5)
    result = replace(samples.RESULT, value=0.75, health=half)
    assert result.scores(0.0) == (0.75,)
    assert list(result.scores(0.2)) == [pytest.approx(0.7)]


def test_nothing_stands_out() -> None:
    """A healthy network gets no advice."""
    assert advice(Health(WELL, LAYERS), {}) == ()


@pytest.mark.parametrize(
    ("ill", "params", "said"),
    [
        (
            "live_units",
            {"activation": "relu"},
            "10 of 10 units of dense_1 never fire: a smaller learning rate or leaky_relu",
        ),
        ("live_units", {"activation": "gelu"}, "10 of 10 units of dense_1 give the same for every image"),
        ("gradient_flow", {}, "no gradient reaches dense_1: fewer layers or normalization or residual blocks"),
        ("gradient_flow", {"batch_norm": True, "residual": True}, "no gradient reaches dense_1: fewer layers"),
        ("update_ratio", {}, "dense_1 does not change: a higher learning rate"),
        ("loss_stability", {}, "a smaller learning rate, or warm-up"),
        (
            "generalization",
            {"dropout": 0.5},
            "at least 30 points above validation accuracy: augmentation, weight decay",
        ),
        ("convergence", {}, "the training loss had not settled at the end: more epochs"),
    ],
)
def test_advice(ill: str, params: dict[str, Any], said: str) -> None:
    """Advice names the layer, the numbers and what may help, but not what the network has already."""
    (line,) = advice(Health({**WELL, ill: 0.0}, LAYERS), params)
    assert said in line
    assert not line.endswith("blocks") or not params


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {"overall": 1.0, "components": {}, "layers": []},
        {"overall": 1.0, "components": {**WELL, "mood": 1.0}, "layers": []},
        {"overall": 1.0, "components": {**WELL, "convergence": 1.5}, "layers": []},
        {"overall": 1.0, "components": {**WELL, "convergence": math.nan}, "layers": []},
        {"overall": 1.0, "components": {**WELL, "convergence": True}, "layers": []},
        {"overall": 1.0, "components": WELL, "layers": [3]},
        {"overall": 1.0, "components": WELL, "layers": [{"name": "conv_1"}]},
        {"overall": 1.0, "components": WELL, "layers": [{**Health(WELL, LAYERS).to_plain()["layers"][0], "dead": 65}]},
        {
            "overall": 1.0,
            "components": WELL,
            "layers": [{**Health(WELL, LAYERS).to_plain()["layers"][0], "name": "a\nb"}],
        },
        {
            "overall": 1.0,
            "components": WELL,
            "layers": [{**Health(WELL, LAYERS).to_plain()["layers"][0], "update": -1}],
        },
    ],
)
def test_broken_healths_are_refused(broken: object) -> None:
    """What is no health is not taken for one."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        Health.from_plain(broken)
