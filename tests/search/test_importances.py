"""What mattered: told from the complete trials alone, in a process of its own, the same whenever it is asked."""

import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest

from seedpod.search.importances import importances, weigh, weighable
from seedpod.search.sampler import make_sampler
from seedpod.search.study import SearchStudy, Trial, open_study
from studies import run, study_of, with_values

NEVER = 1e-3  # seconds


@pytest.fixture(name="study")
def new_study(tmp_path: Path) -> SearchStudy:
    return study_of(tmp_path / "study.journal")


def deciding(study: SearchStudy, sign: int = 1) -> SearchStudy:
    """Thirty trials whose value is one hyperparameter but for a little."""

    def objective(trial: Trial) -> float:
        layers = trial.suggest_int("layers", 1, 3)
        for layer in range(layers):
            trial.suggest_int(f"filters_{layer}", 8, 64, step=8)
        # The best is in the middle and the worst at one end: the wrong direction would tell another story.
        return sign * (1 - abs(trial.suggest_float("decides", 0, 1) - 0.6) + 0.02 * layers)

    run(study, objective, trials=30)
    return study


@pytest.mark.parametrize("values", [[], [0.5], [n / 7 for n in range(7)], [0.5] * 9, [0.5, None] * 7])
def test_importances_need_values_that_differ(study: SearchStudy, values: list[float | None]) -> None:
    """With fewer than eight complete trials, or one value for all, nothing is said to matter, and no process runs."""
    assert importances(with_values(study, values), patience=NEVER) == {}


def test_importances_are_shares_of_one(study: SearchStudy) -> None:
    """Importances are finite shares that sum to 1, the largest first, whatever else has failed."""
    found = weigh(weighable(with_values(study, [*(n / 20 for n in range(9)), None, 0.9])))
    assert set(found) == {"x", "y"}
    assert math.isclose(sum(found.values()), 1)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_importances_find_what_matters(study: SearchStudy) -> None:
    """The one hyperparameter that decides the value comes first by far, and one that only some trials have is left out;
    a process of its own and this one say the same.
    """
    found = importances(deciding(study))
    assert next(iter(found)) == "decides"
    assert found["decides"] > 0.7
    assert "filters_2" not in found
    assert weigh(weighable(study)) == found


def test_direction_plays_no_part(tmp_path: Path) -> None:
    """What decides a value decides it as much where the lowest is the best."""
    low = open_study("s", "", tmp_path / "low.journal", "", ("minimize",))
    low.sampler = make_sampler("random", 1, 1, None)
    high = study_of(tmp_path / "high.journal")
    assert weigh(weighable(deciding(low, -1))) == pytest.approx(weigh(weighable(deciding(high))))


def test_importances_that_take_too_long_are_given_up(study: SearchStudy, caplog: pytest.LogCaptureFixture) -> None:
    """A process that has not answered in time is killed; that is said in a line, and not while the search goes on."""
    deciding(study)
    with caplog.at_level(logging.WARNING):
        assert importances(study, so_far=True, patience=NEVER) == {}
        assert caplog.messages == []
        assert importances(study, patience=NEVER) == {}
    assert len(caplog.messages) == 1
    assert "importances are not known" in caplog.messages[0]


def test_trials_that_are_none_are_no_answer() -> None:
    """The process ends with an error, and no answer, over what is no list of trials."""
    done = subprocess.run(
        [sys.executable, "-m", "seedpod.search.importances"], input="[{}]", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "KeyError" in done.stderr
