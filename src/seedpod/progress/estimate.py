"""How much longer a search takes: its queue dealt out to its workers, many times, with durations as they were. Pure.

What is known decides. A running trial that has reported epochs is judged by its own pace; one that has not, by ended
trials whose networks cost about as much; one that is still queued, whose parameters nobody knows, by all trials that
have begun. Those that still run are part of that sample: without them it would hold too many short trials. The wait
before the training is kept apart, and that of a search's first trials (cold starts) says nothing about later ones.
"""

import heapq
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from seedpod.board import RunningTrial, Snapshot
from seedpod.tally import SAMPLES, Times, cost_level

_DEALS = 16  # times that the queue is dealt out
_ROUNDS = 4  # rounds of the workers that are dealt out trial by trial; what is before them only counts as work
_LEAST_LEFT = 0.1  # of a trial's expected seconds: left at least, once it takes longer than expected


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is still to come. Seconds; ``low`` to ``high`` holds the end in about 8 of 10 cases.

    Attributes:
        seconds: Until the last trial has ended.
        low: See above.
        high: See above.
        busy: Training seconds that all running and queued trials still need together.
        per_trial: Training seconds of a queued trial.
        running: Seconds that each running trial still needs, by number.
    """

    seconds: float
    low: float
    high: float
    busy: float
    per_trial: float
    running: dict[int, float]


@dataclass(frozen=True, slots=True)
class _Guess:
    """Of a running trial: seconds before its training, and training seconds from its start to its end.

    Attributes:
        wait: Seconds before its training, or what is expected of them.
        total: Training seconds, expected.
        spent: Seconds since it began.
        least: Seconds that are left at least.
        own: Whether by its own epochs; else the total is uncertain as a whole.
    """

    wait: float
    total: float
    spent: float
    least: float
    own: bool

    def left(self, times: float = 1.0) -> float:
        """Seconds until its end, should its training take so many times as long as expected."""
        return max(self.wait + self.total * times - self.spent, self.least)


def outlook(snapshot: Snapshot, now: float, at_once: int) -> Outlook | None:
    """What is still to come; None while nothing is known: no trial has ended or finished an epoch.

    Args:
        snapshot: The board.
        now: Seconds since the epoch.
        at_once: Trials that may run side by side.
    """
    times = snapshot.times
    found = {trial.spec.number: _guess(trial, times, now) for trial in snapshot.running}
    sample = [each.busy for each in times]
    if len(times) < SAMPLES:
        # All that have begun, a fair sample. Once the oldest are forgotten, the ended ones alone are one: trials that
        # are seen running are longer than others, as the bus is later than its timetable for those who wait for it.
        sample += [guess.total for guess in found.values() if guess is not None and guess.own]
    if not sample:
        return None
    mean, wait = statistics.fmean(sample), _wait(times)
    guesses = {
        trial.spec.number: found[trial.spec.number] or _unheard(trial, mean, wait, now) for trial in snapshot.running
    }
    deals = _Deals(sample, wait, _scatter(times))
    ends = deals.ends(list(guesses.values()), snapshot.queued, max(1, at_once, len(guesses)))
    running = {number: guess.left() for number, guess in guesses.items()}
    return Outlook(
        seconds=statistics.fmean(ends),
        low=ends[len(ends) // 10],
        high=ends[-1 - len(ends) // 10],
        busy=sum(running.values()) + snapshot.queued * mean,
        per_trial=mean,
        running=running,
    )


def _guess(trial: RunningTrial, times: Sequence[Times], now: float) -> _Guess | None:
    """How long a running trial takes, by its own pace or by that of ended trials like it; else None."""
    progress = trial.progress
    share = _share(times, progress.epoch / trial.spec.max_epochs if progress else 0.0)
    epochs = share * trial.spec.max_epochs
    heard = progress is not None and progress.epoch > 0
    like = _pace_like(trial, times) if not heard or (progress and progress.epoch == 1) else None
    if progress is None or trial.reported_at is None or not heard:
        return None if like is None else _unheard(trial, like * epochs, _wait(times, cold=trial.cold), now)
    pace, busy = _own_pace(trial, like)
    total = busy + max(0.0, epochs - progress.epoch) * pace
    wait = max(0.0, trial.reported_at - trial.started_at - busy)
    return _Guess(wait, total, now - trial.started_at, _LEAST_LEFT * pace, own=True)


def _unheard(trial: RunningTrial, total: float, wait: float, now: float) -> _Guess:
    """A trial that has said nothing yet: it may wait, or train its first epoch."""
    return _Guess(wait, total, now - trial.started_at, _LEAST_LEFT * total, own=False)


def _own_pace(trial: RunningTrial, like: float | None) -> tuple[float, float]:
    """Seconds an epoch, and training seconds so far.

    The first epoch of a network is slow: it is compiled. From the second report on the pace is that of the epochs since
    the first one; before, it lies between the first epoch's and that of trials like it.
    """
    progress, first = trial.progress, trial.first
    if progress is None or first is None or trial.reported_at is None or trial.first_at is None:
        raise ValueError("a trial without reports has no pace")
    spent = progress.seconds or max(0.0, trial.reported_at - trial.started_at)
    since = progress.epoch - first.epoch
    if since > 0:
        took = progress.seconds - first.seconds if progress.seconds else trial.reported_at - trial.first_at
        return max(took, 0.0) / since, spent
    pace = spent / progress.epoch
    return (pace if like is None else math.sqrt(pace * like)), spent


def _pace_like(trial: RunningTrial, times: Sequence[Times]) -> float | None:
    """Seconds an epoch of ended trials, by weighted median: the more alike their networks' cost, the heavier."""
    level = cost_level(trial.spec.params)
    paces = [(each.busy / each.epochs, 2.0 ** -(2 * (each.level - level) ** 2)) for each in times if each.epochs]
    return _weighted_median(paces)


def _weighted_median(pairs: list[tuple[float, float]]) -> float | None:
    half = sum(weight for _, weight in pairs) / 2
    passed = 0.0
    for value, weight in sorted(pairs):
        passed += weight
        if passed >= half:
            return value
    return None


def _share(times: Sequence[Times], done: float) -> float:
    """Share of its epochs that a trial trains which has trained ``done`` of them: early stopping ends some."""
    shares = [min(1.0, each.epochs / each.max_epochs) for each in times if each.epochs]
    later = [share for share in shares if share > done]
    return statistics.fmean(later) if later else 1.0


def _wait(times: Sequence[Times], *, cold: bool = False) -> float:
    """Seconds that a trial waits before its training; of the first ones where there are no others, or for ``cold``."""
    waits = [each.wait for each in times if each.cold == cold] or [each.wait for each in times]
    return statistics.median(waits) if waits else 0.0


def _scatter(times: Sequence[Times]) -> float:
    """Sigma of the logarithm of the pace among trials of equal cost: from neighbours, sorted by cost."""
    paces = [math.log(each.busy / each.epochs) for each in sorted(times, key=_level) if each.epochs and each.busy > 0]
    steps = [(after - before) ** 2 / 2 for before, after in pairwise(paces)]
    return math.sqrt(statistics.fmean(steps)) if steps else 0.5


def _level(times: Times) -> float:
    return times.level


class _Deals:
    """Deals the queue out to the workers, many times: a duration for each trial, drawn from those that are known.

    A deal also draws how wrong the known mean may be: a few trials know it badly.

    Args:
        sample: Training seconds of trials.
        wait: Seconds that each waits before.
        scatter: See ``_scatter``.
    """

    def __init__(self, sample: Sequence[float], wait: float, scatter: float) -> None:
        self._sample = sample
        self._wait = wait
        self._scatter = scatter
        self._mean = statistics.fmean(sample)
        self._spread = statistics.pstdev(sample) if len(sample) > 1 else self._mean / 2
        self._chance = random.Random(0)  # always the same deals: an estimate must not flicker

    def ends(self, running: Sequence[_Guess], queued: int, workers: int) -> list[float]:
        """Seconds to the end in each of the deals, ascending."""
        known = self._spread / self._mean / math.sqrt(len(self._sample)) if self._mean > 0 else 0.0
        # Evenly spread quantiles instead of draws: few deals with the mean of many.
        offs = [statistics.NormalDist().inv_cdf((deal + 0.5) / _DEALS) for deal in range(_DEALS)]
        return sorted(self._end(running, queued, workers, max(0.2, 1 + known * off)) for off in offs)

    def _end(self, running: Sequence[_Guess], queued: int, workers: int, doubt: float) -> float:
        chance, dealt = self._chance, min(queued, _ROUNDS * workers)
        slots = [
            guess.left() if guess.own else guess.left(math.exp(chance.gauss(0, self._scatter))) for guess in running
        ]
        last = max(slots, default=0.0)
        slots += [0.0] * (workers - len(running))
        bulk = queued - dealt
        if bulk:
            work = bulk * (self._mean * doubt + self._wait) + chance.gauss(0, self._spread) * math.sqrt(bulk)
            slots = [slot + max(0.0, work) / workers for slot in slots]
        heapq.heapify(slots)
        for drawn in chance.choices(self._sample, k=dealt):
            end = slots[0] + self._wait + drawn * doubt
            heapq.heapreplace(slots, end)
            last = max(last, end)
        return last
