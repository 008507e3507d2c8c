"""When jobs are asked for."""

import heapq
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedpod.remote.policy import LIMITS, WINDOW, Operation
from seedpod.remote.polling import RATE, poll_delay
from seedpod.remote.wire import JobState

RUNNING, QUEUED = JobState.IN_PROGRESS, JobState.IN_QUEUE


def polls(duration: float, expected: float | None, jobs: int = 1, waited: float = 0.0) -> list[float]:
    """When a job is asked for that starts after ``waited`` seconds, up to the look that sees its end."""
    at = 0.0
    seen: list[float] = []
    while not seen or seen[-1] < waited + duration:
        queued = at < waited or not seen
        at += poll_delay(QUEUED if queued else RUNNING, at if queued else at - waited, expected, jobs)
        seen.append(at)
    return seen


@given(st.floats(0.05, 700.0), st.none() | st.floats(0.85, 1.2))
def test_an_end_is_noticed_soon(duration: float, guess: float | None) -> None:
    """An end is seen within 2 % of the job's time or 0.25 s, unguessed or where the guess is up to a fifth off."""
    late = polls(duration, None if guess is None else duration / guess)[-1] - duration
    assert late <= max(0.25, 0.02 * duration * 1.2)


@given(st.floats(10.0, 700.0), st.floats(0.85, 1.2), st.floats(0.0, 120.0))
def test_an_end_is_noticed_soon_after_a_wait(duration: float, guess: float, waited: float) -> None:
    """Looks that grew seldom in the queue do not make a trial of 10 s or more be seen late."""
    late = polls(duration, duration / guess, waited=waited)[-1] - waited - duration
    assert late <= max(0.25, 0.02 * duration * 1.2)


@given(st.floats(5.0, 600.0), st.floats(0.1, 0.8))
def test_an_early_end_is_noticed_too(expected: float, share: float) -> None:
    """A trial that stops early is seen within 5 % of the time that it was expected to take."""
    assert polls(share * expected, expected)[-1] - share * expected <= max(0.25, 0.05 * expected)


def test_a_long_job_is_seldom_asked_for_before_its_end_is_near() -> None:
    """A job of ten minutes is asked for every 15 s in its first eight, and every 12 s about its end."""
    seen = polls(600.0, 600.0)
    gaps = {round(end - begin, 3): begin for begin, end in pairwise(seen[1:])}
    assert gaps[15.0] < 480.0 < gaps[12.0]
    assert len(seen) < 50


def test_progress_is_followed_at_its_pace() -> None:
    """Where reports come every 10 s, a job is asked for every 5 s, though its end is far."""
    assert poll_delay(RUNNING, 100.0, 200.0, 1, reports=10) == 5.0
    assert poll_delay(RUNNING, 100.0, 200.0, 1) == 10.0


def test_a_job_of_known_pace_is_asked_for_right_after_its_end() -> None:
    """A job that reports its five epochs is looked at twice an epoch at most, and a tenth of a second after its end."""
    at, seen = 2.5, list[float]()
    while at < 10.0:
        at += poll_delay(RUNNING, at, 10.0, 1, reports=int(at // 2))
        seen.append(at)
    assert seen[-1] == pytest.approx(10.1)
    assert len(seen) <= 8


def test_an_overdue_job_is_asked_for_ever_more_seldom() -> None:
    """From its due time on the delays grow, up to 30 s."""
    delays = [poll_delay(RUNNING, age, 60.0, 1) for age in (60, 72, 90, 120, 240, 480, 100_000)]
    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(1.2)
    assert delays[-1] == 30.0


def test_the_first_look_is_soon() -> None:
    """A job that was just submitted is looked at after a quarter of a second, whatever is expected of it."""
    assert {poll_delay(QUEUED, 0.0, expected, 6) for expected in (None, 0.1, 10.0, 3600.0)} == {0.25}


@given(
    st.sampled_from([state for state in JobState if not state.ended]),
    st.tuples(st.floats(-1.0, 1e6), st.none() | st.floats(-1.0, 1e5)),
    st.integers(0, 512),
    st.integers(0, 1000),
    st.floats(0.0, 0.999),
)
def test_a_delay_is_always_sane(
    state: JobState, times: tuple[float, float | None], jobs: int, reports: int, phase: float
) -> None:
    """Whatever goes in, the delay is above its share of the rate and not longer than 30 s and twice that share."""
    share = max(jobs, 1) / RATE
    assert max(share, 0.2) <= poll_delay(state, *times, jobs, reports=reports, phase=phase) <= 30.0 + 2 * share


@pytest.mark.parametrize("jobs", [1, 2, 6, 16, 64, 200, 512])
@pytest.mark.parametrize("duration", [0.5, 10.0, 60.0])
@pytest.mark.parametrize("spread", [True, False])
def test_any_number_of_jobs_stays_within_the_limits(jobs: int, duration: float, spread: bool) -> None:  # noqa: FBT001
    """Jobs that all start together, over and over, are never asked for more often than the service allows."""
    limit, trip = LIMITS[Operation.STATUS], 0.3
    due = [(0.0, number, 0.0) for number in range(jobs)]  # (when, job, when it was submitted)
    sent = []
    while due[0][0] < 60.0:
        now, job, since = heapq.heappop(due)
        if now > since:
            sent.append(now)
        if now - since >= duration:
            since = now
        state = QUEUED if now == since else RUNNING
        phase = (job * 0.618034) % 1 if spread else 0.0
        heapq.heappush(due, (now + poll_delay(state, now - since, duration, jobs, phase=phase), job, since))
    assert most_within(sent, WINDOW) <= limit.per_window
    assert most_within(sent, trip) <= limit.at_once or not spread


def most_within(times: list[float], window: float) -> int:
    """The largest number of times in any such window; times ascend."""
    most = start = 0
    for end, at in enumerate(times):
        while at - times[start] >= window:
            start += 1
        most = max(most, end - start + 1)
    return most
