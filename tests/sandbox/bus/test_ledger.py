"""The records that the bus keeps of its calls."""

from __future__ import annotations

import asyncio

from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import (
    client,
    declare,
    entry,
)
from tests.support.patience import PATIENCE_SECS


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


async def test_a_cleared_bus_counts_from_zero() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry()] * 3)
        assert (bus.counts()["arrivals"], bus.counts()["calls"], bus.counts()["entries"]) == (3, 1, 3)
        bus.clear()
        assert (bus.arrivals, bus.calls) == ([], [])
        assert bus.counts()["arrivals"] == 0
