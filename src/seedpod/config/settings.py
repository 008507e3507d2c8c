"""Every setting of a search: the only source of validation, of ``python optimizer.py help`` and of README's table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from seedpod.config.kinds import (
    Assignments,
    Choice,
    ImageSize,
    Joined,
    Memory,
    Number,
    Option,
    Several,
    Share,
    Truth,
    Whole,
)
from seedpod.config.setting import Setting, about
from seedpod.config.texts import (
    DatasetName,
    Folder,
    RunName,
    Sha256,
    StorageUrl,
    StoreEndpoint,
    StoreUrl,
    Text,
    TrackingUri,
    is_folder,
)
from seedpod.config.wording import Refused, complaint, located
from seedpod.errors import ConfigError
from seedpod.objectives import DEFAULT, OBJECTIVES, Direction, Objective, objectives_of
from seedpod.reading import SHAPING, Reading
from seedpod.trial import CLASS_WEIGHTS, MOST_FOLDS

SEARCH, IMAGES, TRAINING, MACHINE, RUNPOD, SCREEN, RESULT, FILES = (
    "Search",
    "Images",
    "Training",
    "This machine",
    "RunPod workers",
    "Screen",
    "Result",
    "Files",
)

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
HARMLESS = frozenset(
    {
        "trials",
        # Of these it is the content that decides, not the path: the study holds a run to it.
        "search_space",
        "fix",
        "space",
        "enqueue",
        # Whether a source is taken, not what it becomes.
        "max_bad_files",
        "dataset_sha256",
        "max_download_mb",
        "timeout_hours",
        "max_failures",
        "trial_retries",
        "local_workers",
        "memory_limit",
        "use_runpod_service",
        "runpod_service_endpoint",
        "local_endpoint_workers",
        "runpod_service_timeout",
        "runpod_service_fallback_local",
        "concurrent",
        "concurrent_workers",
        "data_store",
        "data_store_endpoint",
        "gpu",
        "gpu_price_per_second",
        "max_cost",
        "dashboard",
        "final_model",
        "final_on",
        "export",
        "report",
        "tensorboard",
        "mlflow_tracking_uri",
        "web_port",
        "run_name",
        "results_dir",
        "cache_dir",
    }
)
"""Settings that may differ when a run goes on: when, where and how many trials run, but nothing that a trial is."""
ALIASES = {"enable_dashboard": "dashboard", "enable_progress_dashboard": "dashboard"}
"""Other names that some settings are known by."""
MAX_TRIALS = 100_000
MAX_SEED = 2**32 - 1 - MAX_TRIALS  # a trial's seed is the base seed + its number, and seeds have 32 bits
_MAX_EPOCHS = 1000
_MAX_WORKERS = 512
_TRIALS_OR_AUTO = Whole(1, _MAX_WORKERS, "trials", words=("auto",))
_WEEK = 7 * 24 * 3600  # seconds; RunPod's longest executionTimeout

_COLORS = (Option("auto"), Option("grayscale", also=("greyscale", "gray", "grey", "l")), Option("rgb", also=("color",)))
_ACTIVATIONS = tuple(Option(name) for name in ("relu", "leaky_relu", "swish", "gelu"))
_DASHBOARDS = (
    Option("auto", also=("true", "yes", "on", "1")),
    Option("live"),
    Option("plain"),
    Option("none", also=("false", "no", "off", "0")),
    Option("web"),
)
_FINAL_MODELS = (Option("retrain"), Option("best"), Option("none", also=("false", "no", "off")))
_FINAL_ON = (Option("local"), Option("remote"))
_EXPORTS = tuple(Option(name) for name in ("onnx", "savedmodel", "tflite"))
_REPORTS = (Option("html"), Option("png"), Option("none", also=("false", "no", "off")))
_MODES = (Option("simple"), Option("health"))
_CLASS_WEIGHTS = (Option(CLASS_WEIGHTS[0], also=("false", "no", "off")), *map(Option, CLASS_WEIGHTS[1:]))
_SHARES = tuple(name for name, each in OBJECTIVES.items() if each.high == 1 and each.direction is Direction.MAXIMIZE)
_OPTIMIZE_FOR = tuple(Option(name) for name in OBJECTIVES)
_SAMPLERS = tuple(Option(name) for name in ("tpe", "random", "gp", "cmaes", "grid", "nsga2", "qmc"))
_PRUNERS = tuple(Option(name) for name in ("hyperband", "asha", "median", "patient", "none"))


@dataclass(frozen=True, slots=True)
class OptimizationConfig:
    """All that the user decides about a search. Valid, or not made at all.

    Raises:
        ConfigError: A value has the wrong type, is out of range, does not go with another or awaits later work; one
            line for each mistake.
    """

    dataset: str = field(default="digits", metadata=about(SEARCH, DatasetName(DATASETS), "the images to learn from"))
    mode: str = field(
        default="simple",
        metadata=about(
            SEARCH, Choice(_MODES), "what a trial is judged by: its objective alone, or together with its health"
        ),
    )
    health_weight: float = field(
        default=0.3, metadata=about(SEARCH, Number(0, 1), "share of the health in what mode=health optimizes")
    )
    trials: int = field(default=20, metadata=about(SEARCH, Whole(1, MAX_TRIALS, "trials"), "how many models to train"))
    optimize_for: str = field(
        default=DEFAULT,
        metadata=about(SEARCH, Joined(_OPTIMIZE_FOR), "what to make as good as possible; of several, the Pareto front"),
    )
    sampler: str = field(
        default="tpe", metadata=about(SEARCH, Choice(_SAMPLERS), "how the next trial's hyperparameters are chosen")
    )
    pruner: str = field(
        default="asha",
        metadata=about(
            SEARCH,
            Choice(_PRUNERS),
            "which trials end before their last epoch, as hopeless beside others; of several objectives none does",
        ),
    )
    startup_trials: int = field(
        default=10,
        metadata=about(
            SEARCH,
            Whole(1, MAX_TRIALS, "trials"),
            "random trials before the sampler starts to learn from them; nsga2's generation",
        ),
    )
    search_space: str = field(
        default="default",
        metadata=about(SEARCH, Text(), "what is searched: small, default, wide or a file, see docs/search_spaces.md"),
    )
    fix: tuple[str, ...] = field(
        default=(),
        metadata=about(
            SEARCH, Assignments("activation=relu"), "hyperparameters that are not searched; here fix.activation=relu"
        ),
    )
    space: tuple[str, ...] = field(
        default=(),
        metadata=about(
            SEARCH,
            Assignments("learning_rate=1e-4..1e-2"),
            "other values to search; here space.learning_rate=1e-4..1e-2 or space.optimizer=adam,sgd",
        ),
    )
    enqueue: str = field(
        default="",
        metadata=about(
            SEARCH,
            Text(),
            "hyperparameters to try first: a file with a list of sets, or an earlier run or its best.yaml",
        ),
    )
    reproducible: bool = field(
        default=True,
        metadata=about(SEARCH, Truth(), "same study at any number of workers; false learns sooner and repeats nothing"),
    )
    search_lag: int | Literal["auto"] = field(
        default=8,
        metadata=about(
            SEARCH,
            _TRIALS_OR_AUTO,
            "a trial learns from those that are this many before it; auto is the number of workers",
        ),
    )
    random_seed: int = field(
        default=42, metadata=about(SEARCH, Whole(0, MAX_SEED), "same seed and settings, same search")
    )
    timeout_hours: float = field(
        default=0.0,
        metadata=about(SEARCH, Number(0, 8760, "hours"), "no new trial starts after this time; 0 is no limit"),
    )
    max_failures: int = field(
        default=0,
        metadata=about(SEARCH, Whole(0, MAX_TRIALS, "failed trials"), "the search ends at so many; 0 is no limit"),
    )
    image_size: str = field(
        default="auto",
        metadata=about(
            IMAGES,
            ImageSize(2, 4096),
            "what every image is brought to; auto is the images' own common size, at most 64 a side",
        ),
    )
    color_mode: str = field(
        default="auto",
        metadata=about(IMAGES, Choice(_COLORS), "colours of the images; auto is grayscale where none has colours"),
    )
    test_size: float = field(
        default=0.2,
        metadata=about(IMAGES, Share(0.01, 0.9), "what is kept for the test where the data set has no test images"),
    )
    max_samples: int = field(
        default=0,
        metadata=about(
            IMAGES, Whole(0, 10**9, "images"), "how many are used at most, of each class its share; 0 is all"
        ),
    )
    max_bad_files: float = field(
        default=0.05,
        metadata=about(
            IMAGES, Share(0, 1), "unusable files are left out and listed; over this share nothing is prepared"
        ),
    )
    dataset_sha256: str = field(
        default="", metadata=about(IMAGES, Sha256(), "what the file or download must hash to; '' is anything")
    )
    max_download_mb: float = field(
        default=2000.0, metadata=about(IMAGES, Number(1, 1_000_000, "MB"), "a larger download is given up")
    )
    max_epochs_per_trial: int = field(
        default=10, metadata=about(TRAINING, Whole(1, _MAX_EPOCHS, "epochs"), "a trial trains no longer than this")
    )
    min_epochs_per_trial: int = field(
        default=1, metadata=about(TRAINING, Whole(1, _MAX_EPOCHS, "epochs"), "early stopping waits for this")
    )
    validation_split: float = field(
        default=0.2,
        metadata=about(TRAINING, Number(0.01, 0.5), "share of the training images held out to judge trials"),
    )
    cv_folds: int = field(
        default=1,
        metadata=about(
            TRAINING,
            Whole(1, MOST_FOLDS, "folds"),
            "a trial's value is the mean of so many, each of 1/cv_folds of the training images; 1 is a single split",
        ),
    )
    class_weights: str = field(
        default=CLASS_WEIGHTS[0],
        metadata=about(
            TRAINING,
            Choice(_CLASS_WEIGHTS),
            "auto lets the images of small classes count for more in training, so that every class counts alike",
        ),
    )
    activation: tuple[str, ...] = field(
        default=(), metadata=about(TRAINING, Several(_ACTIVATIONS), "search among these alone; [] searches all")
    )
    max_training_time_minutes: float = field(
        default=0.0,
        metadata=about(TRAINING, Number(0, 10_080, "minutes"), "a trial over this time is pruned; 0 is no limit"),
    )
    max_parameters: int = field(
        default=10_000_000,
        metadata=about(
            TRAINING, Whole(1, 10**12, "trainable parameters"), "a larger model is refused before it trains"
        ),
    )
    max_model_mb: float = field(
        default=0.0,
        metadata=about(
            TRAINING,
            Number(0, 1_000_000, "MB"),
            "a model with larger weights is refused before it trains; 0 is no limit",
        ),
    )
    min_accuracy_threshold: float = field(
        default=0.0,
        metadata=about(
            TRAINING,
            Number(0, 1),
            "a trial that has not reached this validation accuracy after min_accuracy_epochs is pruned; 0 is off",
        ),
    )
    min_accuracy_epochs: int = field(
        default=3, metadata=about(TRAINING, Whole(1, _MAX_EPOCHS, "epochs"), "when min_accuracy_threshold is asked for")
    )
    trial_retries: int = field(
        default=2,
        metadata=about(TRAINING, Whole(0, 10, "tries"), "how often a trial that its worker lost runs again"),
    )
    local_workers: int | Literal["auto"] = field(
        default=1,
        metadata=about(
            MACHINE,
            _TRIALS_OR_AUTO,
            "trials at once on this machine; auto fits its cores",
        ),
    )
    memory_limit: str = field(
        default="auto",
        metadata=about(
            MACHINE,
            Memory(),
            "what the trials on this machine may hold together: fewer run at once where they would pass it; auto is "
            "all that the machine or its container has",
        ),
    )
    use_runpod_service: bool = field(
        default=False, metadata=about(RUNPOD, Truth(), "train on a RunPod serverless endpoint")
    )
    runpod_service_endpoint: str = field(
        default="",
        metadata=about(
            RUNPOD, Text(), "the endpoint's id (RUNPOD_ENDPOINT_ID) or address; local starts one on this machine"
        ),
    )
    local_endpoint_workers: int | Literal["auto"] = field(
        default="auto",
        metadata=about(
            RUNPOD,
            Whole(1, 64, "worker processes", words=("auto",)),
            "workers of runpod_service_endpoint=local; auto is concurrent_workers",
        ),
    )
    runpod_service_timeout: int = field(
        default=3600,
        metadata=about(RUNPOD, Whole(5, _WEEK, "seconds"), "a job over this time is given up"),
    )
    runpod_service_fallback_local: bool = field(
        default=True, metadata=about(RUNPOD, Truth(), "go on locally when the endpoint fails")
    )
    concurrent: bool = field(default=True, metadata=about(RUNPOD, Truth(), "run several remote trials at once"))
    concurrent_workers: int = field(
        default=2, metadata=about(RUNPOD, Whole(1, _MAX_WORKERS, "trials"), "remote trials at once")
    )
    data_store: str = field(
        default="",
        metadata=about(
            RUNPOD, StoreUrl(), "where workers get images of your own from: an S3-compatible bucket; '' is nowhere"
        ),
    )
    data_store_endpoint: str = field(
        default="",
        metadata=about(
            RUNPOD, StoreEndpoint(), "that store's API; '' is AWS, or what boto3 is configured to (AWS_ENDPOINT_URL_S3)"
        ),
    )
    gpu: str = field(
        default="",
        metadata=about(
            RUNPOD, Text(), "the endpoint's GPU, such as 4090, for what its trials cost; '' is what its workers tell"
        ),
    )
    gpu_price_per_second: float = field(
        default=0.0,
        metadata=about(RUNPOD, Number(0, 1, "USD"), "what a second of a worker costs; 0 is the price of gpu"),
    )
    max_cost: float = field(
        default=0.0,
        metadata=about(
            RUNPOD,
            Number(0, 1_000_000, "USD"),
            "no trial starts that would pass this, starts and idle included; 0 is no limit",
        ),
    )
    dashboard: str = field(
        default="auto",
        metadata=about(
            SCREEN,
            Choice(_DASHBOARDS),
            "how a search is shown; auto is live on a terminal that can show it, web is auto and a page for a browser "
            "beside it; enable_dashboard=false is none",
        ),
    )
    web_port: int = field(
        default=0,
        metadata=about(
            SCREEN, Whole(0, 65535), "the page's port with dashboard=web; 0 keeps the run's own, or takes a free one"
        ),
    )
    final_model: str = field(
        default="retrain",
        metadata=about(
            RESULT,
            Choice(_FINAL_MODELS),
            "the model to keep: the best configuration trained on all training images, or the best trial's own model",
        ),
    )
    final_on: str = field(
        default="local",
        metadata=about(
            RESULT,
            Choice(_FINAL_ON),
            "where the final model is trained; remote is the endpoint, and it comes back by data_store",
        ),
    )
    export: tuple[str, ...] = field(
        default=(), metadata=about(RESULT, Several(_EXPORTS), "formats to write the final model in besides .keras")
    )
    report: str = field(
        default="html", metadata=about(RESULT, Choice(_REPORTS), "a page on the search; png adds its charts as files")
    )
    tensorboard: bool = field(default=False, metadata=about(RESULT, Truth(), "write each epoch for TensorBoard"))
    mlflow_tracking_uri: str = field(
        default="", metadata=about(RESULT, TrackingUri(), "an MLflow server that is told of each trial; '' is none")
    )
    run_name: str = field(
        default="", metadata=about(FILES, RunName(), "this run's folder; '' makes a name from data set and time")
    )
    results_dir: str = field(default="results", metadata=about(FILES, Folder(), "where the runs' folders are"))
    cache_dir: str = field(
        default="~/.cache/seedpod", metadata=about(FILES, Folder(), "where prepared data sets are kept, for all runs")
    )
    storage: str = field(
        default="",
        metadata=about(
            FILES,
            StorageUrl(),
            "where the study is kept; '' is a journal in the run's folder, others can be shared by several machines",
        ),
    )

    def __post_init__(self) -> None:
        values = {setting.name: getattr(self, setting.name) for setting in settings()}
        refusals = dict(_refusals(values))
        sound = {name: value for name, value in values.items() if name not in refusals}
        found = [*refusals.values(), *conflicts(sound, {})]
        if found:
            raise ConfigError("\n".join(found))

    @property
    def weight_of_health(self) -> float:
        """See ``TrialResult.scores``."""
        return self.health_weight if self.mode == "health" else 0.0

    @property
    def memory_limit_mb(self) -> float | None:
        """MB of 10^6 bytes that the trials on this machine may hold together; None where there is no limit of ours."""
        return Memory.megabytes(self.memory_limit)

    @property
    def reading(self) -> Reading:
        """How the images are read."""
        return Reading(
            image_size=ImageSize.pixels(self.image_size),
            color_mode=self.color_mode,
            test_size=self.test_size,
            max_samples=self.max_samples,
            max_bad_files=self.max_bad_files,
            sha256=self.dataset_sha256,
            max_download_mb=self.max_download_mb,
        )

    @property
    def own_images(self) -> bool:
        """Whether no worker has the images by their name: they are the user's, or are read in another way."""
        return self.dataset not in DATASETS or bool(self.reading.shape)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What trials are judged by, the first of them first."""
        return objectives_of(self.optimize_for.split(","))


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting, in the order of the fields."""
    return tuple(Setting(each.name, each.default, **each.metadata) for each in fields(OptimizationConfig))


def _refusals(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and complaint for each value that its own setting does not take."""
    for setting in settings():
        try:
            setting.check(values[setting.name])
        except Refused as refused:
            yield setting.name, complaint(f"{setting.name}={values[setting.name]!r}", "", str(refused))


def conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with valid values as a whole: among each other and on this machine.

    Rules about settings that ``values`` lacks are skipped: those have their own complaint.
    """
    low, high = values.get("min_epochs_per_trial"), values.get("max_epochs_per_trial")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        other = located(f"max_epochs_per_trial={high}", origins.get("max_epochs_per_trial", ""))
        yield complaint(
            f"min_epochs_per_trial={low}",
            origins.get("min_epochs_per_trial", ""),
            f"is more than {other}; lower the first or raise the second.",
        )
    if values.get("use_runpod_service") and values.get("runpod_service_endpoint") == "":
        yield complaint(
            "use_runpod_service=true",
            origins.get("use_runpod_service", ""),
            "needs an endpoint: runpod_service_endpoint=ID, RUNPOD_ENDPOINT_ID in the environment, or "
            "runpod_service_endpoint=local, which starts one on this machine.",
        )
    if str(values.get("runpod_service_endpoint", "")).startswith("rpa_"):  # as RunPod's keys do; settings are saved
        origin = origins.get("runpod_service_endpoint", "")
        yield complaint("runpod_service_endpoint=...", origin, "this is an API key: is it swapped with RUNPOD_API_KEY?")
    yield from _health_conflicts(values, origins)
    if "," in str(values.get("optimize_for", "")) and values.get("sampler") == "cmaes":
        origin = origins.get("sampler", "")
        yield complaint("sampler=cmaes", origin, "takes one objective; for several, tpe or nsga2.")
    yield from _lag_conflicts(values, origins)
    yield from _store_conflicts(values, origins)
    dataset = values.get("dataset")
    own = isinstance(dataset, str) and dataset not in DATASETS and "://" not in dataset
    if own and not _is_file(str(dataset)) and not is_folder(str(dataset)):
        yield complaint(
            f"dataset={dataset}",
            origins.get("dataset", ""),
            f"there is no such file or folder. Check the path, or use one of {', '.join(DATASETS)}.",
        )


def _health_conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    names = values.get("optimize_for")
    if values.get("mode") != "health" or not isinstance(names, str) or names in _SHARES:
        return
    yield complaint(
        "mode=health",
        origins.get("mode", ""),
        f"weighs the health with one objective from 0 to 1, and "
        f"{located(f'optimize_for={names}', origins.get('optimize_for', ''))} is none. Use one of "
        f"{', '.join(_SHARES)}, or mode=simple, which reports the health beside every value.",
    )


def _lag_conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    lag = values.get("search_lag")
    if not values.get("reproducible") or not isinstance(lag, int):
        return
    remote = values.get("use_runpod_service") and values.get("concurrent")
    name = "concurrent_workers" if remote else "local_workers"
    workers = values.get(name)
    if isinstance(workers, int) and workers > lag:
        yield complaint(
            f"{name}={workers}",
            origins.get(name, ""),
            f"is more than {located(f'search_lag={lag}', origins.get('search_lag', ''))}: more trials at once than a "
            f"trial may lag behind. Set search_lag={workers} (another study than with {lag}) or reproducible=false.",
        )


def _store_conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    """Images that no worker can have by their name need a way there."""
    if values.get("data_store_endpoint") and values.get("data_store") == "":
        yield complaint(
            f"data_store_endpoint={values['data_store_endpoint']}",
            origins.get("data_store_endpoint", ""),
            "is the API of a data_store, and there is none. Set data_store=s3://BUCKET/PREFIX too.",
        )
    dataset, endpoint = values.get("dataset"), values.get("runpod_service_endpoint")
    if values.get("final_on") == "remote" and not (
        values.get("use_runpod_service") and values.get("data_store") and endpoint != "local"
    ):
        yield complaint(
            "final_on=remote",
            origins.get("final_on", ""),
            "needs use_runpod_service=true, an endpoint that stays (not local, which ends with the trials), and "
            "data_store=s3://BUCKET/PREFIX, by which the model comes back.",
        )
    if not values.get("use_runpod_service") or values.get("data_store") != "":
        return
    if not isinstance(dataset, str) or not endpoint or _is_here(str(endpoint)):
        return
    # Images that are read otherwise are others, also those of a name that workers know.
    shaping = {each.name: each.default for each in settings() if each.name in SHAPING}
    shaped = next((name for name, usual in shaping.items() if values.get(name, usual) != usual), "")
    other = shaped if dataset in DATASETS else "dataset"
    if not other:
        return
    yield complaint(
        f"{other}={values[other]}",
        origins.get(other, ""),
        "the endpoint's workers do not have these images. Set data_store=s3://BUCKET/PREFIX (an S3-compatible bucket, "
        "such as a RunPod network volume), which brings them there, or use_runpod_service=false.",
    )


def _is_here(endpoint: str) -> bool:
    """Whether an endpoint's workers run on this machine, and read its cache folder."""
    try:
        host = urlsplit(endpoint).hostname if "://" in endpoint else endpoint
    except ValueError:
        return False
    return host in {"local", "localhost", "127.0.0.1", "::1"}


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # name too long, no permission, no home folder, NUL
        return False
