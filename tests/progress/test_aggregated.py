"""A search at a glance: every number is the board's own, and money is counted once."""

from dataclasses import replace

import pytest

import samples
from seedpod.board import CURVE, TrialBoard
from seedpod.progress import ConcurrentProgressAggregator, TrialProgress
from seedpod.tally import SAMPLES
from seedpod.trial import ParamValue, Status, TrialResult


def told(number: int, epoch: int, *, backend: str = "", attempt: int = 1, worker: str = "") -> TrialProgress:
    return replace(
        samples.PROGRESS,
        number=number,
        epoch=epoch,
        sequence=epoch,
        seconds=float(epoch),
        value=epoch / 10,
        backend=backend,
        attempt=attempt,
        worker=worker,
    )


def billed(number: int, seconds: float, cost: float, worker: str = "w1") -> TrialResult:
    run: dict[str, ParamValue] = {"billed_seconds": seconds, "queue_seconds": 3.0, "worker": worker}
    return replace(samples.complete(number, 0.5), run=run, cost=cost, seconds=seconds)


def test_empty_search() -> None:
    """Before the first trial everything is zero, and what cannot be known is None."""
    progress = ConcurrentProgressAggregator().aggregate(TrialBoard(5, 10.0).snapshot(), 12.0)
    assert (progress.total, progress.queued, progress.running, progress.ended) == (5, 5, 0, 0)
    assert (progress.best_value, progress.best_trial, progress.remaining) == (None, None, None)
    assert (progress.elapsed, progress.epochs_per_second, progress.rows) == (2.0, 0.0, ())


def test_counts_and_best_are_the_boards() -> None:
    """Each way to end has its own count; the best trial and the last ones are named."""
    board = TrialBoard(9, 0.0)
    results = [samples.complete(0, 0.5), samples.complete(1, 0.7), samples.failed(2)]
    results += [TrialResult(3, Status.PRUNED), TrialResult(4, Status.CANCELLED)]
    for result in results:
        board.start(samples.spec(result.number), 0.0)
        board.finish(result, 1.0)
    progress = ConcurrentProgressAggregator().aggregate(board.snapshot(), 1.0)
    assert (progress.completed, progress.failed, progress.pruned, progress.cancelled) == (2, 1, 1, 1)
    assert (progress.best_trial, progress.best_value, progress.ended) == (1, 0.7, 5)
    assert [trial.spec.number for trial in progress.last] == [0, 1, 2, 3, 4]


def test_rows_of_running_trials() -> None:
    """A row says where a trial runs, how far it is, how it learns, how old it is; a new attempt begins anew."""
    board = TrialBoard(3, 0.0)
    board.start(samples.spec(0, max_epochs=40), 1.0)
    board.start(samples.spec(1), 2.0)
    for epoch in range(1, 31):
        board.report(told(0, epoch, backend="runpod", worker="w7"), 1.0 + epoch)
    progress = ConcurrentProgressAggregator(2, "runpod").aggregate(board.snapshot(), 31.0)
    first, second = progress.rows
    assert (first.backend, first.worker, first.epoch, first.max_epochs, first.value) == ("runpod", "w7", 30, 40, 3.0)
    assert first.values == tuple(epoch / 10 for epoch in range(31 - CURVE, 31))
    assert first.age == 30.0
    assert first.remaining == pytest.approx(10.0)
    assert (second.backend, second.epoch, second.value, second.values) == ("runpod", 0, None, ())
    board.report(told(0, 1, backend="local", attempt=101), 32.0)
    (again, _) = ConcurrentProgressAggregator(2, "runpod").aggregate(board.snapshot(), 32.0).rows
    assert (again.backend, again.attempt, again.epoch, again.values) == ("local", 101, 1, (0.1,))


def test_epochs_per_second() -> None:
    """The rate is that of all trials together, from the start, and fades when nothing comes any more."""
    board = TrialBoard(2, 0.0)
    board.start(samples.spec(0, max_epochs=1000), 0.0)
    for epoch in range(1, 201):
        board.report(told(0, epoch), epoch / 2)
    aggregator = ConcurrentProgressAggregator()
    assert aggregator.aggregate(board.snapshot(), 100.0).epochs_per_second == pytest.approx(2.0, rel=0.1)
    assert aggregator.aggregate(board.snapshot(), 300.0).epochs_per_second < 0.01


def test_skipped_reports_count_as_epochs() -> None:
    """An endpoint whose progress is polled shows every third epoch; all of them were trained."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0, max_epochs=1000), 0.0)
    for epoch in range(3, 300, 3):
        board.report(told(0, epoch), epoch / 3)
    rate = ConcurrentProgressAggregator().aggregate(board.snapshot(), 99.0).epochs_per_second
    assert rate == pytest.approx(3.0, rel=0.1)


def test_costs_of_ended_running_and_queued_trials() -> None:
    """Spent is what ended trials cost; running ones are added by their age, queued ones by what a trial was billed."""
    board = TrialBoard(5, 0.0)
    for number in (0, 1):
        board.start(samples.spec(number), 0.0)
        board.finish(billed(number, 10.0, 0.1), 13.0)
    board.start(samples.spec(2), 13.0)
    board.report(told(2, 1, backend="runpod"), 16.0)
    costs = ConcurrentProgressAggregator(1, "runpod", 0.01, 5.0).aggregate(board.snapshot(), 16.0).costs
    assert (costs.per_second, costs.limit, costs.spent) == (0.01, 5.0, 0.2)
    assert costs.running == pytest.approx(0.01)
    assert costs.queue_seconds == 6.0
    assert costs.starts == pytest.approx(0.03)
    assert costs.idle == pytest.approx(0.05)
    assert costs.projected is not None
    assert costs.projected == pytest.approx(0.2 + 3 * 0.1, rel=0.3)


def test_idle_seconds_of_workers_are_bounded_by_their_gaps() -> None:
    """Between two jobs of a worker its idle seconds count, but never more than it waits; after its last job all."""
    board = TrialBoard(9, 0.0)
    for number, (worker, ended_at) in enumerate([("a", 20.0), ("a", 32.0), ("a", 90.0), ("b", 95.0)]):
        board.start(samples.spec(number), 0.0)
        result = billed(number, 10.0, 0.1, worker)
        board.finish(replace(result, run={**result.run, "execution_seconds": 10.0}), ended_at)
    bill = board.snapshot().bill
    assert (bill.workers, bill.start_seconds) == (2, 6.0)
    assert bill.idle_seconds == pytest.approx((2 + 5 + 5) + 5)


def test_price_that_is_learnt() -> None:
    """Where the settings have no price, that of the trial that ended last counts for the others too."""
    board = TrialBoard(3, 0.0)
    aggregator = ConcurrentProgressAggregator(1, "runpod", None, 0.25)
    assert aggregator.next_trial_fits(board.snapshot(), 0.0)
    for number in (0, 1):
        board.start(samples.spec(number), 0.0)
        board.finish(billed(number, 10.0, 0.1), 13.0)
    costs = aggregator.aggregate(board.snapshot(), 13.0).costs
    assert costs.per_second == pytest.approx(0.01)
    assert costs.projected == pytest.approx(0.3)
    assert not aggregator.next_trial_fits(board.snapshot(), 13.0)


def test_trials_on_this_machine_cost_nothing() -> None:
    """Neither a local search nor the local trials of a remote one are charged."""
    board = TrialBoard(1, 0.0)
    board.start(samples.spec(0), 0.0)
    board.report(told(0, 1, backend="local"), 1.0)
    paid = ConcurrentProgressAggregator(1, "runpod", 0.01).aggregate(board.snapshot(), 9.0).costs
    free = ConcurrentProgressAggregator().aggregate(board.snapshot(), 9.0).costs
    assert (paid.running, paid.projected, free.running, free.projected) == (0.0, 0.0, 0.0, 0.0)


def test_price_that_is_not_known() -> None:
    """A remote search without a price shows none, and does not pretend to cost nothing for ever."""
    board = TrialBoard(1, 0.0)
    costs = ConcurrentProgressAggregator(1, "runpod", None).aggregate(board.snapshot(), 1.0).costs
    assert costs.per_second is None


def test_remote_search_whose_trials_run_here_costs_nothing() -> None:
    """Where all that has run of a remote search without a price ran on this machine, it costs 0; a remote trial that
    runs makes it unknown again.
    """
    board, aggregator = TrialBoard(3, 0.0), ConcurrentProgressAggregator(1, "runpod", None)
    board.start(samples.spec(0), 0.0)
    board.finish(samples.complete(0, 0.5), 3.0)
    assert aggregator.aggregate(board.snapshot(), 3.0).costs.per_second == 0.0
    board.start(samples.spec(1), 3.0)
    board.report(told(1, 1, backend="local"), 4.0)
    assert aggregator.aggregate(board.snapshot(), 4.0).costs.per_second == 0.0
    board.start(samples.spec(2), 4.0)
    board.report(told(2, 1, backend="runpod"), 5.0)
    assert aggregator.aggregate(board.snapshot(), 5.0).costs.per_second is None


def test_snapshot_is_bounded() -> None:
    """After very many trials a snapshot holds no more than after some hundreds."""
    board = TrialBoard(5000, 0.0)
    for number in range(5000):
        board.start(samples.spec(number), float(number))
        board.finish(samples.complete(number, 0.5), number + 3.0)
    snapshot = board.snapshot()
    assert len(snapshot.times) == SAMPLES
    assert len(snapshot.last) <= 8
