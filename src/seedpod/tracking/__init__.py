"""Who else keeps track of a search, where the settings name them: TensorBoard's files, an MLflow server."""

from pathlib import Path

from seedpod.config import OptimizationConfig
from seedpod.errors import ConfigError
from seedpod.events import RunLog


def trackers(config: OptimizationConfig, folder: Path) -> list[RunLog]:
    """What the settings ask for.

    Args:
        config: ``tensorboard`` and ``mlflow_tracking_uri``.
        folder: The run's.

    Raises:
        ConfigError: What one of them needs is not installed.
    """
    found: list[RunLog] = []
    if config.tensorboard:
        try:
            from seedpod.tracking.tensorboard import TensorBoardLog
        except ImportError as error:
            raise ConfigError(
                f"tensorboard=true needs TensorBoard ({error}): pip install 'seedpod[tensorboard]'"
            ) from error
        found.append(TensorBoardLog(folder / "tensorboard"))
    if config.mlflow_tracking_uri:
        from seedpod.tracking.mlflow import MlflowLog

        found.append(MlflowLog(config.mlflow_tracking_uri, folder.name))
    return found
