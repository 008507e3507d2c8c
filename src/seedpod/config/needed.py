"""What the settings need that not every installation has. It is asked for before anything runs or is written."""

from collections.abc import Iterator

from seedpod.config.settings import OptimizationConfig
from seedpod.extras import EXPORTS, require_all

SAMPLERS = {"gp": (("torch",), ()), "cmaes": (("cmaes",), ("samplers",))}
"""Packages of samplers, and the extras that bring them."""

_Need = tuple[str, tuple[str, ...], tuple[str, ...]]  # what needs it, packages, extras


def require_for_search(config: OptimizationConfig) -> None:
    """Raise ConfigError, a line for each thing that a search with its final model and report would lack."""
    require_all([*_of_search(config), *_of_final_model(config), *_of_report(config)])


def require_for_final_model(config: OptimizationConfig) -> None:
    """Raise ConfigError, a line for each thing that the final model and the report of a run would lack."""
    require_all([*_of_final_model(config), *_of_report(config)])


def require_for_report(config: OptimizationConfig) -> None:
    """Raise ConfigError where the report of a run would lack what it is asked for."""
    require_all([*_of_report(config)])


def _of_search(config: OptimizationConfig) -> Iterator[_Need]:
    if config.sampler in SAMPLERS:
        yield f"sampler={config.sampler}", *SAMPLERS[config.sampler]
    if config.tensorboard:
        yield "tensorboard=true", ("tensorboard",), ("tensorboard",)
    if config.dataset.casefold().endswith(".parquet"):
        yield f"dataset={config.dataset}", ("pyarrow",), ("parquet",)
    if config.storage.startswith("postgres"):
        yield "storage=postgresql://...", ("psycopg",), ("postgres",)
    if config.storage.startswith("grpc"):
        yield "storage=grpc://...", ("grpc",), ()
    if config.dashboard == "web":
        yield "dashboard=web", ("aiohttp",), ("web",)
    if config.use_runpod_service and config.runpod_service_endpoint == "local":
        yield "runpod_service_endpoint=local", ("aiohttp", "runpod"), ("endpoint", "worker")
    if config.data_store and config.use_runpod_service and config.own_images:
        yield "data_store", ("boto3",), ("s3",)


def _of_final_model(config: OptimizationConfig) -> Iterator[_Need]:
    if config.final_model != "none":
        for each in config.export:
            yield f"export={each}", *EXPORTS[each]
    if config.final_on == "remote":
        yield "final_on=remote", ("boto3",), ("s3",)


def _of_report(config: OptimizationConfig) -> Iterator[_Need]:
    if config.report == "png":
        yield "report=png", ("matplotlib",), ("report",)
