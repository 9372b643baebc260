"""Destinations that are behind get their deliveries from the same records as far as possible."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.commit import Committable, encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors, owner_mark
from pushrail_stream.core.lane import ROOM
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.pipeline.catch_up import Reading
from tests.support.builders import VENDOR, customer_id, destination
from tests.support.pipeline_world import HANGS, World
from tests.support.records import EVENTS, P0, P1, record, records
from tests.support.virtual_time import in_virtual_time, virtual_loop

NAMES = [f"c{number}" for number in range(10)]
PARTITIONS = [Partition(EVENTS, number) for number in range(4)]
HEAD = 6_000


def state(customer: str, next_offset: int = 0) -> CursorState:
    return CursorState(
        destination_id=f"dst_{customer}", owner=owner_mark(VENDOR, customer_id(customer)), since=0, next=next_offset,
        oldest_ms=1, opened_ms=1_790_000_000_000,
    )  # fmt: skip


def behind(world: World, partition: Partition, states: Iterable[CursorState], log: Iterable[Record]) -> None:
    """The group's commit is past events that these cursors have."""
    world.group[partition] = Committable(HEAD, encode_metadata(HEAD, [], None, None, encode_cursors(states)))
    world.log[partition] = {one.offset: one for one in log}


def paced(per_second: Mapping[str, float]) -> Callable[[Batch], float]:
    """Each bus works on one call after the other, and its time for an event varies."""
    free_at, dice = dict[str, float](), random.Random(1)

    def latency(batch: Batch) -> float:
        name, now = batch.destination.id, virtual_loop().elapsed
        secs = len(batch.deliveries) / per_second[name] * dice.uniform(0.2, 1.8)
        free_at[name] = max(free_at.get(name, 0.0), now) + secs
        return free_at[name] - now

    return latency


@pytest.mark.parametrize(("quickest", "most"), [(200, 1.6), (300, 2.0)])
@in_virtual_time
async def test_destinations_that_lag_together_share_the_records_that_are_read_again(quickest: int, most: float) -> None:
    """Cursors within a fetch are read from the lowest on, and lanes that are full enough take more."""
    speeds = {f"dst_{name}": 200 + (quickest - 200) * place / 9 for place, name in enumerate(NAMES)}
    world, dice = World(*map(destination, NAMES), latency=paced(speeds)), random.Random(2)
    for partition in PARTITIONS:
        customers = [(offset, NAMES[offset % len(NAMES)]) for offset in range(HEAD)]
        log = [record(*one, partition=partition, key=f"{partition}-{one[0]}") for one in customers]
        behind(world, partition, [state(name, dice.randrange(1_000)) for name in NAMES], log)
    async with world.worker(owns=PARTITIONS) as worker:
        virtual_loop().after_each_step(None)  # to verify every commit here would take a minute
        await worker.at(5)
        stats = worker.engine.catch_up.stats
        assert stats.deliveries > 5 * 200 * 8
        assert stats.records < most * stats.deliveries, stats
        assert min(len(world.bus.arrived[name]) for name in speeds) > 5 * 200 * 0.8


@in_virtual_time
async def test_reading_begins_at_a_cursor_just_below_a_wanted_one() -> None:
    """The lower cursor must have room. The wanted one gets its records from the next reading at the latest."""
    names = ["acme", "near", "far"]
    world = World(*map(destination, names), latency=HANGS)
    behind(world, P0, [state("acme", 1_000), state("near", 700), state("far", 400)], [])
    behind(world, P1, [state("near"), state("far")], [])
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.at(0)
        catch_up, cursors = worker.engine.catch_up, worker.event_consumer.trackers[P0].cursors
        both = [*records(range(150), "near", partition=P1), *records(range(150, 300), "far", partition=P1)]
        assert catch_up.accept([Reading(P1, 0, 300, both)]) == {P0: 700}, "both others have more than half"
        assert catch_up.accept([Reading(P0, 700, 900, records(range(700, 750), "near"))]) == {P0: 1_000}
        assert cursors["dst_near"].position == 900, "it was read on for the wanted one, although nothing was for it"
        assert catch_up.accept([Reading(P0, 900, 1_400, records(range(1_000, 1_400)))]) == {}
        assert [cursors[f"dst_{name}"].position for name in names] == [1_200, 1_200, 400]


@in_virtual_time
async def test_a_lane_takes_more_from_records_that_are_read_for_others() -> None:
    world = World(destination(), destination("other"), latency=HANGS)
    behind(world, P0, [state("acme"), state("other")], [])
    behind(world, P1, [state("other")], [])
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.at(0)
        catch_up, lanes = worker.engine.catch_up, worker.dispatcher.lanes
        catch_up.accept([Reading(P1, 0, 150, records(range(150), "other", partition=P1))])
        mixed = [record(offset, "other" if offset % 4 else "acme") for offset in range(800)]
        catch_up.accept([Reading(P0, 0, 800, mixed)])
        assert len(lanes["dst_other"]) > ROOM
        cursors = worker.event_consumer.trackers[P0].cursors
        assert cursors["dst_other"].position < cursors["dst_acme"].position == 797, "not without a limit"
