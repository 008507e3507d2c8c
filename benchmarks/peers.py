"""The same trials by peers: each function is called in a process of its own and answers what it took.

Optuna suggests the very hyperparameters that ours does; the others, which know no conditional spaces of that form, as
many numbers as a trial of ours has. All choose at random, and all are measured from the call that starts the trials to
its return, after their own set-up.
"""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from apart import CACHE

AXES = 16
"""Numbers that a trial chooses on average in ours."""


def optuna_threads(
    trials: int, pause: float, workers: int, storage: str, journal: str = "study.journal"
) -> dict[str, float]:
    """Optuna's ``n_jobs``; the storage is ``memory``, ``journal`` or ``sqlite``. Also tells the MB that it grew by."""
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    from seedpod.config import load
    from seedpod.optimizer.plans import proposals_of
    from seedpod.search.space_file import read_definition
    from seedpod.training.datasets import prepare
    from seedpod.training.process import resident_mb

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = load(["dataset=digits"], {}).config
    space = proposals_of(config, prepare("digits", Path(CACHE)), read_definition(config), []).space
    made = {
        "memory": InMemoryStorage,
        "journal": lambda: JournalStorage(JournalFileBackend(journal)),
        "sqlite": lambda: RDBStorage("sqlite:///study.db"),
    }[storage]()
    study = optuna.create_study(storage=made, sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        space.suggest(trial)
        time.sleep(pause)
        return trial.number * 2654435761 % 2**32 / 2**32

    resident, began = resident_mb(), time.monotonic()
    study.optimize(objective, n_trials=trials, n_jobs=workers)
    return {"seconds": time.monotonic() - began, "grown": resident_mb() - resident}


def optuna_loads(journal: str) -> float:
    """Seconds in which Optuna alone reads a study of a journal, with all its trials."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    began = time.monotonic()
    storage = JournalStorage(JournalFileBackend(journal))
    [study] = storage.get_all_studies()
    optuna.load_study(study_name=study.study_name, storage=storage).get_trials(deepcopy=False)
    return time.monotonic() - began


def ray_tune(trials: int, pause: float, workers: int) -> dict[str, float]:
    """Ray Tune with actors that are used again, started before."""
    os.environ.update(RAY_AIR_NEW_OUTPUT="0", RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")
    import ray
    from ray import tune

    class Trial(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self._x = config["x0"]

        def step(self) -> dict[str, Any]:
            time.sleep(pause)
            return {"value": self._x, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to keep."""

        def load_checkpoint(self, checkpoint: object) -> None:
            """Nothing was kept."""

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._x = new_config["x0"]
            return True

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        tuner = tune.Tuner(
            Trial,
            param_space={f"x{axis}": tune.uniform(0, 1) for axis in range(AXES)},
            tune_config=tune.TuneConfig(
                metric="value", mode="max", num_samples=trials, reuse_actors=True, max_concurrent_trials=workers
            ),
            run_config=tune.RunConfig(storage_path=str(Path("ray").absolute()), verbose=0),
        )
        began = time.monotonic()
        found = tuner.fit()
        seconds = time.monotonic() - began
        if len(found) != trials or found.errors:
            raise RuntimeError(f"{len(found)} trials, {found.errors}")
    finally:
        ray.shutdown()
    return {"seconds": seconds}


def syne_tune_local(trials: int, pause: float, workers: int) -> dict[str, float]:
    """Syne Tune's local backend, a process for each trial, as it is documented."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.baselines import RandomSearch

    os.environ["SYNETUNE_FOLDER"] = str(Path("syne").absolute())
    program = Path("trial.py")
    program.write_text(
        "import argparse, time\nfrom syne_tune import Reporter\np = argparse.ArgumentParser()\n"
        + "".join(f"p.add_argument('--x{axis}', type=float)\n" for axis in range(AXES))
        + f"given, _ = p.parse_known_args()\ntime.sleep({pause!r})\nReporter()(epoch=1, value=given.x0)\n",
        encoding="utf-8",
    )
    space = {f"x{axis}": uniform(0, 1) for axis in range(AXES)}
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(program), rotate_gpus=False),
        scheduler=RandomSearch(space, metrics=["value"], do_minimize=False, random_seed=0),
        stop_criterion=StoppingCriterion(max_num_trials_completed=trials),
        n_workers=workers,
        sleep_time=0.1,
        save_tuner=False,
    )
    began = time.monotonic()
    tuner.run()
    return {"seconds": time.monotonic() - began}


def keras_tuner_random(trials: int, pause: float) -> dict[str, float]:
    """Keras Tuner's RandomSearch, which runs one trial at a time in its own process."""
    import keras
    import keras_tuner

    class Nothing(keras_tuner.HyperModel):  # type: ignore[misc]
        def build(self, hp: Any) -> keras.Model:
            for axis in range(AXES):
                hp.Float(f"x{axis}", 0.0, 1.0)
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile(loss="mse")
            return model

    class Search(keras_tuner.RandomSearch):  # type: ignore[misc]
        def run_trial(self, trial: Any, *_given: Any, **_named: Any) -> dict[str, float]:
            time.sleep(pause)
            return {"value": trial.hyperparameters.get("x0")}

    objective = keras_tuner.Objective("value", "max")
    search = Search(Nothing(), objective=objective, max_trials=trials, seed=0, directory=str(Path("kt").absolute()))
    began = time.monotonic()
    search.search(verbose=0)
    seconds = time.monotonic() - began
    if len(search.oracle.trials) != trials:
        raise RuntimeError(json.dumps(sorted(search.oracle.trials)))
    return {"seconds": seconds}
