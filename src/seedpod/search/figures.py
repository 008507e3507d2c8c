"""Optuna's own plots of a study: as Plotly figures for a page, as PNG files by Matplotlib. Changes nothing."""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from seedpod.errors import SeedpodError
from seedpod.search.importances import weigh, weighable
from seedpod.search.storage import close_storage, open_storage

log = logging.getLogger(__name__)

_MOST_AXES = 8  # hyperparameters in one picture; more cannot be read
_LEAST = 2  # complete trials below which a plot says nothing


@contextmanager
def reading(name: str, storage: str, journal: Path) -> Iterator[Study]:
    """A study to look at, also while a search writes to it: of a journal a copy is read, and nothing is healed.

    Raises:
        SeedpodError: It cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="seedpod-report-") as folder:
        copy = Path(folder) / "study.journal"
        try:
            if not storage:
                shutil.copyfile(journal, copy)
            opened = open_storage(storage, copy)
        except OSError as error:
            raise SeedpodError(f"cannot read {journal} ({error.strerror}).") from error
        try:
            yield optuna.load_study(study_name=name, storage=opened)
        except KeyError as error:
            raise SeedpodError(f"there is no study {name} in {storage or journal}.") from error
        finally:
            close_storage(opened)


def plotly_figures(study: Study, value_name: str) -> dict[str, dict[str, Any]]:
    """Optuna's plots as Plotly JSON, by name; those that this study has not enough trials for are left out.

    Args:
        study: From ``reading``.
        value_name: What the objective is called.

    Raises:
        ImportError: Plotly is not installed.
    """
    import plotly  # noqa: F401 - Optuna would say it of the first plot alone
    from optuna import visualization

    return {name: json.loads(figure.to_json()) for name, figure in _drawn(visualization, study, value_name)}


def png_files(study: Study, value_name: str, folder: Path) -> list[Path]:
    """Write Optuna's plots as PNG files into a folder; their paths.

    Raises:
        ImportError: Matplotlib is not installed.
        OSError: A file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no window, on no machine
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as visualization

    written = []
    for name, axes in _drawn(visualization, study, value_name):
        figure = getattr(axes, "figure", None) or axes.flat[0].figure
        width = 4 * len(axes) if hasattr(axes, "flat") else 10
        figure.set_size_inches(width, 5)
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        plt.close(figure)
        written.append(folder / f"{name}.png")
    return written


def _drawn(visualization: Any, study: Study, value_name: str) -> Iterator[tuple[str, Any]]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _LEAST:
        return
    single = len(study.directions) == 1
    shared = _shared(complete)
    shares = weigh(weighable(study))
    axes = [*(name for name in shares if name in shared), *sorted(shared - set(shares))][:_MOST_AXES]
    slices = [*shares, *axes]
    named = {"target": None if single else _first_value, "target_name": value_name}
    wanted: list[tuple[str, Callable[[], Any]]] = [
        *([("importances", lambda: _importances(visualization, study, shares, named))] if shares else []),
        ("parallel", lambda: visualization.plot_parallel_coordinate(study, params=axes, **named)),
        ("slices", lambda: visualization.plot_slice(study, params=list(dict.fromkeys(slices))[:_MOST_AXES], **named)),
    ]
    if not single:
        wanted.insert(0, ("front", lambda: visualization.plot_pareto_front(study)))
    for name, draw in wanted:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that few trials say little
                warnings.simplefilter("ignore", ExperimentalWarning)
                yield name, draw()
        except (ValueError, RuntimeError) as error:  # too few trials, or all of one value
            log.debug("no plot %s: %s", name, error)


def _importances(visualization: Any, study: Study, shares: Mapping[str, float], named: Mapping[str, Any]) -> Any:
    """Optuna's plot of the very shares that the summary has."""

    class Known(optuna.importance.BaseImportanceEvaluator):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            return dict(shares)

    return visualization.plot_param_importances(study, evaluator=Known(), **named)


def _shared(trials: Sequence[FrozenTrial]) -> set[str]:
    """Hyperparameters that all of these have, and that are not the same in all."""
    names = set.intersection(*(set(trial.params) for trial in trials))
    return {name for name in names if len({trial.params[name] for trial in trials}) > 1}


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])
