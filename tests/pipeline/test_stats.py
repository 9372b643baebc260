"""Statistics of partitions and destinations."""

from __future__ import annotations

import pytest

from pushrail_stream.core.signals import Attempted, Consumed, Signal
from pushrail_stream.pipeline.stats import PartitionStats
from tests.support.builders import destination
from tests.support.fake_ports import HANGS
from tests.support.pipeline_world import World
from tests.support.policy import lane_limits
from tests.support.records import P0, failed, in_turn, record, records, take_all
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_partition_shows_its_open_records() -> None:
    world = World(destination(), latency=HANGS)
    async with world.worker() as worker:
        [view] = worker.event_consumer.partition_stats()
        assert view == PartitionStats(P0, 0, 0, None, None, 0.0)
        worker.feed(*records(range(3)))
        worker.event_consumer.committable()
        await worker.at(4)
        worker.event_consumer.committable()
        [view] = worker.event_consumer.partition_stats()
        assert (view.open_records, view.open_bytes > 300, view.committed) == (3, True, None)
        assert view.oldest_at_ms == record(0).timestamp_ms
        assert view.uncommitted_secs == pytest.approx(4)


@pytest.mark.parametrize("recorded_at_ms", [-1, 0])
@in_virtual_time
async def test_an_untimed_record_ages_from_its_read(recorded_at_ms: int) -> None:
    world = World(destination())
    seen = list[Signal]()
    world.bus.latency = lambda _batch: 3.0
    async with world.worker(consumed=seen.append) as worker:
        worker.feed(record(0)._replace(timestamp_ms=recorded_at_ms))
        [view] = worker.event_consumer.partition_stats()
        assert view.oldest_at_ms == worker.clock.now_ms()
        await worker.at(10)
    [consumed] = [signal for signal in seen if isinstance(signal, Consumed)]
    assert consumed.recorded_at_ms is None
    [entry] = [entry for signal in worker.signals if isinstance(signal, Attempted) for entry in signal.entries]
    assert entry.recorded_at_ms is None


@in_virtual_time
async def test_an_acknowledged_commit_has_no_age() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3)))
        assert worker.commit() == {P0: 3}
        await worker.at(500)
        worker.event_consumer.committable()
        [view] = worker.event_consumer.partition_stats()
        assert (view.open_records, view.committed, view.uncommitted_secs) == (0, 3, 0.0)
        worker.feed(record(3))
        worker.event_consumer.committable()
        await worker.at(501)
        [view] = worker.event_consumer.partition_stats()
        assert view.uncommitted_secs == pytest.approx(1), "idle time does not count"


@in_virtual_time
async def test_every_call_names_its_batchs_reason() -> None:
    world = World(destination(), answer=in_turn(take_all, take_all, take_all, failed("503", 503), take_all))
    limits = lane_limits(max_entries=3, max_bytes=2_000)
    async with world.worker(batches=limits) as worker:
        await worker.feed_until(1, *records(range(3)))
        await worker.feed_until(2, record(3))
        await worker.feed_until(10, *(record(n, padding=900) for n in (4, 5, 6)))
        world.bus.answer(in_turn(failed("413", 413), take_all))
        await worker.feed_until(20, record(7), record(8))
        told = [signal.flush for signal in worker.reported(Attempted)]
    assert told[:2] == ["entries", "time"]
    assert set(told) == {"entries", "time", "bytes", "retry", "alone"}


@in_virtual_time
async def test_every_consumed_event_is_observable() -> None:
    seen = list[Signal]()
    world = World(destination(), destination(name="too"))
    async with world.worker(consumed=seen.append) as worker:
        await worker.feed_until(1, record(0), record(1)._replace(value=b"{}"), record(2, "nobody"))
    first, last = seen
    assert isinstance(first, Consumed)
    assert isinstance(last, Consumed)
    assert (first.origin, first.deliveries, first.recorded_at_ms) == (record(0).origin, 2, record(0).timestamp_ms)
    assert (last.origin, last.deliveries) == (record(2).origin, 0), "what cannot be decoded is no event"
