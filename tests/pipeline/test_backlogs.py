"""A destination that falls behind gets a cursor, which takes over what waits, and nothing else."""

from __future__ import annotations

import pytest

from pushrail_stream.core.commit import MIN_METADATA_CHARS, cursors_of, new_commit
from pushrail_stream.core.signals import CursorClosed, CursorOpened
from pushrail_stream.pipeline import backlogs
from tests.support.builders import customer_id, destination, modified
from tests.support.pipeline_world import HANGS, Worker, World
from tests.support.records import P0, P1, always, failed, records, take_all
from tests.support.virtual_time import in_virtual_time

DOWN = always(failed("ServiceUnavailable", 503))


async def fall_behind(worker: Worker, events: int = 400, customer: str = "acme", begin: int = 0) -> None:
    """Feed events of a customer whose bus is down, until a cursor has opened."""
    worker.feed(*records(range(begin, begin + 10), customer))
    await worker.at(2.5)
    await worker.feed_until(3.3, *records(range(begin + 10, begin + events), customer))
    assert worker.reported(CursorOpened)


@in_virtual_time
async def test_a_backlog_is_delivered_once_and_without_a_copy() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        [opened] = worker.reported(CursorOpened)
        assert (opened.partition, opened.destination_id, opened.adopted > 200) == (P0, "dst_acme", True)
        assert worker.commit() == {P0: 400}, "what waited belongs to the cursor"
        assert worker.ledger.put_back > 0
        world.bus.answer(take_all)
        await worker.at(40)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(400))
        assert worker.reported(CursorClosed) == [CursorClosed(P0, "dst_acme", "caught_up")]
        assert worker.commit() == {P0: 400}
        assert worker.event_consumer.trackers[P0].cursors == {}
        assert cursors_of(world.group[P0]) == []
        assert world.topics.moved() == []


@in_virtual_time
async def test_only_the_part_of_the_destination_that_is_behind_moves() -> None:
    world = World(destination(name="a"), destination(name="b"))
    slow, quick = (one.id for one in world.directory.documents)
    world.bus.answer(DOWN, slow)
    async with world.worker() as worker:
        await fall_behind(worker)
        assert sorted(map(int, world.bus.arrived[quick])) == list(range(400))
        assert worker.commit()[P0] == 400
        [cursor] = cursors_of(world.group[P0])
        assert cursor.destination_id == slow
    async with world.worker() as worker:
        world.bus.answer(take_all, slow)
        await worker.at(20)
        assert sorted(map(int, world.bus.arrived[slow])) == list(range(400))
        assert sorted(map(int, world.bus.arrived[quick])) == list(range(400)), "nothing comes twice"


@in_virtual_time
async def test_each_partition_has_its_own_cursor() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker(owns=(P0, P1)) as worker:
        worker.feed(*records(range(300), partition=P1))
        await fall_behind(worker)
        assert {opened.partition for opened in worker.reported(CursorOpened)} == {P0, P1}
        worker.commit()
        await worker.give_back(P1)
        assert [cursor.destination_id for cursor in cursors_of(world.group[P1])] == ["dst_acme"]
        world.bus.answer(take_all)
        await worker.at(20)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(400)), "the other owner has the rest"


@in_virtual_time
async def test_a_partition_that_is_given_back_with_calls_in_flight_loses_nothing() -> None:
    world = World(destination(), latency=HANGS)
    async with world.worker() as worker:
        await fall_behind(worker)
        await worker.give_back(P0, deadline_secs=0.0)
        worker.assign(P0)
        world.bus.latency = lambda _batch: 0.01
        await worker.feed_until(60, *records(range(world.group[P0].offset, 400)))
        assert set(map(int, world.bus.arrived["dst_acme"])) == set(range(400))
        assert worker.commit()[P0] == 400


@in_virtual_time
async def test_a_lost_partition_is_resumed_from_its_last_commit() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        worker.commit()
        worker.feed(*records(range(400, 500)))
        worker.lose(P0)
        assert worker.ledger.in_flight == 0 or len(worker.in_flight)
        worker.assign(P0)
        world.bus.answer(take_all)
        await worker.feed_until(60, *records(range(world.group[P0].offset, 500)))
        assert set(map(int, world.bus.arrived["dst_acme"])) == set(range(500))
        assert worker.commit()[P0] == 500


@in_virtual_time
async def test_a_destination_falls_behind_again_before_its_cursor_is_gone() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        worker.commit()
    world.bus.latency = lambda _batch: HANGS
    async with world.worker() as worker:
        await worker.feed_until(4, *records(range(world.group[P0].offset, 410)))
        worker.feed(*records(range(410, 900)))
        await worker.at(8)
        worker.feed(*records(range(900, 1_300)))
        await worker.at(12)
        worker.commit()
    world.bus.latency = lambda _batch: 0.01
    world.bus.answer(take_all)
    async with world.worker() as worker:
        await worker.feed_until(60, *records(range(world.group[P0].offset, 1_300)))
        assert set(map(int, world.bus.arrived["dst_acme"])) == set(range(1_300))
        assert worker.commit()[P0] == 1_300


@pytest.mark.parametrize("cause", ["metadata", "limit", "number"])
@in_virtual_time
async def test_without_a_cursor_deliveries_get_copies(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlogs, "MAX_CURSORS", 0 if cause == "number" else 10)
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        if cause == "metadata":
            shortest = new_commit(5, [], None, None, "").shorter()
            for _ in range(3):
                worker.event_consumer.metadata.shorten([shortest])
        if cause == "limit":
            worker.event_consumer.metadata.limit(MIN_METADATA_CHARS - 1)
        worker.feed(*records(range(400)))
        await worker.at(40)
        assert worker.reported(CursorOpened) == []
        assert worker.ledger.moved_to_retry == 400
        assert worker.commit() == {P0: 400}


@in_virtual_time
async def test_a_broker_that_takes_the_place_of_a_snapshot_takes_cursors() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        worker.event_consumer.metadata.limit(MIN_METADATA_CHARS)
        await fall_behind(worker)
        assert worker.commit() == {P0: 400}
        assert world.topics.moved() == []


@in_virtual_time
async def test_a_commit_without_room_for_cursors_is_made_with_a_snapshot() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        [(_, commit)] = worker.event_consumer.committable()
        worker.event_consumer.metadata.shorten([commit.without_map()])
        [(_, short)] = worker.event_consumer.committable()
        assert (commit.needs_snapshot, short.needs_snapshot) == (False, True)
        assert cursors_of(short) == cursors_of(commit)
        worker.commit()
        assert worker.event_consumer.committable() == [], "it is not made again for its snapshot's place"
    async with world.worker() as worker:
        world.bus.answer(take_all)
        await worker.feed_until(20, *records(range(world.group[P0].offset, 400)))
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(400))


@in_virtual_time
async def test_a_cursor_of_a_former_customer_takes_over_nothing_of_the_next_one() -> None:
    world = World(destination("acme"), destination("other"), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        world.directory.put(modified(destination("acme"), customer_external_id=customer_id("other")))
        worker.feed(*records(range(400, 700), "other"))
        world.bus.answer(take_all)
        await worker.at(60)
        assert set(map(int, world.bus.arrived["dst_acme"])) >= set(range(400, 700))
