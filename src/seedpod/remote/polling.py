"""When to ask for a job next. Pure."""

from seedpod.remote.wire import JobState

RATE = 130.0
"""Status requests per second that all jobs together may cause: under what the status bucket refills (145)."""
_SHORTEST = 0.25  # seconds
_SHARE = 0.02  # of a job's time: how late its end may be noticed
_QUIET = 0.05  # of the expected time: how often to look before the end is near
_NEAR = 0.8, 1.2  # of the expected time: where the end is looked for
_AFTER = 0.1  # seconds after its likely end that a job which tells its pace is looked at
_LONGEST = 15.0, 30.0  # seconds: before the end, and long after it was due
_LONGEST_IN_QUEUE = 5.0  # seconds


def poll_delay(
    state: JobState, age: float, expected: float | None, in_flight: int, *, reports: int = 0, phase: float = 0.0
) -> float:
    """Seconds until a job's status is worth a request.

    While it waits: soon at first, then ever more seldom. While it runs: seldom until its end is near, and then so often
    that the end is noticed within 2 % of its time or 0.25 s, whichever is longer; a job that is overdue is asked for
    more and more seldom. One that reports how it gets on is asked for twice an epoch, and then right after its end.
    However many jobs there are, together they stay within ``RATE``.

    Args:
        state: The job's state when it was last seen.
        age: Seconds that it has been in the queue, or has run.
        expected: Seconds that such a job runs; None where that is not known yet.
        in_flight: Jobs that are followed at the same time, this one included.
        reports: Progress reports seen in these ``age`` seconds: their pace is followed, so that progress is seen.
        phase: In [0, 1), different for each job: spreads jobs that were submitted at once over time.

    Returns:
        Seconds from now, above 0.
    """
    expected = expected if expected is not None and expected > 0 else None
    age = max(age, 0.0)
    wanted = _queued(age, expected) if state is JobState.IN_QUEUE else _running(age, expected, reports)
    fair = max(in_flight, 1) / RATE
    return max(wanted, fair) + phase * fair


def _queued(age: float, expected: float | None) -> float:
    # A job that starts right after this look must not be over before the next one.
    soon = max(_SHORTEST, 0.5 * expected) if expected is not None else _LONGEST_IN_QUEUE
    return min(max(_SHORTEST, _QUIET * age), _LONGEST_IN_QUEUE, soon)


def _running(age: float, expected: float | None, reports: int) -> float:
    if expected is None:
        return min(max(_SHORTEST, _SHARE * age), _LONGEST[0])
    begin, end = _NEAR[0] * expected, _NEAR[1] * expected
    if age >= end:
        return min(max(_SHORTEST, _SHARE * age * (age / end)), _LONGEST[1])
    often = min(max(_SHORTEST, _SHARE * expected), _LONGEST[0])
    if reports and age < expected:
        return max(_SHORTEST, min(max(often, age / (2 * reports)), expected + _AFTER - age, _LONGEST[0]))
    if age >= begin:
        return often
    return max(often, min(_QUIET * expected, begin - age, _LONGEST[0]))
