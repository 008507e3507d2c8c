"""The search space: which hyperparameters a trial may have, for images of a given size."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from seedpod.trial import ParamValue

ACTIVATIONS = ("relu", "leaky_relu", "swish", "gelu")
INITIALIZERS = ("glorot_uniform", "he_normal", "he_uniform")
OPTIMIZERS = ("adam", "rmsprop", "sgd")
POOLINGS = ("max", "average")
BATCH_SIZES = (32, 64, 128, 256)
MOST_CONV_LAYERS = 4


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The ranges of one search. Every configuration it suggests can be built.

    Attributes:
        image_shape: Height, width, channels.
        train_images: Images that a trial trains on; no batch is larger.
        epochs: Fewest and most epochs of a trial.
        activations: The activations to search among.
    """

    image_shape: tuple[int, int, int]
    train_images: int
    epochs: tuple[int, int]
    activations: Sequence[str] = ACTIVATIONS

    def sensible(self) -> dict[str, ParamValue]:
        """What one would try first: two or fewer convolutions with batch normalisation and Adam, as long as allowed."""
        most_layers = min(2, MOST_CONV_LAYERS, min(self.image_shape[:2]).bit_length() - 1)
        preferred = 128 if self.train_images >= 10_000 else BATCH_SIZES[0]
        batch_size = max((size for size in BATCH_SIZES if size <= min(preferred, self.train_images)), default=0)
        return {
            "conv_layers": most_layers,
            **{f"filters_{layer}": filters for layer, filters in zip(range(most_layers), (32, 64), strict=False)},
            "kernel_size": 3 if min(self.image_shape[:2]) >= 3 else 1,
            "activation": self.activations[0],
            "initializer": "he_uniform",
            "batch_norm": True,
            "pooling": "max",
            "global_pooling": False,
            "dense_layers": 1,
            "dense_units_0": 128,
            "dropout": 0.25,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "batch_size": batch_size or self.train_images,
            "epochs": self.epochs[1],
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, ParamValue]:
        """Ask for one value of each hyperparameter; the names are those that ``build_model`` reads."""
        side = min(self.image_shape[:2])
        # Every convolution is followed by a pooling that halves the image, and a pooling needs two pixels.
        most_layers = min(MOST_CONV_LAYERS, side.bit_length() - 1)
        params: dict[str, ParamValue] = {"conv_layers": trial.suggest_int("conv_layers", 1, most_layers)}
        for layer in range(int(params["conv_layers"])):
            most = 32 if layer == 0 else 64  # the first layer sees the whole image and costs the most
            params[f"filters_{layer}"] = trial.suggest_int(f"filters_{layer}", 8, most, step=8)
        kernels = [size for size in (3, 5) if size <= side] or [1]
        params["kernel_size"] = trial.suggest_categorical("kernel_size", kernels)
        params["activation"] = trial.suggest_categorical("activation", list(self.activations))
        params["initializer"] = trial.suggest_categorical("initializer", INITIALIZERS)
        params["batch_norm"] = trial.suggest_categorical("batch_norm", [False, True])
        params["pooling"] = trial.suggest_categorical("pooling", POOLINGS)
        params["global_pooling"] = trial.suggest_categorical("global_pooling", [False, True])
        params["dense_layers"] = trial.suggest_int("dense_layers", 0, 2)
        for layer in range(int(params["dense_layers"])):
            params[f"dense_units_{layer}"] = trial.suggest_int(f"dense_units_{layer}", 32, 256, step=32)
        params["dropout"] = trial.suggest_float("dropout", 0.0, 0.5)
        params["optimizer"] = trial.suggest_categorical("optimizer", OPTIMIZERS)
        params["learning_rate"] = trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True)
        sizes = [size for size in BATCH_SIZES if size <= self.train_images] or [self.train_images]
        params["batch_size"] = trial.suggest_categorical("batch_size", sizes)
        params["epochs"] = trial.suggest_int("epochs", *self.epochs)
        return params
