"""The room for deliveries of cursors: bounded, and shared fairly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.lane import ROOM
from pushrail_stream.core.record import Record
from pushrail_stream.pipeline.cursor_room import fair_share
from tests.pipeline.test_backlogs import DOWN
from tests.support.builders import destination
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import buffer_limits
from tests.support.records import P0, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

NAMES = [f"c{number}" for number in range(20)]


@given(st.lists(st.integers(1, 3_000), max_size=50), st.integers(1, 20_000))
def test_nobody_gets_more_than_its_share_while_another_one_gets_less_than_it_wants(
    wants: list[int], total: int
) -> None:
    most = fair_share(wants, total)
    got = [min(want, most) for want in wants]
    assert most >= 1
    assert sum(got) <= max(total, len(wants))
    if any(want > most for want in wants):
        assert sum(min(want, most + 1) for want in wants) > total
    else:
        assert got == wants


@pytest.mark.parametrize("answers", [True, False])
@in_virtual_time
async def test_the_deliveries_of_all_cursors_together_are_bounded(*, answers: bool) -> None:
    world = World(*map(destination, NAMES), latency=HANGS)
    log = [new for offset in range(0, 8_000, 20) for new in interleaved(offset)]
    async with world.worker(limits=buffer_limits(max_events=100_000, partition_max_offsets=100_000)) as worker:
        worker.feed(*log[:2_000])
        await worker.at(3)
        worker.feed(*log[2_000:])
        await worker.at(5)
        worker.commit()
    limits = buffer_limits(max_events=400, partition_max_offsets=100_000)
    if answers:
        world.bus.latency = lambda _batch: 1.0
    async with world.worker(limits=limits) as worker:
        cursors = worker.event_consumer.trackers[P0].cursors
        assert len(cursors) == len(NAMES)
        most = 0
        for tenth in range(50, 90):
            await worker.at(tenth / 10)
            most = max(most, sum(cursor.held for cursor in cursors.values()))
            assert max(cursor.held for cursor in cursors.values()) <= 20 + 80, "its share, and what is in calls"
        assert 200 < most <= 400 + 1_000
        assert most < 20 * ROOM
        if answers:
            arrived = [len(world.bus.arrived[one.id]) for one in world.directory.documents]
            assert max(arrived) - min(arrived) <= 100


@in_virtual_time
async def test_destinations_that_are_back_get_full_calls_however_many_they_are() -> None:
    world = World(*map(destination, NAMES))
    for name in NAMES:
        world.bus.answer(lambda batch: DOWN(batch) if virtual_loop().elapsed < 10 else take_all(batch), f"dst_{name}")
    limits = buffer_limits(max_events=60, partition_max_offsets=100_000)
    async with world.worker(limits=limits) as worker:
        for offset in range(0, 8_000, 20):
            worker.feed(*interleaved(offset))
            await worker.at(offset / 1_000)
        await worker.at(60)
        sizes = [len(keys) for name in NAMES for at, keys in world.bus.made(f"dst_{name}") if at > 13]
        assert sum(sizes) / len(sizes) > 6, "and about 3 with room for three"
        assert sum(map(len, world.bus.arrived.values())) == 8_000


@in_virtual_time
async def test_the_bytes_of_cursors_are_bounded() -> None:
    world = World(destination(), answer=DOWN)
    big = records(range(600), padding=10_000)
    async with world.worker() as worker:
        worker.feed(*big[:10])
        await worker.at(2.5)
        await worker.feed_until(4, *big[10:])
        worker.commit()
    async with world.worker(limits=buffer_limits(max_bytes=100_000)) as worker:
        await worker.at(6)
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        assert 0 < cursor.held_bytes <= 100_000 + 11_000


def interleaved(offset: int) -> list[Record]:
    return [new for place, name in enumerate(NAMES) for new in records([offset + place], name)]
