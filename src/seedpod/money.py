"""What remote trials cost: prices, the cost of a trial, the estimate before the first job, and the end of a budget.

A trial's cost is its billed seconds, those of failed attempts included, times the price of its worker's GPU: as the
settings say, or else by the name that the worker tells. What a worker is billed besides (its start, and the idle
seconds after its jobs) belongs to no trial and is shown apart.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from seedpod.config import OptimizationConfig
from seedpod.config.wording import did_you_mean
from seedpod.errors import ConfigError
from seedpod.guarded import Guarded
from seedpod.tally import billed_seconds
from seedpod.trial import ParamValue

log = logging.getLogger(__name__)

_LOCAL = "local"  # runpod_service_endpoint=local: workers on this machine
_BRANDS = re.compile(r"\b(nvidia|geforce|rtx|tesla)\b|[^a-z0-9]+")
_WORDS = re.compile(r"[a-z0-9]+")
_NO_OTHER_GPU = re.compile(
    r"nvidia|geforce|rtx|tesla|quadro|\d+gb|sxm\d?|pcie|hbm\d?e?|nvl|blackwell|server|workstation|edition"
)
"""What a driver's name has besides that of the GPU, where the price does not depend on it."""
_OVERTIME = 60.0  # seconds past a trial's own limit until its job is ended by force, as in backends.runpod


@dataclass(frozen=True, slots=True)
class Price:
    """What a second of a worker costs.

    Attributes:
        per_second: USD.
        origin: Where that is from, in words.
    """

    per_second: float
    origin: str

    def cost(self, run: Mapping[str, ParamValue]) -> float:
        """USD for a trial, from the facts of where it ran; 0 where no endpoint asks money for it."""
        return round(billed_seconds(run) * self.per_second, 8)


FREE = Price(0.0, "this machine")


@dataclass(slots=True)
class _Heard:
    price: Price | None
    unknown: set[str]


class Prices:
    """What trials cost: at the price that the settings give, or else at that of the GPU that ran them. Thread-safe.

    Args:
        given: The price by the settings; None where they name none.
    """

    def __init__(self, given: Price | None) -> None:
        self._given = given
        self._heard = Guarded(_Heard(given, set()))

    def cost(self, run: Mapping[str, ParamValue]) -> float | None:
        """USD for a trial, from the facts of where it ran; None where it was paid and its price is not known.

        A trial that says no GPU, since it ended in an error of its endpoint, is counted as the one before it.
        """
        if not billed_seconds(run):
            return 0.0
        name = str(run.get("gpu", ""))
        price = listed(name) if name and self._given is None else None
        with self._heard.locked() as heard:
            if price is not None:
                heard.price = price
            price = heard.price if price is None and not (name and self._given is None) else price
            complain = price is None and name not in heard.unknown
            heard.unknown.add(name)
        if complain:
            gpu = f"the workers have a {name}, which has" if name else "the workers do not say their GPU, so there is"
            log.warning("cost not known: %s no price here. gpu_price_per_second= sets one", gpu)
        return None if price is None else price.cost(run)


def price_of(config: OptimizationConfig) -> Price | None:
    """What a worker of this search costs; None where its endpoint's GPU is not known.

    Raises:
        ConfigError: ``gpu`` is none that has a price, or ``max_cost`` needs a price and there is none.
    """
    price = _price_of(config)
    if price is None and config.max_cost:
        raise ConfigError(
            f"max_cost={config.max_cost:g}: what a trial costs is not known. Name the endpoint's GPU, gpu=4090 for "
            f"instance, or its price, gpu_price_per_second=0.00031."
        )
    return price


def _price_of(config: OptimizationConfig) -> Price | None:
    if config.gpu_price_per_second:
        return Price(config.gpu_price_per_second, "gpu_price_per_second")
    asked = _asked(config.gpu) if config.gpu else None
    if not config.use_runpod_service or config.runpod_service_endpoint == _LOCAL:
        return FREE
    return asked


def _asked(gpu: str) -> Price:
    price = listed(gpu)
    if price is None:
        names = list(_prices()["prices"])
        hint = did_you_mean(gpu, names, otherwise=f"There are {', '.join(names)}.")
        raise ConfigError(f"gpu={gpu}: no price is known for it.{hint} gpu_price_per_second= sets one for any other.")
    return price


def listed(gpu: str) -> Price | None:
    """The price of a GPU in ``configs/gpu_prices.yaml``, by its name there or by that of NVIDIA's driver.

    None where no GPU of the table is meant without doubt: a "4090 Laptop" or "RTX 6000 Ada" is none of it.
    """
    data = _prices()
    for name, price in data["prices"].items():
        if _is_same(name, gpu):
            return Price(float(price), f"{name}, as of {data['date']}")
    return None


def _is_same(name: str, gpu: str) -> bool:
    if _plain(name) == _plain(gpu):
        return True
    known, told = set(_WORDS.findall(name.casefold())), set(_WORDS.findall(gpu.casefold()))
    return known <= told and all(_NO_OTHER_GPU.fullmatch(word) for word in told - known)


def estimate_before(config: OptimizationConfig, price: Price | None, trials: int) -> str:
    """What the search may cost, in a line, before anything is known of its trials; empty for one on this machine."""
    if price is None:
        return (
            "known when the first trial has ended and its worker has told its GPU; gpu=4090 for instance tells it now"
        )
    if not price.per_second:
        return ""
    longest = float(config.runpod_service_timeout)
    if config.max_training_time_minutes:
        longest = min(longest, config.max_training_time_minutes * 60 + _OVERTIME)
    minute = trials * 60 * price.per_second
    most = trials * longest * price.per_second
    limit = f"; max_cost={config.max_cost:g} USD ends the search" if config.max_cost else ""
    return (
        f"{price.per_second:g} USD a second ({price.origin}): {minute:.2f} USD for {trials} trials of a minute, "
        f"at most {most:.2f} USD by their time limit, retries aside{limit}"
    )


def _plain(name: str) -> str:
    return _BRANDS.sub("", name.casefold())


@cache
def _prices() -> dict[str, Any]:
    """The table: in an installed package beside this module, in a checkout in ``configs``."""
    here = Path(__file__)
    installed = here.with_name("gpu_prices.yaml")
    path = installed if installed.is_file() else here.parents[2] / "configs" / "gpu_prices.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**found, "prices": {str(name): price for name, price in found["prices"].items()}}
