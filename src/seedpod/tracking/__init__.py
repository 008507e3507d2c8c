"""Who else keeps track of a search, where the settings name them: TensorBoard's files, an MLflow server."""

from pathlib import Path

from seedpod.config import OptimizationConfig
from seedpod.events import RunLog
from seedpod.extras import require


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
        require("tensorboard=true", ("tensorboard",), ("tensorboard",))
        from seedpod.tracking.tensorboard import TensorBoardLog

        found.append(TensorBoardLog(folder / "tensorboard"))
    if config.mlflow_tracking_uri:
        from seedpod.tracking.mlflow import MlflowLog

        found.append(MlflowLog(config.mlflow_tracking_uri, folder.name))
    return found
