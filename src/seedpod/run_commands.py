"""The commands that work on a run: ``report``, ``evaluate`` and ``predict``; ``final`` is the end of a search alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seedpod.config import OptimizationConfig, load, settings
from seedpod.config.command_line import RESUME
from seedpod.config.settings import ALIASES
from seedpod.errors import ConfigError
from seedpod.optimizer.finishing import ModelMaker, evaluate, predict
from seedpod.results.model_card import interval
from seedpod.results.run_folder import RunFolder

Show = Callable[[str], None]

_DONE, _FAILED = 0, 1
_CLOSE = 1e-9  # between a number and itself after a way through JSON
_MEASURES = {"loss": "cross-entropy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}


def config_of_run(command: str, words: Sequence[str], environment: Mapping[str, str]) -> OptimizationConfig:
    """The settings of the run that ``run=`` names, with whatever else is given over them.

    Args:
        command: What the user has asked for.
        words: ``run=NAME`` and settings.
        environment: The process environment.

    Raises:
        ConfigError: No run is named, or there is none of that name.
    """
    named = [word for word in words if word.startswith(("run=", "resume="))]
    if not named:
        raise ConfigError(f"{command} needs a run: `python optimizer.py {command} run=NAME`, a folder of results/.")
    given = [f"resume={word.partition('=')[2]}" if word in named else word for word in words]
    return load(given, environment, named_by=named[0].partition("=")[0]).config


def run_report(words: Sequence[str], environment: Mapping[str, str], show: Show, warn: Show) -> int:
    """Write the report of a run, finished or not."""
    from seedpod.report.make import write_report

    config = config_of_run("report", words, environment)
    show(f"Report in {write_report(_folder(config), config, warn)}")
    if config.report == "png":
        show(f"Charts in {_folder(config).path / 'charts'}")
    return _DONE


def run_evaluate(words: Sequence[str], environment: Mapping[str, str], show: Show, warn: Show) -> int:
    """Measure the final model of a run on its test images again, and compare with its card."""
    config = config_of_run("evaluate", words, environment)
    maker = _maker(config)
    try:
        final, found = evaluate(_folder(config), maker, config)
    finally:
        maker.close()
    show(f"accuracy           {interval(found)}, {found['right']:,} of {found['images']:,} test images")
    for name, called in _MEASURES.items():
        show(f"{called:<18} {found[name]:.4f}")
    show("")
    width = max(5, *(len(each["name"]) for each in found["classes"]))
    show(f"{'class':<{width}}  images  precision  recall      F1")
    for each in found["classes"]:
        show(
            f"{each['name']:<{width}}  {each['images']:>6}  {each['precision']:>9.4f}  {each['recall']:>6.4f}  "
            f"{each['f1']:>6.4f}"
        )
    if abs(found["accuracy"] - final["test"]["accuracy"]) > _CLOSE:
        warn(
            f"The model card says {interval(final['test'])}: another machine or version rounds otherwise, or the "
            f"model was changed."
        )
        return _FAILED
    return _DONE


def run_predict(words: Sequence[str], environment: Mapping[str, str], show: Show, warn: Show) -> int:
    """Print file, class and probability of pictures; those that cannot be read are named and skipped."""
    images = [word for word in words if not _is_setting(word)]
    config = config_of_run("predict", [word for word in words if _is_setting(word)], environment)
    if not images:
        raise ConfigError("predict needs pictures: `python optimizer.py predict run=NAME FILE...`.")
    width = max(map(len, images))
    unread: list[str] = []

    def tell(path: str, prediction: Mapping[str, Any]) -> None:
        if "error" in prediction:
            unread.append(path)
            warn(f"{path}: {prediction['error']}; skipped")
        else:
            show(f"{path:<{width}}  {prediction['class']}  {prediction['probability']:.4f}")

    maker = _maker(config)
    try:
        predict(_folder(config), maker, images, tell)
    finally:
        maker.close()
    if unread:
        warn(f"{len(unread)} of {len(images)} pictures could not be read.")
    return _FAILED if unread else _DONE


def _is_setting(word: str) -> bool:
    """Whether a word is ``key=value`` of a key that there is; all else is a file, also one with a = in its name."""
    key = word.partition("=")[0]
    known = {setting.name for setting in settings()} | {"run", RESUME}
    return "=" in word and ALIASES.get(key, key) in known and not Path(word).is_file()


def _folder(config: OptimizationConfig) -> RunFolder:
    return RunFolder(Path(config.results_dir).expanduser() / config.run_name)


def _maker(config: OptimizationConfig) -> ModelMaker:
    return ModelMaker(Path(config.cache_dir).expanduser())


COMMANDS: Mapping[str, Callable[[Sequence[str], Mapping[str, str], Show, Show], int]] = {
    "report": run_report,
    "evaluate": run_evaluate,
    "predict": run_predict,
}
