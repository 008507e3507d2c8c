"""How healthy a trained network is: seven components from 0 to 1, what each layer shows, and advice in words.

What the components mean and how they are computed: ``seedpod.training.health``.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

COMPONENTS: Mapping[str, str] = {
    "live_units": "share of units that depend on the image, in the worst layer",
    "unsaturated_units": "share of units that pass a gradient, in the worst layer",
    "gradient_flow": "how little the layers' gradients differ in size",
    "update_ratio": "how near each layer's steps are to a thousandth of its weights",
    "loss_stability": "how little the training loss has risen again",
    "generalization": "how little training accuracy is above validation accuracy",
    "convergence": "how little the training loss still fell at the end",
}
"""Every component and what it says, in a line; higher is healthier."""

USUAL_UPDATE = 1e-3
"""Size of a step beside that of the weights, per step, in networks that learn well."""
WIDEST_GAP = 0.3
"""Training accuracy above validation accuracy at which generalization is 0."""
ADVISED = 0.75
"""Component under which there is advice."""
_LONGEST_NAME = 40  # characters
HEALTHY = "nothing stands out"
"""What is said where there is no advice."""


@dataclass(frozen=True, slots=True)
class LayerHealth:
    """One layer with a kernel.

    Attributes:
        name: ``conv_1``, ``dense_2``, ``output`` and so on, in the order of the network.
        units: Channels or neurons behind its activation; 0 where none follows.
        dead: Units that give the same for every image of the probe.
        saturated: Units, dead ones aside, that pass nearly no gradient for nearly all images.
        gradient: Norm of the loss's gradient by its weights; None where that is not finite.
        update: Norm of one training step by that of its kernel; None where that is not finite.
    """

    name: str
    units: int
    dead: int
    saturated: int
    gradient: float | None
    update: float | None

    def __post_init__(self) -> None:
        counts = (self.units, self.dead, self.saturated)
        if not all(type(count) is int and count >= 0 for count in counts) or self.dead + self.saturated > self.units:
            raise ValueError(f"{self.name!r:.40}: {counts!r:.80} are no units")
        named = isinstance(self.name, str) and self.name.isidentifier() and len(self.name) <= _LONGEST_NAME
        if not named or not all(_is_size(x) for x in (self.gradient, self.update)):
            raise ValueError(f"{self.name!r:.40}: no layer")


@dataclass(frozen=True, slots=True)
class Health:
    """What an examination of a trained network has found.

    Attributes:
        components: Value in [0, 1] of each of ``COMPONENTS``.
        layers: Its layers with a kernel, the first one first; of several folds those of the last.
    """

    components: Mapping[str, float]
    layers: tuple[LayerHealth, ...] = ()

    def __post_init__(self) -> None:
        if list(self.components) != list(COMPONENTS) or not all(_is_share(x) for x in self.components.values()):
            raise ValueError(f"{dict(self.components)!r:.200} are no components of health")

    @property
    def overall(self) -> float:
        """The arithmetic mean of the components: each illness counts alike, whatever the others do."""
        return statistics.fmean(self.components.values())

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it, some 100 bytes a layer."""
        return {
            "overall": self.overall,
            "components": dict(self.components),
            "layers": [asdict(layer) for layer in self.layers],
        }

    @classmethod
    def from_plain(cls, data: Any) -> Self:
        """Read it back; raises ValueError, TypeError or KeyError where it is none."""
        if set(data) != {"overall", "components", "layers"}:
            raise ValueError("fields of a health are overall, components, layers")
        given = data["components"]
        components = {name: given[name] for name in COMPONENTS} | given  # in our order, and nothing is lost
        return cls(components, tuple(LayerHealth(**layer) for layer in data["layers"]))


def mean_health(folds: Sequence[Health]) -> Health:
    """The health of a trial of several folds: the mean of each component, and the layers of the last fold."""
    means = {name: statistics.fmean(fold.components[name] for fold in folds) for name in COMPONENTS}
    return Health(means, folds[-1].layers)


def weighed(value: float, health: Health, weight: float) -> float:
    """What ``mode=health`` optimizes: (1 - weight) times the objective and weight times the health, in [0, 1]."""
    return (1 - weight) * value + weight * health.overall


def advice(health: Health, params: Mapping[str, bool | int | float | str]) -> tuple[str, ...]:
    """What is ill and what may help, the worst first; empty where nothing stands out.

    Args:
        health: Of a trained network.
        params: Its hyperparameters: nothing is advised that it has already.
    """
    ill = sorted((name for name in COMPONENTS if health.components[name] < ADVISED), key=health.components.__getitem__)
    known = (name for name in ill if health.layers or name not in _BY_LAYER)
    return tuple(line for name in known for line in _ADVISERS[name](health, params))


Params = Mapping[str, bool | int | float | str]


def _on_live_units(health: Health, params: Params) -> Iterator[str]:
    layer = max(health.layers, key=lambda layer: layer.dead / max(1, layer.units))
    relu = params.get("activation") == "relu"
    what = "never fire" if relu else "give the same for every image"
    help_ = "a smaller learning rate or leaky_relu" if relu else "a smaller learning rate or fewer units"
    yield f"{_of_units(layer.dead, layer)} {what}: {help_}"


def _on_unsaturated_units(health: Health, params: Params) -> Iterator[str]:
    layer = max(health.layers, key=lambda layer: layer.saturated / max(1, layer.units - layer.dead))
    helps = ["a smaller learning rate", *_normalization(params)]
    yield f"{_of_units(layer.saturated, layer)} pass nearly no gradient: {' or '.join(helps)}"


def _on_gradient_flow(health: Health, params: Params) -> Iterator[str]:
    known = [(layer.gradient, layer.name) for layer in health.layers if layer.gradient is not None]
    if len(known) < len(health.layers):
        yield "gradients are beyond every number: a smaller learning rate"
        return
    (least, small), (most, large) = min(known), max(known)
    helps = ["fewer layers", *_normalization(params), *([] if params.get("residual") else ["residual blocks"])]
    if not least:
        yield f"no gradient reaches {small}: {' or '.join(helps)}"
        return
    yield f"the gradient of {small} is {most / least:,.0f} times smaller than that of {large}: {' or '.join(helps)}"


def _on_update_ratio(health: Health, _params: Params) -> Iterator[str]:
    def far(layer: LayerHealth) -> float:
        return abs(decades(layer.update, USUAL_UPDATE))

    layer = max(health.layers, key=far)
    if layer.update == 0:
        yield f"{layer.name} does not change: a higher learning rate"
    elif layer.update is not None and layer.update < USUAL_UPDATE:
        yield f"{layer.name} changes by only {layer.update:.1g} of its size a step: a higher learning rate"
    else:
        size = "beyond every number" if layer.update is None else f"by {layer.update:.0%} of its size"
        yield f"{layer.name} changes {size} with each step: a smaller learning rate"


def _on_loss_stability(_health: Health, params: Params) -> Iterator[str]:
    warm_up = "" if params.get("warmup") else ", or warm-up"
    yield f"the training loss rose far above what it had been: a smaller learning rate{warm_up}"


def _on_generalization(health: Health, params: Params) -> Iterator[str]:
    gap = (1 - health.components["generalization"]) * WIDEST_GAP
    more = "at least " if gap >= WIDEST_GAP else ""
    helps = [name for name in ("dropout", "augmentation", "weight decay") if not params.get(name.replace(" ", "_"))]
    yield (
        f"training accuracy is {more}{gap * 100:.0f} points above validation accuracy: "
        f"{', '.join([*(helps or ['more dropout']), 'a smaller network'])} or more images"
    )


def _on_convergence(_health: Health, _params: Params) -> Iterator[str]:
    yield "the training loss had not settled at the end: more epochs or another learning rate"


_ADVISERS = {
    "live_units": _on_live_units,
    "unsaturated_units": _on_unsaturated_units,
    "gradient_flow": _on_gradient_flow,
    "update_ratio": _on_update_ratio,
    "loss_stability": _on_loss_stability,
    "generalization": _on_generalization,
    "convergence": _on_convergence,
}

_BY_LAYER = frozenset({"live_units", "unsaturated_units", "gradient_flow", "update_ratio"})


def decades(value: float | None, usual: float) -> float:
    """How many powers of ten a value is above what is usual; infinite for None, minus infinite for 0."""
    if value is None:
        return math.inf
    return math.log10(value / usual) if value else -math.inf


def _of_units(count: int, layer: LayerHealth) -> str:
    return f"{count} of {layer.units} units of {layer.name}"


def _normalization(params: Params) -> list[str]:
    has = params.get("batch_norm") or params.get("normalization", "none") != "none"
    return [] if has else ["normalization"]


def _is_share(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < math.inf)
