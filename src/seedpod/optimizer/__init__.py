"""One search, from its settings to its results: the composition of the other rooms."""

from seedpod.optimizer.finishing import Finisher
from seedpod.optimizer.model_optimizer import MakeBackend, ModelOptimizer

__all__ = ["Finisher", "MakeBackend", "ModelOptimizer"]
