"""What TensorBoard's own reader finds in the files of a search."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from samples import SPEC
from seedpod.tracking.tensorboard import TensorBoardLog
from thread_backend import searched_here

READER = """
import json, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")  # the reader without TensorFlow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
seen = EventAccumulator(sys.argv[1]).Reload()
scalars = {tag: [(event.step, event.value) for event in seen.Scalars(tag)] for tag in seen.Tags()["scalars"]}
told = seen.PluginTagToContent("hparams")
start = metadata.parse_session_start_info_plugin_data(told[metadata.SESSION_START_INFO_TAG])
end = metadata.parse_session_end_info_plugin_data(told[metadata.SESSION_END_INFO_TAG])
print(json.dumps([scalars, {name: kept.WhichOneof("kind") for name, kept in start.hparams.items()}, end.status]))
"""


def read(folder: Path) -> Any:
    done = subprocess.run([sys.executable, "-c", READER, str(folder)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_epoch_of_every_trial_is_there(tmp_path: Path, digits_cache: Path) -> None:
    """TensorBoard reads each trial's metrics at each epoch once, its hyperparameters, its value, and that it ended."""
    searched_here(tmp_path, digits_cache, trials=2, max_epochs_per_trial=3, tensorboard=True)
    folder = tmp_path / "r"
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == ["trial-0000", "trial-0001"]
    record = json.loads((folder / "trials" / "0001.json").read_text("utf-8"))
    scalars, hyperparameters, ended = read(folder / "tensorboard" / "trial-0001")
    expected = [(epoch, pytest.approx(row["val_accuracy"])) for epoch, row in enumerate(record["history"], 1)]
    assert [tuple(point) for point in scalars["val_accuracy"]] == expected
    assert scalars["value"] == [[record["best_epoch"], pytest.approx(record["value"])]]
    assert set(hyperparameters) == set(record["params"])
    assert (hyperparameters["learning_rate"], hyperparameters["activation"]) == ("number_value", "string_value")
    assert ended == 1  # STATUS_SUCCESS


def test_disk_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that cannot be made costs a line in the log and nothing else."""
    (tmp_path / "tensorboard").touch()
    log = TensorBoardLog(tmp_path / "tensorboard")
    with caplog.at_level(logging.WARNING):
        log.trial_started(1.0, SPEC)
        log.trial_started(1.0, SPEC)
        log.close()
    assert len(caplog.records) == 1
