"""The time left: right where it can be known, and unknown where it cannot."""

import statistics
from dataclasses import replace

import pytest

import samples
from seedpod.board import Snapshot, TrialBoard
from seedpod.progress import AggregatedProgress, ConcurrentProgressAggregator
from seedpod.progress.estimate import outlook
from seedpod.trial import Status, TrialResult
from simulated_search import World, simulate, took

WORLDS = {
    "one worker": World(workers=1),
    "four workers": World(workers=4),
    "sixteen workers": World(workers=16, trials=160),
    "cost by parameters": World(by_params=True, spread=0.2, trials=200),
    "cold starts": World(workers=8, cold=60, wait=3),
    "failures": World(failing=0.1, trials=160),
    "early stopping": World(stopping=0.4, workers=8),
    "slow first epochs": World(compiling=5.0),
    "no reports": World(silent=True),
    "long search": World(trials=600, workers=16, spread=0.8),
    "everything": World(
        workers=8, trials=200, by_params=True, spread=0.2, wait=2, cold=40, failing=0.1, stopping=0.3, compiling=3
    ),
}
WAYS = 20  # in which the second half might have gone, for the floor
LEARNT = 2**0.5
"""How much further off than the floor an estimate is that has to learn from the first half how long trials take: the
mean of a half is as uncertain as the sum of the other."""


def at_half(world: World, seed: int) -> tuple[AggregatedProgress, float]:
    """What is said when half of the trials have ended, and the seconds that it really takes from there."""
    snapshot, now = simulate(world, seed, world.trials // 2)
    return ConcurrentProgressAggregator(world.workers).aggregate(snapshot, now), took(world, seed) - now


def seeds(world: World) -> range:
    """So many that a median error is known to about a hundredth, and fewer of what takes long."""
    return range(100 if world.trials <= 100 else 40)


def errors(world: World) -> list[float]:
    """Of each seed's estimate, as share of what it really takes."""
    found = []
    for seed in seeds(world):
        progress, really = at_half(world, seed)
        assert progress.remaining is not None
        found.append((progress.remaining - really) / really)
    return found


def floor(world: World) -> float:
    """Median error of an oracle, which knows how the running trials end and how long the queued ones take on average.

    How long each of those takes is chance: nobody can tell before.
    """
    found = []
    for seed in seeds(world):
        snapshot, now = simulate(world, seed, world.trials // 2)
        begun, really = world.trials - snapshot.queued, took(world, seed) - now
        said = statistics.median(took(world, seed, begun, way) for way in range(WAYS)) - now
        found.append(abs(said - really) / really)
    return statistics.median(found)


@pytest.mark.parametrize("name", WORLDS)
def test_time_left_at_half_is_right(name: str) -> None:
    """In every kind of search the median error at half time is under 10 %, or within chance where chance is larger."""
    found = errors(WORLDS[name])
    median = statistics.median(map(abs, found))
    assert median < 0.1 or median < LEARNT * floor(WORLDS[name])
    assert abs(statistics.fmean(found)) < 0.06  # and leans to no side


def test_range_holds_the_end() -> None:
    """The end lies within the range in most searches."""
    held = []
    for seed in range(12):
        for world in (WORLDS["four workers"], WORLDS["cold starts"], WORLDS["long search"]):
            progress, really = at_half(world, seed)
            assert progress.remaining_low is not None
            assert progress.remaining_high is not None
            held.append(progress.remaining_low <= really <= progress.remaining_high)
    assert statistics.fmean(held) > 0.6


def board_of(total: int, *started: int) -> TrialBoard:
    board = TrialBoard(total, 0.0)
    for number in started:
        board.start(samples.spec(number), 0.0)
    return board


def test_unknown_until_there_is_ground() -> None:
    """Nothing is said before a second epoch, for the first one compiles; then by that trial's own pace."""
    board = board_of(1, 0)
    assert outlook(board.snapshot(), 5.0, 1) is None
    board.report(replace(samples.PROGRESS, number=0, epoch=1, sequence=1, seconds=2.0), 2.0)
    assert outlook(board.snapshot(), 2.0, 1) is None
    board.report(replace(samples.PROGRESS, number=0, epoch=2, sequence=2, seconds=3.0), 3.0)
    ahead = outlook(board.snapshot(), 3.0, 1)
    assert ahead is not None
    assert ahead.seconds == pytest.approx(2.0)  # two of four epochs are left, at one second: the first one compiled
    later = outlook(board.snapshot(), 4.5, 1)
    assert later is not None
    assert later.seconds == pytest.approx(0.5)


def finished(times: list[float], total: int, *, workers: int = 1) -> Snapshot:
    board = TrialBoard(total, 0.0)
    for number, seconds in enumerate(times):
        board.start(samples.spec(number), 0.0)
        board.finish(replace(samples.complete(number, 0.5), seconds=seconds), seconds)
    for number in range(len(times), len(times) + workers):
        board.start(samples.spec(number), max(times))
    return board.snapshot()


def test_queue_is_shared_by_the_workers() -> None:
    """Equal trials on four workers take a quarter of the time, and the last round counts whole."""
    snapshot = finished([10.0] * 8, 8 + 4 + 10, workers=4)
    ahead = outlook(snapshot, 10.0, 4)
    assert ahead is not None
    assert ahead.seconds == pytest.approx(40.0, rel=0.05)  # the running ones, then 4 + 4 + 2
    assert ahead.busy == pytest.approx(140.0)


def test_trial_that_began_ahead_is_no_further_worker() -> None:
    """While one trial ends and the next one has its place, the time left is that of one worker, not of two."""
    board = TrialBoard(10, 0.0)
    for number in (0, 1):
        board.start(samples.spec(number, max_epochs=10), 100.0 * number)
        told = replace(samples.PROGRESS, number=number, sequence=9, epoch=9, max_epochs=10, seconds=90.0, value=0.5)
        board.report(told, 100.0 * number + 90.0)
        if number == 0:
            board.finish(replace(samples.RESULT, number=0, epochs=10, seconds=100.0), 100.0)
    board.start(samples.spec(2, max_epochs=10), 199.0)
    ahead = outlook(board.snapshot(), 199.0, 1)
    assert ahead is not None
    assert ahead.seconds == pytest.approx(800, rel=0.1)


def test_cold_start_is_not_expected_again() -> None:
    """The wait of the first trials is not added to the queued ones."""
    board = TrialBoard(12, 0.0)
    for number in (0, 1):
        board.start(samples.spec(number), 0.0)
        board.report(replace(samples.PROGRESS, number=number, epoch=1, sequence=1, seconds=1.0), 61.0)
    now = 64.0
    for number in range(2):
        board.finish(replace(samples.complete(number, 0.5), seconds=4.0), now)
    for number in range(2, 6):
        board.start(samples.spec(number), now)
        now += 5.0
        board.finish(replace(samples.complete(number, 0.5), seconds=4.0), now)
    ahead = outlook(board.snapshot(), now, 1)
    assert ahead is not None
    assert ahead.seconds == pytest.approx(6 * 5.0, rel=0.02)


def test_parameters_tell_before_the_first_epoch() -> None:
    """A trial that has reported nothing is expected to take what networks of its cost took."""
    small = {"conv_blocks": 1, "kernel_size": 3, "filters_0": 8}
    large = {"conv_blocks": 2, "kernel_size": 5, "filters_0": 32, "filters_1": 64}
    board = TrialBoard(8, 0.0)
    for number in range(6):
        params, seconds = (large, 40.0) if number % 2 else (small, 4.0)
        board.start(samples.spec(number, params=params), 0.0)
        board.finish(replace(samples.complete(number, 0.5), seconds=seconds), seconds)
    board.start(samples.spec(6, params=small), 100.0)
    board.start(samples.spec(7, params=large), 100.0)
    ahead = outlook(board.snapshot(), 100.0, 2)
    assert ahead is not None
    assert ahead.running == {6: pytest.approx(4.0), 7: pytest.approx(40.0)}


def told(board: TrialBoard, number: int, epoch: int, seconds: float, began: float) -> None:
    board.report(
        replace(samples.PROGRESS, number=number, epoch=epoch, sequence=epoch, seconds=seconds), began + seconds
    )


def test_first_epoch_moves_no_estimate() -> None:
    """A first epoch that is slow in every trial is expected: the time left stays what it was before its report, also
    where many trials were pruned after theirs.
    """
    board = TrialBoard(8, 0.0)
    for number, epochs in enumerate([4, 4, 1, 1, 1, 1, 4]):
        board.start(samples.spec(number), 10.0 * number)
        for epoch in range(1, epochs + 1):
            told(board, number, epoch, 4.0 + epoch, 10.0 * number)  # the first takes 5 s, the others 1 s
        whole = replace(samples.complete(number, 0.5), seconds=8.0)
        pruned = TrialResult.ended(number, Status.PRUNED, epochs=1)
        board.finish(whole if epochs > 1 else pruned, 10.0 * number + 4.0 + epochs)
    board.start(samples.spec(7), 70.0)
    before = outlook(board.snapshot(), 74.9, 1)
    told(board, 7, 1, 5.0, 70.0)
    after = outlook(board.snapshot(), 75.0, 1)
    assert before is not None
    assert after is not None
    assert after.running[7] == pytest.approx(3.0)
    assert before.running[7] <= after.running[7]  # that it would be pruned was possible until then


def test_slow_epoch_takes_nothing_off_the_others() -> None:
    """A trial whose second epoch takes long has the other eight still before it."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0, max_epochs=10), 0.0)
    for epoch in (1, 2):
        told(board, 0, epoch, float(epoch), 0.0)
    ahead = outlook(board.snapshot(), 60.0, 1)
    assert ahead is not None
    assert ahead.seconds >= 6.0
    assert ahead.low <= ahead.seconds <= ahead.high


def test_overdue_trial_never_promises_the_end() -> None:
    """A trial that takes much longer than expected still has something left."""
    snapshot = finished([10.0] * 5, 6)
    ahead = outlook(snapshot, 1000.0, 1)
    assert ahead is not None
    assert ahead.seconds > 0


def test_same_snapshot_same_estimate() -> None:
    """The estimate is a function of its arguments: it does not flicker."""
    snapshot = finished([3.0, 9.0, 5.0], 20)
    assert outlook(snapshot, 12.0, 3) == outlook(snapshot, 12.0, 3)
