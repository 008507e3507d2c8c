"""Remote while the endpoint is well, here while it is not: nothing lost, little said, never too many at once."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endpoint_client import eventually
from runpod_rig import STAND_IN, Lines, backend_on, ignore, jobs_of, live, new_spec, trials, well, working
from seedpod.backends.fallback import FallbackBackend
from seedpod.backends.local import LocalBackend
from seedpod.endpoint.embedded import EmbeddedEndpoint
from seedpod.errors import (
    BackendError,
    Cause,
    EndpointRefused,
    EndpointUnreachable,
    JobFailed,
    TrainingError,
    TrialCancelled,
    TrialError,
    TrialPruned,
)
from seedpod.guarded import Guarded
from seedpod.remote.breaker import BreakerRules
from seedpod.trial import Report, TrialProgress, TrialResult, TrialSpec
from thread_backend import ThreadBackend, Train, stand_in, wait_for_stop

AWAY = EndpointUnreachable("the endpoint is out of reach.")
REFUSED = EndpointRefused("the endpoint refuses the API key: check RUNPOD_API_KEY.")


class Switch:
    """A trial of the endpoint, or the error that is switched on; counts those that were asked for."""

    def __init__(self, error: BackendError | None = None) -> None:
        self.error = error
        self.asked: Guarded[list[int]] = Guarded([])

    def __call__(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        with self.asked.locked() as asked:
            asked.append(spec.number)
        if self.error is not None:
            raise type(self.error)(self.error.message)
        return replace(stand_in(spec, report, check), backend="runpod")


class Local:
    """Makes the local backend; keeps how often, and the most trials that it ever ran at once."""

    def __init__(self, at_once: int = 2, train: Train = stand_in) -> None:
        self.made = 0
        self._at_once = at_once
        self._train = train
        self._running = Guarded({"now": 0, "most": 0})

    @property
    def most(self) -> int:
        with self._running.locked() as running:
            return running["most"]

    def __call__(self) -> ThreadBackend:
        self.made += 1
        return ThreadBackend(self._count, self._at_once)

    def _count(self, spec: TrialSpec, report: Report, check: Callable[[], None]) -> TrialResult:
        with self._running.locked() as running:
            running["now"] += 1
            running["most"] = max(running["most"], running["now"])
        try:
            return self._train(spec, report, check)
        finally:
            with self._running.locked() as running:
                running["now"] -= 1


def specs(count: int, **params: Any) -> list[TrialSpec]:
    return [new_spec(number, **params) for number in range(count)]


def all_results(backend: FallbackBackend, asked: Sequence[TrialSpec]) -> list[TrialResult]:
    with trials(backend, asked) as running:
        return [trial.result(30) for trial in running]


def test_a_well_endpoint_runs_everything() -> None:
    """While the endpoint answers, nothing is made or run here and nothing is said; it sets how many run at once."""
    local, said = Local(), Lines()
    with closing(FallbackBackend(ThreadBackend(Switch(), 5), local, said)) as backend:
        assert backend.at_once == 5
        assert {result.backend for result in all_results(backend, specs(6))} == {"runpod"}
    assert (local.made, said.all()) == (0, [])


def test_an_endpoint_that_refuses_is_given_up_once() -> None:
    """After a refusal all trials complete here; it is said once, in its own words, and a later trial asks no more."""
    switch, local, said = Switch(REFUSED), Local(), Lines()
    with closing(FallbackBackend(ThreadBackend(switch, 4), local, said)) as backend:
        asked = specs(4)
        results = all_results(backend, asked)
        assert all(map(well, results, asked))
        assert {result.backend for result in results} == {"local"}
        switch.error = None
        assert backend.run(new_spec(99), ignore).backend == "local"
    with switch.asked.locked() as numbers:
        assert 99 not in numbers
    assert said.all() == [f"{REFUSED.message} The search goes on on this machine."]
    assert local.made == 1


def test_an_endpoint_that_is_away_is_found_again() -> None:
    """Trials run here while it is out of reach and there once it is back; each turn is said once."""
    switch, said = Switch(AWAY), Lines()
    with closing(FallbackBackend(ThreadBackend(switch, 4), Local(), said)) as backend:
        assert {result.backend for result in all_results(backend, specs(4))} == {"local"}
        switch.error = None
        assert {result.backend for result in all_results(backend, specs(4))} == {"runpod"}
        switch.error = AWAY
        assert backend.run(new_spec(), ignore).backend == "local"
    away = f"{AWAY.message} Trials run on this machine until it is back."
    assert said.all() == [away, "The endpoint is back: trials run there again.", away]


def test_no_more_than_local_workers_run_here() -> None:
    """Twelve trials of an endpoint that went away are run two at a time here; none is lost."""
    local = Local(2)
    asked = specs(12, pause=0.02)
    with closing(FallbackBackend(ThreadBackend(Switch(AWAY), 12), local)) as backend:
        assert all(map(well, all_results(backend, asked), asked))
    assert local.most == 2


def test_a_trial_that_waits_here_goes_there_when_it_can() -> None:
    """With all places here taken, a trial that waits for one is run by the endpoint as soon as that is back."""
    switch, local = Switch(AWAY), Local(1, wait_for_stop)
    with closing(FallbackBackend(ThreadBackend(switch, 2), local)) as backend, trials(backend, specs(2)) as running:
        eventually(lambda: local.most == 1)
        switch.error = None
        eventually(lambda: any(trial.done() for trial in running), 5)
        (done,) = [trial for trial in running if trial.done()]
        assert done.result().backend == "runpod"
        backend.cancel_all()
        (other,) = [trial for trial in running if trial is not done]
        with pytest.raises(TrialCancelled):
            other.result(10)


@pytest.mark.parametrize(
    "error", [TrainingError("nan", cause=Cause.DIVERGED), JobFailed("lost"), TrialPruned("enough")], ids=repr
)
def test_a_failure_of_the_trial_does_not_move_it(error: TrialError) -> None:
    """What is no matter of the endpoint's reach comes out as it is, and nothing runs here."""

    def fail(*_: object) -> TrialResult:
        raise error

    local = Local()
    with closing(FallbackBackend(ThreadBackend(fail), local)) as backend, pytest.raises(type(error)) as caught:
        backend.run(new_spec(), ignore)
    assert caught.value is error
    assert (error.backend, local.made) == ("", 0)


def test_a_failure_here_is_recorded_as_one_here() -> None:
    """A trial that fails on this machine says so, though the search's backend is the endpoint's."""
    with (
        closing(FallbackBackend(ThreadBackend(Switch(AWAY)), Local())) as backend,
        pytest.raises(TrainingError) as caught,
    ):
        backend.run(new_spec(do="diverge"), ignore)
    assert (caught.value.backend, backend.name) == ("thread", "runpod")


def test_a_trial_that_moves_counts_its_progress_anew() -> None:
    """Progress here belongs to a later attempt than any on the endpoint, which may have come further."""

    def break_off(spec: TrialSpec, report: Report, _check: Callable[[], None]) -> TrialResult:
        report(TrialProgress(spec.number, 3, 3, 4, 0.5, {}, 1.0, attempt=3))
        raise EndpointUnreachable("gone")

    seen: list[tuple[int, int]] = []
    with closing(FallbackBackend(ThreadBackend(break_off), Local())) as backend:
        backend.run(new_spec(), lambda progress: seen.append((progress.attempt, progress.epoch)))
    assert seen[0] == (3, 3)
    assert [epoch for _, epoch in seen[1:]] == [1, 2, 3, 4]
    assert len({attempt for attempt, _ in seen[1:]}) == 1
    assert seen[1][0] > 12  # a trial has at most 11 attempts there


def test_a_stop_reaches_those_who_run_and_those_who_wait() -> None:
    """``cancel_all`` ends trials here and those that wait for a place, and no new one starts anywhere."""
    local = Local(1, wait_for_stop)
    with closing(FallbackBackend(ThreadBackend(Switch(AWAY), 3), local)) as backend:
        with trials(backend, specs(3)) as running:
            eventually(lambda: local.most == 1)
            backend.cancel_all()
            for trial in running:
                with pytest.raises(TrialCancelled):
                    trial.result(10)
        with pytest.raises(TrialCancelled):
            backend.run(new_spec(), ignore)


def test_a_stop_before_the_first_move_makes_nothing() -> None:
    """After a stop no local backend is made, which would start processes."""
    local, switch = Local(), Switch(REFUSED)
    backend = FallbackBackend(ThreadBackend(switch), local)
    backend.close()
    with pytest.raises(TrialCancelled):
        backend.run(new_spec(), ignore)
    assert local.made == 0


def test_many_that_move_at_once_make_one_local_backend() -> None:
    """Eight trials that move in the same moment share one local backend: each would start processes."""
    made: Guarded[list[ThreadBackend]] = Guarded([])
    together = threading.Barrier(8)

    def slowly() -> ThreadBackend:
        backend = ThreadBackend(at_once=8)
        with made.locked() as backends:
            backends.append(backend)
        time.sleep(0.05)
        return backend

    def away(*_: object) -> TrialResult:
        together.wait(10)
        raise EndpointUnreachable("gone")

    asked = specs(8)
    with closing(FallbackBackend(ThreadBackend(away, 8), slowly)) as backend:
        assert all(map(well, all_results(backend, asked), asked))
    with made.locked() as backends:
        assert [one.closed for one in backends] == [True]


def test_a_local_backend_that_is_being_made_at_the_stop_is_closed() -> None:
    """A stop while the local backend starts leaves nothing open, and nobody waiting."""
    made: list[ThreadBackend] = []

    def slow() -> ThreadBackend:
        made.append(ThreadBackend())
        time.sleep(0.3)
        return made[0]

    backend = FallbackBackend(ThreadBackend(Switch(REFUSED), 3), slow)
    with trials(backend, specs(3)) as running:
        eventually(lambda: bool(made))
        backend.close()
        for trial in running:
            with pytest.raises(TrialCancelled):
                trial.result(5)
    assert [one.closed for one in made] == [True]


def test_a_local_backend_that_cannot_be_made_says_why() -> None:
    """What making it raises comes out of each trial that needs it, and nobody waits for ever."""

    def broken() -> ThreadBackend:
        raise OSError("no more processes")

    with closing(FallbackBackend(ThreadBackend(Switch(REFUSED), 3), broken)) as backend:
        for _ in range(2):
            with pytest.raises(OSError, match="no more processes"):
                backend.run(new_spec(), ignore)


def test_a_real_endpoint_goes_and_comes_back(
    farm: EmbeddedEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the middle of a search the endpoint drops every connection: its jobs are cancelled, trials go on here, and
    return when it does; every trial completes with its value, each once.
    """
    monkeypatch.setenv("PYTHONPATH", STAND_IN["PYTHONPATH"])
    said = Lines()
    remote = backend_on(farm, said, at_once=4, breaker=BreakerRules(consecutive=3, rest=0.5), patience=0.0)

    def local() -> LocalBackend:
        return LocalBackend(2, tmp_path, trainer=STAND_IN["SEEDPOD_TRAINER"])

    before, during, after = (specs(4, pause=0.2) for _ in range(3))
    with closing(FallbackBackend(remote, local, said)) as backend:
        with trials(backend, before) as first, trials(backend, during) as second:
            working(farm, 4)
            farm.set_faults([{"operation": name, "kind": "drop"} for name in ("run", "status")])
            results = [trial.result(60) for trial in [*first, *second]]
        assert not live(farm)
        farm.set_faults([])
        eventually(lambda: backend.run(new_spec(), ignore).backend == "runpod")
        results_after = all_results(backend, after)
    assert all(map(well, [*results, *results_after], [*before, *during, *after]))
    assert "local" in {result.backend for result in results}
    assert {result.backend for result in results_after} == {"runpod"}
    assert {view["status"] for spec in before for view in jobs_of(farm, spec).values()} <= {"CANCELLED", "COMPLETED"}
    assert len(said.having("until it is back")) == 1
    assert len(said.having("is back: trials")) == 1
