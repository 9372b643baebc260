"""A delivery that waits for its destination's turn needs no copy, and the destination gets all calls that it allows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pushrail_stream.core.commit import cursors_of
from pushrail_stream.core.signals import CursorClosed, CursorOpened
from tests.pipeline.test_throttling import Tokens
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import Worker, World
from tests.support.policy import buffer_limits, lane_limits
from tests.support.records import P0, answered, fault, keys, record, records
from tests.support.virtual_time import in_virtual_time

ONE = lane_limits(max_entries=1)


async def feed_for_a_minute(worker: Worker, per_second: int) -> None:
    for tenth in range(600):
        await worker.at(tenth / 10)
        worker.feed(*records(range(per_second * tenth // 10, per_second * (tenth + 1) // 10)))
        worker.commit()


def limited() -> World:
    return World(narrow("acme", 8, per_second=10))


def throttling() -> World:
    return World(destination(), answer=Tokens(per_second=10).answer)


@pytest.mark.parametrize("world", [limited, throttling])
@in_virtual_time
async def test_more_than_a_destination_takes_costs_no_copy(world: Callable[[], World]) -> None:
    peer = world()
    async with peer.worker(poll_secs=0.5, batches=ONE) as worker:
        await feed_for_a_minute(worker, 15)
        assert len(peer.bus.arrived["dst_acme"]) >= 0.95 * 10 * 60
        await worker.at(95)
        assert sorted(map(int, peer.bus.arrived["dst_acme"])) == list(range(900))
        assert peer.topics.written == []
        assert worker.commit()[P0] == 900


@in_virtual_time
async def test_few_events_move_to_a_cursor_and_nothing_is_read_again() -> None:
    world = World(narrow("acme", 8, per_second=2), destination("fine"))
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(10.2, *records(range(150)))
        assert worker.commit() == {P0: 150}
        await worker.feed_until(11, record(150), record(151, "fine"))
        [cursor] = cursors_of(world.group[P0])
        assert (cursor.since, cursor.next, cursor.to) == (150, 150, 150)
        await worker.at(76)
        assert list(map(int, world.bus.arrived["dst_acme"])) == list(range(151))
        assert worker.commit() == {P0: 152}
        assert cursors_of(world.group[P0]) == []
        assert worker.event_consumer.trackers[P0].cursors == {}
        assert (world.topics.written, worker.reported(CursorOpened)) == ([], [])
        assert worker.engine.catch_up.stats.records == 0


@in_virtual_time
async def test_what_is_delivered_within_its_hold_moves_nowhere() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(10.2, *records(range(20)))
        assert len(world.bus.arrived["dst_acme"]) == 20
        worker.commit()
        assert cursors_of(world.group[P0]) == []


@in_virtual_time
async def test_the_next_owner_delivers_what_waits_for_its_turn() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(20, *records(range(100)))
        await worker.feed_until(31, *records(range(100, 120)))
        await worker.give_back(P0)
        delivered = len(world.bus.arrived["dst_acme"])
    async with world.worker(batches=ONE) as worker:
        await worker.at(100)
        assert 55 < delivered < 65
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(120)), "each of them once"
        assert worker.commit() == {P0: 120}
        assert cursors_of(world.group[P0]) == []


@in_virtual_time
async def test_a_cursor_of_few_deliveries_opens_when_many_wait() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(12, *records(range(100)))
        assert worker.reported(CursorOpened) == []
        await worker.feed_until(20, *records(range(100, 300)))
        assert [opened.since for opened in worker.reported(CursorOpened)] == [300]
        assert worker.commit() == {P0: 300}
        await worker.at(160)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(300))
        assert [closed.why for closed in worker.reported(CursorClosed)] == ["caught_up"]
        assert (world.topics.written, worker.commit()) == ([], {P0: 300})


@in_virtual_time
async def test_many_that_wait_for_their_turn_share_the_memory_of_cursors() -> None:
    names = [f"d{number}" for number in range(30)]
    world = World(*(narrow(name, 8, per_second=1) for name in names))
    async with world.worker(batches=ONE, limits=buffer_limits(max_events=600)) as worker:
        for round_ in range(30):
            worker.feed(*(record(30 * round_ + n, name) for n, name in enumerate(names)))
            await worker.at(round_ / 10)
        await worker.at(15)
        assert worker.commit() == {P0: 900}
        held = [cursor.held for cursor in worker.event_consumer.trackers[P0].cursors.values()]
        assert len(held) == 30
        assert sum(held) <= 600
        await worker.at(60)
        assert [len(set(world.bus.arrived[f"dst_{name}"])) for name in names] == [30] * 30
        assert sum(map(len, world.bus.arrived.values())) == 900
        assert world.topics.written == []


@in_virtual_time
async def test_without_room_for_cursors_copies_come_back_from_the_first_topic() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(batches=ONE) as worker:
        worker.event_consumer.metadata.limit(100)
        await worker.feed_until(10.5, *records(range(30)))
        assert {(tier, reason) for _, _, tier, reason in world.topics.moved()} == {("10s", "held")}
        assert worker.commit() == {P0: 30}


@in_virtual_time
async def test_a_destination_with_a_call_in_half_a_minute_still_takes_events() -> None:
    world = World(narrow("acme", 1, per_second=1 / 30))
    async with world.worker(batches=ONE, poll_secs=0.5) as worker:
        await worker.feed_until(100, *records(range(4)))
        assert [at for at, _ in world.bus.made()] == [0.0, 30.0, 60.0, 90.0]
        assert world.topics.written == []


@in_virtual_time
async def test_an_entry_that_fails_alone_leaves_while_others_wait_for_their_turn() -> None:
    world = World(narrow("acme", 8, per_second=5))
    world.bus.answer(
        lambda batch: answered(batch, {key: fault("InternalFailure") for key in keys(batch) if key == "3"})
    )
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(30, *records(range(120)))
        [(_, origin, tier, reason)] = world.topics.moved()
        assert (origin, tier, reason) == ("3", "10s", "retryable")
        assert len(world.bus.arrived["dst_acme"]) == 119
