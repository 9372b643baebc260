"""Records of a retry topic that are read before they are due."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Backpressure, PartitionsRevoked
from pushrail_stream.pipeline.assignment import FlowControl
from tests.pipeline.test_retry_consumer import FLOWS
from tests.support.builders import destination
from tests.support.pipeline_world import RETRIES, World
from tests.support.policy import TIERS, buffer_limits
from tests.support.records import (
    P0,
    RETRY,
    answered,
    fault,
    in_turn,
    record,
    retry_record,
    take_all,
)
from tests.support.virtual_time import in_virtual_time


@pytest.mark.parametrize("tier", [1, 2, 3])
@in_virtual_time
async def test_an_early_record_pauses_its_partition(tier: int) -> None:
    world = World(destination())
    retry = Partition(TIERS[tier - 1].topic, 0)
    async with world.worker(owns=[retry]) as worker:
        given = [retry_record(n, event=n, due=5 + n, partition=retry) for n in range(3)]
        assert worker.feed_retries(*given) == FlowControl(hold=False, full=frozenset({retry}))
        await worker.at(3.9)
        assert worker.retry_consumer.flow_control().full == {retry}
        # The first record after a pause takes a second to arrive, so reading resumes that much earlier.
        await worker.at(4.1)
        assert worker.retry_consumer.flow_control() == FLOWS
        await worker.at(4.9)
        worker.retry_consumer.flow_control()
        assert worker.ledger.begun == 0
        assert worker.commit() == {}
        seen = []
        for moment in (5.0, 5.5, 6.0, 7.0):
            await worker.at(moment)
            worker.retry_consumer.flow_control()
            seen.append(worker.ledger.begun)
        assert seen == [1, 1, 2, 3]
        await worker.at(8)
        assert world.bus.arrived["dst_acme"] == ["0", "1", "2"]
        assert worker.commit() == {retry: 3}


@in_virtual_time
async def test_an_early_record_pauses_no_other_partition() -> None:
    world = World(destination())
    later, now = RETRIES[0], RETRIES[1]
    async with world.worker(owns=[P0, later, now]) as worker:
        worker.feed_retries(retry_record(0, due=100, partition=later), retry_record(0, event=1, partition=now))
        await worker.feed_until(1, record(2))
        assert world.bus.arrived["dst_acme"] == ["1", "2"]
        assert worker.retry_consumer.flow_control().full == {later}
        assert worker.event_consumer.flow_control() == FLOWS


@in_virtual_time
async def test_early_records_are_bounded() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        soon = [retry_record(n, event=n, due=0.5) for n in range(500)]
        assert worker.feed_retries(*soon[:499]) == FLOWS
        assert worker.feed_retries(soon[499]).full == {RETRY}
        await worker.at(0.5)
        assert worker.retry_consumer.flow_control() == FLOWS


@in_virtual_time
async def test_early_records_are_bounded_in_bytes() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        large = [retry_record(n, event=n, due=0.5, padding=700_000) for n in range(3)]
        assert worker.feed_retries(*large[:2]) == FLOWS
        assert worker.feed_retries(large[2]).full == {RETRY}


@in_virtual_time
async def test_early_records_count_in_the_buffer() -> None:
    world = World(destination())
    later = RETRIES[1]
    async with world.worker(owns=[P0, RETRY, later], limits=buffer_limits(max_events=100)) as worker:
        early = [retry_record(n, event=n, due=5, padding=n % 7) for n in range(90)]
        assert not worker.feed_retries(*early).hold
        [view, _] = worker.retry_consumer.partition_stats()
        assert (view.open_records, view.open_bytes) == (90, sum(len(each.value or b"") for each in early))
        # It takes half of the room at most: due records must not wait for it.
        due = [retry_record(n, event=100 + n, partition=later) for n in range(50)]
        assert not worker.feed_retries(*due[:49]).hold
        assert worker.feed_retries(due[49]).hold
        assert [(held.on, held.events) for held in worker.reported(Backpressure)] == [(True, 100)]
        await worker.at(1)
        assert not worker.retry_consumer.flow_control().hold


@in_virtual_time
async def test_early_bytes_count_in_the_buffer() -> None:
    world = World(destination())
    later = RETRIES[1]
    async with world.worker(owns=[P0, RETRY, later], limits=buffer_limits(max_bytes=100_000)) as worker:
        worker.feed_retries(*(retry_record(n, event=n, due=5, padding=20_000) for n in range(4)))
        due = [retry_record(n, event=100 + n, partition=later, padding=20_000) for n in range(3)]
        assert not worker.feed_retries(*due[:2]).hold
        assert worker.feed_retries(due[2]).hold


@in_virtual_time
async def test_a_clock_set_back_delays_nothing() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0, due=10))
        await worker.at(1)
        worker.clock.set_back(3600)
        worker.feed_retries(retry_record(1, event=1, due=10))
        for moment in (9.5, 10.0, 11.0):
            await worker.at(moment)
            worker.retry_consumer.flow_control()
        await worker.at(12)
        assert world.bus.arrived["dst_acme"] == ["0", "1"]


@in_virtual_time
async def test_early_records_go_to_the_next_owner() -> None:
    world = World(destination())
    given = [retry_record(0, event=0), *(retry_record(n, event=n, due=5) for n in range(1, 4))]
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(*given)
        await worker.at(1)
        await worker.give_back(RETRY)
        assert worker.reported(PartitionsRevoked) == [PartitionsRevoked((RETRY,), lost=False, dropped=0)]
        assert world.group[RETRY].offset == 1
        await worker.at(6)
        assert worker.retry_consumer.flow_control() == FLOWS
        assert world.bus.arrived["dst_acme"] == ["0"]
        assert (worker.ledger.begun, worker.ledger.dropped) == (1, 0)
    async with world.worker(owns=[RETRY]) as next_owner:
        next_owner.feed_retries(*given[1:])
        await next_owner.at(7)
        assert world.bus.arrived["dst_acme"] == ["0", "1", "2", "3"]
        assert next_owner.commit() == {RETRY: 4}


@in_virtual_time
async def test_early_records_stay_in_order() -> None:
    world = World(destination())
    world.bus.answer(
        in_turn(lambda batch: answered(batch, {"0": fault("InternalFailure"), "1": fault("InternalFailure")}), take_all)
    )
    async with world.worker(owns=[RETRY], jitter=lambda: 0.9) as worker:
        worker.feed_retries(*(retry_record(n, event=n) for n in range(20)), retry_record(20, event=20, due=60))
        for tenth in range(25):
            await worker.at(tenth / 10)
            assert worker.retry_consumer.flow_control().full == {RETRY}
        assert sorted(world.bus.arrived["dst_acme"], key=int) == [str(n) for n in range(20)]
        assert world.topics.written == []
