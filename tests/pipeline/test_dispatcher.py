"""The time at which batches leave, and their content."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pushrail_stream.core.destination import Limits, Secret
from pushrail_stream.core.event import Event
from pushrail_stream.core.signals import Skipped
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import destination, modified, narrow
from tests.support.flavours import Flavour, every_flavour
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import lane_limits
from tests.support.records import P0, failed, in_turn, keys, record, records, take_all
from tests.support.virtual_time import in_virtual_time


@every_flavour
@in_virtual_time
async def test_ten_events_leave_at_once(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(0.01, *records(range(full)))
        assert world.bus.made() == [(0.0, [str(n) for n in range(full)])]
        assert worker.commit() == {P0: full}
        assert worker.lanes == 0


@every_flavour
@in_virtual_time
async def test_fewer_events_wait_for_the_flush_time(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    async with world.worker() as worker:
        for offset, moment in enumerate((0.0, 0.03)):
            await worker.at(moment)
            worker.feed(record(offset))
        await worker.at(0.099)
        assert world.bus.made() == []
        assert worker.lanes == 1
        await worker.at(0.2)
        assert world.bus.made() == [(0.1, ["0", "1"])]


@every_flavour
@in_virtual_time
async def test_the_tenth_event_completes_a_batch(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(0.05, *records(range(full - 1)))
        await worker.feed_until(1, *records(range(full - 1, full + 1)))
        assert world.bus.made() == [(0.05, [str(n) for n in range(full)]), (0.15, [str(full)])]


@every_flavour
@in_virtual_time
async def test_a_batch_leaves_when_it_has_the_bytes(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3), padding=400_000 // world.bus.flavour.BYTES_PER_BYTE))
        assert world.bus.made() == [(0.0, ["0", "1"]), (0.1, ["2"])]


@every_flavour
@in_virtual_time
async def test_the_settings_limit_batches(flavour: type[Flavour]) -> None:
    world = World(destination(limits=Limits(flush_ms=500)), flavour=flavour)
    async with world.worker(batches=lane_limits(max_entries=2)) as worker:
        await worker.feed_until(1, *records(range(3)))
        assert world.bus.made() == [(0.0, ["0", "1"]), (0.5, ["2"])]


@every_flavour
@in_virtual_time
async def test_without_a_flush_time_events_leave_at_once_or_behind_a_call(flavour: type[Flavour]) -> None:
    quick = destination(limits=Limits(flush_ms=0))
    world = World(quick, destination("other"), flavour=flavour, latency=0.03)
    async with world.worker() as worker:
        await worker.feed_until(0.01, record(0), record(1, "other"))
        await worker.feed_until(0.02, record(2))
        await worker.feed_until(1, record(3))
        made = [(round(call.at, 2), call.destination.id, call.keys) for call in world.bus.calls]
        assert made == [
            (0.0, "dst_acme", ["0"]), (0.03, "dst_acme", ["2", "3"]), (0.1, "dst_other", ["1"]),
        ]  # fmt: skip


@in_virtual_time
async def test_a_hanging_call_delays_events_without_a_flush_time_little() -> None:
    world = World(destination(limits=Limits(flush_ms=0)), latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(0.01, record(0))
        await worker.feed_until(5, record(1))
        assert [(round(at, 2), entries) for at, entries in world.bus.made()] == [(0.0, ["0"]), (0.11, ["1"])]


@every_flavour
@in_virtual_time
async def test_calls_reach_the_destinations_limit(flavour: type[Flavour]) -> None:
    world = World(narrow("acme", 3), flavour=flavour, latency=1.0)
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(10, *records(range(7 * full + 1)))
        assert [(at, len(keys)) for at, keys in world.bus.made()] == [
            (0.0, full), (0.0, full), (0.0, full), (1.0, full), (1.0, full), (1.0, full), (2.0, full), (2.0, 1),
        ]  # fmt: skip
        assert world.bus.max_in_flight["dst_acme"] == 3
        assert worker.commit() == {P0: 7 * full + 1}


@every_flavour
@in_virtual_time
async def test_a_rate_spaces_calls_of_an_empty_lane_too(flavour: type[Flavour]) -> None:
    world = World(narrow("acme", 8, per_second=2), flavour=flavour)
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(0.7, *records(range(2 * full)))
        assert worker.ledger.in_flight == 0
        await worker.feed_until(10, *records(range(2 * full, 4 * full)))
        assert [at for at, _ in world.bus.made()] == [0.0, 0.5, 1.0, 1.5]
        assert worker.lanes == 0


@in_virtual_time
async def test_an_idle_lane_is_dropped_in_time() -> None:
    world = World(narrow("acme", 8, per_second=2))
    async with world.worker() as worker:
        await worker.feed_until(0, *records(range(13)))
        await worker.give_back(P0)
        assert worker.lanes == 1
        await worker.at(0.45)
        assert worker.lanes == 1
        await worker.at(0.55)
        assert worker.lanes == 0
        assert len(world.bus.calls) == 1
        assert worker.ledger.dropped == 3


@in_virtual_time
async def test_events_arrive_byte_for_byte() -> None:
    world = World(destination())
    async with world.worker() as worker:
        given = record(0, headers=(("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),))
        await worker.feed_until(1, given)
        (entry,) = world.bus.calls[0].entries
        assert entry == {
            "Time": 1_779_805_268,
            "Source": "pushrail.acme",
            "Resources": ["acct_acme", "0"],
            "DetailType": "order.completed",
            "Detail": (given.value or b"").decode(),
            "EventBusName": "arn:aws:events:us-east-1:123456789012:event-bus/bus-acme",
            "TraceHeader": "Root=1-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaa;Parent=bbbbbbbbbbbbbbbb;Sampled=1",
        }


@in_virtual_time
async def test_a_changed_document_counts_at_once() -> None:
    old = destination()
    new = modified(old, source="acme.renamed", auth=AccessKey("AKIAIOSFODNN7EXAMPLE", Secret("s")))
    world = World(old, latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(0.05, *records(range(12)))
        world.directory.put(new)
        await worker.feed_until(2, *records(range(12, 14)))
        assert [(call.at, len(call.keys), call.destination) for call in world.bus.calls] == [
            (0.0, 10, old), (0.1, 4, new),
        ]  # fmt: skip
        assert {entry["Source"] for entry in world.bus.calls[1].entries} == {"acme.renamed"}


@in_virtual_time
async def test_a_changed_filter_counts_for_what_waits_for_its_first_attempt() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(25)))
        world.directory.put(modified(narrow("acme", 1), event_types=("other.*",)))
        await worker.at(3)
        assert world.bus.made() == [(0.0, [str(n) for n in range(10)])]
        told = [(s.origin.offset, s.reason) for s in worker.signals if isinstance(s, Skipped)]
        assert sorted(told) == [(n, "filtered") for n in range(10, 25)]
        assert worker.commit() == {P0: 25}


class _Nothing:
    """A filter that takes no event."""

    def admits(self, _event: Event) -> bool:
        return False


@in_virtual_time
async def test_a_new_filter_counts_for_what_waits_for_its_first_attempt() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(25)))
        world.directory.put(modified(narrow("acme", 1), filter=_Nothing()))
        await worker.at(3)
        assert world.bus.made() == [(0.0, [str(n) for n in range(10)])]
        assert worker.ledger.skipped == 15


@in_virtual_time
async def test_a_raised_limit_counts_from_the_next_event() -> None:
    world = World(narrow("acme", 1), latency=5.0)
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        world.directory.put(narrow("acme", 8))
        await worker.feed_until(4, record(20))
        assert [at for at, _ in world.bus.made()] == [0.0, 1.0, 1.1]


@in_virtual_time
async def test_a_paused_document_skips_what_waits() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(25)))
        world.directory.put(modified(narrow("acme", 1), paused=True))
        await worker.at(3)
        assert world.bus.made() == [(0.0, [str(n) for n in range(10)])]
        assert Counter(s.reason for s in worker.signals if isinstance(s, Skipped)) == {"paused": 15}
        assert worker.commit() == {P0: 25}


@in_virtual_time
async def test_a_disabled_document_stops_all_deliveries() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(*records(range(2)))
        world.directory.put(destination(enabled=False))
        await worker.feed_until(1, *records(range(2, 4)))
        assert world.bus.made() == []
        told = [(s.origin.offset, s.destination_id, s.reason) for s in worker.signals if isinstance(s, Skipped)]
        assert sorted(told) == [(n, "dst_acme", "disabled") for n in range(4)]
        assert worker.commit() == {P0: 4}
        assert (worker.ledger.skipped, worker.lanes) == (4, 0)


@in_virtual_time
async def test_one_hanging_destination_delays_no_other() -> None:
    world = World(destination("hangs"), destination("slow"), narrow("swift", 2))
    latencies = {"dst_hangs": HANGS, "dst_slow": 30.0, "dst_swift": 0.01}
    world.bus.latency = lambda batch: latencies[batch.destination.id]
    async with world.worker() as worker:
        for start in range(0, 600, 30):
            worker.feed(*records(range(start, start + 10), "hangs"), *records(range(start + 10, start + 20), "slow"))
            worker.feed(*records(range(start + 20, start + 30), "swift"))
        await worker.at(0.2)
        # As if the swift one were alone: twenty batches, two at a time, 10 ms each.
        assert [at for at, _ in world.bus.made("dst_swift")] == [round(n // 2 * 0.01, 2) for n in range(20)]
        assert len(world.bus.arrived["dst_swift"]) == 200
        assert len(world.bus.made("dst_hangs")) == len(world.bus.made("dst_slow")) == 8
        assert worker.commit() == {P0: 0}


@in_virtual_time
async def test_one_destination_in_backoff_delays_no_other() -> None:
    world = World(destination("broken"), destination("fine"))
    world.bus.answer(in_turn(failed("ServiceUnavailable", 503)), "dst_broken")
    async with world.worker() as worker:
        for second in range(30):
            await worker.at(second)
            worker.feed(record(2 * second, "broken"), record(2 * second + 1, "fine"))
        await worker.at(30)
        assert world.bus.made("dst_fine") == [(round(n + 0.1, 6), [str(2 * n + 1)]) for n in range(30)]


@pytest.mark.parametrize("slow", ["first", "last"])
@in_virtual_time
async def test_batches_may_end_in_any_order(slow: str) -> None:
    world = World(destination())
    marked = "0" if slow == "first" else "19"
    world.bus.latency = lambda batch: 5.0 if marked in keys(batch) else 0.01
    world.bus.answer(take_all)
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        assert worker.commit() == {P0: 0 if slow == "first" else 10}
        await worker.at(6)
        assert worker.commit() == {P0: 20}


@in_virtual_time
async def test_a_batch_due_in_a_millisecond_waits() -> None:
    world = World(destination(limits=Limits(flush_ms=1)))
    async with world.worker() as worker:
        worker.feed(record(0))
        worker.dispatcher.shed_load()  # a second look at the lane before the first wake-up
        await worker.feed_until(1, record(1))
        assert world.bus.made() == [(0.001, ["0", "1"])]


@in_virtual_time
async def test_a_deleted_document_clears_the_bus_port() -> None:
    world = World(destination(), destination("other"))
    async with world.worker() as worker:
        await worker.feed_until(1, record(0), record(1, "other"))
        world.directory.put(dataclasses.replace(destination("other"), name="renamed"))
        assert world.bus.forgotten == []
        world.directory.remove("dst_acme")
        assert world.bus.forgotten == ["dst_acme"]
        await worker.at(60)
        assert worker.engine.stats(10).destinations == []
