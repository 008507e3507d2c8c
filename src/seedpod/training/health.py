"""The definitions of health: what is seen of a trained network -> components from 0 to 1. Without Keras.

A network is examined once, after training, with the weights that training ended with, and not with those of the best
epoch: a divergence, dead units or overfitting come late, and the best epoch would hide them. What its layers show comes
from ``seedpod.training.probe``; the rest is in the history.

Each limit below is where an illness begins, or is as bad as it gets; between the two the component falls in a straight
line, for layers by powers of ten.
"""

import math
from collections.abc import Mapping, Sequence

from seedpod.health import USUAL_UPDATE, WIDEST_GAP, Health, LayerHealth, decades

USUAL_SPREAD, WORST_SPREAD = 1.5, 4.0
"""Powers of ten between the largest and the smallest gradient of a layer that begin to be an illness, and are one."""
USUAL_STRAY, WORST_STRAY = 1.0, 3.0
"""Powers of ten between a step and the usual one."""
UNTRAINED = 2.0
"""Loss of an untrained network at most, as a multiple of that of guessing: its first scores are not all alike."""
WORST_RISE = 0.5
"""Rise of the training loss, as a share of the loss of guessing."""
LEARNED = 0.1
"""Share of the loss of guessing that a network must have lost to have learned anything."""
LAST_SHARE = 5
"""One in so many epochs are the last ones, which show whether training has settled."""

Row = Mapping[str, float]


def health_of(layers: Sequence[LayerHealth], history: Sequence[Row], classes: int) -> Health:
    """The health of one network.

    Args:
        layers: What its layers show, see ``probe.look``.
        history: What was measured after each epoch: ``loss``, ``accuracy`` and ``val_accuracy`` are read.
        classes: Number of classes.
    """
    losses = [math.log(classes), *(row["loss"] for row in history)]
    values = {
        "live_units": live_units(layers),
        "unsaturated_units": unsaturated_units(layers),
        "gradient_flow": gradient_flow(layers),
        "update_ratio": update_ratio(layers),
        "loss_stability": loss_stability(losses),
        "generalization": generalization(history[-1]["accuracy"], history[-1]["val_accuracy"]),
        "convergence": convergence(losses),
    }
    return Health({name: round(value, 6) for name, value in values.items()}, tuple(layers))


def live_units(layers: Sequence[LayerHealth]) -> float:
    """Share of units that are not dead, in the layer where it is smallest: what it does not pass, none can bring back.

    A dead unit gives the same for every image, and its weights no longer learn. Lu et al., "Dying ReLU and
    Initialization: Theory and Numerical Examples", 2019 (arXiv:1903.06733).
    """
    return min((1 - layer.dead / layer.units for layer in layers if layer.units), default=1.0)


def unsaturated_units(layers: Sequence[LayerHealth]) -> float:
    """Share of the units that live which are not saturated, in the layer where it is smallest.

    A saturated unit answers, but its activation is so flat where it works that hardly any gradient passes. Glorot and
    Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010; Rakitianskaia and
    Engelbrecht, "Measuring Saturation in Neural Networks", 2015.
    """
    living = [(layer.saturated, layer.units - layer.dead) for layer in layers]
    return min((1 - saturated / units for saturated, units in living if units), default=1.0)


def gradient_flow(layers: Sequence[LayerHealth]) -> float:
    """1 where the largest gradient norm of a layer is up to 10^1.5 times the smallest; 0 from 10^4 times on, where one
    is not finite, or where one is 0 and another is not.

    Vanishing and exploding gradients change by a factor with each layer, so their norms drift apart by powers of ten:
    Bengio et al., "Learning Long-Term Dependencies with Gradient Descent is Difficult", 1994; measured layer by layer
    as Glorot and Bengio, 2010, have it. A network without any gradient has nothing left to learn from the probe: 1.
    """
    norms = [layer.gradient for layer in layers]
    known = [norm for norm in norms if norm is not None]
    if len(known) < len(norms):
        return 0.0
    if not max(known, default=0.0):
        return 1.0
    return _falling(decades(max(known), 1.0) - decades(min(known), 1.0), USUAL_SPREAD, WORST_SPREAD)


def update_ratio(layers: Sequence[LayerHealth]) -> float:
    """1 where a step changes the kernel of each layer by 10^-4 to 10^-2 of its norm; 0 where it changes that of one by
    less than 10^-6, or by more than all of it.

    A step of about a thousandth of the weights is what networks that learn well show: Karpathy, CS231n course notes,
    "Neural Networks Part 3: Ratio of weights:updates"; You et al., "Large Batch Training of Convolutional Networks",
    2017 (arXiv:1708.03888), have the ratio of weights and gradients by layer.
    """
    strays = [abs(decades(layer.update, USUAL_UPDATE)) for layer in layers]
    return _falling(max(strays, default=0.0), USUAL_STRAY, WORST_STRAY)


def loss_stability(losses: Sequence[float]) -> float:
    """1 minus the deepest relapse of the training loss, as a share of half the loss of guessing, at least 0.

    A relapse is how far the loss rises above the lowest that it had before, as the drawdown of a price; the sum of all
    rises would grow with the number of epochs. Before the first epoch stands twice the loss of guessing, above which no
    untrained network begins. A rate that is too high makes the loss rise: Goodfellow, Bengio and Courville, "Deep
    Learning", 2016, section 11.4.1.

    Args:
        losses: That of guessing, ln(classes), and the mean training loss of each epoch.
    """
    lowest, deepest = losses[0] * UNTRAINED, 0.0
    for loss in losses[1:]:
        lowest = min(lowest, loss)
        deepest = max(deepest, loss - lowest)
    return _falling(deepest / losses[0], 0.0, WORST_RISE)


def generalization(train_accuracy: float, val_accuracy: float) -> float:
    """1 where the last epoch's validation accuracy is the training accuracy or more, 0 where it is 0.3 or more below.

    The generalization gap: Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 5.2. The training accuracy
    is the mean over the epoch, with dropout and augmentation, so the gap of the last weights is rather larger.
    """
    return _falling(train_accuracy - val_accuracy, 0.0, WIDEST_GAP)


def convergence(losses: Sequence[float]) -> float:
    """1 minus the progress an epoch in the last fifth of the epochs, as a share of the mean progress an epoch.

    Progress is how far the lowest training loss so far is below that of guessing. A loss that falls in a straight line
    to its end has not converged at all (0), as one epoch alone has not; one that has settled has (1). A network that
    has lost less than a tenth of the loss of guessing has learned too little to settle: its component is scaled down.
    After Prechelt, "Early Stopping - But When?", 1998, whose training progress is taken over a strip of epochs.

    Args:
        losses: See ``loss_stability``.
    """
    epochs = len(losses) - 1
    last = max(1, epochs // LAST_SHARE)
    gained = losses[0] - min(losses)
    before = losses[0] - min(losses[: epochs + 1 - last])
    if gained <= 0:
        return 0.0
    pace = ((gained - before) / last) / (gained / epochs)
    return _falling(pace, 0.0, 1.0) * min(1.0, gained / losses[0] / LEARNED)


def _falling(value: float, usual: float, worst: float) -> float:
    """1 up to what is usual, 0 from the worst on, a straight line between."""
    return min(1.0, max(0.0, (worst - value) / (worst - usual)))
