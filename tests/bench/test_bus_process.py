from __future__ import annotations

import asyncio
import json
import urllib.request

from pushrail_stream.sandbox.bus.server import BusConfig
from tests.bench.bus_process import LatencyBus, Pace
from tests.support.bus_clients import BUS, OTHER_BUS, client, entry


def test_calls_that_come_at_once_wait_for_each_other() -> None:
    pace = Pace(200.0)
    assert [round(pace.delay_secs(10, 5.0), 3) for _ in range(3)] == [0.05, 0.1, 0.15]
    assert round(pace.delay_secs(10, 9.0), 3) == 0.05


async def test_a_bus_with_a_pace_answers_late_and_the_others_at_once() -> None:
    async with LatencyBus.serve(BusConfig(open=True)) as bus, client("events", bus) as events:
        await asyncio.to_thread(_set_paces, bus.url, {BUS: 20.0})
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(events.put_events(Entries=[entry()] * 10))
            await bus.wait_for_calls(1)
            await events.put_events(Entries=[entry(EventBusName=OTHER_BUS)])
            assert not slow.done()
        assert loop.time() - started >= 0.5
        await asyncio.to_thread(_set_paces, bus.url, {})
        assert bus.ledger.by_bus == {OTHER_BUS: 1, BUS: 10}


def _set_paces(url: str, paces: dict[str, float]) -> None:
    request = urllib.request.Request(f"{url}/_bus/paces", json.dumps(paces).encode(), method="PUT")  # noqa: S310
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
        pass
