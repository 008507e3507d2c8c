"""A search whose trials only pass simulated time: the board sees it as it would see a real one, in milliseconds."""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import samples
from seedpod.board import Snapshot, TrialBoard
from seedpod.trial import Status, TrialProgress, TrialResult, TrialSpec


@dataclass(frozen=True)
class World:
    """How the trials of a simulated search behave.

    Attributes:
        trials: How many there are.
        workers: How many run side by side.
        spread: Sigma of the log-normal noise on a trial's seconds an epoch.
        by_params: Whether an epoch's seconds follow from the network's size.
        wait: Seconds before a trial's training.
        cold: Seconds that a worker's first trial waits in addition.
        compiling: Seconds that a trial's first epoch takes in addition.
        failing: Share of trials that fail somewhere on their way.
        stopping: Share of trials that end early.
        silent: Whether trials report no epochs.
    """

    trials: int = 100
    workers: int = 4
    spread: float = 0.4
    by_params: bool = False
    wait: float = 0.0
    cold: float = 0.0
    compiling: float = 0.0
    failing: float = 0.0
    stopping: float = 0.0
    silent: bool = False


@dataclass(frozen=True)
class _Course:
    """One trial as it will go: (seconds after its start, epoch, training seconds) of its reports, and its end."""

    spec: TrialSpec
    reports: tuple[tuple[float, int, float], ...]
    result: TrialResult
    took: float


def simulate(world: World, seed: int, ended: int) -> tuple[Snapshot, float]:
    """Run the search until so many trials have ended: the board then, and the seconds that it took so far."""
    board = TrialBoard(world.trials, 0.0)
    begun, done, now = 0, 0, 0.0
    events: list[tuple[float, int, Callable[[], None]]] = []
    order = iter(range(10**9))

    def begin(cold: bool) -> None:  # noqa: FBT001
        nonlocal begun
        course = _course(world, begun, _chance(seed, begun), cold=cold)
        begun += 1
        board.start(course.spec, now)
        started = now
        for after, epoch, seconds in course.reports:
            told = replace(
                samples.PROGRESS, number=course.spec.number, sequence=epoch, epoch=epoch, seconds=seconds, value=0.5
            )
            heapq.heappush(events, (started + after, next(order), _reporting(board, told, started + after)))
        heapq.heappush(events, (started + course.took, next(order), lambda: end(course)))

    def end(course: _Course) -> None:
        nonlocal done
        board.finish(course.result, now)
        done += 1
        if begun < world.trials:
            begin(cold=False)

    for _ in range(min(world.workers, world.trials)):
        begin(cold=True)
    while done < ended:
        now, _, happen = heapq.heappop(events)
        happen()
    return board.snapshot(), now


def took(world: World, seed: int, known: int | None = None, again: int = 0) -> float:
    """Seconds that the whole search takes.

    Args:
        world: How trials behave.
        seed: Decides the search.
        known: The first so many trials are those of ``simulate``; the others are drawn anew. None: all are.
        again: Which of the ways it could have gone on.
    """
    ends = [0.0] * min(world.workers, world.trials)
    for number in range(world.trials):
        chance = _chance(seed, number) if known is None or number < known else _chance(seed, number, again + 1)
        course = _course(world, number, chance, cold=number < world.workers)
        heapq.heapreplace(ends, ends[0] + course.took)
    return max(ends)


def _chance(seed: int, number: int, again: int = 0) -> random.Random:
    return random.Random(f"{seed}/{number}/{again}")


def _reporting(board: TrialBoard, told: TrialProgress, at: float) -> Callable[[], None]:
    def report() -> None:
        board.report(told, at)

    return report


def _course(world: World, number: int, chance: random.Random, *, cold: bool) -> _Course:
    layers, epochs = chance.randint(1, 3), chance.randint(5, 10)
    params = {"conv_blocks": layers, "kernel_size": chance.choice([3, 5]), "epochs": epochs}
    params |= {f"filters_{layer}": 8 * chance.randint(1, 4 if layer == 0 else 8) for layer in range(layers)}
    work = sum(
        params["kernel_size"] ** 2 * (params[f"filters_{i - 1}"] if i else 1) * params[f"filters_{i}"] / 4**i
        for i in range(layers)
    )
    pace = 2.0 * (0.3 + work / 3000 if world.by_params else 1.0) * math.exp(chance.gauss(0, world.spread))
    wait = world.wait * chance.uniform(0.5, 1.5) + (world.cold * chance.uniform(0.8, 1.2) if cold else 0.0)
    ran = chance.randint(1, epochs) if chance.random() < world.stopping else epochs
    failed = chance.random() < world.failing
    ran = chance.randint(0, ran) if failed else ran
    times = [world.compiling + pace * epoch for epoch in range(1, ran + 1)]
    took = wait + (times[-1] if times else pace / 2)
    result = (
        TrialResult(number, Status.FAILED, error=samples.FAILURE, epochs=0)
        if failed
        else replace(samples.RESULT, number=number, epochs=ran, seconds=times[-1])
    )
    reports = () if world.silent else tuple(_reports(times, wait))
    return _Course(samples.spec(number, params=params, max_epochs=epochs), reports, result, took)


def _reports(times: list[float], wait: float) -> Iterator[tuple[float, int, float]]:
    # The last epoch's report is the trial's end.
    return ((wait + seconds, epoch, seconds) for epoch, seconds in enumerate(times[:-1], 1))
