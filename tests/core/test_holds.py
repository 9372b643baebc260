"""For how long a delivery may hold back its partition's commit."""

from __future__ import annotations

import math

from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.holds import MAX_LATE, end_holds, note_failure, retry_state
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Delivered, Outcome, Throttled
from tests.core.test_falling_behind import FAILED, add, answer, bring_down, new_lane, steady
from tests.support.samples import cursors_delivery, delivery


def fails(lane: Lane, one: Delivery, outcome: Outcome, now: float) -> float:
    """The seconds that it may still wait after a call failed."""
    note_failure(lane, one, outcome, now)
    return retry_state(lane, one, now, 0).left_secs


def test_a_cursors_delivery_that_fails_alone_has_its_hold() -> None:
    lane, one = new_lane(), cursors_delivery()
    steady(lane, 100, until=3.0)
    lane.offer([one], 3.0)
    assert one.hold_until == math.inf
    assert [fails(lane, one, FAILED, now) for now in (3.0, 7.0)] == [10.0, 6.0]
    assert fails(lane, one, Throttled("SlowDown", "hey"), 8.0) == math.inf, "its bus takes fewer, and this one later"
    assert fails(lane, one, FAILED, 8.0) == 10.0


def test_a_cursors_delivery_waits_while_its_destination_is_stuck() -> None:
    lane, one = new_lane(max_in_flight=8), cursors_delivery()
    lane.offer([one], 0.0)
    add(lane, 100, 0.0)
    assert fails(lane, one, FAILED, 0.0) == 10.0
    bring_down(lane, 0.5)
    assert fails(lane, one, FAILED, 9.0) == math.inf
    answer(lane, Delivered("id"), 100.0)
    assert fails(lane, one, FAILED, 100.0) == 10.0, "the outage does not count"


def test_a_live_readers_delivery_keeps_its_hold() -> None:
    lane, one = new_lane(max_in_flight=8), delivery()
    lane.offer([one], 0.0)
    add(lane, 100, 0.0)
    bring_down(lane, 1.0)
    assert fails(lane, one, Throttled("SlowDown", "hey"), 9.0) == 1.0


def test_copies_of_a_destination_that_takes_others_wait_on_while_there_is_room() -> None:
    lane, first = new_lane(), delivery()
    copies = [delivery(offset=offset) for offset in range(1, MAX_LATE + 2)]
    for copy in copies:
        copy.tier = 1
    lane.offer([first, *copies], 0.0)
    steady(lane, 100, until=10.0)
    assert end_holds(lane, 10.0, 10_000) == [first, copies[-1]], "a first delivery, and a copy too many"
    assert lane.waiting == MAX_LATE
