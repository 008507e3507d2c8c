"""Money: prices that are found wherever seedpod is installed, costs of trials, and a limit that holds."""

import json
import logging
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedpod.config import OptimizationConfig
from seedpod.errors import Cause, ConfigError, EndpointUnreachable, TrainingError
from seedpod.events import Summary
from seedpod.money import Price, Prices, estimate_before, listed, price_of
from seedpod.optimizer import ModelOptimizer
from seedpod.progress import AggregatedProgress
from seedpod.trial import ParamValue, Report, TrialBackend, TrialResult, TrialSpec
from thread_backend import ThreadBackend, stand_in

ROOT = Path(__file__).parents[1]
REMOTE: dict[str, Any] = {"use_runpod_service": True, "runpod_service_endpoint": "abc"}


@pytest.mark.parametrize(
    ("settings", "per_second"),
    [
        ({}, 0.0),
        ({"gpu": "4090"}, 0.0),
        ({**REMOTE, "gpu": "4090"}, 0.00031),
        ({**REMOTE, "gpu": "NVIDIA GeForce RTX 4090"}, 0.00031),
        ({**REMOTE, "gpu": "rtx-6000-pro"}, 0.00111),
        ({**REMOTE, "gpu": "l40s"}, 0.00053),
        ({**REMOTE, "gpu": "4090", "gpu_price_per_second": 0.5}, 0.5),
        ({**REMOTE, "gpu_price_per_second": 0.5}, 0.5),
        ({**REMOTE, "runpod_service_endpoint": "local"}, 0.0),
    ],
    ids=str,
)
def test_price(settings: dict[str, Any], per_second: float) -> None:
    """The user's own price wins, then the table's; trials on this machine cost nothing."""
    price = price_of(OptimizationConfig(**settings))
    assert price is not None
    assert price.per_second == per_second


def test_unknown_price_and_unknown_gpu() -> None:
    """A remote search without a GPU has no price; a GPU that is in no table is refused with the nearest one."""
    assert price_of(OptimizationConfig(**REMOTE)) is None
    with pytest.raises(ConfigError, match=r"gpu=4900: no price is known.*Did you mean 4090"):
        price_of(OptimizationConfig(**REMOTE, gpu="4900"))
    with pytest.raises(ConfigError, match=r"max_cost=2: what a trial costs is not known"):
        price_of(OptimizationConfig(**REMOTE, max_cost=2.0))


def test_estimate_before_the_first_job() -> None:
    """The plan says what a search may cost before anything is known, and nothing where it costs nothing."""
    config = OptimizationConfig(**REMOTE, gpu="4090", trials=100, runpod_service_timeout=600, max_cost=9.0)
    assert estimate_before(config, price_of(config), 100) == (
        "0.00031 USD a second (4090, as of 2026-05-13): 1.86 USD for 100 trials of a minute, at most 18.60 USD by "
        "their time limit, retries aside; max_cost=9 USD ends the search"
    )
    assert estimate_before(OptimizationConfig(), price_of(OptimizationConfig()), 20) == ""
    assert "gpu=4090" in estimate_before(config, None, 20)


class Billed(ThreadBackend):
    """Trials that an endpoint would have billed for so many seconds, failed ones too."""

    name = "runpod"

    def __init__(self, seconds: float, at_once: int = 1, failing: frozenset[int] = frozenset(), gpu: str = "") -> None:
        super().__init__(stand_in, at_once)
        self._seconds = seconds
        self._failing = failing
        self._gpu = {"gpu": gpu} if gpu else {}

    def run(self, spec: TrialSpec, report: Report) -> TrialResult:
        run: dict[str, ParamValue] = {
            "worker": f"w{spec.number % 2}",
            "billed_seconds": self._seconds,
            "execution_seconds": self._seconds,
            "queue_seconds": 1.0,
            **self._gpu,
        }
        if spec.number in self._failing:
            error = TrainingError("no", cause=Cause.DIVERGED)
            error.run.update(run)
            raise error
        result = super().run(spec, report)
        return replace(result, seconds=self._seconds, run=run)


def search(
    tmp_path: Path, cache: Path, backend: TrialBackend, **settings: Any
) -> tuple[Summary, list[dict[str, Any]], list[AggregatedProgress]]:
    """Run it; summary, records and what the callback was told."""
    told: list[AggregatedProgress] = []
    config = OptimizationConfig(
        **{
            "trials": 10,
            "sampler": "random",
            "pruner": "none",
            "max_epochs_per_trial": 2,
            "run_name": "r",
            "results_dir": str(tmp_path),
            "cache_dir": str(cache),
            **settings,
        }
    )

    def make(*, workers: int, cache_dir: Path, jobs: Path) -> TrialBackend:  # noqa: ARG001 - the protocol's names
        return backend

    summary = ModelOptimizer(config, make_backend=make, progress_callback=told.append).run()
    records = [json.loads(path.read_text("utf-8")) for path in sorted((tmp_path / "r" / "trials").iterdir())]
    return summary, records, told


def test_costs_are_recorded_and_add_up(tmp_path: Path, digits_cache: Path) -> None:
    """Each trial's record has its cost, failed ones too; summary and progress have the sum."""
    backend = Billed(10.0, failing=frozenset({3}))
    summary, records, told = search(tmp_path, digits_cache, backend, gpu_price_per_second=0.01)
    assert [record["cost"] for record in records] == [pytest.approx(0.1)] * 10
    assert summary.cost == pytest.approx(1.0)
    assert told[-1].costs.spent == pytest.approx(1.0)
    assert told[-1].costs.starts == pytest.approx(2 * 1 * 0.01)
    assert told[-1].costs.idle == pytest.approx(2 * 5 * 0.01)
    assert (summary.starts, summary.idle) == (told[-1].costs.starts, told[-1].costs.idle)
    assert told[-1].costs.queue_seconds == 10.0
    written = json.loads((tmp_path / "r" / "summary.json").read_text("utf-8"))
    assert written["cost"] == pytest.approx(1.0)
    assert (written["cost_of_starts"], written["cost_of_idle"], written["trials_without_price"]) == (0.02, 0.1, 0)


def test_price_by_what_the_workers_tell(tmp_path: Path, digits_cache: Path) -> None:
    """Without a price in the settings each trial costs what its worker's GPU costs, and the progress shows it."""
    backend = Billed(10.0, gpu="NVIDIA GeForce RTX 4090")
    summary, records, told = search(tmp_path, digits_cache, backend, **REMOTE)
    assert [record["cost"] for record in records] == [pytest.approx(0.0031)] * 10
    assert {record["run"]["gpu"] for record in records} == {"NVIDIA GeForce RTX 4090"}
    assert told[-1].costs.per_second == pytest.approx(0.00031)
    assert summary.cost == pytest.approx(0.031)
    assert summary.unpriced == 0


def test_unknown_gpu_is_said_once(tmp_path: Path, digits_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the GPU has no price the costs are null, not 0, and the user is told once what to do."""
    backend = Billed(10.0, gpu="NVIDIA GTX 750")
    with caplog.at_level(logging.WARNING):
        summary, records, told = search(tmp_path, digits_cache, backend, **REMOTE)
    assert [record["cost"] for record in records] == [None] * 10
    assert (summary.cost, summary.unpriced) == (0.0, 10)
    assert (told[-1].costs.per_second, told[-1].costs.projected, told[-1].costs.unpriced) == (None, None, 10)
    (line,) = [record.getMessage() for record in caplog.records if "cost" in record.getMessage()]
    assert "NVIDIA GTX 750" in line
    assert "gpu_price_per_second=" in line
    written = (tmp_path / "r" / "summary.json").read_text("utf-8")
    assert json.loads(written)["trials_without_price"] == 10


def test_trial_without_a_gpu_costs_as_the_one_before() -> None:
    """A trial whose endpoint failed does not tell its GPU: it is counted as its elder, and before one as unknown."""
    prices = Prices(None)
    run: dict[str, ParamValue] = {"billed_seconds": 10.0}
    assert prices.cost(run) is None
    assert prices.cost({**run, "gpu": "NVIDIA L4"}) == pytest.approx(0.0019)
    assert prices.cost(run) == pytest.approx(0.0019)
    assert prices.cost({**run, "gpu": "NVIDIA Something"}) is None
    assert prices.cost({}) == 0.0
    assert Prices(Price(0.5, "")).cost({**run, "gpu": "NVIDIA Something"}) == 5.0


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX 6000 PRO"),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40", None),
        ("Tesla V100-SXM2-16GB", None),
        ("", None),
    ],
)
def test_names_as_drivers_tell_them(told: str, name: str | None) -> None:
    """The name of a driver is the GPU of the table that it means, or none: a price that may be wrong is not taken."""
    price = listed(told)
    assert (price and price.origin.split(",")[0]) == name


def test_local_trials_cost_nothing(tmp_path: Path, digits_cache: Path) -> None:
    """A search on this machine records 0 for each trial and in the sum."""
    summary, records, told = search(tmp_path, digits_cache, ThreadBackend(stand_in))
    assert {record["cost"] for record in records} == {0.0}
    assert (summary.cost, told[-1].costs.spent, told[-1].costs.projected) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("at_once", "most"), [(1, 4), (4, 4 + 3)])
def test_max_cost_ends_the_search_in_order(tmp_path: Path, digits_cache: Path, at_once: int, most: int) -> None:
    """No trial starts that would pass the limit, workers' starts and idle seconds included; those that run end well.

    It is passed by no more than those.
    """
    settings = {"gpu_price_per_second": 0.01, "max_cost": 0.6, "trials": 30}
    summary, records, _ = search(tmp_path, digits_cache, Billed(10.0, at_once), **settings)
    assert summary.outcome == "max_cost"
    assert {record["status"] for record in records} == {"complete"}
    assert 4 <= len(records) <= most
    assert summary.cost == pytest.approx(0.1 * len(records))
    assert summary.cost + summary.starts + summary.idle <= 0.6 + 0.1 * (at_once - 1)


def test_higher_limit_goes_on(tmp_path: Path, digits_cache: Path) -> None:
    """A run that its limit ended goes on under a higher one, and what it had spent counts."""
    settings: dict[str, Any] = {"gpu_price_per_second": 0.01, "trials": 8}
    search(tmp_path, digits_cache, Billed(10.0), max_cost=0.45, **settings)
    summary, records, _ = search(tmp_path, digits_cache, Billed(10.0), max_cost=0.75, **settings)
    assert (summary.outcome, len(records)) == ("max_cost", 6)
    assert summary.cost == pytest.approx(0.6)
    summary, records, _ = search(tmp_path, digits_cache, Billed(10.0), max_cost=5.0, **settings)
    assert (summary.outcome, len(records)) == ("done", 8)
    assert summary.cost == pytest.approx(0.8)


def test_cancelled_trials_stay_paid(tmp_path: Path, digits_cache: Path) -> None:
    """What a trial had cost that was cancelled and runs again later counts in the later run too."""

    class Away(Billed):
        def run(self, spec: TrialSpec, report: Report) -> TrialResult:
            if spec.number == 2:
                error = EndpointUnreachable("gone")
                error.run["billed_seconds"] = 7.0
                raise error
            return super().run(spec, report)

    settings: dict[str, Any] = {"gpu_price_per_second": 0.01, "trials": 3}
    with pytest.raises(EndpointUnreachable):
        search(tmp_path, digits_cache, Away(10.0), **settings)
    summary, records, _ = search(tmp_path, digits_cache, Billed(10.0), **settings)
    assert summary.cost == pytest.approx(0.3 + 0.07)
    assert sum(record["cost"] for record in records) == pytest.approx(0.3)


def test_paid_search_that_fell_back_is_not_ended_by_its_limit(tmp_path: Path, digits_cache: Path) -> None:
    """Where a search with a price runs on this machine instead, nothing is projected and no limit ends it."""

    class Here(Billed):
        name = "local"

        def run(self, spec: TrialSpec, report: Report) -> TrialResult:
            return replace(super().run(spec, report), run={})

    settings = {"gpu_price_per_second": 0.01, "max_cost": 0.05}
    summary, _, told = search(tmp_path, digits_cache, Here(10.0), **settings)
    assert (summary.outcome, summary.cost, told[-1].costs.projected) == ("done", 0.0, 0.0)


def test_wheel_holds_the_prices() -> None:
    """The build puts the table beside the module that reads it, so that an installed package finds it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["configs/gpu_prices.yaml"] == "seedpod/gpu_prices.yaml"
    assert (ROOT / "configs" / "gpu_prices.yaml").is_file()
