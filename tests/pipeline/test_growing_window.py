"""A destination whose bus is far away gets more calls in flight, as long as it takes them."""

from __future__ import annotations

import pytest

from pushrail_stream.core.destination import Limits
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import Worker, World
from tests.support.policy import buffer_limits
from tests.support.records import P0, failed, record, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

FAR = 0.05
"""Seconds of a round trip."""


async def flood(worker: Worker, secs: float, customers: list[str] | None = None, per_step: int = 600) -> None:
    """More events than the calls in flight carry, until then."""
    offset, until = worker.ledger.begun, virtual_loop().elapsed + secs
    while virtual_loop().elapsed < until:
        if worker.ledger.in_flight < 3_000:
            for customer in customers or ["acme"]:
                worker.feed(*records(range(offset, offset + per_step), customer))
                offset += per_step
        await worker.at(virtual_loop().elapsed + FAR)


@pytest.mark.unmeasured
@in_virtual_time
async def test_a_far_bus_gets_64_calls_within_two_seconds() -> None:
    world = World(destination(), latency=FAR)
    async with world.worker(limits=buffer_limits(max_events=20_000)) as worker:
        await flood(worker, 2.0)
        assert world.bus.in_flight["dst_acme"] == world.bus.max_in_flight["dst_acme"] == 64
        assert worker.engine.stats(1).destinations[0].max_calls == 64
        assert world.topics.moved() == []


@in_virtual_time
async def test_the_documents_limit_is_a_hard_cap() -> None:
    world = World(narrow("acme", 12), latency=FAR)
    async with world.worker(limits=buffer_limits(max_events=20_000)) as worker:
        await flood(worker, 1.5)
        assert world.bus.max_in_flight["dst_acme"] == 12


@in_virtual_time
async def test_few_events_grow_nothing() -> None:
    world = World(destination(), latency=FAR)
    async with world.worker() as worker:
        for step in range(60):
            await worker.feed_until((step + 1) * FAR, *records(range(80 * step, 80 * step + 80)))
        assert world.bus.max_in_flight["dst_acme"] == 8
        assert worker.commit() == {P0: 4800}


@pytest.mark.unmeasured
@in_virtual_time
async def test_many_busy_destinations_grow_not() -> None:
    customers = [str(number) for number in range(40)]
    world = World(*(destination(customer) for customer in customers), latency=FAR)
    async with world.worker(limits=buffer_limits(max_events=20_000)) as worker:
        offset = 0
        for customer in customers:
            worker.feed(*records(range(offset, offset + 200), customer))
            offset += 200
        await worker.at(1.0)
        assert set(world.bus.max_in_flight.values()) == {8}
        assert len(worker.in_flight) == 0


@pytest.mark.unmeasured
@in_virtual_time
async def test_a_grown_window_is_kept_for_a_minute() -> None:
    world = World(destination(), latency=FAR)
    async with world.worker(limits=buffer_limits(max_events=20_000)) as worker:
        await flood(worker, 1.0)
        await worker.at(58)
        grown = worker.engine.stats(1).destinations[0].max_calls
        assert grown > 20
        await worker.at(64)
        assert worker.lanes == 0


@pytest.mark.unmeasured
@in_virtual_time
async def test_a_time_out_brings_it_back() -> None:
    world = World(destination(limits=Limits(max_in_flight=256)), latency=FAR)
    async with world.worker(limits=buffer_limits(max_events=20_000)) as worker:
        await flood(worker, 1.0)
        assert world.bus.in_flight["dst_acme"] > 20
        replies = iter([failed("ReadTimeout")])
        world.bus.answer(lambda batch: next(replies, None) or take_all(batch))
        await worker.at(virtual_loop().elapsed + 2.2 * FAR)
        assert worker.engine.stats(1).destinations[0].max_calls in {8, 10}


@in_virtual_time
async def test_a_delivery_alone_leaves_as_before() -> None:
    world = World(destination(), latency=FAR)
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        assert world.bus.made() == [(0.1, ["0"])]
        assert worker.lanes == 0
