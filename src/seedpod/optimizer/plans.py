"""What follows from the settings of a search: trials at once, lag, space, specs."""

from seedpod.config import OptimizationConfig
from seedpod.search.enqueued import place
from seedpod.search.proposals import Proposals
from seedpod.search.space import MIRRORED, Images, Params, SearchSpace
from seedpod.search.space_file import Definition
from seedpod.training.datasets import DatasetInfo
from seedpod.training.network import read_network
from seedpod.training.runtime import usable_cores
from seedpod.trial import ParamValue, TrialSpec


def local_workers(config: OptimizationConfig) -> int:
    """Trials at once on this machine: as asked, or as the cores and a reproducible search allow."""
    if config.local_workers != "auto":
        return config.local_workers
    cores = usable_cores()
    return min(cores, config.search_lag) if config.reproducible and config.search_lag != "auto" else cores


def lag_of(config: OptimizationConfig) -> int | None:
    """The lag that these settings ask for; by them alone, wherever trials come to run in the end."""
    if not config.reproducible:
        return None
    if config.search_lag != "auto":
        return config.search_lag
    if not config.use_runpod_service:
        return local_workers(config)
    return config.concurrent_workers if config.concurrent else 1


def held_out(config: OptimizationConfig) -> float:
    """Share of the training images that judges a trial, or each of its folds."""
    return config.validation_split if config.cv_folds == 1 else 1 / config.cv_folds


def proposals_of(
    config: OptimizationConfig, data: DatasetInfo, definition: Definition, enqueued: list[Params]
) -> Proposals:
    """What the trials of a search try, on its images.

    Raises:
        ConfigError: The space, or what is enqueued, does not fit the images or each other.
    """
    images = Images(
        shape=data.image_shape,
        train=int(sum(data.train_counts) * (1 - held_out(config))),
        epochs=(config.min_epochs_per_trial, config.max_epochs_per_trial),
        mirrored=data.id in MIRRORED,
    )
    space, classes = SearchSpace(definition, images), len(data.class_names)
    return Proposals(
        space,
        enqueued=place(enqueued, space, config.enqueue),
        sampler=config.sampler,
        seed=config.random_seed,
        trials=config.trials,
        fits=lambda params: (
            read_network(params, images.shape).parameters(images.shape, classes) <= config.max_parameters
        ),
    )


def spec_of(config: OptimizationConfig, number: int, params: dict[str, ParamValue], data: DatasetInfo) -> TrialSpec:
    """All that decides the result of one trial."""
    return TrialSpec(
        number=number,
        dataset=data.id,
        fingerprint=data.fingerprint,
        params=params,
        seed=config.random_seed + number,
        split_seed=config.random_seed,
        objectives=tuple(objective.name for objective in config.objectives),
        max_epochs=int(params["epochs"]),
        min_epochs=config.min_epochs_per_trial,
        validation_split=config.validation_split,
        max_parameters=config.max_parameters,
        max_seconds=config.max_training_time_minutes * 60,
        cv_folds=config.cv_folds,
        max_model_mb=config.max_model_mb,
        min_accuracy=config.min_accuracy_threshold,
        min_accuracy_epochs=config.min_accuracy_epochs,
        class_weights=config.class_weights,
    )
