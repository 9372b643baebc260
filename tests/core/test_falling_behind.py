"""The rule by which a destination falls behind, and how far cursors fill its lane then."""

from __future__ import annotations

import pytest

from pushrail_stream.core.batch import Attempt, Batch, CallLimits
from pushrail_stream.core.destination import Limits
from pushrail_stream.core.lane import PRESSED_ROOM, ROOM, Lane
from pushrail_stream.core.outcome import Blocked, CallResult, Delivered, Outcome, Retryable
from pushrail_stream.core.worker_calls import WorkerCalls
from tests.support.builders import destination
from tests.support.policy import lane_limits, retry_policy
from tests.support.samples import cursors_delivery, delivery

LIMITS = CallLimits(10, 1_048_576)
DOWN_AFTER = 8
FAILED = Retryable("503", "busy")
OURS = Retryable("InvalidClientTokenId", "our key", is_our_fault=True)


def new_lane(max_in_flight: int = 1) -> Lane:
    limits = Limits(max_in_flight=max_in_flight)
    return Lane(destination(limits=limits), lane_limits(), LIMITS, retry_policy(), WorkerCalls())


def add(lane: Lane, number: int, now: float) -> list[bool]:
    return [lane.offer([delivery(offset=offset)], now) for offset in range(number)]


def answer(lane: Lane, outcome: Outcome, now: float, entries: int = 1, result: CallResult = "answered") -> None:
    batch = Batch(
        lane.destination, tuple(delivery(to=lane.destination.id, offset=offset) for offset in range(entries)), LIMITS
    )
    attempt = Attempt(lane, batch, now)
    lane.health.learn(attempt, result, [outcome] * entries, secs=0.01, now=now, jitter=lambda: 0.5)


def steady(lane: Lane, per_second: int, until: float) -> None:
    """It takes this many deliveries a second until then."""
    for hundredth in range(round(until * 100)):
        lane.health.throughput.add(per_second // 100, hundredth / 100)


def bring_down(lane: Lane, now: float) -> None:
    for _ in range(DOWN_AFTER):
        lane.take(now)
        answer(lane, FAILED, now, result="failed")
        lane.finish()


def suspend(lane: Lane, now: float) -> None:
    for _ in range(5):
        answer(lane, Blocked("AccessDenied", "no"), now)


def test_it_is_behind_when_it_is_down_and_more_than_200_wait() -> None:
    lane = new_lane(max_in_flight=8)
    add(lane, ROOM + DOWN_AFTER * 10, 0.0)
    bring_down(lane, 0.1)
    assert (len(lane), lane.is_stuck(0.1), lane.falls_behind(0.1)) == (ROOM, True, False)
    assert lane.offer([delivery()], 0.1), "one too many: it is looked at now"
    assert lane.falls_behind(0.1)
    lane.moved_at = 0.1
    assert [lane.falls_behind(now) for now in (0.39, 0.41)] == [False, True], "not at every event"


def test_it_is_behind_when_it_is_silent_for_two_seconds() -> None:
    lane = new_lane()
    add(lane, ROOM + 11, 0.0)
    lane.take(0.0)
    assert [lane.falls_behind(now) for now in (1.9, 2.0)] == [False, True]
    lane.deliveries.pick(LIMITS._replace(max_entries=1), 2.0)
    assert not lane.falls_behind(2.0), "200 may wait anywhere"


def test_a_retry_counts_as_one_that_waits() -> None:
    lane = new_lane()
    add(lane, ROOM + 9, 0.0)
    lane.take(0.0)
    for offset in range(2):
        lane.retry(delivery(offset=offset), 9.0)
    assert lane.falls_behind(2.0)


@pytest.mark.parametrize("room", [ROOM, PRESSED_ROOM])
@pytest.mark.parametrize(("before", "per_second", "is_behind"), [(30, 60, True), (30, 70, False), (500, 60, True)])
def test_it_is_behind_when_more_waits_than_it_takes_in_four_seconds(
    before: int, per_second: int, *, is_behind: bool, room: int
) -> None:
    """Only the time counts in which full batches wait: before, it took what there was."""
    lane = new_lane()
    steady(lane, before, until=3.0)
    add(lane, 261, 3.0)
    lane.take(3.0)
    assert [lane.take(3.0), lane.falls_behind(3.0, room)] == [None, False]
    for tenth in range(1, 11):
        lane.health.throughput.add(per_second // 10, 3.0 + tenth / 10)
    assert [lane.falls_behind(now, room) for now in (3.99, 4.01)] == [False, is_behind]
    lane.finish()
    lane.take(3.3)
    lane.finish()
    lane.deliveries.pick(CallLimits(231, 1_000_000), 3.3)
    assert not lane.falls_behind(4.7)


@pytest.mark.parametrize(("size", "is_behind"), [(15, False), (16, True)])
def test_a_far_bus_is_behind_after_a_second_when_others_need_the_room(size: int, *, is_behind: bool) -> None:
    """All calls that it allows are in flight, and it takes a hundred a second. Nothing shortens its events' wait."""
    lane = new_lane(max_in_flight=16)
    steady(lane, 100, until=3.0)
    lane.health.window._resize(size)
    add(lane, 161 + 10 * size, 3.0)
    for _ in range(size):
        lane.take(3.0)
    assert lane.take(3.0) is None
    for tenth in range(1, 11):
        lane.health.throughput.add(10, 3.0 + tenth / 10)
    assert lane.falls_behind(4.01, PRESSED_ROOM) == is_behind
    assert not lane.falls_behind(4.01), "there is room for both"


def test_a_short_hold_bounds_what_may_wait() -> None:
    lane = Lane(
        destination(limits=Limits(max_in_flight=1)), lane_limits(hold_secs=4), LIMITS, retry_policy(), WorkerCalls()
    )
    steady(lane, 110, until=4.0)
    add(lane, 261, 4.0)
    lane.take(4.0)
    assert lane.take(4.0) is None
    lane.health.throughput.add(110, 5.0)
    assert lane.falls_behind(5.0), "a delivery may wait for two seconds, and it takes 220 in them"


def test_after_some_seconds_its_present_rate_counts() -> None:
    lane = new_lane()
    add(lane, 600, 0.0)
    lane.take(0.0)
    assert lane.take(0.0) is None
    for second in range(1, 20):
        lane.health.throughput.add(200, float(second))
        assert not lane.falls_behind(second + 0.1)
    for second in range(20, 26):
        lane.health.throughput.add(20, float(second))
    assert lane.falls_behind(25.0)


def test_its_rate_must_be_known_for_a_second() -> None:
    lane = new_lane()
    add(lane, 1011, 0.0)
    lane.take(0.0)
    for tenth in range(1, 15):
        answer(lane, Delivered("id"), tenth / 10, 10)
        assert lane.take(tenth / 10) is None
        assert lane.falls_behind(tenth / 10) == (tenth >= 11), "its rate is known from the first answer on"


def test_a_full_batch_that_need_not_wait_ends_the_wait() -> None:
    lane = new_lane()
    steady(lane, 100, until=3.0)
    add(lane, 221, 3.0)
    lane.take(3.0)
    assert lane.take(3.0) is None
    lane.finish()
    assert lane.take(3.2) is not None
    lane.finish()
    lane.deliveries.pick(CallLimits(191, 1_000_000), 3.2)
    lane.take(3.2)
    assert lane.take(3.2) is None
    add(lane, 210, 3.2)
    assert lane.take(3.3) is None
    lane.health.throughput.add(10, 4.0)
    assert [lane.falls_behind(now) for now in (4.2, 4.31)] == [False, True]


@pytest.mark.parametrize(("per_second", "fill"), [(100, 200), (400, 200), (1_000, 500), (4_000, 2_000), (9_000, 3_000)])
def test_cursors_fill_a_lane_with_half_a_second(per_second: int, fill: int) -> None:
    lane = new_lane()
    assert lane.fill(0.0) == ROOM
    steady(lane, per_second, until=4.0)
    assert lane.fill(4.0) == pytest.approx(fill, rel=0.01)


def test_cursors_leave_fifty_with_a_stuck_destination() -> None:
    down, suspended, ours, silent = (new_lane(8) for _ in range(4))
    add(down, 100, 0.0)
    bring_down(down, 0.0)
    suspend(suspended, 0.0)
    answer(ours, OURS, 0.0, result="not_made")
    add(silent, 10, 0.0)
    silent.take(0.0)
    assert [lane.fill(2.0) for lane in (down, suspended, ours, silent)] == [50] * 4
    for lane in (down, suspended, ours, silent):
        answer(lane, Delivered("id"), 2.0)
    assert [lane.fill(2.0) for lane in (down, suspended, ours, silent)] == [ROOM] * 4


def test_a_destination_waits_with_others_for_a_cause_that_they_share() -> None:
    calls = WorkerCalls()
    lanes = [
        Lane(destination(name), lane_limits(), LIMITS, retry_policy(), calls)
        for name in ("one", "two", "three", "four")
    ]
    *ill, well = lanes
    for lane in ill[:2]:
        for _ in range(DOWN_AFTER):
            answer(lane, FAILED, 1.0, result="failed")
    assert [lane.waits_with_others for lane in lanes] == [False] * 4, "each is down by itself"
    for _ in range(DOWN_AFTER):
        answer(ill[2], FAILED, 1.0, result="failed")
    assert [lane.waits_with_others for lane in lanes] == [True] * 4, "their endpoint is down"
    assert [lane.health.max_calls for lane in lanes] == [1] * 4
    answer(well, Delivered("id"), 10.0)
    assert [lane.waits_with_others for lane in lanes] == [False] * 4, "the endpoint answers"
    answer(well, OURS, 11.0, result="not_made")
    ill[0].follow_bus("awaited", 11.0)
    assert [lane.waits_with_others for lane in lanes] == [True, False, False, True]


def test_pressure_counts_what_cursors_would_take_out_of_memory() -> None:
    lane = new_lane()
    add(lane, 61, 0.0)
    lane.take(0.0)
    assert [lane.falls_behind(now, PRESSED_ROOM) for now in (1.9, 2.0)] == [False, True]
    assert not lane.falls_behind(2.0)
    lane.deliveries.pick(LIMITS._replace(max_entries=1), 2.0)
    assert not lane.falls_behind(2.0, PRESSED_ROOM), "a cursor would keep fifty here"


def test_room_is_made_of_a_silent_destinations_deliveries() -> None:
    lane = new_lane(max_in_flight=8)
    add(lane, 10, 0.0)
    lane.take(0.0)
    (again, kept), fresh = (delivery(offset=90), cursors_delivery(91)), delivery(offset=92)
    lane.retry(again, 9.0)
    lane.retry(kept, 9.0)
    lane.offer([fresh], 1.0)
    assert lane.spare(1.9) == []
    assert lane.health.max_calls == 8
    assert lane.spare(2.0) == [fresh, again]
    assert lane.deliveries.waiting() == [kept]
    assert lane.health.max_calls == 1, "more calls would only hold more deliveries"
    lane.finish()
    again, fresh = delivery(offset=93), delivery(offset=94)
    lane.retry(again, 9.0)
    lane.offer([fresh], 3.0)
    assert lane.spare(3.0) == [again], "the other is there to call it with"
    answer(lane, Delivered("id"), 3.0)
    assert lane.health.max_calls == 8


def test_a_lane_knows_whether_cursors_fill_it() -> None:
    lane = new_lane()
    lane.offer([delivery()], 0.0)
    assert not lane.has_cursor
    lane.offer([cursors_delivery()], 0.0)
    assert lane.has_cursor


def test_cursors_leave_room_for_retries_ahead_of_their_time() -> None:
    lane = new_lane()
    steady(lane, 1_000, until=4.0)
    add(lane, ROOM, 4.0)
    assert not lane.has_retry_room(4.0)
    behind = new_lane()
    steady(behind, 1_000, until=4.0)
    for offset in range(500):
        behind.offer([cursors_delivery(offset)], 4.0)
    assert behind.has_retry_room(4.0), "the cursor's 500 and a batch"
    for offset in range(20):
        behind.offer([delivery(offset=offset)], 4.0)
    assert not behind.has_retry_room(4.0)
