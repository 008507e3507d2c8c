"""Makes the report of a run from its folder."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seedpod.config import OptimizationConfig, settings
from seedpod.config.needed import require_for_report
from seedpod.errors import SeedpodError
from seedpod.extras import how_to_have
from seedpod.report.charts import best_curve, history, learning_curves, timeline
from seedpod.report.facts import Facts, gather
from seedpod.report.files import draw_files
from seedpod.report.page import Charts, Repeat, render
from seedpod.report.reworded import reworded
from seedpod.results.run_folder import RunFolder
from seedpod.search.figures import plotly_figures, png_files, reading

Say = Callable[[str], None]

_NOT_REPEATED = {"run_name", "results_dir", "cache_dir", "dashboard"}
"""Settings that are of the place and not of the search."""


def write_report(folder: RunFolder, config: OptimizationConfig, say: Say) -> Path:
    """Write ``report.html``, and with ``report=png`` the charts as files in ``charts/``.

    Args:
        folder: The run's, finished or not.
        config: Its settings.
        say: Gets a line for what the report has to do without.

    Returns:
        The page.

    Raises:
        ConfigError: ``report=png``, and Matplotlib is not installed.
        SeedpodError: It is no run's folder, or cannot be written.
    """
    require_for_report(config)  # before anything is written
    facts = gather(folder)
    with _study(folder, config, say) as study:
        charts = _charts(facts, study, say)
        repeat = Repeat(_command(config), _dashboard(folder, config), _predict(folder, config))
        page = folder.write_report(render(facts, charts, repeat))
        if config.report == "png":
            _write_pngs(folder, facts, study)
    return page


@contextmanager
def _study(folder: RunFolder, config: OptimizationConfig, say: Say) -> Iterator[Any]:
    """The study, or None where it cannot be read: the page does without its plots then."""
    reader = reading(folder.path.name, config.storage, folder.journal)
    try:
        study = reader.__enter__()
    except SeedpodError as error:
        say(f"the report has none of Optuna's plots: {error}")
        yield None
        return
    try:
        yield study
    finally:
        reader.__exit__(None, None, None)


def _charts(facts: Facts, study: Any, say: Say) -> Charts:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        say(f"the report has no charts without Plotly. {how_to_have(packages=('plotly',))}")
        return Charts({}, "")
    drawn = {
        "history": history(facts),
        "curves": learning_curves(facts),
        "best_curve": best_curve(facts),
        "timeline": timeline(facts),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    if study is not None:
        figures |= {name: reworded(figure) for name, figure in plotly_figures(study, facts.objective_label).items()}
    for figure in figures.values():
        figure["layout"].pop("template", None)  # the page has colours of its own
    return Charts(figures, get_plotlyjs())


def _write_pngs(folder: RunFolder, facts: Facts, study: Any) -> None:
    place = folder.path / "charts"
    try:
        place.mkdir(exist_ok=True)
        draw_files(facts, place)
        if study is not None:
            png_files(study, facts.objective_label, place)
    except OSError as error:
        raise SeedpodError(f"cannot write into {place} ({error.strerror}).") from error


def _command(config: OptimizationConfig) -> str:
    """The command line that searches the same again; what is as it is by default is left out."""
    given: Mapping[str, str] = {
        setting.name: setting.kind.show(getattr(config, setting.name))
        for setting in settings()
        if setting.name not in _NOT_REPEATED and getattr(config, setting.name) != setting.default
    }
    words = [shlex.quote(f"{name}={value}") for name, value in {"dataset": config.dataset, **given}.items()]
    return " ".join(["python optimizer.py", *words])


def _predict(folder: RunFolder, config: OptimizationConfig) -> str:
    """The command line that asks the final model."""
    given = [f"run={folder.path.name}"]  # the setting may be empty
    (default,) = (setting.default for setting in settings() if setting.name == "results_dir")
    given += [f"results_dir={config.results_dir}"] if config.results_dir != default else []
    return " ".join(["python optimizer.py predict", *map(shlex.quote, given), "FILE..."])


def _dashboard(folder: RunFolder, config: OptimizationConfig) -> str:
    """How Optuna's own dashboard opens the study."""
    where = config.storage or str(folder.journal)
    return f"pip install optuna-dashboard && optuna-dashboard {shlex.quote(where)}"
