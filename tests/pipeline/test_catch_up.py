"""Records are read again for the destinations that are behind, as far as their lanes have room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from pushrail_stream.core.commit import Committable, cursors_of, encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors, owner_mark
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import (
    Consumed,
    CursorClosed,
    CursorTrimmed,
    PartitionRestarted,
    Signal,
    Skipped,
)
from pushrail_stream.pipeline.catch_up import Reading
from tests.pipeline.test_backlogs import DOWN, fall_behind
from tests.support.builders import VENDOR, customer_id, destination, modified
from tests.support.pipeline_world import HANGS, World
from tests.support.records import EVENTS, P0, P1, always, failed, raw, records, take_all
from tests.support.samples import RECREATED, TOPIC
from tests.support.virtual_time import in_virtual_time


def behind(world: World, *, head: int, settled: Sequence[int] = (), **changes: object) -> None:
    """The group's commit is past events that only a cursor of dst_acme has."""
    fields = {"since": 0, "next": 0, "oldest_ms": 1, "opened_ms": 1_790_000_000_000} | changes
    fields.setdefault("owner", owner_mark(VENDOR, customer_id("acme")))
    state = CursorState(destination_id="dst_acme", **fields)  # type: ignore[arg-type]
    world.group[P0] = Committable(head, encode_metadata(head, list(settled), None, None, encode_cursors([state])))
    world.log[P0] = {record.offset: record for record in records(range(head))}


def arrived(world: World) -> list[int]:
    return sorted(map(int, world.bus.arrived["dst_acme"]))


@in_virtual_time
async def test_the_live_reader_takes_over_where_the_cursor_has_caught_up() -> None:
    world = World(destination())
    behind(world, head=100)
    async with world.worker() as worker:
        await worker.at(2)
        await worker.feed_until(5, *records(range(100, 110)))
        assert arrived(world) == list(range(110))
        assert worker.commit() == {P0: 110}
        assert worker.reported(CursorClosed) == [CursorClosed(P0, "dst_acme", "caught_up")]
        assert worker.engine.catch_up.stats.deliveries == 100


@in_virtual_time
async def test_the_live_reader_takes_over_above_the_records_that_an_earlier_one_has_settled() -> None:
    """Another destination of the customer has got their events. Those of the cursor's destination are still open."""
    world = World(destination())
    behind(world, head=50, settled=[60, *range(80, 120)], since=80, next=80, open=(60,))
    world.log[P0] = {record.offset: record for record in records(range(200))}
    async with world.worker() as worker:
        await worker.at(2)
        assert arrived(world) == [60, *range(80, 120)]
        await worker.feed_until(5, *records(range(50, 200)))
        assert arrived(world) == list(range(50, 200))
        assert worker.commit() == {P0: 200}
        assert worker.reported(CursorClosed) == [CursorClosed(P0, "dst_acme", "caught_up")]


@in_virtual_time
async def test_the_cursor_never_overtakes_the_live_reader() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        world.log[P0] |= {record.offset: record for record in records(range(400, 600))}
        world.bus.answer(take_all)
        await worker.at(9)
        assert arrived(world) == list(range(400))
        await worker.feed_until(12, *records(range(400, 600)))
        assert arrived(world) == list(range(600))


@in_virtual_time
async def test_a_cursor_that_ended_before_the_live_reader_goes_on_to_its_end() -> None:
    world = World(destination())
    behind(world, head=100, next=40, to=150, open=(7, 20))
    world.log[P0] |= {record.offset: record for record in records(range(100, 200))}
    async with world.worker() as worker:
        await worker.at(2)
        await worker.feed_until(5, *records(range(100, 200)))
        assert arrived(world) == [7, 20, *range(40, 200)]
        assert worker.commit() == {P0: 200}


@in_virtual_time
async def test_a_batch_that_cannot_be_read_costs_no_event_before_it() -> None:
    world = World(destination(), latency=HANGS)
    behind(world, head=500)
    async with world.worker() as worker:
        worker.feed(*records(range(500, 600)))
        await worker.at(3)
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        before = cursor.position
        worker.engine.catch_up.step_over(P0, before + 100, before + 110)
        assert cursor.position == before
        worker.engine.catch_up.step_over(P0, before, 2_000)
        assert cursor.position == before, "the live reader has not passed it"
        assert worker.reported(CursorTrimmed) == []
        worker.engine.catch_up.step_over(P0, before, before + 10)
        assert cursor.position == before + 10
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", before, before + 10, 0)]


@in_virtual_time
async def test_records_of_an_earlier_log_are_not_taken_for_those_of_the_present_one() -> None:
    world = World(destination(), latency=HANGS)
    world.topic_ids[EVENTS] = TOPIC
    behind(world, head=100)
    async with world.worker() as worker:
        tracker = worker.event_consumer.trackers[P0]
        tracker.topic = TOPIC
        tracker.meet_epoch(7, 100)
        [cursor] = tracker.cursors.values()
        place = cursor.position
        old_topic = [record._replace(topic_id=RECREATED.topic_id) for record in records(range(place, place + 50))]
        old_epoch = [record._replace(leader_epoch=6) for record in records(range(100, 150))]
        for stale in (old_topic, old_epoch):
            worker.engine.catch_up.accept([Reading(P0, place, stale[-1].offset + 1, stale)])
            assert cursor.position == place
        mixed = [*records(range(place, 100)), *old_epoch]
        world.bus.latency = lambda _batch: 0.01
        worker.engine.catch_up.accept([Reading(P0, place, 150, mixed)])
        assert place < cursor.position <= 100
        assert not tracker.is_of_another_log(records([99])[0]._replace(leader_epoch=6))
        assert not tracker.is_of_another_log(records([100])[0]._replace(leader_epoch=7, topic_id=TOPIC.topic_id))


@in_virtual_time
async def test_records_read_before_an_election_are_not_taken() -> None:
    """The log was cut off at 60, and two leaders later the records from there on are of other epochs."""
    world = World(destination(), latency=HANGS)
    behind(world, head=100)
    async with world.worker() as worker:
        catch_up, tracker = worker.engine.catch_up, worker.event_consumer.trackers[P0]
        [cursor] = tracker.cursors.values()
        tracker.meet_epoch(5, 60)
        catch_up.plan()
        place, log = cursor.position, catch_up.logs[P0]
        stale = [record._replace(leader_epoch=5) for record in records(range(place, 90))]
        tracker.meet_epoch(6, 60)
        tracker.meet_epoch(7, 80)
        catch_up.accept([Reading(P0, place, 90, stale, 0, log)])
        assert cursor.position == place
        assert catch_up.logs[P0] > log


def cut_at(world: World, end: int) -> None:
    """The live reader has read up to 100 in epoch 1, and a cursor up to 60. Then the log loses its end."""
    world.topic_ids[EVENTS] = TOPIC
    behind(world, head=100)
    [state] = cursors_of(world.group[P0])
    world.group[P0] = Committable(100, encode_metadata(100, [], TOPIC, 1, encode_cursors([state])))
    world.log[P0] = {record.offset: record._replace(leader_epoch=1) for record in records(range(end))}


@in_virtual_time
async def test_a_cursor_waits_at_the_cut_until_the_live_reader_knows_of_it() -> None:
    """Otherwise it takes the new records for those that are lost, and nobody tells of all that are lost."""
    world = World(destination(), destination("other"))
    cut_at(world, 60)
    new = [record._replace(leader_epoch=2) for record in records(range(60, 80), "other")]
    world.log[P0] |= {record.offset: record for record in new}
    async with world.worker() as worker:
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        await worker.at(2)
        assert (cursor.position, arrived(world)) == (60, list(range(60)))
        worker.event_consumer.sought(worker.feed(*new).seeks)
        await worker.feed_until(5, *new)
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 100)]
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", 60, 100, 0)]
        assert len(world.bus.arrived["dst_other"]) == 20
        assert worker.commit() == {P0: 80}
        assert worker.event_consumer.trackers[P0].cursors == {}


@in_virtual_time
async def test_a_cursor_waits_at_a_new_leaders_marker_until_the_live_reader_knows_of_it() -> None:
    world = World(destination())
    cut_at(world, 60)
    async with world.worker() as worker:
        catch_up = worker.engine.catch_up
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        await worker.at(2)
        catch_up.accept([Reading(P0, 60, 61, (), epoch=2)])
        assert cursor.position == 60
        catch_up.accept([Reading(P0, 60, 61, (), epoch=1)])
        assert cursor.position == 61
        assert catch_up.accept([Reading(P0, 61, 100, (), epoch=1)]) == {}, "it has caught up"


@in_virtual_time
async def test_records_read_in_an_earlier_assignment_are_not_taken() -> None:
    world = World(destination(), latency=HANGS)
    behind(world, head=100)
    async with world.worker() as worker:
        catch_up = worker.engine.catch_up
        catch_up.plan()
        log = catch_up.logs[P0]
        worker.lose(P0)
        worker.assign(P0)
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        place = cursor.position
        catch_up.accept([Reading(P0, place, 50, records(range(place, 50)), 0, log)])
        assert cursor.position == place
        catch_up.accept([Reading(P0, place, 50, records(range(place, 50)), 0, catch_up.logs[P0])])
        assert cursor.position > place
        worker.lose(P0)
        catch_up.plan()
        assert catch_up.logs == {}


@in_virtual_time
async def test_records_of_an_earlier_epoch_than_that_of_the_commit_are_read() -> None:
    world = World(destination())
    world.topic_ids[EVENTS] = TOPIC
    behind(world, head=100)
    world.log[P0] = {
        record.offset: record._replace(leader_epoch=5 if record.offset < 60 else 6) for record in records(range(150))
    }
    [state] = cursors_of(world.group[P0])
    world.group[P0] = Committable(100, encode_metadata(100, [], TOPIC, 6, encode_cursors([state])))
    async with world.worker() as worker:
        tracker = worker.event_consumer.trackers[P0]
        await worker.at(2)
        assert arrived(world) == list(range(100))
        await worker.feed_until(5, *(record._replace(leader_epoch=6) for record in records(range(100, 110))))
        assert arrived(world) == list(range(110))
        assert not tracker.is_of_another_log(records([99])[0]._replace(leader_epoch=5))
        assert tracker.is_of_another_log(records([100])[0]._replace(leader_epoch=5))


@in_virtual_time
async def test_deliveries_that_are_put_back_while_records_are_read_are_not_passed_over() -> None:
    """A bus becomes silent at some moment, and its lane takes less from then on. That may be amid a reading."""
    world = World(destination(), latency=HANGS)
    behind(world, head=400)
    async with world.worker() as worker:
        loop, offer = asyncio.get_running_loop(), worker.dispatcher.offer

        def offer_slowly(deliveries: Sequence[Delivery], to: Destination) -> None:
            offer(deliveries, to)
            if deliveries[0].record.offset == 150:
                late = loop.time() + 3
                with patch.object(loop, "time", lambda: late):
                    worker.dispatcher.fell_behind(worker.dispatcher.lanes[to.id], late)

        with patch.object(worker.dispatcher, "offer", offer_slowly):
            await worker.at(0.1)
        assert worker.ledger.put_back > 0
        world.bus.latency = lambda _batch: 0.01
        await worker.at(60)
        assert sorted(set(arrived(world))) == list(range(400))
        assert worker.reported(CursorTrimmed) == []


@in_virtual_time
async def test_events_that_retention_removed_are_counted() -> None:
    world = World(destination())
    behind(world, head=100, next=40, open=(7, 20))
    world.log_starts[P0] = 50
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(100, 110)))
        assert arrived(world) == list(range(50, 110))
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", 7, 50, 2)]
        assert worker.commit() == {P0: 110}
        assert cursors_of(world.group[P0]) == []


@in_virtual_time
async def test_an_open_record_that_is_not_there_any_more_is_reported() -> None:
    world = World(destination())
    behind(world, head=100, next=100, open=(7, 20))
    del world.log[P0][20]
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(100, 110)))
        assert arrived(world) == [7, *range(100, 110)]
        assert [(lost.start, lost.known) for lost in worker.reported(CursorTrimmed)] == [(7, 1)]
        assert worker.commit() == {P0: 110}
        assert cursors_of(world.group[P0]) == []


@in_virtual_time
async def test_an_open_record_that_cannot_be_decoded_any_more_is_a_dead_letter() -> None:
    world = World(destination())
    behind(world, head=100, next=100, open=(7, 20))
    world.log[P0][20] = raw(20, b"poison")
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(100, 110)))
        assert world.topics.dead() == [("20", "undecodable")]
        assert worker.commit() == {P0: 110}


@in_virtual_time
async def test_a_dead_letter_that_waits_for_kafka_is_not_written_again_when_its_record_is_read_again() -> None:
    world = World(destination(), latency=HANGS)
    behind(world, head=190, next=190, open=tuple(range(190)))
    world.log[P0][189] = raw(189, b"poison")
    world.topics.refuse = lambda: True
    async with world.worker() as worker:
        await worker.at(1)
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        assert cursor.position == 190
        await worker.at(4)
        worker.dispatcher.fell_behind(worker.dispatcher.lanes["dst_acme"], 4.0)
        assert worker.ledger.put_back > 0
        assert cursor.position < 189
        world.bus.latency = lambda _batch: 0.01
        await worker.at(60)
        assert cursor.position == 190, "its record was read again"
        world.topics.refuse = lambda: False
        await worker.at(80)
        assert world.topics.dead() == [("189", "undecodable")]
        assert sorted(set(arrived(world))) == list(range(189))


@in_virtual_time
async def test_a_record_that_no_cursor_names_is_the_dead_letter_of_the_live_reader_alone() -> None:
    world = World(destination())
    behind(world, head=100, next=40, open=(7,))
    world.log[P0][60] = raw(60, b"{" + customer_id("acme").encode())
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(100, 110)))
        assert world.topics.dead() == []
        assert arrived(world) == [7, *range(40, 60), *range(61, 110)]
        assert worker.commit() == {P0: 110}


@in_virtual_time
async def test_records_of_a_partition_that_is_not_ours_begin_nothing() -> None:
    world = World(destination(), latency=HANGS)
    behind(world, head=100)
    async with world.worker() as worker:
        worker.lose(P0)
        assert worker.engine.catch_up.accept([Reading(P0, 0, 100, records(range(100)))]) == {}
        assert worker.engine.catch_up.stats.records == 0
        assert worker.ledger.begun == 0


@in_virtual_time
async def test_the_events_of_a_deleted_destination_are_skipped_in_bounded_steps() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker, 3_000)
        world.directory.remove("dst_acme")
        await worker.at(20)
        skipped = worker.reported(Skipped)
        assert {skip.reason for skip in skipped} == {"deleted"}
        assert sorted(skip.origin.offset for skip in skipped) == list(range(3_000))
        assert CursorClosed(P0, "dst_acme", "deleted") in worker.reported(CursorClosed)
        assert worker.commit() == {P0: 3_000}
        assert worker.event_consumer.trackers[P0].cursors == {}


@in_virtual_time
async def test_events_that_come_after_the_end_of_a_destination_are_not_its_own() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        world.directory.remove("dst_acme")
        worker.feed(*records(range(400, 420)))
        await worker.at(9)
        skipped = worker.reported(Skipped)
        assert [skip.origin.offset for skip in skipped if skip.reason == "no_destination"] == list(range(400, 420))
        assert sorted(skip.origin.offset for skip in skipped if skip.reason == "deleted") == list(range(400))


@in_virtual_time
async def test_a_destination_that_was_deleted_while_no_worker_ran_is_found_at_the_start() -> None:
    world = World(destination("other"))
    behind(world, head=1_000, next=500, open=(7, 20))
    async with world.worker() as worker:
        await worker.at(5)
        assert sorted(skip.origin.offset for skip in worker.reported(Skipped)) == [7, 20, *range(500, 1_000)]
        await worker.feed_until(6, *records(range(1_000, 1_001), "other"))
        assert worker.commit() == {P0: 1_001}


@in_virtual_time
async def test_each_event_of_a_deleted_destination_is_skipped_although_another_one_has_got_it() -> None:
    world = World()
    behind(world, head=50, settled=range(50, 120), since=80, next=80)
    world.log[P0] = {record.offset: record for record in records(range(120))}
    async with world.worker() as worker:
        await worker.at(2)
        await worker.feed_until(5, *records(range(50, 120)))
        deleted = [skip.origin.offset for skip in worker.reported(Skipped) if skip.reason == "deleted"]
        assert sorted(deleted) == list(range(80, 120))


@in_virtual_time
async def test_a_destination_that_went_to_another_customer_counts_as_deleted() -> None:
    world = World(destination())
    behind(world, head=500)
    world.directory.put(modified(destination(), customer_external_id=customer_id("other")))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(500, 510), "other"))
        assert sorted(skip.origin.offset for skip in worker.reported(Skipped)) == list(range(500))
        assert arrived(world) == list(range(500, 510)), "the next customer's events come"
        assert worker.commit() == {P0: 510}


@in_virtual_time
async def test_a_destination_that_is_restored_gets_what_was_not_skipped_yet() -> None:
    world = World(destination(), latency=5.0)
    behind(world, head=3_000)
    async with world.worker() as worker:
        worker.feed(*records(range(3_000, 3_010)))
        await worker.at(1)
        world.directory.remove("dst_acme")
        await worker.at(1.02)
        world.bus.latency = lambda _batch: 0.01
        world.directory.put(destination())
        await worker.feed_until(60, *records(range(3_010, 3_020)))
        skipped = {skip.origin.offset for skip in worker.reported(Skipped)}
        assert 0 < len(skipped) < 3_000
        assert sorted([*skipped, *arrived(world)]) == list(range(3_020))
        assert set(arrived(world)) >= set(range(3_010, 3_020))


@in_virtual_time
async def test_the_events_of_a_disabled_destination_are_skipped() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker, 3_000)
        world.directory.put(destination(enabled=False))
        await worker.at(20)
        assert {skip.reason for skip in worker.reported(Skipped)} == {"disabled"}
        assert sorted(skip.origin.offset for skip in worker.reported(Skipped)) == list(range(3_000))
        assert worker.commit() == {P0: 3_000}


@in_virtual_time
async def test_the_newest_document_counts() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        world.directory.put(destination(event_types=("nothing.*",)))
        world.bus.answer(take_all)
        await worker.at(20)
        skipped = [skip.origin.offset for skip in worker.reported(Skipped)]
        assert sorted([*arrived(world), *skipped]) == list(range(400))
        assert len(skipped) > 200


@in_virtual_time
async def test_a_changed_filter_counts_for_what_a_cursor_has_queued() -> None:
    """Its time began when it was due, but no attempt was made."""
    world = World(destination(), latency=5.0)
    behind(world, head=1_000)
    async with world.worker() as worker:
        await worker.at(1)
        tried = sorted(int(key) for call in world.bus.calls for key in call.keys)
        assert len(tried) == 80, "of about 150 that the lane has"
        world.directory.put(destination(event_types=("nothing.*",)))
        await worker.at(20)
        assert arrived(world) == tried
        assert sorted([*tried, *(skip.origin.offset for skip in worker.reported(Skipped))]) == list(range(1_000))


@in_virtual_time
async def test_a_suspended_destination_drains_with_a_bounded_number_of_writes() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker, 5_000)
        world.bus.answer(always(failed("AccessDeniedException", 400)))
        world.topics.refuse = lambda: True
        await worker.at(15)
        assert 0 < len(worker.in_flight) < 1_500
        world.topics.refuse = lambda: False
        await worker.at(60)
        assert {reason for _, reason in world.topics.dead()} <= {"suspended", "blocked"}
        ends = [int(origin) for origin, _ in world.topics.dead()]
        ends += [int(origin) for _, origin, *_ in world.topics.moved()]
        assert sorted(ends) == list(range(5_000))


@in_virtual_time
async def test_each_event_is_consumed_once_also_while_its_destination_is_behind() -> None:
    consumed = list[Signal]()
    world = World(destination(), answer=DOWN)
    async with world.worker(consumed=consumed.append) as worker:
        await fall_behind(worker)
        world.bus.answer(take_all)
        await worker.at(20)
        assert len(arrived(world)) == 400
    assert [signal.origin.offset for signal in consumed if isinstance(signal, Consumed)] == list(range(400))
    assert {signal.deliveries for signal in consumed if isinstance(signal, Consumed)} == {1}


@in_virtual_time
async def test_a_record_that_is_read_again_counts_for_the_flood_guard_when_it_begins() -> None:
    world = World(destination())
    behind(world, head=100)
    async with world.worker() as worker:
        await worker.at(5)
        assert worker.engine.catch_up._admission._guard.report().records == 100


@in_virtual_time
async def test_reading_ends_with_the_last_destination_that_needs_it() -> None:
    """A lane that is more than half full takes what comes along, but nothing is read for it alone."""
    world = World(destination(), destination("other"), latency=HANGS)
    names = {"dst_acme": "acme", "dst_other": "other"}
    fields = {"since": 0, "next": 0, "oldest_ms": 1, "opened_ms": 1_790_000_000_000}
    states = [
        CursorState(destination_id=name, owner=owner_mark(VENDOR, customer_id(customer)), **fields)  # type: ignore[arg-type]
        for name, customer in names.items()
    ]
    metadata = encode_metadata(500, [], None, None, encode_cursors(states))
    world.group = {P0: Committable(500, metadata), P1: Committable(500, metadata)}
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.at(0)
        catch_up = worker.engine.catch_up
        catch_up.accept([Reading(P0, 0, 150, records(range(150), "other"))])
        assert catch_up.stats.records == 150
        mine = [*records(range(300), partition=P1), *records(range(300, 500), "nobody", partition=P1)]
        catch_up.accept([Reading(P1, 0, 500, mine)])
        assert catch_up.stats.records == 150 + 200, "200 wait, and the lane has enough"
        cursors = worker.event_consumer.trackers[P1].cursors
        assert [cursors[name].position for name in names] == [200, 200]
        catch_up.accept([Reading(P1, 200, 500, mine[200:])])
        assert catch_up.stats.records == 150 + 200, "nobody needs them now"


@in_virtual_time
async def test_a_cursor_that_comes_along_stops_at_its_end() -> None:
    world = World(destination(), destination("other"), latency=HANGS)
    fields = {"since": 0, "next": 0, "oldest_ms": 1, "opened_ms": 1_790_000_000_000}
    mine = CursorState(destination_id="dst_acme", owner=owner_mark(VENDOR, customer_id("acme")), **fields)  # type: ignore[arg-type]
    other = CursorState(destination_id="dst_other", owner=owner_mark(VENDOR, customer_id("other")), **fields)  # type: ignore[arg-type]
    world.group = {
        P0: Committable(500, encode_metadata(500, [], None, None, encode_cursors([other]))),
        P1: Committable(500, encode_metadata(500, [], None, None, encode_cursors([mine, replace(other, to=100)]))),
    }
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.at(0)
        catch_up = worker.engine.catch_up
        catch_up.accept([Reading(P0, 0, 150, records(range(150), "other"))])
        catch_up.accept([Reading(P1, 0, 500, records(range(500), partition=P1))])
        cursors = worker.event_consumer.trackers[P1].cursors
        assert (cursors["dst_acme"].position, cursors["dst_other"].position) == (200, 100)
        assert not cursors["dst_other"].is_behind


@in_virtual_time
async def test_a_lane_without_a_cursor_that_wants_records_wakes_nobody() -> None:
    """While a region is down, thousands of lanes wake all the time."""
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker)
        await worker.at(10)
        catch_up, [lane] = worker.engine.catch_up, worker.dispatcher.lanes.values()
        with patch.object(catch_up, "woken") as woken:
            assert catch_up.plan() == {}
            catch_up.wake(lane)
            assert not woken.called
            lane.deliveries.drop()
            catch_up.wake(lane)
            assert woken.called
