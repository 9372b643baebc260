"""Backlogs are measured: who is behind, since when, by how much at most, and for how long still."""

from __future__ import annotations

import asyncio

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.commit import Committable
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.worker_calls import WorkerCalls
from pushrail_stream.pipeline.backlog_meter import BacklogMeter
from pushrail_stream.pipeline.stats import BacklogStats
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.policy import lane_limits, retry_policy
from tests.support.records import P0, failed, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

P1 = Partition("pushrail.events", 1)


def tracker(read_to: int, *cursors: CursorState) -> OffsetTracker:
    return OffsetTracker(Committable(read_to, ""), None, cursors)


def cursor(name: str, next_: int, *open_: int, to: int | None = None, at_ms: int = 5_000) -> CursorState:
    return CursorState(
        destination_id=name, since=100, next=next_, to=to, oldest_ms=at_ms, opened_ms=at_ms + 1, open=open_
    )


def measure(meter: BacklogMeter, now: float = 0.0) -> dict[str, BacklogStats]:
    return {one.destination_id: one for one in meter.measure(now)}


def test_the_cursors_of_a_destination_are_put_together() -> None:
    lanes: dict[str, Lane] = {}
    first = tracker(1_000, cursor("dst_a", 700, 150, 160), cursor("dst_b", 990, at_ms=7_000))
    second = tracker(50, cursor("dst_a", 20, 10, to=30, at_ms=3_000))
    found = BacklogMeter({P0: first, P1: second}, lanes).measure(0.0)
    assert found == [
        BacklogStats("dst_a", 2, 3_001, 3, 310, 3_000, 0.0, None),
        BacklogStats("dst_b", 1, 7_001, 0, 10, 7_000, 0.0, None),
    ]
    assert [one.events for one in found] == [313, 10]


def test_a_cursor_that_waits_only_for_a_commit_is_no_backlog() -> None:
    assert BacklogMeter({P0: tracker(1_000, cursor("dst_a", 300, to=300))}, {}).measure(0.0) == []


def test_the_time_to_catch_up_follows_the_speed_of_the_last_seconds() -> None:
    trackers = {P0: tracker(1_000, cursor("dst_a", 0))}
    meter = BacklogMeter(trackers, {})

    def secs_left(now: float, next_: int) -> float | None:
        trackers[P0] = tracker(1_000, cursor("dst_a", next_))
        return measure(meter, now)["dst_a"].catch_up_secs

    assert [secs_left(now, 0) for now in (0.0, 2.0, 60.0)] == [None, None, None], "it does not move"
    assert secs_left(62.0, 200) == 800 * 60 / 200, "since 2.0, the newest size that is 20 s old"
    assert secs_left(72.0, 400) == 600 * 70 / 400
    assert secs_left(90.0, 700) == 300 * 28 / 500, "since 62.0"
    assert secs_left(91.0, 0) is None, "it has grown"


def test_sizes_within_a_second_of_each_other_are_not_kept() -> None:
    trackers: dict[Partition, OffsetTracker] = {}
    meter = BacklogMeter(trackers, {})
    found = dict[float, float | None]()
    for now, next_ in ((0.0, 0), (0.5, 100), (20.5, 500)):
        trackers[P0] = tracker(1_000, cursor("dst_a", next_))
        found[now] = measure(meter, now)["dst_a"].catch_up_secs
    assert found == {0.0: None, 0.5: None, 20.5: 500 * 20.5 / 500}, "since 0.0, not since 0.5"


def test_a_backlog_that_ended_is_forgotten() -> None:
    trackers = {P0: tracker(1_000, cursor("dst_a", 0))}
    meter = BacklogMeter(trackers, {})
    meter.measure(0.0)
    trackers[P0] = tracker(1_000)
    assert meter.measure(5.0) == []
    trackers[P0] = tracker(1_000, cursor("dst_a", 500))
    assert measure(meter, 10.0)["dst_a"].catch_up_secs is None, "its size of 10 s ago is another backlog's"


@in_virtual_time
async def test_very_many_cursors_are_not_measured_all_the_time() -> None:
    many = [cursor(f"dst_{number}", 0) for number in range(20_000)]
    trackers = {P0: tracker(1_000, *many)}
    meter = BacklogMeter(trackers, {})
    assert meter.measure(0.0) == [], "each turn of the event loop measures a part"
    for _ in range(40):
        assert len(meter.measure(0.1)) in {0, 20_000}
        await asyncio.sleep(0)
    assert len(meter.measure(0.1)) == 20_000
    trackers[P0] = tracker(2_000, *many)
    meter.measure(3.9)
    await asyncio.sleep(1)
    assert meter.measure(4.0)[0].events == 1_000
    await asyncio.sleep(1)
    assert meter.measure(4.1)[0].events == 2_000
    trackers[P0] = tracker(2_000)
    assert meter.measure(4.2) == [], "none is known at once"


@in_virtual_time
async def test_a_long_measurement_sees_the_calls_that_were_made_meanwhile() -> None:
    busy, now = (
        Lane(destination(), lane_limits(), CallLimits(10, 1_048_576), retry_policy(), WorkerCalls()),
        virtual_loop().time(),
    )
    trackers = {P0: tracker(1_000, cursor("dst_a", 0), *(cursor(f"dst_{number}", 0) for number in range(1_000)))}
    meter = BacklogMeter(trackers, {"dst_a": busy})
    assert meter.measure(now - 2) == [], "it began two seconds ago"
    busy.health.throughput.add(5, now)
    await asyncio.sleep(0.1)
    assert measure(meter, now)["dst_a"].per_second == 50


@in_virtual_time
async def test_a_worker_tells_its_backlog_until_nothing_is_left() -> None:
    world = World(destination(), answer=lambda b: failed("Down", 503) if virtual_loop().elapsed < 15 else take_all(b))
    async with world.worker(batches=lane_limits(hold_secs=60)) as worker:
        for second in range(10):
            await worker.at(second)
            worker.feed(*records(range(200 * second, 200 * second + 200)))
        await worker.at(14)
        [one] = worker.engine.stats().backlogs
        assert (one.destination_id, one.cursors, one.catch_up_secs) == ("dst_acme", 1, None)
        assert one.events == 2_000, "no other destination has events in between"
        assert worker.commit() == {P0: 2_000}, "the group has no lag"
        await worker.at(60)
        worker.commit()
        assert worker.engine.stats().backlogs == []
        assert worker.ledger.begun == 2_000 + worker.ledger.put_back
        assert worker.ledger.delivered == 2_000
