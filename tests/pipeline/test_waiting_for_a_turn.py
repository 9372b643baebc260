"""A delivery that waits for its destination's turn needs no copy, and the destination gets all calls that it allows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pushrail_stream.core.commit import cursors_of
from pushrail_stream.core.signals import CursorClosed, CursorOpened
from tests.pipeline.test_throttling import Tokens
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import Worker, World
from tests.support.policy import buffer_limits, lane_limits, retry_policy
from tests.support.records import (
    P0,
    RETRY,
    START_MS,
    always,
    answered,
    failed,
    fault,
    keys,
    record,
    records,
    retry_record,
)
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
async def test_a_delivery_that_ends_within_its_hold_moves_nowhere() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(batches=ONE) as worker:
        await worker.feed_until(10.2, *records(range(20)))
        assert len(world.bus.arrived["dst_acme"]) == 20
        worker.commit()
        assert cursors_of(world.group[P0]) == []


@in_virtual_time
async def test_the_next_owner_delivers_the_events_that_wait_for_their_turn() -> None:
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


@pytest.mark.parametrize("hold_secs", [2, 10])
@in_virtual_time
async def test_a_crowd_from_a_retry_topic_is_not_copied_again_and_again(hold_secs: float) -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(owns=[RETRY], batches=lane_limits(max_entries=1, hold_secs=hold_secs)) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(200)))
        for second in range(100):
            await worker.at(second)
            worker.commit()
        assert worker.engine.stats().dispatcher.waiting > 0, "those that are late are counted"
        await worker.at(101)
        assert list(map(int, world.bus.arrived["dst_acme"])) == list(range(200))
        assert (world.topics.written, worker.commit()) == ([], {RETRY: 200})


@in_virtual_time
async def test_a_crowd_from_a_retry_topic_delays_no_event() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(owns=[P0, RETRY], batches=ONE) as worker:
        worker.feed_retries(*(retry_record(n, event=10_000 + n) for n in range(100)))
        await worker.at(11)
        for second in range(11, 41):
            await worker.at(second)
            worker.feed(record(second))
        await worker.at(46)
        assert {str(number) for number in range(11, 41)} <= set(world.bus.arrived["dst_acme"])
        assert worker.commit()[P0] == 41
        await worker.at(70)
        assert len(world.bus.arrived["dst_acme"]) == 130
        assert world.topics.written == []


@in_virtual_time
async def test_a_crowd_leaves_when_its_destination_takes_nothing() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(owns=[RETRY], batches=ONE) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(100)))
        await worker.at(15)
        world.bus.answer(always(failed("503", 503)))
        await worker.at(32)
        assert {tier for _, _, tier, _ in world.topics.moved()} == {"2m"}
        assert worker.commit() == {RETRY: 100}


@in_virtual_time
async def test_a_worker_without_room_copies_the_crowd() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(owns=[P0, RETRY], batches=ONE, limits=buffer_limits(max_events=300)) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(100)))
        await worker.at(12)
        worker.event_consumer.flow_control()
        worker.retry_consumer.flow_control()
        assert world.topics.written == []
        worker.feed_retries(*(retry_record(n, event=n) for n in range(100, 200)))
        await worker.at(12.5)
        assert {(tier, reason) for _, _, tier, reason in world.topics.moved()} == {("10s", "held")}
        assert len(world.topics.written) == 75


@in_virtual_time
async def test_a_full_partition_of_a_retry_topic_gets_rid_of_the_crowd() -> None:
    world = World(narrow("acme", 8, per_second=2), destination("fine"))
    other = RETRY._replace(number=RETRY.number + 1)
    limits = buffer_limits(partition_max_offsets=150)
    async with world.worker(owns=[RETRY, other], batches=ONE, limits=limits) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(100)))
        worker.feed_retries(*(retry_record(n, event=500 + n, partition=other) for n in range(20)))
        await worker.at(12)
        worker.feed_retries(*(retry_record(100 + n, "fine", event=1_000 + n) for n in range(90)))
        await worker.at(13)
        worker.retry_consumer.flow_control()
        await worker.at(14)
        moved = {int(origin) for _, origin, _, _ in world.topics.moved()}
        assert moved
        assert max(moved) < 100, "the other partition has room"
        assert worker.commit()[RETRY] == 190


@in_virtual_time
async def test_only_a_thousand_of_a_crowd_wait_for_longer_than_their_hold() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker(owns=[RETRY], batches=ONE) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(1_100)))
        await worker.at(11)
        assert (len(world.topics.written), worker.engine.stats().dispatcher.waiting) == (80, 997)


@pytest.mark.parametrize(("began_ms", "delivered"), [(START_MS - 15_000, 40), (None, 80)])
@in_virtual_time
async def test_a_late_delivery_expires(began_ms: int | None, delivered: int) -> None:
    """Its age begins with its first attempt, or when its first hold is over."""
    world = World(narrow("acme", 8, per_second=2))
    policy = retry_policy(max_age_secs=30)
    async with world.worker(owns=[RETRY], batches=ONE, policy=policy) as worker:
        worker.feed_retries(*(retry_record(n, event=n, first_attempt_at_ms=began_ms) for n in range(150)))
        await worker.at(65)
        assert world.topics.dead() == [(str(n), "expired") for n in range(delivered, 150)]
        assert list(map(int, world.bus.arrived["dst_acme"])) == list(range(delivered))
        assert worker.commit() == {RETRY: 150}
