"""A partition restarts when its topic was recreated or its log was cut off."""

from __future__ import annotations

import pytest

from pushrail_stream.core.commit import Committable, cursors_of, encode_metadata, settled_map, topic_of
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.record import TopicIdentity
from pushrail_stream.core.signals import Backpressure, PartitionRestarted, PartitionsAssigned
from pushrail_stream.pipeline.read_progress import ReadPosition
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import buffer_limits
from tests.support.records import EVENTS, P0, P1, RETRY, record, records, retry_record
from tests.support.virtual_time import in_virtual_time

OLD = TopicIdentity("cluster", "the old topic")
NEW = TopicIdentity("cluster", "the new topic")
MIRROR = TopicIdentity("another cluster", "the mirrored topic")
COMMITTED = Committable(5, encode_metadata(5, [7], OLD))


@in_virtual_time
async def test_an_assigned_new_topic_starts_at_0() -> None:
    world = World(destination())
    world.group[P0], world.topic_ids[EVENTS] = COMMITTED, NEW
    async with world.worker() as worker:
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "recreated", 5)]
        assert worker.reported(PartitionsAssigned)[-1].partitions == ((P0, None),)
        await worker.feed_until(1, *records(range(9)))
        assert world.bus.arrived["dst_acme"] == [str(n) for n in range(9)]
        worker.commit()
        assert (world.group[P0].offset, topic_of(world.group[P0])) == (9, NEW)


@in_virtual_time
async def test_another_clusters_map_is_ignored() -> None:
    world = World(destination())
    world.group[P0], world.topic_ids[EVENTS] = COMMITTED, MIRROR
    async with world.worker() as worker:
        assert worker.reported(PartitionRestarted) == []
        assert worker.reported(PartitionsAssigned)[-1].partitions == ((P0, 5),)
        await worker.feed_until(1, *records(range(5, 9)))
        assert world.bus.arrived["dst_acme"] == ["5", "6", "7", "8"], "7 was settled on the other cluster alone"


@in_virtual_time
async def test_a_topic_recreated_midway_starts_at_0() -> None:
    world = World(narrow("acme", 1))
    world.topic_ids[EVENTS] = OLD
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3)))
        worker.commit()
        assert (world.group[P0].offset, topic_of(world.group[P0])) == (3, OLD)
        worker.recreate(EVENTS, NEW)
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "recreated", 3)]
        assert [view.committed for view in worker.event_consumer.partition_stats()] == [None]
        assert worker.commit() == {}
        await worker.feed_until(2, *records(range(2)))
        assert world.bus.arrived["dst_acme"] == ["0", "1", "2", "0", "1"]
        worker.commit()
        assert (world.group[P0].offset, topic_of(world.group[P0])) == (2, NEW)


@in_virtual_time
async def test_the_next_owner_sees_the_old_topics_id() -> None:
    """Until the new id is known, records of the new topic are committed under the old one."""
    world = World(destination())
    world.topic_ids[EVENTS] = OLD
    async with world.worker() as worker:
        worker.feed(*records(range(100, 150)))  # the new topic is longer: it is read on where the old one ended
        await worker.at(1)
        worker.commit()
        assert (world.group[P0].offset, topic_of(world.group[P0])) == (150, OLD)
    world.topic_ids[EVENTS] = NEW
    async with world.worker() as next_owner:
        assert next_owner.reported(PartitionsAssigned)[-1].partitions == ((P0, None),)


@in_virtual_time
async def test_a_topic_id_known_late_is_harmless() -> None:
    world = World(destination())
    world.group = {P0: COMMITTED, P1: Committable(8, "")}
    async with world.worker(owns=(P0, P1)) as worker:
        assert worker.event_consumer.recreated({EVENTS: OLD}) == {}
        worker.commit()
        assert {partition: topic_of(commit) for partition, commit in world.group.items()} == {P0: OLD, P1: OLD}
        assert worker.event_consumer.recreated({}) == {}
        assert worker.event_consumer.recreated({EVENTS: NEW}) == {P0: NEW, P1: NEW}


@in_virtual_time
async def test_a_recreated_topic_is_restarted_before_anything_is_committed() -> None:
    world = World(destination())
    world.topic_ids[EVENTS] = OLD
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        _, nothing, commits = worker.event_consumer.accept_poll((), {EVENTS: OLD}, {P0: ReadPosition(1, 0)})
        assert (nothing, [(partition, commit.offset) for partition, commit in commits]) == ({}, [(P0, 1)])
        due = worker.event_consumer.accept_poll((), {EVENTS: NEW}, {P0: ReadPosition(9, 0)})
        assert (due.recreated, due.commits) == ({P0: NEW}, ())
        assert worker.event_consumer.committable() == commits, "a position in the old topic counts no more"


@in_virtual_time
async def test_records_count_before_the_position_behind_them() -> None:
    world = World(destination())
    world.topic_ids[EVENTS] = OLD
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        due = worker.event_consumer.accept_poll(records(range(1, 4)), {EVENTS: OLD}, {P0: ReadPosition(4, 0)})
        assert [(partition, commit.offset) for partition, commit in due.commits] == [(P0, 1)]
        assert not due.flow_control.have_gaps
        await worker.at(3)
        assert worker.commit() == {P0: 4}


@in_virtual_time
async def test_an_earlier_offset_restarts_the_partition() -> None:
    """As after an unclean leader election: the log was cut off, and others have taken the offsets."""
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(10)))
        assert worker.commit() == {P0: 10}
        worker.feed(*records(range(4, 7)))
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 10)]
        await worker.at(2)
        assert worker.commit() == {P0: 7}
        assert world.bus.arrived["dst_acme"][10:] == ["4", "5", "6"]


@in_virtual_time
async def test_a_refused_copy_of_a_recreated_topic_is_written_again() -> None:
    world = World(narrow("acme", 1))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda _batch: 2.0
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(25)))
        worker.recreate(EVENTS, NEW)
        world.topics.refuse = lambda: True
        await worker.give_back(P0, deadline_secs=3.0)
        await worker.at(30)
        world.topics.refuse = lambda: False
        await worker.at(60)
        assert sorted(int(origin) for _, origin, _, _ in world.topics.moved()) == list(range(10, 25))
        assert (worker.ledger.delivered, worker.ledger.dropped, worker.ledger.in_flight) == (10, 0, 0)


@in_virtual_time
async def test_no_commit_passes_an_open_record_below_the_cut() -> None:
    world = World(narrow("acme", 1))
    world.bus.latency = lambda _batch: 2.0
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(25)))
        assert worker.commit() == {P0: 0}
        worker.feed(*records(range(20, 22)))
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 25)]
        assert worker.commit() == {}
        await worker.at(5)
        assert world.bus.arrived["dst_acme"] == [str(n) for n in range(20)]
        assert worker.commit() == {P0: 20}, "all below the cut have settled"
        await worker.at(7)
        assert worker.commit() == {P0: 22}


@in_virtual_time
async def test_open_deliveries_of_a_recreated_topic_end() -> None:
    world = World(narrow("acme", 1))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda _batch: 2.0
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(25)))
        worker.recreate(EVENTS, NEW)
        await worker.at(7)
        assert world.bus.arrived["dst_acme"] == [str(n) for n in range(25)]
        assert worker.ledger.in_flight == 0
        assert worker.commit() == {}


@pytest.mark.parametrize("is_lost", [False, True])
@in_virtual_time
async def test_a_revocation_moves_old_deliveries(*, is_lost: bool) -> None:
    world = World(narrow("acme", 1))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda _batch: 2.0
    async with world.worker(owns=(P0, P1)) as worker:
        await worker.feed_until(1, *records(range(25)))
        worker.recreate(EVENTS, NEW)
        worker.feed(*records(range(3)))
        await worker.give_back(P1)
        assert world.topics.moved() == [], "another partition is none of theirs"
        if is_lost:
            worker.lose(P0)
        else:
            await worker.give_back(P0)
        await worker.at(5)
        assert sorted(int(origin) for _, origin, _, _ in world.topics.moved()) == list(range(10, 25))
        assert {copy.said["pushrail-reason"] for copy in world.topics.written} == {"held"}
        assert (worker.ledger.delivered, worker.ledger.dropped) == (10, 3)


@in_virtual_time
async def test_new_topics_early_retries_begin_at_once() -> None:
    world = World(destination())
    world.topic_ids[RETRY.topic] = OLD
    async with world.worker(owns=(RETRY,)) as worker:
        worker.feed_retries(retry_record(0, due=8, event=7), retry_record(1, due=9, event=8))
        await worker.at(1)
        assert world.bus.arrived["dst_acme"] == []
        worker.recreate(RETRY.topic, NEW)
        await worker.at(2)
        assert world.bus.arrived["dst_acme"] == ["7", "8"]
        worker.feed_retries(retry_record(0, due=8, event=9))
        await worker.at(8)
        worker.retry_consumer.flow_control()
        await worker.at(9)
        assert world.bus.arrived["dst_acme"] == ["7", "8", "9"]
        worker.commit()
        assert (world.group[RETRY].offset, topic_of(world.group[RETRY])) == (1, NEW)
        worker.recreate(RETRY.topic, OLD._replace(topic_id="the newest topic"))
        assert [signal.position for signal in worker.reported(PartitionRestarted)] == [2, 1]


@in_virtual_time
async def test_early_retries_survive_an_earlier_offset() -> None:
    world = World(destination())
    async with world.worker(owns=(RETRY,)) as worker:
        worker.feed_retries(*(retry_record(n, due=8, event=n) for n in range(3)))
        worker.feed_retries(retry_record(1, due=5, event=11), retry_record(2, due=6, event=12))
        await worker.at(8)
        worker.retry_consumer.flow_control()
        await worker.at(9)
        assert set(world.bus.arrived["dst_acme"]) == {"0", "1", "2", "11", "12"}
        assert worker.commit()[RETRY] == 3


@in_virtual_time
async def test_old_deliveries_count_in_the_buffer() -> None:
    world = World(narrow("acme", 1))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda _batch: HANGS
    async with world.worker(limits=buffer_limits(max_events=30)) as worker:
        worker.feed(*records(range(25)))
        worker.recreate(EVENTS, NEW)
        assert not worker.event_consumer.flow_control().hold
        assert worker.feed(*records(range(5))).hold
        assert worker.reported(Backpressure)[-1].events == 30


@in_virtual_time
async def test_commits_shrink_to_the_brokers_limit() -> None:
    world = World(narrow("acme", 2))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda batch: HANGS if batch.deliveries[0].record.offset == 0 else 0.1
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(30)))
        [(_, full)] = worker.event_consumer.committable()
        assert settled_map(OLD, full).offsets
        worker.event_consumer.metadata.shorten([full, full.shorter()])
        assert worker.event_consumer.committable() == [(P0, full.shorter())]
        worker.event_consumer.metadata.shorten([full.shorter()])
        assert worker.event_consumer.committable() == [(P0, Committable(0, ""))], "not even the shorter one was taken"
        worker.event_consumer.metadata.shorten([full])
        assert worker.event_consumer.committable() == [(P0, Committable(0, ""))]
    async with world.worker() as worker:
        await worker.feed_until(2, *records(range(30)))
        worker.event_consumer.metadata.shorten([full])
        assert worker.event_consumer.committable() == [(P0, full.shorter())]
        assert topic_of(full.shorter()) == OLD
        worker.event_consumer.committed([(P0, full.shorter())])
        assert worker.event_consumer.committable() == [], "what was taken is not committed again"
        worker.feed(*records(range(30, 31)))
        world.bus.latency = lambda _batch: 0.1
        await worker.at(20)
        [(_, without_map)] = worker.event_consumer.committable()
        assert (without_map.offset > 0, topic_of(without_map)) == (True, OLD), "a commit that needs no map stays whole"


@in_virtual_time
async def test_no_commit_is_made_without_its_cursors() -> None:
    """The commit is past their events: a broker that takes no metadata so long gets none."""
    world = World(narrow("acme", 2))
    world.topic_ids[EVENTS] = OLD
    world.bus.latency = lambda _batch: HANGS
    world.log[P0] = {old.offset: old for old in records(range(10))}
    state = CursorState(destination_id="dst_acme", since=3, next=5, oldest_ms=1, opened_ms=1, open=(4,))
    world.group[P0] = Committable(10, encode_metadata(10, [], OLD, None, encode_cursors([state])))
    async with world.worker() as worker:
        worker.event_consumer.metadata.shorten([Committable(10, "")])
        await worker.feed_until(1, *records(range(10, 12)))
        [(_, commit)] = worker.event_consumer.committable()
        assert [cursor.destination_id for cursor in cursors_of(commit)] == ["dst_acme"]
