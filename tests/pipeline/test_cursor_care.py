"""Deliveries that wait on a cursor grow too old, come near the start of the log, and leave with their topic."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pushrail_stream.core.commit import Committable, cursors_of, encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.destination import RetryBounds
from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.record import Record
from pushrail_stream.core.signals import CursorClosed, CursorEndangered, CursorTrimmed, PartitionRestarted
from pushrail_stream.pipeline.read_progress import ReadPosition
from tests.pipeline.test_backlogs import DOWN, fall_behind
from tests.pipeline.test_catch_up import arrived, behind
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import World
from tests.support.policy import lane_limits, retry_policy
from tests.support.records import EVENTS, P0, P1, START_MS, always, answered, failed, fault, keys, records, take_all
from tests.support.samples import RECREATED, TOPIC
from tests.support.virtual_time import in_virtual_time

OURS = always(failed("InvalidClientTokenId", 403, operation="AssumeRole"))
HOUR_MS = 3_600_000


def aged(offsets: range, hours: float) -> list[Record]:
    """Events that were recorded so long before the story begins."""
    return [record._replace(timestamp_ms=START_MS - int(hours * HOUR_MS)) for record in records(offsets)]


def dead(world: World) -> list[int]:
    return sorted(int(origin) for origin, reason in world.topics.dead() if reason == "expired")


@in_virtual_time
async def test_the_age_counts_from_the_opening_of_the_cursor() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await fall_behind(worker, 2_000)
        await worker.at(50)
        assert dead(world) == []
        before = len(world.bus.calls)
        await worker.at(66)
        assert len(dead(world)) == 2_000
        assert len(world.bus.calls) - before <= 12, "they expire without a call, but for a probe every 2 s"
        worker.commit()
        assert worker.event_consumer.trackers[P0].cursors == {}


@in_virtual_time
async def test_a_destination_has_an_age_of_its_own() -> None:
    world = World(destination(retry=RetryBounds(max_age_secs=60)), answer=DOWN)
    async with world.worker() as worker:
        await fall_behind(worker, 2_000)
        await worker.at(50)
        assert dead(world) == []
        await worker.at(66)
        assert len(dead(world)) == 2_000


@in_virtual_time
async def test_an_expired_delivery_tells_from_when_its_age_counted() -> None:
    """No attempt was made: the header tells the opening of the cursor, or the record's time if that is later."""
    world = World(destination(), answer=DOWN)
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await fall_behind(worker, 1_000)
        later = [record._replace(timestamp_ms=START_MS + 20_000) for record in records(range(1_000, 1_100))]
        await worker.feed_until(90, *later)
        opened_ms = min(one.opened_ms for one in worker.event_consumer.trackers[P0].cursors.values())
        said = {int(dead.said["pushrail-origin"].rpartition("/")[2]): dead.said for dead in world.topics.written}
        assert len(said) == 1_100
        for offset, due_ms in ((900, opened_ms), (1_050, START_MS + 20_000)):
            assert (said[offset]["pushrail-attempts"], said[offset]["pushrail-reason"]) == ("0", "expired")
            at = datetime.fromisoformat(said[offset]["pushrail-first-attempt-at"])
            assert round(at.timestamp() * 1000) == due_ms


@in_virtual_time
async def test_the_age_of_a_later_event_counts_from_its_record() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await fall_behind(worker)
        await worker.at(40)
        worker.feed(*(record._replace(timestamp_ms=START_MS + 40_000) for record in records(range(400, 1_000))))
        await worker.at(70)
        assert dead(world) == list(range(400))
        world.bus.answer(take_all)
        await worker.at(90)
        assert arrived(world) == list(range(400, 1_000))
        assert dead(world) == list(range(400))


@in_virtual_time
async def test_time_in_which_our_own_credentials_fail_does_not_count() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await fall_behind(worker)
        world.bus.answer(OURS)
        await worker.at(500)
        assert dead(world) == []
        [cursor] = worker.event_consumer.trackers[P0].cursors.values()
        assert cursor.opened_ms > START_MS + 450_000
        world.bus.answer(DOWN)
        await worker.at(550)
        assert dead(world) == []
        await worker.at(640)
        assert len(dead(world)) + len({origin for _, origin, *_ in world.topics.moved()}) == 400
        assert len(dead(world)) > 300


@in_virtual_time
async def test_time_in_which_our_own_credentials_fail_does_not_count_on_a_retry_topic() -> None:
    """After our fault, five entries fail alone. Their copies tell from when their age counts."""
    bad = {str(offset) for offset in range(5)}
    world = World(destination(), answer=OURS)
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await fall_behind(worker)
        await worker.at(500)
        world.bus.answer(
            lambda batch: answered(batch, {key: fault("InternalFailure") for key in keys(batch) if key in bad})
        )
        await worker.at(540)
        assert {origin for _, origin, *_ in world.topics.moved()} == bad
        first = {datetime.fromisoformat(copy.said["pushrail-first-attempt-at"]) for copy in world.topics.written[:5]}
        assert all(at.timestamp() > START_MS / 1000 + 490 for at in first)


@in_virtual_time
async def test_the_opening_outlives_the_worker() -> None:
    """A call of the next owner that fails ends a delivery that is too old."""
    world = World(destination(), answer=DOWN)
    behind(world, head=1_000, opened_ms=START_MS - 2 * HOUR_MS)
    world.log[P0] = {record.offset: record for record in aged(range(1_000), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=3_600)) as worker:
        await worker.feed_until(9, *aged(range(1_000, 1_010), 0.5))
        expired = dead(world)
        assert expired
        assert {letter.said["pushrail-error-code"] for letter in world.topics.written} == {"ServiceUnavailable"}
        world.bus.answer(take_all)
        await worker.at(20)
        assert arrived(world) == sorted(set(range(1_010)) - set(expired))


@in_virtual_time
async def test_time_without_an_owner_expires_nothing() -> None:
    """The partition had no owner for two hours. Its bus takes events, so no letter blames the customer."""
    world = World(destination())
    behind(world, head=1_000, opened_ms=START_MS - 2 * HOUR_MS)
    world.log[P0] = {record.offset: record for record in aged(range(1_000), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=3_600)) as worker:
        await worker.at(20)
        assert (arrived(world), dead(world)) == (list(range(1_000)), [])


@in_virtual_time
async def test_the_next_owner_expires_deliveries_that_it_has_had_for_long() -> None:
    """The bus takes one call in ten seconds and refuses none, so the rest expires without a call."""
    world = World(narrow("acme", 8, per_second=0.1))
    behind(world, head=1_000, opened_ms=START_MS - 2 * HOUR_MS)
    world.log[P0] = {record.offset: record for record in aged(range(1_000), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await worker.at(50)
        assert dead(world) == []
        await worker.at(75)
        assert sorted([*arrived(world), *dead(world)]) == list(range(1_000))
        assert {letter.said["pushrail-error-code"] for letter in world.topics.written} == {"Held"}


@in_virtual_time
async def test_a_delivery_that_waits_because_of_us_does_not_expire() -> None:
    """Its last call was not made, for want of a turn to sign in. Its next one may be made."""
    world = World(narrow("acme", 8, per_second=0.1))
    behind(world, head=1_000, opened_ms=START_MS - 2 * HOUR_MS)
    world.log[P0] = {record.offset: record for record in aged(range(1_000), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await worker.at(50)
        queued = list(worker.dispatcher.lanes["dst_acme"].deliveries.waiting())[-40:]
        for delivery in queued:
            delivery.problem = Problem(SIGN_INS_QUEUED, "too many sign-ins are due", is_our_delay=True)
        await worker.at(75)
        assert len(dead(world)) > 800
        assert not {one.record.offset for one in queued} & set(dead(world))
        await worker.at(200)
        assert {one.record.offset for one in queued} <= set(arrived(world))


@in_virtual_time
async def test_a_partition_that_came_later_expires_later() -> None:
    """Two partitions have old deliveries for one destination. Each counts from the time at which it came."""
    world = World(narrow("acme", 8, per_second=0.1))
    opened_ms = START_MS - 2 * HOUR_MS
    behind(world, head=3_000, opened_ms=opened_ms, since=2_950, next=2_950)
    world.group[P1] = world.group[P0]
    world.log[P1] = {record.offset: record._replace(partition=1) for record in aged(range(2_950, 3_000), 3)}
    behind(world, head=100, opened_ms=opened_ms)
    world.log[P0] = {record.offset: record for record in aged(range(100), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=60)) as worker:
        await worker.at(30)
        worker.assign(P1)
        await worker.at(75)
        assert dead(world)
        assert max(dead(world)) < 100
        await worker.at(105)
        assert max(dead(world)) >= 2_950


@in_virtual_time
async def test_a_filtered_or_disabled_event_does_not_expire() -> None:
    world = World(destination(event_types=("nothing.*",)))
    behind(world, head=100, opened_ms=START_MS - 2 * HOUR_MS)
    world.log[P0] = {record.offset: record for record in aged(range(100), 3)}
    async with world.worker(policy=retry_policy(max_age_secs=3_600)) as worker:
        await worker.at(5)
        assert (worker.ledger.skipped, dead(world)) == (100, [])


def see_start(worker: object, first: int) -> None:
    worker.event_consumer.note_positions({P0: ReadPosition(None, first)})  # type: ignore[attr-defined]


@in_virtual_time
async def test_deliveries_near_the_start_of_the_log_move_to_the_last_retry_topic() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker(batches=lane_limits(hold_secs=100)) as worker:
        await fall_behind(worker, 400)
        world.directory.put(replace(destination(), source="another"))
        others = records(range(400, 5_000), "nobody")
        for start in range(0, len(others), 500):
            worker.feed(*others[start : start + 500])
        see_start(worker, 0)
        await worker.at(6)
        assert worker.reported(CursorEndangered) == []
        world.log_starts[P0] = 5
        see_start(worker, 5)
        await worker.at(12)
        [endangered] = worker.reported(CursorEndangered)
        assert (endangered.destination_id, endangered.first) == ("dst_acme", 5)
        moved = world.topics.moved()
        assert {tier for _, _, tier, _ in moved} == {"30m"}
        assert len(moved) >= 380
        assert worker.reported(CursorTrimmed) == []
        world.bus.answer(take_all)
        await worker.at(30)
        assert sorted([*arrived(world), *(int(origin) for _, origin, *_ in moved)]) == list(range(400))
        worker.commit()
        assert worker.event_consumer.trackers[P0].cursors == {}


@in_virtual_time
async def test_events_lost_with_a_recreated_topic_are_reported() -> None:
    world = World(destination(), answer=DOWN)
    world.topic_ids[EVENTS] = TOPIC
    async with world.worker() as worker:
        await fall_behind(worker)
        worker.commit()
        world.log.clear()
        worker.recreate(EVENTS, RECREATED)
        assert [closed.why for closed in worker.reported(CursorClosed)] == ["recreated"]
        [lost] = worker.reported(CursorTrimmed)
        assert (lost.end, lost.known > 100) == (400, True)
        assert worker.event_consumer.trackers[P0].cursors == {}
        world.bus.answer(take_all)
        await worker.feed_until(30, *records(range(50)))
        assert set(arrived(world)) >= set(range(50)), "all of the new topic, from its beginning"
        assert worker.commit() == {P0: 50}


@in_virtual_time
async def test_events_lost_with_the_end_of_a_log_are_reported_once() -> None:
    """After an unclean election, other records take the offsets from 350 on."""
    world = World(destination(), answer=DOWN)
    behind(world, head=400, next=380, open=(7, 360, 370))
    async with world.worker() as worker:
        for offset in range(350, 400):
            del world.log[P0][offset]
        await worker.feed_until(2, *records(range(350, 360)))
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", 350, 400, 2)]
        world.bus.answer(take_all)
        await worker.at(30)
        assert arrived(world) == [7, *range(350, 360)]
        assert len(worker.reported(CursorTrimmed)) == 1


@in_virtual_time
async def test_a_cursor_below_the_lost_end_of_a_log_loses_nothing() -> None:
    world = World(destination(), answer=DOWN)
    state = CursorState(
        destination_id="dst_acme", since=0, next=300, to=300, oldest_ms=1, opened_ms=START_MS, open=(7,)
    )
    world.log[P0] = {old.offset: old for old in records(range(350))}
    world.group[P0] = Committable(400, encode_metadata(400, [], None, None, encode_cursors([state])))
    async with world.worker() as worker:
        await worker.feed_until(2, *records(range(350, 360)))
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 400)]
        assert worker.reported(CursorTrimmed) == []
        world.bus.answer(take_all)
        await worker.at(30)
        assert arrived(world) == [7, *range(350, 360)]


@in_virtual_time
async def test_events_lost_while_no_worker_ran_are_reported() -> None:
    """The next owner begins at the cut, and meets records of a later leader."""
    world = World(destination())
    state = CursorState(destination_id="dst_acme", since=0, next=30, oldest_ms=1, opened_ms=START_MS, open=(5, 25, 27))
    world.log[P0] = {old.offset: old._replace(leader_epoch=1) for old in records(range(20))}
    world.group[P0] = Committable(20, encode_metadata(20, [], TOPIC, 1, encode_cursors([state])))
    world.topic_ids[EVENTS] = TOPIC
    async with world.worker() as worker:
        assert worker.reported(CursorTrimmed) == []
        await worker.feed_until(10, *(one._replace(leader_epoch=2) for one in records(range(20, 40))))
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", 20, 28, 2)]
        assert arrived(world) == [5, *range(20, 40)]


@in_virtual_time
async def test_a_topic_that_was_recreated_while_no_worker_ran_ends_its_cursors() -> None:
    world = World(destination())
    behind(world, head=400, next=300, open=(7, 20))
    states = cursors_of(world.group[P0])
    world.group[P0] = Committable(400, encode_metadata(400, [], TOPIC, None, encode_cursors(states)))
    world.topic_ids[EVENTS] = RECREATED
    world.log.clear()
    async with world.worker() as worker:
        assert worker.reported(CursorTrimmed) == [CursorTrimmed(P0, "dst_acme", 7, 400, 2)]
        assert [closed.why for closed in worker.reported(CursorClosed)] == ["recreated"]
        await worker.feed_until(5, *records(range(50)))
        assert arrived(world) == list(range(50))
        assert worker.commit() == {P0: 50}


@in_virtual_time
async def test_a_cursor_keeps_its_place_when_the_log_lost_its_end() -> None:
    world = World(destination(), answer=DOWN)
    async with world.worker() as worker:
        worker.feed(*(record._replace(leader_epoch=1) for record in records(range(10))))
        await worker.at(2.5)
        await worker.feed_until(3.3, *(record._replace(leader_epoch=1) for record in records(range(10, 400))))
        worker.commit()
        log = world.log[P0]
        for offset in range(300, 400):
            del log[offset]
        new = [
            record._replace(offset=offset, leader_epoch=2)
            for offset, record in enumerate(records(range(1_000, 1_200)), 300)
        ]
        worker.event_consumer.sought(worker.feed(*new).seeks)
        await worker.feed_until(5, *new)
        world.bus.answer(take_all)
        await worker.at(30)
        assert set(arrived(world)) >= {*range(300), *range(1_000, 1_200)}
        assert len(arrived(world)) == len(set(arrived(world)))
        assert worker.commit() == {P0: 500}
        assert worker.event_consumer.trackers[P0].cursors == {}


@in_virtual_time
async def test_very_many_cursors_are_taken_care_of_in_turns() -> None:
    """One look has time for a part of them, so that the event loop does not stand still."""
    world = World()
    names = [f"dst_{number}" for number in range(2_500)]
    states = [CursorState(destination_id=name, since=0, next=0, oldest_ms=1, opened_ms=2) for name in names]
    world.group[P0] = Committable(100, encode_metadata(100, [], None, None, encode_cursors(states)))
    async with world.worker() as worker:
        ended = []
        for _ in range(3):
            worker.engine.catch_up.plan()
            ended.append(sum(cursor.to is not None for cursor in worker.event_consumer.trackers[P0].cursors.values()))
        assert ended == [1_000, 2_000, 2_500]
        assert len(worker.reported(CursorClosed)) == 2_500, "their destinations do not exist"
