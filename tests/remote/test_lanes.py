"""Who may send now."""

from hypothesis import given
from hypothesis import strategies as st

from seedpod.remote.lanes import Lanes, Standing, Turn
from seedpod.remote.policy import LIMITS, Limit, Operation

ROOMY = dict.fromkeys(Operation, Limit(100_000, 1000, burst=1000))


def test_a_cancel_goes_before_a_submission_and_that_before_a_status() -> None:
    """Of those who wait for one slot the most urgent goes first; within one operation, the first that came."""
    lanes = Lanes(ROOMY, connections=1)
    lanes.join(Operation.STATUS)
    lanes.grant(0.0)
    late = [lanes.join(one) for one in (Operation.HEALTH, Operation.STATUS, Operation.RUN, Operation.RUN)]
    order: list[Turn] = []
    while not all(turn.standing is Standing.GO for turn in late):
        lanes.leave(order[-1].operation if order else Operation.STATUS)
        order += lanes.grant(0.0)
    assert order == [late[2], late[3], late[1], late[0]]


def test_a_cancel_waits_behind_nobody() -> None:
    """Where every connection is busy a cancel goes all the same, up to its own limit."""
    lanes = Lanes({**ROOMY, Operation.CANCEL: Limit(100, 2, burst=50)}, connections=1)
    lanes.join(Operation.RUN)
    lanes.grant(0.0)
    turns = [lanes.join(Operation.CANCEL) for _ in range(3)]
    assert lanes.grant(0.0) == turns[:2]


def test_an_operation_that_was_asked_to_be_quiet_waits_and_others_do_not() -> None:
    """Retry-After silences its operation for that time."""
    lanes = Lanes(ROOMY, connections=9)
    lanes.went(Operation.RUN, 0.0, well=False, quiet=5.0)
    run, status = lanes.join(Operation.RUN), lanes.join(Operation.STATUS)
    assert lanes.grant(4.9) == [status]
    assert lanes.wait(run, 4.5) == 0.5
    assert lanes.grant(5.0) == [run]


def test_failures_take_slots_and_successes_give_them_back() -> None:
    """The requests at one time follow the endpoint's health, between 1 and the documented limit."""
    lanes = Lanes(ROOMY, connections=1000)
    for second in range(20):
        lanes.went(Operation.STATUS, 2.0 * second, well=False)
    turns = [lanes.join(Operation.STATUS) for _ in range(3)]
    assert lanes.grant(50.0) == turns[:1]
    lanes.leave(Operation.STATUS)
    lanes.went(Operation.STATUS, 50.0, well=True)
    assert lanes.grant(50.0) == turns[1:]


def test_who_gives_up_leaves_no_hole() -> None:
    """One who goes away, waiting or already let go, holds no slot; one who was stopped neither."""
    lanes = Lanes(ROOMY, connections=1)
    first, second, third = (lanes.join(Operation.RUN) for _ in range(3))
    assert lanes.grant(0.0) == [first]
    lanes.give_up(second)
    lanes.give_up(first)
    assert lanes.grant(0.0) == [third]
    fourth = lanes.join(Operation.RUN)
    assert lanes.stop(frozenset({Operation.RUN})) == [fourth]
    lanes.give_up(fourth)
    lanes.leave(Operation.RUN)
    fifth = lanes.join(Operation.RUN)
    assert lanes.grant(0.0) == [fifth]


@given(st.lists(st.tuples(st.sampled_from(list(Operation)), st.booleans(), st.floats(0.0, 2.0)), max_size=150))
def test_the_limits_hold_in_any_order_of_events(steps: list[tuple[Operation, bool, float]]) -> None:
    """However calls come and end: at one time never more than the limits, and nobody is let go twice."""
    lanes, now = Lanes(LIMITS, connections=5), 0.0
    busy: list[Operation] = []
    seen: list[Turn] = []
    for operation, joins, gap in steps:
        now += gap
        if joins:
            lanes.join(operation)
        elif operation in busy:
            busy.remove(operation)
            lanes.leave(operation)
        for turn in lanes.grant(now):
            assert turn not in seen
            seen.append(turn)
            busy.append(turn.operation)
        assert sum(one is not Operation.CANCEL for one in busy) <= 5
        assert busy.count(Operation.CANCEL) <= LIMITS[Operation.CANCEL].at_once
