"""What remote trials cost: prices, the cost of a trial, the estimate before the first job, and the end of a budget.

A trial's cost is its billed seconds, those of failed attempts included, times the price of its endpoint's GPU. What a
worker is billed besides (its start, and the idle seconds after its last job) belongs to no trial and is shown apart.
"""

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
from seedpod.tally import billed_seconds
from seedpod.trial import ParamValue

_LOCAL = "local"  # runpod_service_endpoint=local: workers on this machine
_BRANDS = re.compile(r"\b(nvidia|geforce|rtx|tesla)\b|[^a-z0-9]+")
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
    listed = _listed(config.gpu) if config.gpu else None
    if not config.use_runpod_service or config.runpod_service_endpoint == _LOCAL:
        return FREE
    return listed


def _listed(gpu: str) -> Price:
    data = _prices()
    names = {_plain(name): name for name in data["prices"]}
    name = names.get(_plain(gpu))
    if name is None:
        hint = did_you_mean(gpu, list(names.values()), otherwise=f"There are {', '.join(names.values())}.")
        raise ConfigError(f"gpu={gpu}: no price is known for it.{hint} gpu_price_per_second= sets one for any other.")
    return Price(float(data["prices"][name]), f"{name}, as of {data['date']}")


def estimate_before(config: OptimizationConfig, price: Price | None, trials: int) -> str:
    """What the search may cost, in a line, before anything is known of its trials; empty for one on this machine."""
    if price is None:
        return "what the trials cost is not known: name the endpoint's GPU, gpu=4090 for instance"
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
