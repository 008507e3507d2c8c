"""What a person keeps: the final model of a run, trained, measured once, kept and exported."""

import hashlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import seedpod
from seedpod.board import FinishedTrial, TrialBoard
from seedpod.clock import Clock, SystemClock
from seedpod.config import OptimizationConfig
from seedpod.errors import BackendError, FinalModelError, SeedpodError, TrialCancelled, TrialError
from seedpod.events import Observer
from seedpod.guarded import Guarded
from seedpod.report.apart import write_report_apart
from seedpod.results.model_card import FINAL_SCHEMA
from seedpod.results.run_folder import UNFINISHED, RunFolder
from seedpod.training.datasets import prepare
from seedpod.training.pool import TrainerPool
from seedpod.training.tasks import EvaluateTask, ExportTask, FinalTask, PredictTask, Task
from seedpod.trial import Report, Wire

log = logging.getLogger(__name__)

EXPORTED = {"onnx": "model.onnx", "savedmodel": "saved_model", "tflite": "model.tflite"}
"""What an exported model is called in the run's folder."""

_MOST_DIFFERENCE = 1e-3  # of a probability, between an exported model and the kept one; 6e-7 were seen
_AT_ONCE = 256  # pictures a task of `predict`


class ModelMaker:
    """Does what needs Keras, in one trainer process that uses all cores. ``cancel_all`` is safe from any thread.

    Args:
        cache_dir: Where the prepared data sets are.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._pool: Guarded[list[TrainerPool]] = Guarded([])
        self._cancelled = Guarded([False])

    def perform(self, task: Task, report: Report = lambda _: None) -> Wire:
        """Perform a task; see ``TrainerPool.perform`` for what it raises."""
        with self._pool.locked() as pools:
            if not pools:
                pools.append(TrainerPool(1, self._cache_dir, standby=0))
            pool = pools[0]
        self.check()
        return pool.perform(task, report)

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel_all`` was called."""
        with self._cancelled.locked() as cancelled:
            return cancelled[0]

    def check(self) -> None:
        """Raise TrialCancelled where ``cancel_all`` was called."""
        if self.cancelled:
            raise TrialCancelled("stopped")

    def cancel_all(self) -> None:
        """End what runs, and refuse what comes."""
        with self._cancelled.locked() as cancelled:
            cancelled[0] = True
        with self._pool.locked() as pools:
            running = list(pools)
        for pool in running:
            pool.cancel_all()

    def close(self) -> None:
        """End the process."""
        with self._pool.locked() as pools:
            running, pools[:] = list(pools), []
        for pool in running:
            pool.close()


class TrainsFinal(Protocol):
    """Trains a final model somewhere else; ``cancel_all`` is safe from any thread."""

    def train(self, task: FinalTask, report: Report) -> Wire:
        """Train, and write the model's file; what is known of it but for the test. Raises TrialError, TrialStopped."""

    def cancel_all(self) -> None:
        """End what runs, and refuse what comes."""

    def close(self) -> None:
        """Release everything."""


class Finisher:
    """Finishes a run whose trials have ended: final model, exports, report. ``stop`` is safe from any thread.

    Args:
        config: The run's settings.
        observer: Is told.
        clock: Tells the time.
        elsewhere: Makes what trains final models on another machine; None trains them here.
    """

    def __init__(
        self,
        config: OptimizationConfig,
        *,
        observer: Observer | None = None,
        clock: Clock | None = None,
        elsewhere: Callable[[], TrainsFinal] | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._far: Guarded[list[TrainsFinal]] = Guarded([])
        self._config = config
        self._observer = observer or Observer()
        self._clock = clock or SystemClock()
        self._maker = ModelMaker(Path(config.cache_dir).expanduser())

    def finish(self, run: str) -> Mapping[str, Any] | None:
        """Train the final model unless the run has it, export it, write the report; the run's other files stay.

        Args:
            run: The run's name.

        Returns:
            ``final.json``; None where no trial is complete, ``final_model=none``, or ``stop`` was called.

        Raises:
            ConfigError: Another process is on the run.
            FinalModelError: The model could not be made; one that was there before still is.
        """
        folder = RunFolder(Path(self._config.results_dir).expanduser() / run)
        if not self._config.storage:
            folder.lock()
        try:
            return self._final(folder)
        except (TrialError, OSError) as error:
            raise FinalModelError(
                f"the final model could not be made: {error} The search is saved; `python optimizer.py final "
                f"run={run}` tries again."
            ) from error
        except TrialCancelled:
            log.warning(
                "There is no final model and no new report; `python optimizer.py final run=%s` makes both.", run
            )
            return None
        finally:
            self._maker.close()
            if not self._maker.cancelled:  # who stops does not wait for pictures
                self._report(folder)
            folder.unlock()

    def _report(self, folder: RunFolder) -> None:
        """Write the report; whatever goes wrong with it costs the report alone."""
        if self._config.report == "none":
            return
        try:
            self._observer.reported(write_report_apart(folder, self._config, log.warning))
        except Exception as error:  # noqa: BLE001 - a thousand lines of plots, and none is worth a search
            log.warning(
                "no report could be written (%s: %s); `python optimizer.py report run=%s` tries again",
                type(error).__name__,
                error,
                folder.path.name,
            )

    def stop(self) -> None:
        """End what runs."""
        self._maker.cancel_all()
        with self._far.locked() as far:
            running = list(far)
        for each in running:
            each.cancel_all()

    def _final(self, folder: RunFolder) -> Mapping[str, Any] | None:
        best = None if self._config.final_model == "none" else best_recorded(folder, self._config)
        if best is None:
            return None
        record = _existing(folder, best, self._config.final_model)
        if record is None:
            record = self._train(folder, best)
        for name in self._config.export:
            if name not in record["exports"]:
                record = self._export(folder, record, name)
        self._observer.final_ended(folder.path, record)
        return record

    def _train(self, folder: RunFolder, best: FinishedTrial) -> Mapping[str, Any]:
        self._maker.check()
        mode, began = self._config.final_model, self._clock.now()
        self._observer.final_began(best, mode)
        prepare(self._config.dataset, Path(self._config.cache_dir).expanduser(), self._config.reading)
        with _unfinished(folder) as place:
            path = place / "model.keras"
            task = FinalTask(best.spec, best.final_epochs(mode), mode == "retrain", str(path.absolute()))
            answer = self._trained(task)
            record = _record(folder, best, mode, answer) | {
                "times": {
                    "began_at": datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
                    "seconds": round(self._clock.now() - began, 3),
                    "training_seconds": round(answer["seconds"], 3),
                }
            }
            for name in EXPORTED.values():  # of another model
                _remove(folder.path / name)
            path.replace(folder.model)
            folder.write_final(record)
        return record

    def _trained(self, task: FinalTask) -> Wire:
        """The model, trained elsewhere or here; measured here in either case, for here are the test images."""
        if self._elsewhere is not None:
            try:
                found = self._trained_elsewhere(task, self._elsewhere)
            except BackendError as error:
                if not self._config.runpod_service_fallback_local:
                    raise
                log.warning("%s The final model is trained on this machine.", error.message)
            else:
                spec = task.spec
                measure = EvaluateTask(task.path, spec.dataset, spec.fingerprint, pictures=True)
                return {**found, "test": self._maker.perform(measure)}
        return self._maker.perform(task, self._observer.final_progressed)

    def _trained_elsewhere(self, task: FinalTask, make: Callable[[], TrainsFinal]) -> Wire:
        far = make()
        with self._far.locked() as known:
            known.append(far)
        try:
            self._maker.check()  # a stop from here on finds it
            return far.train(task, self._observer.final_progressed)
        finally:
            far.close()

    def _export(self, folder: RunFolder, record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        target = folder.path / EXPORTED[name]
        with _unfinished(folder) as place:
            made = place / target.name
            task = ExportTask(str(folder.model.absolute()), name, str(made.absolute()))
            difference = self._maker.perform(task)["difference"]
            if not difference <= _MOST_DIFFERENCE:
                raise FinalModelError(
                    f"export={name}: the exported model's probabilities differ from the kept one's by up to "
                    f"{difference:.2g}; it was not kept. The run's model.keras is whole."
                )
            _remove(target)
            made.replace(target)
        exports = {**record["exports"], name: {"path": target.name, "difference": difference}}
        changed = {**record, "exports": exports}
        folder.write_final(changed)
        return changed


def best_recorded(folder: RunFolder, config: OptimizationConfig) -> FinishedTrial | None:
    """The best of the trials that have a record, by the search's own rule; None where none is complete."""
    board = TrialBoard(config.trials, 0.0, config.weight_of_health)
    for _, trial in sorted(folder.read_trials().items()):
        board.restore(trial)
    return board.snapshot().best


def evaluate(folder: RunFolder, maker: ModelMaker, config: OptimizationConfig) -> tuple[Mapping[str, Any], Wire]:
    """Measure the final model on the test images again: ``final.json``, and what was found now.

    Raises:
        SeedpodError: There is no final model, or not its data set.
    """
    final = final_of(folder)
    info = prepare(config.dataset, Path(config.cache_dir).expanduser(), config.reading)
    if info.fingerprint != final["fingerprint"]:
        raise SeedpodError(
            f"dataset={config.dataset} has fingerprint {info.fingerprint}; run {folder.path.name} has learned from "
            f"{final['fingerprint']}. Bring those images back."
        )
    return final, maker.perform(EvaluateTask(str(folder.model), info.id, info.fingerprint))


def predict(
    folder: RunFolder, maker: ModelMaker, images: list[str], tell: Callable[[str, Mapping[str, Any]], None]
) -> None:
    """Classify pictures, and tell file and prediction of each: ``class`` and ``probability``, or an ``error``."""
    final_of(folder)
    for start in range(0, len(images), _AT_ONCE):
        some = images[start : start + _AT_ONCE]
        answer = maker.perform(PredictTask(str(folder.model.absolute()), tuple(str(Path(p).absolute()) for p in some)))
        for path, prediction in zip(some, answer["predictions"], strict=True):
            tell(path, prediction)


def final_of(folder: RunFolder) -> dict[str, Any]:
    """``final.json`` of a run that has a final model; raises SeedpodError where it has none."""
    final = folder.read_final()
    if final is None or not folder.model.is_file():
        raise SeedpodError(
            f"run {folder.path.name} has no final model. `python optimizer.py final run={folder.path.name}` trains it."
        )
    return final


def _existing(folder: RunFolder, best: FinishedTrial, mode: str) -> Mapping[str, Any] | None:
    """The final record, if its model is there and is this one."""
    try:
        final = folder.read_final()
    except SeedpodError:
        return None  # to be written anew
    wanted = best.spec.uid, mode, best.final_epochs(mode)
    if final is None or (final["uid"], final["mode"], final["epochs"]) != wanted:
        return None
    return final if folder.model.is_file() and _sha256(folder.model) == final["model"]["sha256"] else None


def _record(folder: RunFolder, best: FinishedTrial, mode: str, answer: Wire) -> dict[str, Any]:
    spec, result = best.spec, best.result
    try:
        earlier = folder.read_final()
    except SeedpodError:
        earlier = None
    losses = [row["loss"] for row in answer["history"]]
    theirs = [row["loss"] for row in result.history[: result.best_epoch]]
    return {
        "schema": FINAL_SCHEMA,
        "run": folder.path.name,
        "mode": mode,
        "trial": spec.number,
        "uid": spec.uid,
        "epochs": best.final_epochs(mode),
        "best_epoch": result.best_epoch or None,
        "objective": spec.objectives[0],
        "value": result.value,
        "reproduced": losses == theirs if mode == "best" and theirs and spec.cv_folds == 1 else None,
        "params": dict(spec.params),
        "seed": spec.seed,
        "split_seed": spec.split_seed,
        "validation_split": spec.validation_split,
        "class_weights": spec.class_weights,
        "dataset": spec.dataset,
        "fingerprint": spec.fingerprint,
        **{name: value for name, value in answer.items() if name != "seconds"},
        "test_measured": 1 + (0 if earlier is None else earlier["test_measured"]),
        "versions": _versions(answer),
        "exports": {},
    }


def _versions(answer: Wire) -> dict[str, str]:
    environment = answer["environment"]
    return {
        "seedpod": seedpod.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "keras": str(environment.get("keras", "")),
        str(environment.get("keras_backend", "backend")): str(environment.get("backend_version", "")),
    }


@contextmanager
def _unfinished(folder: RunFolder) -> Iterator[Path]:
    """A folder beside the run's files for what is being written; what a kill leaves, the next start removes."""
    place = Path(tempfile.mkdtemp(dir=folder.path, prefix=UNFINISHED))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
