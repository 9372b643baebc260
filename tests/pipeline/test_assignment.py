"""Rebalances: work in flight is finished, and the rest is left to the next owner."""

from __future__ import annotations

import asyncio
import gc

import pytest

from pushrail_stream.core.commit import Committable, cursors_of, encode_metadata, new_commit
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.destination import Limits
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.signals import PartitionRestarted, PartitionsRevoked
from pushrail_stream.pipeline.assignment import ReadingPlace
from pushrail_stream.pipeline.read_progress import ReadPosition
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, World
from tests.support.records import (
    P0,
    P1,
    Answer,
    always,
    answered,
    failed,
    fault,
    in_turn,
    raw,
    record,
    records,
    take_all,
)
from tests.support.virtual_time import in_virtual_time, virtual_loop


@in_virtual_time
async def test_a_revocation_drops_the_queue() -> None:
    world = World(narrow("acme", 1), latency=2.0)
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(25)))
        await worker.give_back(P0)
        assert virtual_loop().elapsed == 2.0
        assert world.bus.made() == [(0.0, [str(n) for n in range(10)])]
        assert world.group == {P0: Committable(10, "")}
        assert worker.reported(PartitionsRevoked) == [PartitionsRevoked((P0,), lost=False, dropped=15)]
        assert (worker.ledger.delivered, worker.ledger.dropped, worker.ledger.in_flight) == (10, 15, 0)
        await worker.at(60)
        assert len(world.bus.calls) == 1
        assert worker.lanes == 0


@in_virtual_time
async def test_the_next_owner_reads_dropped_events_again() -> None:
    world = World(narrow("acme", 1))
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(25)))
        await worker.give_back(P0)
    async with world.worker() as next_owner:
        await next_owner.feed_until(5, *records(range(10, 25)))
        assert world.bus.arrived["dst_acme"] == [str(n) for n in range(25)]
        assert next_owner.commit() == {P0: 25}


@in_virtual_time
async def test_a_revocation_drops_retries() -> None:
    world = World(destination("a"), destination("b"))
    world.bus.latency = lambda batch: 0.01 if batch.destination.id == "dst_a" else 1.0
    world.bus.answer(always(failed("503", 503)), "dst_a")
    world.bus.answer(in_turn(failed("413", 413), take_all), "dst_b")
    async with world.worker(jitter=lambda: 0.999) as worker:
        await worker.feed_until(0.15, record(0, "a"), *records(range(1, 3), "b"))
        assert worker.ledger.in_flight == 3
        await worker.give_back(P0)
        assert virtual_loop().elapsed == 1.1
        await worker.at(60)
        assert (len(world.bus.made("dst_a")), len(world.bus.made("dst_b"))) == (1, 1)
        assert worker.ledger.dropped == 3
        assert world.group == {P0: Committable(0, "")}


@in_virtual_time
async def test_a_revoked_attempt_is_not_repeated() -> None:
    world = World(destination(), answer=lambda batch: answered(batch, {"1": fault("ThrottlingException")}))
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(10)))
        await worker.give_back(P0)
        await worker.at(60)
        assert len(world.bus.calls) == 1
        assert (worker.ledger.delivered, worker.ledger.dropped) == (9, 1)
        assert world.group[P0].offset == 1
    async with world.worker() as next_owner:
        world.bus.answer(take_all)
        await next_owner.feed_until(100, *records(range(1, 10)))
        # The committed map says that all but this one are settled.
        assert [call.keys for call in world.bus.calls[1:]] == [["1"]]


@in_virtual_time
async def test_a_revocation_waits_for_dead_letters() -> None:
    world = World(destination(), latency=1.0)
    world.topics.latency = 0.5
    world.bus.answer(lambda batch: answered(batch, {"3": fault("MalformedDetail")}))
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(10)))
        await worker.give_back(P0)
        assert virtual_loop().elapsed == 1.5
        assert world.topics.dead() == [("3", "rejected")]
        assert world.group == {P0: Committable(10, "")}


@in_virtual_time
async def test_one_deadline_covers_the_whole_revocation() -> None:
    world = World(destination(), latency=8.0)
    world.topics.latency = 8.0
    world.bus.answer(lambda batch: answered(batch, {"3": fault("MalformedDetail")}))
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(10)))
        await worker.give_back(P0, deadline_secs=10)
        assert virtual_loop().elapsed == 10.0
        assert world.group[P0].offset == 3
        await worker.at(60)
        assert worker.ledger.in_flight == 0


@pytest.mark.parametrize("answer", [take_all, always(failed("503", 503)), always(failed("AccessDenied", 403))])
@in_virtual_time
async def test_results_after_the_deadline_change_nothing(answer: Answer) -> None:
    world = World(destination(), latency=8.0, answer=answer)
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(10)))
        await worker.give_back(P0, deadline_secs=5)
        assert virtual_loop().elapsed == 5.0
        assert world.group == {P0: Committable(0, "")}
        # The partition comes back to us: a fresh tracker, and the same records.
        worker.assign(P0)
        world.bus.latency = lambda _batch: HANGS
        await worker.feed_until(14, *records(range(10)))
        assert worker.commit() == {P0: 0}
        assert worker.ledger.in_flight == 10
        assert len(world.bus.calls) == 2


@in_virtual_time
async def test_an_overdue_revoked_delivery_is_dropped() -> None:
    world = World(destination(), latency=HANGS)
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(3)))
        await worker.give_back(P0, deadline_secs=10)
        await worker.at(60)
        assert (worker.ledger.dropped, worker.ledger.moved_to_retry) == (3, 0)
        assert not world.topics.written


@in_virtual_time
async def test_a_lane_emptied_by_a_revocation_is_dropped() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(*records(range(3)))
        await worker.give_back(P0)
        assert worker.lanes == 0
        assert virtual_loop().elapsed == 0.0


@in_virtual_time
async def test_a_deadline_of_zero_waits_for_nothing() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(10)))
        await worker.give_back(P0, deadline_secs=0)
        assert virtual_loop().elapsed == 0.0
        assert world.group == {P0: Committable(0, "")}
        await worker.at(1)
        assert worker.ledger.delivered == 10


@in_virtual_time
async def test_other_partitions_keep_what_they_have() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker(owns=[P0, P1]) as worker:
        worker.feed(*records(range(5)), *records(range(100, 105), partition=P1))
        await worker.feed_until(0.5, *records(range(5, 15)), *records(range(105, 125), partition=P1))
        await worker.give_back(P0)
        assert virtual_loop().elapsed == 1.0
        await worker.at(10)
        sent = [key for call in world.bus.calls for key in call.keys]
        assert sent == [str(n) for n in (*range(5), *range(100, 125))]
        assert worker.commit() == {P0: 5, P1: 125}


@in_virtual_time
async def test_a_mixed_batch_serves_the_others() -> None:
    world = World(destination(), answer=in_turn(failed("503", 503), take_all))
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.feed_until(0, *records(range(5)), *records(range(100, 105), partition=P1))
        await worker.give_back(P0)
        await worker.at(10)
        assert world.bus.made()[1:] == [(0.11, [str(n) for n in range(100, 105)])]
        assert worker.ledger.dropped == 5
        assert worker.commit() == {P0: 0, P1: 105}


@in_virtual_time
async def test_lost_partitions_commit_nothing() -> None:
    world = World(narrow("acme", 1))
    async with world.worker(owns=[P0, P1]) as worker:
        await worker.feed_until(0, *records(range(25)), *records(range(100, 103), partition=P1))
        worker.lose(P0)
        assert worker.reported(PartitionsRevoked) == [PartitionsRevoked((P0,), lost=True, dropped=15)]
        await worker.at(10)
        assert worker.commit() == {P1: 103}
        assert (worker.ledger.delivered, worker.ledger.dropped) == (13, 15)


@in_virtual_time
async def test_a_late_commit_report_is_ignored() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        commits = worker.event_consumer.committable()
        worker.lose(P0)
        worker.event_consumer.committed(commits)
        worker.assign(P0)
        await worker.feed_until(2, record(0))
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_unknown_partitions_are_revoked_silently() -> None:
    world = World(destination())
    async with world.worker(owns=[P0]) as worker:
        await worker.give_back(P1)
        worker.lose(P1)
        assert worker.reported(PartitionsRevoked) == []
        await worker.give_back(P0)
        assert worker.reported(PartitionsRevoked) == [PartitionsRevoked((P0,), lost=False, dropped=0)]
        assert world.group == {}


@in_virtual_time
async def test_an_operator_may_move_the_group_back() -> None:
    world = World(destination())
    world.group[P0] = Committable(5, "")
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3, 8)))
        assert world.bus.arrived["dst_acme"] == ["3", "4", "5", "6", "7"]


@in_virtual_time
async def test_the_map_counts_for_records_of_its_leader_epochs_alone() -> None:
    """After an unclean election, other records took the offsets from 6 on."""
    world = World(destination())
    world.group[P0] = Committable(3, encode_metadata(3, [4, 6], epoch=1))
    async with world.worker() as worker:
        old, new = records(range(3, 6)), records(range(6, 8))
        await worker.feed_until(1, *(one._replace(leader_epoch=1) for one in old))
        await worker.feed_until(2, *(one._replace(leader_epoch=2) for one in new))
        assert world.bus.arrived["dst_acme"] == ["3", "5", "6", "7"]


@in_virtual_time
async def test_records_that_the_client_threw_away_are_read_again() -> None:
    """The log has lost its end, from 6 on. librdkafka goes on there, and forgets the records that it had fetched."""
    world = World(destination())
    async with world.worker() as worker:
        old, new = ([one._replace(leader_epoch=epoch) for one in records(range(8))] for epoch in (1, 2))
        worker.feed(*old[:3])
        flow = worker.event_consumer.accept([*new[6:7], *new[7:]])
        assert flow.seeks == {P0: ReadingPlace(3, 1)}
        worker.event_consumer.note_positions({P0: ReadPosition(8, 0)})
        await worker.feed_until(1)
        assert worker.commit() == {P0: 3}, "the records between are still to be read"
        worker.event_consumer.sought(flow.seeks)
        await worker.feed_until(2, *old[3:6], *new[6:])
        assert world.bus.arrived["dst_acme"] == [str(number) for number in range(8)]


@in_virtual_time
async def test_a_gap_that_comes_twice_is_passed() -> None:
    world = World(destination())
    async with world.worker() as worker:
        old, new = ([one._replace(leader_epoch=epoch) for one in records(range(8))] for epoch in (1, 2))
        worker.feed(*old[:3])
        worker.event_consumer.sought(worker.event_consumer.accept(new[6:]).seeks)
        await worker.feed_until(1, *new[6:])
        assert world.bus.arrived["dst_acme"] == ["0", "1", "2", "6", "7"]


@in_virtual_time
async def test_a_log_that_loses_its_end_twice_is_read_on_from_its_first_cut() -> None:
    """The client forgets the records of 5 and 6 of the first new leader, and goes on at the second cut."""
    world = World(destination())
    async with world.worker() as worker:
        first, second, third = ([one._replace(leader_epoch=at) for one in records(range(12))] for at in (1, 2, 3))
        worker.feed(*first[:10])
        flow = worker.event_consumer.accept(third[7:9])
        assert flow.seeks == {P0: ReadingPlace(10, 1)}, "the client asks where the first leader's records end"
        worker.event_consumer.sought(flow.seeks)
        flow = worker.event_consumer.accept([*second[5:7], *third[7:9]])
        assert flow.seeks == {P0: ReadingPlace(10, 1)}, "another record than before"
        worker.event_consumer.sought(flow.seeks)
        await worker.feed_until(1, *second[5:7], *third[7:9])
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 10)]
        assert world.bus.arrived["dst_acme"] == [*map(str, range(10)), "5", "6", "7", "8"]


@in_virtual_time
async def test_a_new_leaders_marker_is_passed_when_it_comes_again() -> None:
    """When a log loses its end, the client may throw away records that are still there, and go on at the new end."""
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, *(one._replace(leader_epoch=4) for one in records(range(3))))
        worker.event_consumer.note_positions({P0: ReadPosition(4, 0, 4)})
        assert worker.commit() == {P0: 4}, "a marker of the same leader"
        worker.event_consumer.note_positions({P0: ReadPosition(9, 0, 5)})
        flow = worker.event_consumer.flow_control()
        assert flow.seeks == {P0: ReadingPlace(4, 4)}
        worker.event_consumer.note_positions({P0: ReadPosition(9, 0, 5)})
        worker.event_consumer.sought(flow.seeks)
        worker.event_consumer.note_positions({P0: ReadPosition(None, 0)})
        assert worker.commit() == {P0: 4}
        worker.event_consumer.note_positions({P0: ReadPosition(9, 0, 5)})
        assert worker.commit() == {P0: 9}
        assert worker.event_consumer.trackers[P0].epoch == 5
        worker.event_consumer.note_positions({P0: ReadPosition(11, 0, 5)})
        assert worker.commit() == {P0: 11}
        assert worker.event_consumer.flow_control().seeks == {}


@in_virtual_time
async def test_a_log_that_ends_with_a_new_leaders_marker_went_back() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, *(one._replace(leader_epoch=4) for one in records(range(10))))
        assert worker.commit() == {P0: 10}
        for _ in range(2):
            worker.event_consumer.note_positions({P0: ReadPosition(7, 0, 5)})
            worker.event_consumer.sought(worker.event_consumer.flow_control().seeks)
        assert worker.reported(PartitionRestarted) == [PartitionRestarted(P0, "went_back", 10)]
        assert [commit.offset for _, commit in worker.event_consumer.committable()] == [7]
        await worker.feed_until(2, *(one._replace(leader_epoch=5) for one in records(range(7, 9))))
        assert world.bus.arrived["dst_acme"][10:] == ["7", "8"]


@in_virtual_time
async def test_a_second_cut_just_behind_the_last_record_hides_nothing() -> None:
    world = World(destination())
    async with world.worker() as worker:
        first, second, third = ([one._replace(leader_epoch=at) for one in records(range(12))] for at in (1, 2, 3))
        worker.feed(*first[:10])
        flow = worker.event_consumer.accept(third[10:])
        assert flow.seeks == {P0: ReadingPlace(10, 1)}
        for _ in range(2):
            worker.event_consumer.sought(flow.seeks)
            flow = worker.event_consumer.accept([*second[8:10], *third[10:]])
        await worker.feed_until(1)
        assert flow.seeks == {}
        assert world.bus.arrived["dst_acme"] == [*map(str, range(10)), "8", "9", "10", "11"]


@in_virtual_time
async def test_no_record_counts_before_the_consumer_reads_where_it_was_told() -> None:
    """A seek may fail, and is repeated."""
    world = World(destination())
    async with world.worker() as worker:
        old, new = ([one._replace(leader_epoch=epoch) for one in records(range(9))] for epoch in (1, 2))
        worker.feed(*old[:3])
        place = {P0: ReadingPlace(3, 1)}
        assert worker.event_consumer.accept(new[6:7]).seeks == place
        assert worker.event_consumer.accept(new[6:8]).seeks == place
        worker.event_consumer.note_positions({P0: ReadPosition(8, 0)})
        worker.event_consumer.sought({P0: ReadingPlace(2)})
        assert worker.event_consumer.flow_control().seeks == place, "that was another place"
        await worker.at(1)
        assert worker.commit() == {P0: 3}
        worker.event_consumer.sought(place)
        assert worker.event_consumer.flow_control().seeks == {}


@in_virtual_time
async def test_an_assignment_alone_commits_nothing() -> None:
    world = World(destination())
    start = world.group[P0] = Committable(5, encode_metadata(5, [7, 8]))
    async with world.worker() as worker:
        assert list(worker.event_consumer.committable()) == []
        await worker.give_back(P0)
        assert world.group == {P0: start}


@in_virtual_time
async def test_lost_group_offsets_are_committed_again() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        assert worker.commit() == {P0: 1}
        worker.lose(P0)
        world.group.clear()
        worker.assign(P0)
        await worker.feed_until(2, record(0))
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_a_stop_leaves_no_work_behind() -> None:
    world = World(destination("a"), destination("b"))
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_a" else 0.01
    world.topics.latency = HANGS
    async with world.worker() as worker:
        await worker.feed_until(0.05, *records(range(10), "a"), *records(range(10, 13), "b"), raw(13, b"poison"))
        assert len(worker.in_flight) == 2
    assert len(worker.in_flight) == 0
    await asyncio.sleep(60)
    assert world.bus.made("dst_b") == []
    assert worker.ledger.in_flight == 14
    assert worker.ledger.balances


@in_virtual_time
async def test_a_delivered_revoked_event_is_kept() -> None:
    world = World(destination(), destination(name="slow"))
    world.bus.answer(always(failed("503", 503)), "dst_acme_slow")
    world.bus.latency = lambda batch: 0.5 if batch.destination.id == "dst_acme_slow" else 0.01
    async with world.worker(jitter=lambda: 0.9) as worker:
        worker.feed(*records(range(10)))
        await worker.at(0.3)  # one has them; the call to the other is in flight, and will fail
        await worker.give_back(P0)
        assert world.group[P0].offset == 10
        moved = {(w.said["pushrail-destination"], w.said["pushrail-reason"]) for w in world.topics.written}
        assert moved <= {("dst_acme_slow", "held"), ("dst_acme_slow", "retryable")}
        assert len(world.topics.written) == 10
        assert len(world.bus.arrived["dst_acme"]) == 10


@in_virtual_time
async def test_a_half_delivered_event_is_copied() -> None:
    world = World(destination(name="has"), destination(name="waits", limits=Limits(max_in_flight=1)))
    world.bus.latency = lambda batch: 2.0 if batch.destination.id == "dst_acme_waits" else 0.01
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        await worker.give_back(P0)
        assert len(world.bus.arrived["dst_acme_has"]) == 20
        assert world.bus.arrived["dst_acme_waits"] == [str(n) for n in range(10)]
        # Waiting deliveries are on the retry topic, and the next owner has none of these events to begin.
        moved = sorted((int(origin), tier, reason) for _, origin, tier, reason in world.topics.moved())
        assert moved == [(n, "10s", "held") for n in range(10, 20)]
        assert world.group == {P0: Committable(20, "")}
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (0, 0)


@in_virtual_time
async def test_a_lost_partition_writes_no_copies() -> None:
    world = World(destination(name="has"), destination(name="waits", limits=Limits(max_in_flight=1)))
    world.bus.answer(in_turn(failed("503", 503), take_all), "dst_acme_waits")
    world.bus.latency = lambda batch: 2.0 if batch.destination.id == "dst_acme_waits" else 0.01
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        worker.lose(P0)
        await worker.at(60)
        # It reads all of them again, so that copies would only repeat them; what failed in flight is its too.
        assert world.topics.written == []
        assert (worker.ledger.delivered, worker.ledger.dropped, worker.ledger.in_flight) == (20, 20, 0)


@in_virtual_time
@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_revoked_partition_leaves_no_reference_cycle(*, is_lost: bool) -> None:
    world = World(destination())
    world.bus.check_secs = HANGS
    async with world.worker() as worker:
        gc.collect()
        gc.disable()
        try:
            before = _trackers()
            await worker.feed_until(1, *(record(number) for number in range(5)))
            if is_lost:
                worker.lose(P0)
            else:
                await worker.give_back(P0)
            assert before - _trackers() == 1
        finally:
            gc.enable()


def _trackers() -> int:
    return sum(type(held) is OffsetTracker for held in gc.get_objects())


@in_virtual_time
async def test_commits_of_very_many_cursors_wait_until_their_texts_are_made() -> None:
    """Each look at the commits makes a part of the texts, so that it does not stop the event loop."""
    world = World(destination())
    states = [
        CursorState(destination_id=f"dst_{number}", since=0, next=number, to=9_000, oldest_ms=1, opened_ms=2)
        for number in range(6_000)
    ]
    world.group[P0] = new_commit(10, [], None, None, encode_cursors(states))
    before = world.group[P0]
    async with world.worker(owns=[P0, P1]) as worker:
        virtual_loop().after_each_step(None)
        worker.feed(*records(range(10, 13)), *records(range(3), partition=P1))
        await worker.at(1)
        worker.commit()
        assert (world.group[P0], world.group[P1].offset) == (before, 3), "another partition does not wait"
        for _ in range(3):
            worker.commit()
        assert world.group[P0].offset == 13
        assert len(cursors_of(world.group[P0])) == 6_000


@in_virtual_time
async def test_a_last_commit_names_very_many_cursors_at_once() -> None:
    world = World(destination())
    states = [
        CursorState(destination_id=f"dst_{number}", since=0, next=number, to=9_000, oldest_ms=1, opened_ms=2)
        for number in range(3_000)
    ]
    world.group[P0] = new_commit(10, [], None, None, encode_cursors(states))
    async with world.worker() as worker:
        virtual_loop().after_each_step(None)
        worker.feed(*records(range(10, 13)))
        await worker.at(1)
        await worker.give_back(P0)
        assert world.group[P0].offset == 13
        assert len(cursors_of(world.group[P0])) == 3_000
