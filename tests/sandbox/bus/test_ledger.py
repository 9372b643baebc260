"""The records that the bus keeps of its calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import (
    BUS,
    client,
    control,
    declare,
    entry,
)
from tests.support.patience import PATIENCE_SECS

if TYPE_CHECKING:
    pass


async def test_a_wait_ends_with_the_last_arrival() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(bus.wait_for_arrivals(3))
            await events.put_events(Entries=[entry(), entry()])
            assert not waiting.done()
            await events.put_events(Entries=[entry()])
            async with asyncio.timeout(PATIENCE_SECS):
                await waiting
        await bus.wait_for_arrivals(2)


async def test_counters_keep_only_latencies() -> None:
    now = 1_790_000_000.5
    config = BusConfig(
        clock=lambda: now, check_signatures=False, keep_records=False, latency_path="payload.producedAtMs"
    )
    async with FaultBus.serve(config) as bus:
        declare(bus)
        details = ['{"payload":{"producedAtMs":1790000000000}}', '{"payload":{"producedAtMs":"x"}}', '{"payload":7}']
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry(Detail=detail) for detail in details])
        assert (bus.arrivals, bus.calls) == ([], [])
        assert (bus.counts()["arrivals"], bus.counts()["calls"], bus.counts()["entries"]) == (3, 1, 3)
        assert bus.latencies_ms() == bus.latencies_ms(BUS) == [500.0]
        assert bus.latencies_ms("elsewhere") == []
        assert (await control(bus, "GET", "latencies"))[1] == {"latenciesMs": [500.0]}
        bus.clear()
        assert bus.latencies_ms() == []
        assert bus.counts()["arrivals"] == 0
