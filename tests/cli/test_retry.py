"""The commands `retry list` and `retry now`: what they print, and how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pushrail_stream.operations.fleet import read_fleet
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import make_topics, open_bus, produce, settings_for, until

pytestmark = pytest.mark.kafka


async def test_a_backlog_is_shown_and_begun(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(
            real_kafka, bus.url, tiers=(600,), delivery={"hold_secs": 1, "flush_ms": 20, "backoff_cap_secs": 0.3}
        )
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(CallError(503, "InternalException"), Match(operation="PutEvents", bus=bus_arn(0)))])
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        assert "no worker is running" in await desk.run("retry", "now", "--destination", "dst_0", exit_code=1)
        async with desk.working():
            await produce(settings, [("acct_0", event(0, n)) for n in range(30)])
            await until(lambda: bool(read_fleet(settings).alive))
            async with asyncio.timeout(PATIENCE_SECS):
                while sum(row["count"] for row in await desk.lines("retry", "list")) < 30:
                    pass
            rows = await desk.lines("retry", "list", "--destination", "dst_0")
            assert {row["destination"] for row in rows} == {"dst_0"}
            assert await desk.lines("retry", "list", "--destination", "dst_1") == []
            assert "dst_0" in await desk.run("retry", "list")
            refused = await desk.run("retry", "now", "--destination", "dst_7", exit_code=1)
            assert "dst_7: there is no such destination" in refused
            bus.set_plan([])
            begun = 0
            while begun < 30:  # the partitions of the retry topic may come a little later
                [answer] = await desk.lines("retry", "now", "--destination", "dst_0")
                assert (answer["kept"], answer["problem"]) == (0, "")
                begun += answer["begun"]
            assert begun == 30
            await bus.wait_for_arrivals(30)
        assert await desk.lines("retry", "list") == []
