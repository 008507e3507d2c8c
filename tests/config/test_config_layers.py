"""Layers: which value wins, where it came from, and files that read back as what was written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from seedpod.config import OptimizationConfig, load, settings, to_yaml
from seedpod.errors import ConfigError

ROOT = Path(__file__).parents[2]
LINES = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=60).filter(str.isprintable)
FOLDERS = LINES.filter(lambda text: not text.startswith("~") or text.startswith("~/"))
WORKERS: st.SearchStrategy[Any] = st.just("auto") | st.integers(1, 512)
Write = Callable[[str | bytes], str]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes a config file, over the one before, and returns its path."""
    path = tmp_path_factory.mktemp("config") / "x.yaml"

    def write(content: str | bytes) -> str:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


LAGS: st.SearchStrategy[Any] = st.sampled_from(["auto", 512])


@st.composite
def configs(draw: st.DrawFn) -> OptimizationConfig:
    """Any config that this version can run without a data file."""
    low, high = sorted(draw(st.tuples(st.integers(1, 1000), st.integers(1, 1000))))
    activations = draw(st.lists(st.sampled_from(["relu", "leaky_relu", "swish", "gelu"]), unique=True))
    return OptimizationConfig(
        dataset=draw(st.sampled_from(["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"])),
        trials=draw(st.integers(1, 100_000)),
        sampler=draw(st.sampled_from(["tpe", "random"])),
        startup_trials=draw(st.integers(1, 100_000)),
        search_lag=draw(LAGS),
        reproducible=draw(st.booleans()),
        max_failures=draw(st.integers(0, 100_000)),
        storage=draw(st.sampled_from(["", "sqlite:///a b.db", "postgresql://u@h/d", "grpc://h:1"])),
        random_seed=draw(st.integers(0, 2**32 - 1 - 100_000)),
        timeout_hours=draw(st.floats(0, 8760)),
        max_epochs_per_trial=high,
        min_epochs_per_trial=low,
        validation_split=draw(st.floats(0.01, 0.5)),
        activation=tuple(activations),
        max_training_time_minutes=draw(st.floats(0, 10_080)),
        max_parameters=draw(st.integers(1, 10**12)),
        local_workers=draw(WORKERS),
        run_name=draw(st.from_regex(r"\A([A-Za-z0-9_][A-Za-z0-9._-]{0,99})?\Z")),
        results_dir=draw(FOLDERS),
        cache_dir=draw(FOLDERS),
    )


@given(configs())
@example(OptimizationConfig(results_dir="null", cache_dir="it's # no: comment", run_name="1e5"))
def test_yaml_round_trip(write: Write, config: OptimizationConfig) -> None:
    """A written config reads back as an equal one, every value of it from the file."""
    loaded = load([f"config={write(to_yaml(config))}"], {})
    assert loaded.config == config
    assert "default" not in loaded.origins.values()


@given(configs())
def test_command_line_round_trip(config: OptimizationConfig) -> None:
    """Every value can be typed as ``help`` shows values."""
    arguments = [f"{s.name}={s.kind.show(getattr(config, s.name))}" for s in settings()]
    assert load(arguments, {}).config == config


@given(configs())
def test_environment_round_trip(config: OptimizationConfig) -> None:
    """Every setting can be given by its variable."""
    environment = {f"SEEDPOD_{s.name.upper()}": s.kind.show(getattr(config, s.name)) for s in settings()}
    assert load([], environment).config == config


def test_defaults() -> None:
    """Without anything given the config is the default one and says so."""
    loaded = load([], {"HOME": "/root", "TRIALS": "5"})
    assert loaded.config == OptimizationConfig()
    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == [setting.name for setting in settings()]


@pytest.mark.parametrize("layers", range(8))
def test_precedence(write: Write, layers: int) -> None:
    """The command line wins over the environment, that over the file, that over the default, in every combination."""
    path = write("# one\ntrials: 2\n")
    arguments, environment, value, origin = [f"config={write('')}"], {}, 20, "default"
    if layers & 1:
        write("# one\ntrials: 2\n")
        value, origin = 2, f"{path}:2"
    if layers & 2:
        environment["SEEDPOD_TRIALS"] = "3"
        value, origin = 3, "environment SEEDPOD_TRIALS"
    if layers & 4:
        arguments.append("trials=4")
        value, origin = 4, "command line"
    loaded = load(arguments, environment)
    assert loaded.config.trials == value
    assert loaded.origins["trials"] == origin


def test_rules_among_settings_see_the_merged_values(write: Write) -> None:
    """A file's value that goes with the default, and not with the command line's, is refused with both places."""
    path = write("min_epochs_per_trial: 15\n")
    with pytest.raises(ConfigError, match=r"min_epochs_per_trial=15 \(.*\): is more than max_epochs_per_trial=10 \("):
        load([f"config={path}", "max_epochs_per_trial=10"], {})


def test_overridden_file_of_another_machine(write: Write) -> None:
    """A data file named by a config file need not exist where a later layer names another data set."""
    path = write("dataset: /not/here.npz\n")
    assert load([f"config={path}", "dataset=mnist"], {}).config.dataset == "mnist"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "\ufefftrials: 20\n", "{}", "trials: '20'\n", "timeout_hours: 0e-05\n", "concurrent: yes\n"],
)
def test_files_that_change_nothing(write: Write, text: str) -> None:
    """Empty files, comments, a byte order mark and defaults in other spellings give the default config."""
    assert load([f"config={write(text)}"], {}).config == OptimizationConfig()


def test_file_values_are_read_as_typed(write: Write) -> None:
    """Scalars in a file mean what they mean on the command line: no octal, no YAML booleans."""
    path = write("trials: 08\ntimeout_hours: 1e-05\nactivation: [relu, gelu]\nmax_parameters: 1_000\nrun_name: no\n")
    config = load([f"config={path}"], {}).config
    assert (config.trials, config.timeout_hours, config.activation) == (8, 1e-05, ("relu", "gelu"))
    assert (config.max_parameters, config.run_name) == (1000, "no")


def test_configs_are_immutable() -> None:
    """A config and its origins cannot be changed once they are made."""
    loaded = load([], {})
    with pytest.raises(AttributeError):
        loaded.config.trials = 5  # type: ignore[misc]
    assert isinstance(loaded.origins, MappingProxyType)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_digits_and_mnist(path: Path) -> None:
    """The shipped files named for a data set are valid and search that data set."""
    if path.stem in {"digits", "mnist"}:
        assert load([f"config={path}"], {}).config.dataset == path.stem


KEY_LIKE = st.sampled_from([setting.name for setting in settings()]) | st.text(max_size=20)
ARGUMENT = st.text(max_size=30) | st.builds("{}={}".format, KEY_LIKE, st.text(max_size=30)) | st.just("--trials")


@given(st.lists(ARGUMENT, max_size=5), st.dictionaries(st.text() | KEY_LIKE.map("SEEDPOD_{}".format), st.text()))
def test_any_command_line_and_environment(arguments: list[str], environment: dict[str, str]) -> None:
    """Random text is a config or a ConfigError with a line of text for each mistake, nothing else."""
    survives(arguments, environment)


FRAGMENTS = st.sampled_from(["trials", ": ", "\n", "- ", "[", "]", "{", "}", "&a ", "*a", "!!x ", '"', "'", "|\n", "5"])
CONTENT = st.binary(max_size=60) | st.text(max_size=60) | st.lists(FRAGMENTS, max_size=20).map("".join)


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(CONTENT)
def test_any_file(write: Write, content: str | bytes) -> None:
    """A random file is a config or a ConfigError, nothing else."""
    survives([f"config={write(content)}"], {})


def survives(arguments: list[str], environment: dict[str, str]) -> None:
    try:
        load(arguments, environment)
    except ConfigError as error:
        lines = str(error).split("\n")
    else:
        lines = []
    assert all(line.isprintable() and ": " in line for line in lines)


def test_import_is_light() -> None:
    """Importing the config and printing its help loads neither yaml nor anything heavy."""
    code = (
        "import sys, seedpod.config as c; c.help_text(80); c.load(['trials=5'], {})\n"
        "print(sorted({'yaml', 'numpy', 'optuna', 'tensorflow', 'keras', 'requests', 'rich'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.fixture(name="runs")
def some_runs(tmp_path: Path) -> Path:
    for name in ("digits-1", "mnist-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("trials: 7\nrandom_seed: 5\nresults_dir: elsewhere\n", "utf-8")
    return tmp_path


@pytest.mark.parametrize("end", ["", "/"])
def test_a_run_is_known_by_its_path(runs: Path, end: str) -> None:
    """A path, as a shell completes it, names the run and where it is; complaints say ``run=`` where one wrote that."""
    config = load([f"resume={runs}/mnist-2{end}"], {"SEEDPOD_RESULTS_DIR": "elsewhere"}).config
    assert (config.run_name, config.results_dir) == ("mnist-2", str(runs))
    assert load([f"resume={runs}/mnist-2", f"results_dir={runs}/"], {}).config.run_name == "mnist-2"
    with pytest.raises(ConfigError, match=r"in another folder than results_dir= says"):
        load([f"resume={runs}/mnist-2", "results_dir=elsewhere"], {})
    with pytest.raises(ConfigError, match=r"run=.*/mnist-9 \(command line\): there is no such run"):
        load([f"resume={runs}/mnist-9"], {}, named_by="run")


def test_resume_is_the_file_of_the_run(runs: Path) -> None:
    """``resume=`` reads the run's own settings, which other words override, and stays with its name and folder."""
    loaded = load(["resume=mnist-2", f"results_dir={runs}", "trials=9"], {})
    assert (loaded.config.random_seed, loaded.config.trials) == (5, 9)
    assert (loaded.config.run_name, loaded.config.results_dir) == ("mnist-2", str(runs))
    by_environment = load(["resume=mnist-2"], {"SEEDPOD_RESULTS_DIR": str(runs)})
    assert (by_environment.config.trials, by_environment.config.results_dir) == (7, str(runs))


def test_unknown_run_is_refused_with_the_nearest(runs: Path) -> None:
    """A run that is not there is named with the one that was probably meant, or with all that there are."""
    with pytest.raises(ConfigError, match=r"resume=mnist2 .*no such run.* Did you mean mnist-2\?"):
        load(["resume=mnist2", f"results_dir={runs}"], {})
    with pytest.raises(ConfigError, match="There are digits-1 or mnist-2"):
        load(["resume=xyz", f"results_dir={runs}"], {})
