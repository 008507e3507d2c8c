"""One contract, every TrialBackend: what a search may rely on wherever its trials run."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import samples
from runpod_rig import backend_on
from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.local import LocalBackend
from seedpod.errors import Cause, TrainingError, TrialCancelled, TrialError, TrialPruned, TrialStopped
from seedpod.guarded import Guarded
from seedpod.training.child import PoolLimits
from seedpod.trial import ParamValue, Status, TrialBackend, TrialProgress, TrialSpec
from stand_in_trainers import known, value_of
from thread_backend import ThreadBackend

WORKERS = 2
MakeBackend = Callable[[pytest.FixtureRequest, Path], TrialBackend]


def local(_request: pytest.FixtureRequest, cache_dir: Path) -> TrialBackend:
    limits = PoolLimits(grace=0.5, start=30.0, overtime=0.5)
    return LocalBackend(WORKERS, cache_dir, limits=limits, trainer="stand_in_trainers:make")


def in_threads(_request: pytest.FixtureRequest, _cache_dir: Path) -> TrialBackend:
    return ThreadBackend()


def runpod(request: pytest.FixtureRequest, _cache_dir: Path) -> TrialBackend:
    return backend_on(request.getfixturevalue("farm"), at_once=6)


def fallback(request: pytest.FixtureRequest, cache_dir: Path) -> TrialBackend:
    return FallbackBackend(runpod(request, cache_dir), lambda: local(request, cache_dir))


MAKERS: list[MakeBackend] = [local, in_threads, runpod, fallback]
EVERY = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@pytest.fixture(autouse=True)
def trainers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture(name="backend", params=MAKERS, ids=lambda make: make.__name__)
def running_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrialBackend]:
    make: MakeBackend = request.param
    backend = make(request, tmp_path)
    yield backend
    backend.close()


def spec(number: int = 0, **params: ParamValue) -> TrialSpec:
    return samples.spec(number, params=params, max_seconds=0.0)


def ignore(_: TrialProgress) -> None:
    pass


class Started:
    """A report that tells when so many trials have begun."""

    def __init__(self, trials: int) -> None:
        self._begun: Guarded[set[int]] = Guarded(set())
        self._trials = trials

    def __call__(self, progress: TrialProgress) -> None:
        with self._begun.locked() as begun:
            begun.add(progress.number)

    def wait(self) -> None:
        assert self._begun.wait_for(lambda begun: len(begun) >= self._trials or None, timeout=30)


def polls(backend: TrialBackend) -> bool:
    """Whether it asks for progress now and then, and so does not see each epoch of a quick trial."""
    return backend.name == "runpod"


def test_result_is_complete(backend: TrialBackend) -> None:
    """A trial's result has its number, status, value, metrics, history and costs, after its progress in order."""
    seen: list[TrialProgress] = []
    result = backend.run(spec(3), seen.append)
    assert (result.number, result.status, result.value) == (3, Status.COMPLETE, value_of(spec(3)))
    assert (result.epochs, result.best_epoch, len(result.history)) == (4, 4, 4)
    assert result.metrics == result.history[-1]
    assert result.backend
    assert result.error is None
    told = [(each.number, each.epoch, each.max_epochs) for each in seen]
    every = [(3, n, 4) for n in (1, 2, 3, 4)]
    assert told == (sorted(set(told) & set(every)) if polls(backend) else every)


def test_backend_has_a_name(backend: TrialBackend) -> None:
    """A backend says in one word what it is, for records."""
    assert backend.name.isidentifier()


def test_same_spec_same_result(backend: TrialBackend) -> None:
    """A spec that is run again gives the same value and history."""
    first, again = backend.run(spec(1), ignore), backend.run(spec(1), ignore)
    assert (first.value, first.history) == (again.value, again.history)


def test_several_objectives(backend: TrialBackend) -> None:
    """A trial of two objectives answers both, in its spec's order; its progress tells the first one, where it can."""
    both = replace(spec(4), objectives=("model_size", "val_loss"))
    seen: list[TrialProgress] = []
    result = backend.run(both, seen.append)
    assert result.values == known(both, value_of(both))
    assert all(progress.value is None for progress in seen)  # a size is known at the end alone
    again = replace(spec(4), objectives=("val_loss", "model_size"))
    result = backend.run(again, seen.append)
    assert result.values == known(again, value_of(again))


def test_hopeless_trial_is_pruned_by_its_trainer(backend: TrialBackend) -> None:
    """A trial that its trainer gives up comes back as pruned, with history and reason, and is not tried again."""
    result = backend.run(spec(0, do="hopeless"), ignore)
    assert (result.status, result.value, result.epochs, len(result.history)) == (Status.PRUNED, None, 1, 1)
    assert result.error is not None
    assert (result.error.cause, result.attempts % 100) == (Cause.HOPELESS, 1)


def test_failure_fails_alone(backend: TrialBackend) -> None:
    """A TrialError keeps its cause and touches neither a trial beside it nor the next one."""
    with ThreadPoolExecutor(1) as threads:
        beside = threads.submit(backend.run, spec(1, pause=0.05), ignore)
        with pytest.raises(TrialError) as caught:
            backend.run(spec(0, do="diverge"), ignore)
        assert caught.value.cause is Cause.DIVERGED
        assert beside.result(30).status is Status.COMPLETE
    assert backend.run(spec(2), ignore).status is Status.COMPLETE


@pytest.mark.parametrize("stop", [TrialCancelled("enough"), TrialPruned("enough")])
def test_stop_comes_back(backend: TrialBackend, stop: TrialStopped) -> None:
    """A stop that the report raises ends the trial in that epoch, comes out as it is, and harms no later trial."""
    seen: list[int] = []

    def report(progress: TrialProgress) -> None:
        seen.append(progress.epoch)
        if progress.epoch >= 2:
            raise stop

    with pytest.raises(type(stop)) as caught:
        backend.run(spec(pause=0.05, epochs=1000), report)
    assert caught.value is stop
    assert seen == [1, 2] or polls(backend)
    assert [epoch for epoch in seen if epoch >= 2] == seen[-1:]
    assert backend.run(spec(1), ignore).status is Status.COMPLETE


def test_bug_in_the_report_comes_back(backend: TrialBackend) -> None:
    """What the report raises by mistake is not taken for a failure of the trial."""

    def report(_: TrialProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend.run(spec(pause=0.05, epochs=1000), report)
    assert backend.run(spec(1), ignore).status is Status.COMPLETE


def test_cancel_all_stops_running_trials_and_refuses_new_ones(backend: TrialBackend) -> None:
    """``cancel_all`` ends running trials, which would take 50 s more, as cancelled, and new ones never start."""
    started = Started(WORKERS)
    with ThreadPoolExecutor(WORKERS) as threads:
        trials = [threads.submit(backend.run, spec(n, pause=0.05, epochs=1000), started) for n in range(WORKERS)]
        started.wait()
        backend.cancel_all()
        for trial in trials:
            with pytest.raises(TrialCancelled):
                trial.result(30)
    with pytest.raises(TrialCancelled):
        backend.run(spec(5), ignore)
    backend.cancel_all()


def test_trials_that_wait_are_cancelled_too(backend: TrialBackend) -> None:
    """More trials than there is room for all end when the backend is cancelled, waiting ones included."""
    started = Started(WORKERS)
    with ThreadPoolExecutor(8) as threads:
        trials = [threads.submit(backend.run, spec(n, pause=0.05, epochs=1000), started) for n in range(8)]
        started.wait()
        backend.cancel_all()
        for trial in trials:
            with pytest.raises(TrialCancelled):
                trial.result(30)


def test_many_threads_at_once(backend: TrialBackend) -> None:
    """Many threads get each their own trial's result and progress; those that fail are the ones that must."""

    def trial(number: int) -> float | str | None:
        numbers: set[int] = set()
        try:
            result = backend.run(
                spec(number, do="diverge" if number % 4 == 1 else "train"), lambda each: numbers.add(each.number)
            )
        except TrainingError as error:
            return str(error.cause)
        finally:
            assert numbers == {number} or (polls(backend) and not numbers)
        return result.value

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(trial, range(24)))
    assert found == ["diverged" if n % 4 == 1 else value_of(spec(n, do="train")) for n in range(24)]


@EVERY
@pytest.mark.usefixtures("farm")  # its processes are there before and after
def test_close_is_final_and_leaves_nothing(make: MakeBackend, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Closing, twice, in the middle of trials ends them and leaves no process, thread or descriptor."""
    me = psutil.Process()
    before = me.num_fds(), threading.active_count(), len(me.children())
    backend = make(request, tmp_path)
    started = Started(WORKERS)
    with ThreadPoolExecutor(WORKERS) as threads:
        trials = [threads.submit(backend.run, spec(n, pause=0.05, epochs=1000), started) for n in range(WORKERS)]
        started.wait()
        backend.close()
        for trial in trials:
            with pytest.raises(TrialCancelled):
                trial.result(30)
    backend.close()
    backend.cancel_all()
    assert (me.num_fds(), threading.active_count(), len(me.children())) == before
    with pytest.raises(TrialCancelled):
        backend.run(spec(), ignore)


@EVERY
def test_close_of_an_unused_backend(make: MakeBackend, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A backend that never ran a trial closes as well."""
    with contextlib.closing(make(request, tmp_path)):
        pass
