"""From a record to its deliveries, and from settlements to commits."""

from __future__ import annotations

import io
from unittest.mock import patch

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Backpressure, DeadLettered, PartitionsAssigned, Signal, Skipped
from pushrail_stream.core.text import MAX_MESSAGE_BYTES
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.logging import open_log
from pushrail_stream.pipeline.assignment import FlowControl
from tests.support.builders import destination, modified, narrow
from tests.support.pipeline_world import HANGS, Seen, World
from tests.support.policy import buffer_limits, lane_limits
from tests.support.records import P0, P1, always, failed, raw, record, records
from tests.support.virtual_time import in_virtual_time

FLOWS = FlowControl(hold=False, full=frozenset())


@in_virtual_time
async def test_an_event_goes_to_its_customers_only() -> None:
    world = World(destination(name="a"), destination(name="b"), destination("other"))
    world.bus.latency = lambda batch: 1.0 if batch.destination.id == "dst_acme_b" else 0.01
    async with world.worker() as worker:
        assert worker.feed(record(0)) == FLOWS
        await worker.at(0.5)
        assert world.bus.arrived == {"dst_acme_a": ["0"]}
        assert worker.commit() == {P0: 0}
        await worker.at(2)
        assert world.bus.arrived == {"dst_acme_a": ["0"], "dst_acme_b": ["0"]}
        assert worker.commit() == {P0: 1}
        assert (worker.ledger.begun, worker.ledger.delivered) == (2, 2)


@in_virtual_time
async def test_a_broken_destination_holds_the_offset() -> None:
    world = World(destination(name="a"), destination(name="b"))
    world.bus.answer(always(failed("503", 503)), "dst_acme_a")
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert world.bus.arrived == {"dst_acme_b": [str(n) for n in range(10)]}
        assert len(world.bus.made("dst_acme_b")) == 1
        assert worker.commit() == {P0: 0}
        await worker.at(10)
        assert worker.commit() == {P0: 10}
        assert (worker.ledger.delivered, worker.ledger.moved_to_retry) == (10, 10)


@in_virtual_time
async def test_a_setting_dead_letters_unrouted_events() -> None:
    world = World(destination())
    async with world.worker(dead_letter_unrouted=True) as worker:
        worker.feed(record(0, "stranger"))
        assert worker.commit() == {P0: 0}
        await worker.at(1)
        assert world.topics.dead() == [("0", "rejected")]
        said = world.topics.written[0].said
        assert said["pushrail-error-code"] == "NoDestination"
        assert said["pushrail-error-message"] == "acme has no destination for customer acct_stranger"
        assert "pushrail-destination" not in said
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_dead_letter_texts_are_short_and_safe() -> None:
    world = World()
    long_vendor = (("pushrail-vendor", b"v" * 5000),)
    leaky = record(1, event_type="e").value or b""
    async with world.worker(dead_letter_unrouted=True) as worker:
        worker.feed(record(0, headers=long_vendor), raw(1, leaky.replace(b"2026-05-26T", b"AKIAIOSFODNN7EXAMPLE ")))
        await worker.at(1)
        messages = [written.said["pushrail-error-message"] for written in world.topics.written]
        assert len(messages) == 2
        assert all(len(message) <= MAX_MESSAGE_BYTES for message in messages)
        assert "AKIAIOSFODNN7EXAMPLE" not in messages[1]


@in_virtual_time
async def test_an_oversized_event_dies_alone() -> None:
    world = World(destination())
    async with world.worker(batches=lane_limits(max_bytes=2000)) as worker:
        await worker.feed_until(1, record(0), record(1, padding=3000), record(2))
        assert world.bus.arrived == {"dst_acme": ["0", "2"]}
        assert [key for call in world.bus.calls for key in call.keys] == ["0", "2"]
        assert world.topics.dead() == [("1", "oversize")]
        said = world.topics.written[0].said
        assert said["pushrail-error-code"] == "EntryTooLarge"
        assert said["pushrail-destination"] == "dst_acme"
        assert said["pushrail-attempts"] == "0"
        assert worker.commit() == {P0: 3}


@in_virtual_time
async def test_an_id_that_changes_hands_amid_a_poll_takes_only_the_new_customers_event() -> None:
    new = modified(destination("other"), id="dst_acme")
    world = World(destination())
    size = world.bus.size

    def hand_over(event: Event, to: Destination) -> int:
        """The registry's thread puts the new document after the first record was routed."""
        world.directory.put_untold(new)
        return size(event, to)

    async with world.worker() as worker:
        with patch.object(world.bus, "size", hand_over):
            worker.event_consumer.accept([record(0), record(1, "other")])
        await worker.at(1)
        assert world.bus.arrived == {"dst_acme": ["1"]}
        told = [(skipped.origin.offset, skipped.reason) for skipped in worker.reported(Skipped)]
        assert told == [(0, "deleted")]


@in_virtual_time
async def test_an_oversized_event_alone_leaves_no_lane() -> None:
    world = World(destination())
    async with world.worker(batches=lane_limits(max_bytes=2000)) as worker:
        await worker.feed_until(1, record(0, padding=3000))
        assert world.topics.dead() == [("0", "oversize")]
        assert worker.lanes == 0


@in_virtual_time
async def test_the_largest_event_is_sent() -> None:
    world = World(destination())
    limit = 2000
    bare = len(record(0).value or b"") + 14 + len("pushrail.acme" + "order.completed" + "acct_acme" + "0")
    async with world.worker(batches=lane_limits(max_bytes=limit)) as worker:
        await worker.feed_until(1, record(0, padding=limit - bare), record(1, padding=limit - bare + 1))
        assert world.bus.arrived == {"dst_acme": ["0"]}
        assert world.topics.dead() == [("1", "oversize")]


@in_virtual_time
async def test_the_vendor_header_decides_the_route() -> None:
    world = World(destination(), destination(name="theirs", vendor="theirs"))
    async with world.worker() as worker:
        await worker.feed_until(1, record(0), record(1, headers=(("pushrail-vendor", b"theirs"),)))
        assert world.bus.arrived == {"dst_acme": ["0"], "dst_acme_theirs": ["1"]}


@in_virtual_time
async def test_foreign_partitions_are_ignored() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0, partition=P1), record(0), record(0, partition=Partition("elsewhere", 0)))
        assert world.bus.made() == [(0.1, ["0"])]
        assert worker.commit() == {P0: 1}
        assert worker.ledger.begun == 1


@in_virtual_time
async def test_commits_follow_the_slowest_lane() -> None:
    world = World(*(destination(name) for name in "abc"))
    seconds = {"dst_a": 3.0, "dst_b": 1.0, "dst_c": 2.0}
    world.bus.latency = lambda batch: seconds[batch.destination.id]
    async with world.worker() as worker:
        assert worker.commit() == {}
        worker.feed(record(0, "a"), record(1, "b"), record(5, "c"), record(6, "b"))
        seen = []
        for moment in (0.5, 1.5, 2.5, 3.5):
            await worker.at(moment)
            seen.append(worker.commit()[P0])
        assert seen == [0, 0, 0, 7]


@in_virtual_time
async def test_without_progress_there_is_no_commit() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        assert worker.commit() == {P0: 1}
        assert list(worker.event_consumer.committable()) == []


@in_virtual_time
async def test_a_new_owner_skips_settled_events() -> None:
    world = World(destination("slow"), destination("fast"))
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_slow" else 0.01
    poison = raw(29, b"poison")
    log = [record(0, "fast"), record(1, "slow"), *records(range(2, 29), "fast"), poison, record(30, "slow")]
    log += records(range(31, 33), "fast")
    async with world.worker() as crashed:
        await crashed.feed_until(1, *log)
        assert crashed.commit() == {P0: 1}
    world.bus.latency = lambda _batch: 0.01
    async with world.worker() as next_owner:
        await next_owner.feed_until(2, *log[1:], record(33, "fast"))
        assert world.bus.arrived["dst_slow"] == ["1", "30"]
        fast = sorted(int(key) for key in world.bus.arrived["dst_fast"])
        assert fast == [0, *range(2, 29), 31, 32, 33]
        assert world.topics.dead() == [("29", "undecodable")]
        assert (next_owner.ledger.begun, next_owner.ledger.delivered) == (3, 3)
        assert next_owner.commit() == {P0: 34}
    assert [s for s in next_owner.signals if isinstance(s, PartitionsAssigned)] == [PartitionsAssigned(((P0, 1),))]


@in_virtual_time
async def test_a_full_worker_pauses_until_it_has_room() -> None:
    world = World(narrow("acme", 1), narrow("other", 1))
    world.bus.latency = lambda batch: 0.5 if batch.destination.id == "dst_acme" else 1.25
    limits = buffer_limits(max_events=50)
    async with world.worker(owns=[P0, P1], limits=limits, batches=lane_limits()) as worker:
        assert worker.feed(*records(range(25)), *records(range(20), "other", partition=P1)) == FLOWS
        assert worker.feed(*records(range(25, 30)), *records(range(20, 30), "other", partition=P1)).hold
        seen = []
        for moment in (0.45, 0.55, 1.05, 1.3, 1.55):
            await worker.at(moment)
            seen.append(worker.event_consumer.flow_control().hold)
        # 60 held; 50 after half a second, 40 after one: only below 80 % of 50 does it go on.
        assert seen == [True, True, True, False, False]
        held = [signal for signal in worker.signals if isinstance(signal, Backpressure)]
        assert [(signal.on, signal.events) for signal in held] == [(True, 60), (False, 30)]


@in_virtual_time
async def test_a_worker_full_of_bytes_holds_back() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker(limits=buffer_limits(max_bytes=10_000)) as worker:
        assert worker.feed(*records(range(4), padding=2000)) == FLOWS
        assert worker.feed(record(4, padding=2000)) == FlowControl(hold=True, full=frozenset())
        await worker.at(1.5)
        assert worker.event_consumer.flow_control() == FLOWS


@in_virtual_time
async def test_a_partition_too_far_ahead_pauses_alone() -> None:
    world = World(destination("stuck"), destination("fine"))
    world.bus.latency = lambda batch: 5.0 if batch.destination.id == "dst_stuck" else 0.01
    limits = buffer_limits(partition_max_offsets=20)
    async with world.worker(owns=[P0, P1], limits=limits) as worker:
        worker.feed(record(0, "stuck"), *records(range(1, 19), "fine"), *records(range(10), "fine", partition=P1))
        await worker.at(1)
        assert worker.event_consumer.flow_control() == FLOWS
        # All but the head are settled: they count as window, though not as held.
        assert worker.feed(record(19, "fine")) == FlowControl(hold=False, full=frozenset({P0}))
        await worker.at(4)
        assert worker.event_consumer.flow_control().full == {P0}
        await worker.at(6)
        assert worker.event_consumer.flow_control() == FLOWS
        assert worker.commit() == {P0: 20, P1: 10}


@in_virtual_time
async def test_a_full_partition_resumes_below_its_share() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    limits = buffer_limits(partition_max_bytes=30 * len(record(10).value or b""))
    async with world.worker(limits=limits, batches=lane_limits(max_entries=5)) as worker:
        assert worker.feed(*records(range(10, 39))).full == frozenset()
        seen = [worker.feed(record(39)).full]
        for moment in (0.9, 1.1, 2.1):
            await worker.at(moment)
            seen.append(worker.event_consumer.flow_control().full)
        # 30 held, 25 after a second, 20 after two: only below 80 % of 30 does it go on.
        assert seen == [{P0}, {P0}, {P0}, frozenset()]
        assert worker.feed(*records(range(40, 49))).full == frozenset()


@in_virtual_time
async def test_a_revoked_partition_is_not_full() -> None:
    world = World(destination())
    async with world.worker(limits=buffer_limits(partition_max_offsets=2)) as worker:
        assert worker.feed(*records(range(3))).full == {P0}
        await worker.give_back(P0)
        assert worker.event_consumer.flow_control() == FLOWS


@in_virtual_time
async def test_an_observer_that_raises_changes_nothing() -> None:
    def broken(signal: Signal) -> None:
        raise RuntimeError(f"a bug at {type(signal).__name__}")

    seen = Seen()
    log = io.StringIO()
    world = World(destination(), destination("off", enabled=False), destination("blocked"))
    world.bus.answer(always(failed("AccessDeniedException", 400)), "dst_blocked")
    async with world.worker(observe=FanOut([broken, seen], open_log("info", stream=log))) as worker:
        await worker.feed_until(1, *records(range(10)), record(10, "off"), record(11, "blocked"), raw(12, b"poison"))
        assert len(world.bus.arrived["dst_acme"]) == 10
        assert world.topics.dead() == [("11", "blocked"), ("12", "undecodable")]
        assert worker.commit() == {P0: 13}
        await worker.give_back(P0)
    assert seen == worker.signals
    assert [signal for signal in seen if isinstance(signal, DeadLettered)]
    assert log.getvalue().count("observer_failed") == 1
