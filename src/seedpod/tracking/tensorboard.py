"""TensorBoard's event files, one folder a trial: ``tensorboard --logdir results/<run>/tensorboard``.

Written by the main process from what trials report, so that remote ones are in it as well. Of TensorBoard only the
record's form is used: its own writer would import TensorFlow.
"""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as Scalars
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from seedpod.board import FinishedTrial
from seedpod.events import RunLog
from seedpod.guarded import Guarded
from seedpod.trial import ParamValue, Status, TrialProgress, TrialSpec

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _File:
    stream: BinaryIO
    epochs: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _State:
    files: dict[int, _File] = field(default_factory=dict)
    broken: bool = False


class TensorBoardLog(RunLog):
    """Writes each epoch's metrics as scalars, and the hyperparameters for TensorBoard's HPARAMS page.

    Where that is not possible it is said once, and the search goes on.

    Args:
        folder: Where the trials' folders are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = Guarded(_State())

    def trial_started(self, at: float, spec: TrialSpec) -> None:
        """See RunLog."""
        self._write(spec.number, at, _file_version(at), _hyperparameters(at, spec.params))

    def trial_progress(self, at: float, progress: TrialProgress) -> None:
        """See RunLog; an epoch that a second attempt repeats is the same, and written once."""
        self._epoch(progress.number, at, progress.epoch, progress.metrics)

    def trial_finished(self, at: float, trial: FinishedTrial) -> None:
        """Write the epochs that were not told of while it ran, and how it ended; see RunLog."""
        result = trial.result
        for epoch, row in enumerate(result.history, 1):
            self._epoch(result.number, at, epoch, row)
        if result.value is not None:
            self._write(result.number, at, _scalars(at, result.best_epoch, {"value": result.value}))
        self._write(result.number, at, _ended(at, result.status))
        with self._state.locked() as state:
            file = state.files.pop(result.number, None)
        if file is not None:
            file.stream.close()

    def close(self) -> None:
        """See RunLog."""
        with self._state.locked() as state:
            files, state.files = list(state.files.values()), {}
        for file in files:
            file.stream.close()

    def _epoch(self, number: int, at: float, epoch: int, metrics: Mapping[str, float | None]) -> None:
        with self._state.locked() as state:
            file = state.files.get(number)
            if file is None or epoch in file.epochs:
                return
            file.epochs.add(epoch)
        self._write(number, at, _scalars(at, epoch, metrics))

    def _write(self, number: int, at: float, *events: Event) -> None:
        # One trial's events come from one thread; the lock is for the table of files.
        try:
            file = self._file(number, at)
            if file is not None:
                for event in events:
                    RecordWriter(file.stream).write(event.SerializeToString())
                file.stream.flush()
        except (OSError, ValueError) as error:  # the latter from a file that was closed meanwhile
            with self._state.locked() as state:
                first, state.broken = not state.broken, True
            if first:
                log.warning("cannot write %s (%s); the search goes on without it", self._folder, error)

    def _file(self, number: int, at: float) -> _File | None:
        with self._state.locked() as state:
            if state.broken or number in state.files:
                return state.files.get(number)
        folder = self._folder / f"trial-{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{at:.0f}.{socket.gethostname()}.{os.getpid()}.{number}"
        file = _File((folder / name).open("ab"))
        with self._state.locked() as state:
            return state.files.setdefault(number, file)


def _file_version(at: float) -> Event:
    return Event(wall_time=at, file_version="brain.Event:2")


def _scalars(at: float, step: int, values: Mapping[str, float | None]) -> Event:
    tags = [Scalars.Value(tag=name, simple_value=value) for name, value in values.items() if value is not None]
    return Event(wall_time=at, step=step, summary=Scalars(value=tags))


def _hyperparameters(at: float, params: Mapping[str, ParamValue]) -> Event:
    started = plugin_data_pb2.SessionStartInfo(start_time_secs=at)
    for name, value in params.items():
        kept = started.hparams[name]
        if isinstance(value, bool):
            kept.bool_value = value
        elif isinstance(value, str):
            kept.string_value = value
        else:
            kept.number_value = value
    return _plugin(at, metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=started))


def _ended(at: float, status: Status) -> Event:
    good = status in {Status.COMPLETE, Status.PRUNED}
    end = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE, end_time_secs=at
    )
    return _plugin(at, metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))


def _plugin(at: float, tag: str, content: plugin_data_pb2.HParamsPluginData) -> Event:
    value = Scalars.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR)
    return Event(wall_time=at, summary=Scalars(value=[value]))
