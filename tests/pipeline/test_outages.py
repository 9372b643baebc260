"""A bus that is down gets one call at a time, and a region that is down does, for all its destinations."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pushrail_stream.core.signals import Slowed
from pushrail_stream.eventbridge.error_codes import CallReply
from tests.support.builders import destination, modified
from tests.support.pipeline_world import World
from tests.support.policy import lane_limits
from tests.support.records import P0, Answer, always, failed, keys, record, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

DOWN = failed("ServiceUnavailable", 503)
NAMES = [str(number) for number in range(20)]


def down_until(secs: float, reply: CallReply = DOWN) -> Answer:
    """An answer: this reply until that time."""
    return lambda batch: reply if virtual_loop().elapsed < secs else take_all(batch)


@pytest.mark.parametrize("reply", [DOWN, failed("ConnectionFailed"), failed("ReadTimeout")])
@in_virtual_time
async def test_a_bus_that_is_down_gets_one_call_at_a_time(reply: CallReply) -> None:
    world = World(destination(), answer=down_until(20, reply))
    async with world.worker(batches=lane_limits(hold_secs=60)) as worker:
        for tenth in range(250):
            await worker.at(tenth / 10)
            worker.feed(*records(range(10 * tenth, 10 * tenth + 10)))
        await worker.at(60)
        made = [at for at, _ in world.bus.made() if at < 20]
        gaps = [round(after - before, 2) for before, after in pairwise(made[-14:])]
        assert gaps[-8:] == [2.01] * 8
        assert gaps == sorted(gaps)
        assert len(made) < 8 + 5 + 10
        assert worker.reported(Slowed)[0].most == 8
        assert worker.commit() == {P0: 2500}


@in_virtual_time
async def test_a_backlog_of_an_outage_leaves_no_copies() -> None:
    """Those in a call when the cursor opens fail with all others, and wait with them."""
    world = World(destination(), answer=down_until(30))
    async with world.worker() as worker:
        for tenth in range(100):
            await worker.at(tenth / 10)
            worker.feed(*records(range(20 * tenth, 20 * tenth + 20)))
        await worker.at(60)
        assert world.topics.moved() == []
        assert len(world.bus.arrived["dst_acme"]) == 2000
        assert worker.commit() == {P0: 2000}


@in_virtual_time
async def test_the_first_answer_makes_all_retries_due() -> None:
    world = World(destination(), answer=down_until(8.5))
    async with world.worker(batches=lane_limits(max_entries=1, hold_secs=120)) as worker:
        await worker.feed_until(8.4, *records(range(40)))
        await worker.at(13)
        times = [at for at, sent in world.bus.made() if at >= 8.5 for _ in sent]
        assert len(times) == 40
        assert times[-1] - times[0] < 0.2, "their own backoffs are longer"


@in_virtual_time
async def test_entries_that_fail_alone_leave_after_the_hold() -> None:
    world = World(destination(), answer=lambda batch: DOWN if "0" in keys(batch) else take_all(batch))
    async with world.worker(batches=lane_limits(max_entries=1)) as worker:
        for second in range(14):
            await worker.at(second)
            worker.feed(record(second))
        await worker.at(20)
        assert [(origin, tier) for _, origin, tier, _ in world.topics.moved()] == [("0", "10s")]
        assert len(world.bus.arrived["dst_acme"]) == 13


def region_down(secs: float) -> World:
    """Twenty destinations of one region, whose calls fail until then, and one of another region."""
    world = World(*(destination(name) for name in NAMES), modified(destination("far"), region="eu-west-1"))
    for name in NAMES:
        world.bus.answer(down_until(secs), f"dst_{name}")
    return world


def calls_of(world: World, since: float, until: float) -> list[float]:
    return sorted(at for name in NAMES for at, _ in world.bus.made(f"dst_{name}") if since <= at < until)


@in_virtual_time
async def test_one_probe_serves_the_destinations_of_a_region() -> None:
    world = region_down(30)
    async with world.worker(batches=lane_limits(max_entries=1, hold_secs=120)) as worker:
        for number, name in enumerate(NAMES):
            worker.feed(*(record(10 * number + each, name) for each in range(10)))
        await worker.at(29)
        probes = calls_of(world, 12, 29)
        assert {round(after - before, 3) for before, after in pairwise(probes)} == {2.0}
        assert len({name for name in NAMES for at, _ in world.bus.made(f"dst_{name}") if 12 <= at < 29}) > 5
        await worker.at(34)
        assert worker.commit() == {P0: 200}, "one answer was enough for all"


@in_virtual_time
async def test_a_destination_without_a_failure_waits_for_no_probe() -> None:
    world = region_down(60)
    world.bus.answer(take_all, "dst_19")
    async with world.worker(batches=lane_limits(max_entries=1, hold_secs=120)) as worker:
        for number, name in enumerate(NAMES[:19]):
            worker.feed(*(record(10 * number + each, name) for each in range(10)))
        await worker.at(20)
        worker.feed(record(500, "19"), record(501, "far"))
        await worker.at(20.1)
        assert world.bus.arrived == {"dst_19": ["500"], "dst_far": ["501"]}


@in_virtual_time
async def test_a_destination_that_was_down_is_forgotten_with_its_lane() -> None:
    world = World(*(destination(name) for name in NAMES[:2]))
    for name in NAMES[:2]:
        world.bus.answer(always(DOWN), f"dst_{name}")
    async with world.worker(batches=lane_limits(max_entries=1)) as worker:
        for number, name in enumerate(NAMES[:2]):
            worker.feed(*(record(10 * number + each, name) for each in range(10)))
        await worker.at(15)
        assert (worker.lanes, worker.engine.stats().dispatcher.slowed) == (2, 2)
        await worker.at(90)
        assert worker.lanes == 0
        before = len(world.bus.calls)
        worker.feed(*(record(100 + each, "0") for each in range(8)))
        await worker.at(90.05)
        assert len(world.bus.calls) == before + 8


@in_virtual_time
async def test_a_region_of_many_destinations_with_few_events_leaves_no_copies() -> None:
    """None of them has enough calls to be down by itself. Together they have, and all wait on cursors."""
    many = [str(number) for number in range(60)]
    world = World(*map(destination, many))
    for name in many:
        world.bus.answer(down_until(40), f"dst_{name}")
    async with world.worker(poll_secs=0.5) as worker:
        worker.feed(*(record(offset, many[offset % 60]) for offset in range(180)))
        await worker.at(40)
        assert worker.commit()[P0] == 180, "its hold is over"
        assert len(world.bus.calls) < 60 + 2 * 24, "one of each, and a probe every 2 s"
        await worker.at(50)
        assert world.topics.moved() == []
        assert sum(len(world.bus.arrived[f"dst_{name}"]) for name in many) == 180
