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
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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
    """What is still to come; None while nothing is known: no trial has ended or finished a second epoch.

    Args:
        snapshot: The board.
        now: Seconds since the epoch.
        at_once: Trials that may run side by side.
    """
    times = snapshot.times
    past = _Past(times)
    found = {trial.spec.number: _guess(trial, past, now) for trial in snapshot.running}
    sample = [each.busy for each in times]
    if len(times) < SAMPLES:
        # All that have begun, a fair sample. Once the oldest are forgotten, the ended ones alone are one: trials that
        # are seen running are longer than others, as the bus is later than its timetable for those who wait for it.
        sample += [guess.total for guess in found.values() if guess is not None and guess.own]
    if not sample:
        return None
    mean = statistics.fmean(sample)
    guesses = {
        trial.spec.number: found[trial.spec.number] or _unheard(trial, mean, past.wait, now)
        for trial in snapshot.running
    }
    deals = _Deals(sample, past.wait, past.scatter)
    ends = deals.ends(list(guesses.values()), snapshot.queued, max(1, at_once))
    mean_end = statistics.fmean(ends)
    running = {number: guess.left() for number, guess in guesses.items()}
    return Outlook(
        seconds=mean_end,
        low=min(mean_end, ends[len(ends) // 10]),
        high=max(mean_end, ends[-1 - len(ends) // 10]),
        busy=sum(running.values()) + snapshot.queued * mean,
        per_trial=mean,
        running=running,
    )


def _guess(trial: RunningTrial, past: "_Past", now: float) -> _Guess | None:
    """How long a running trial takes, by its own pace or by that of ended trials like it; else None."""
    progress = trial.progress
    most = trial.spec.total_epochs
    epochs = past.share_after(progress.epoch / most if progress else 0.0) * most
    heard = progress is not None and progress.epoch > 0
    like = past.pace_of(trial) if not heard or (progress and progress.epoch == 1) else None
    if progress is None or trial.reported_at is None or not heard:
        return None if like is None else _unheard(trial, like.busy(epochs), past.wait_of(trial), now)
    if progress.epoch == 1 and like is None and trial.spec.max_epochs > 1:
        return None  # a first epoch holds the compilation, five times an epoch: alone it is no ground
    pace, busy = _own_pace(trial, like)
    total = busy + max(0.0, epochs - progress.epoch) * pace
    wait = max(0.0, trial.reported_at - trial.started_at - busy)
    # An epoch that takes long takes nothing off those behind it; one report may be on its way.
    least = max(_LEAST_LEFT, epochs - progress.epoch - 2) * pace
    return _Guess(wait, total, now - trial.started_at, least, own=True)


def _unheard(trial: RunningTrial, total: float, wait: float, now: float) -> _Guess:
    """A trial that has said nothing yet: it may wait, or train its first epoch."""
    return _Guess(wait, total, now - trial.started_at, _LEAST_LEFT * total, own=False)


def _own_pace(trial: RunningTrial, like: "_Pace | None") -> tuple[float, float]:
    """Seconds an epoch, and training seconds so far.

    The first epoch of a network is slow: it is compiled. From the second report on the pace is that of the epochs since
    the first one; before, it is that of trials like it, by half as much slower or faster as the first epoch was.
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
    return (pace if like is None else like.later * math.sqrt(pace / like.first)), spent


@dataclass(frozen=True, slots=True)
class _Pace:
    """Training seconds of a network's first epoch, and of each later one."""

    first: float
    later: float

    def busy(self, epochs: float) -> float:
        """Training seconds of so many epochs."""
        return self.first + max(0.0, epochs - 1) * self.later


class _Past:
    """What ended trials tell about the others, looked up for each running trial.

    Attributes:
        wait: Seconds that a trial waits before its training.
        scatter: Sigma of the logarithm of the pace among trials of equal cost.
    """

    def __init__(self, times: Sequence[Times]) -> None:
        trained = [each for each in times if each.epochs and each.busy > 0]
        # Of those that ended with their first epoch nothing is known but that, unless all did.
        later = [each for each in trained if each.epochs > 1] or trained
        self._firsts = sorted((_first(each), each.level) for each in trained)
        self._laters = sorted((_later(each), each.level) for each in later)
        self._shares = sorted(min(1.0, each.epochs / each.max_epochs) for each in trained)
        self._sums = [0.0, *accumulate(self._shares)]
        cold, warm = ([each.wait for each in times if each.cold == kind] for kind in (True, False))
        self.wait = statistics.median(warm or cold or [0.0])
        self._cold_wait = statistics.median(cold or warm or [0.0])
        # From neighbours, sorted by cost: what they differ by is not explained by it.
        logs = [math.log(_later(each)) for each in sorted(later, key=_level)]
        steps = [(after - before) ** 2 / 2 for before, after in pairwise(logs)]
        self.scatter = math.sqrt(statistics.fmean(steps)) if steps else 0.5

    def wait_of(self, trial: RunningTrial) -> float:
        """Seconds that this one waits: the first ones wait for cold starts."""
        return self._cold_wait if trial.cold else self.wait

    def pace_of(self, trial: RunningTrial) -> _Pace | None:
        """Seconds an epoch, by what networks of about its cost took; None where none has."""
        level = cost_level(trial.spec.params)
        first, later = _middle(self._firsts, level), _middle(self._laters, level)
        return None if first is None or later is None else _Pace(first, later)

    def share_after(self, done: float) -> float:
        """Share of its epochs that a trial trains which has trained ``done`` of them: early stopping ends some."""
        start = bisect_right(self._shares, done)
        count = len(self._shares) - start
        return (self._sums[-1] - self._sums[start]) / count if count else 1.0


def _middle(seconds: Sequence[tuple[float, float]], level: float) -> float | None:
    """The weighted median of (seconds, level), ascending: the more alike the networks' cost, the heavier."""
    weights = [2.0 ** -(2 * (other - level) ** 2) for _, other in seconds]
    half, passed = sum(weights) / 2, 0.0
    for (each, _), weight in zip(seconds, weights, strict=True):
        passed += weight
        if passed >= half:
            return each
    return None


def _first(times: Times) -> float:
    """Seconds of the first epoch; where that is not told, of any."""
    return times.busy / times.epochs if times.first is None else times.first


def _later(times: Times) -> float:
    """Seconds of an epoch after the first one; where that one is not told, of any."""
    if times.first is None or times.epochs < 2 or times.first >= times.busy:
        return times.busy / times.epochs
    return (times.busy - times.first) / (times.epochs - 1)


def _level(times: Times) -> float:
    return times.level


class _Deals:
    """Deals the queue out to the workers, many times: a duration for each trial, drawn from those that are known.

    A deal also draws how wrong the known mean may be: a few trials know it badly.

    Args:
        sample: Training seconds of trials.
        wait: Seconds that each waits before.
        scatter: See _Past.
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
        slots, behind = slots[:workers], slots[workers:]  # the latter begin where one of the former ends
        bulk = queued - dealt
        if bulk:
            work = bulk * (self._mean * doubt + self._wait) + chance.gauss(0, self._spread) * math.sqrt(bulk)
            slots = [slot + max(0.0, work) / workers for slot in slots]
        heapq.heapify(slots)
        for left in behind:
            end = slots[0] + left
            heapq.heapreplace(slots, end)
            last = max(last, end)
        for drawn in chance.choices(self._sample, k=dealt):
            end = slots[0] + self._wait + drawn * doubt
            heapq.heapreplace(slots, end)
            last = max(last, end)
        return last
