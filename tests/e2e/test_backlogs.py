"""A destination falls behind on a real Kafka: people see it, others do not notice, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import committed, ends, outside, produce, running, until

pytestmark = pytest.mark.kafka
EVENTS = 1_500


async def test_a_backlog_is_seen_and_drained(real_kafka: str, tmp_path: Path) -> None:
    async with outside(real_kafka, 2, tiers=(600,), delivery={"hold_secs": 5, "flush_ms": 20}) as (bus, settings):
        bus.set_plan([Rule(CallError(503, "InternalException"), Match(operation="PutEvents", bus=bus_arn(0)))])
        desk = Desk(tmp_path, settings)
        both = [with_access_key(0), with_access_key(1)]
        desk.put(both)
        async with running(settings, both) as worker:
            await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(2 * EVENTS)])
            await worker.until(lambda: worker.worker.ledger.delivered == EVENTS)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
            # A worker that gets little CPU time may have let the other fall behind, too: that has just ended.
            async with asyncio.timeout(PATIENCE_SECS):
                while len(found := await desk.lines("backlog", "list")) != 1:
                    pass
            [behind] = found
            assert behind["destination"] == "dst_0"
            copies = sum(row["count"] for row in await desk.lines("retry", "list"))
            assert behind["events"] + copies >= EVENTS, "others' events may be among them"
            assert copies < EVENTS / 5, "the calls in flight at its beginning at most"
            seen = {one["id"]: one["backlog"] for one in await desk.lines("destinations", "list", "--state")}
            assert (seen["dst_0"]["destination"], seen["dst_1"]) == ("dst_0", None)
            told = await desk.ask("check", "--since", "1h")
            assert (told["deliveries"]["pending"], told["deliveries"]["missing"]) == (EVENTS, 0)
            async with asyncio.timeout(PATIENCE_SECS):
                while (told := await desk.ask("top"))["behind"] != 1 or told["lag"]["events"]:
                    pass
            bus.set_plan([])
            assert await desk.lines("retry", "now", "--destination", "dst_0")
            await worker.until(lambda: worker.worker.ledger.delivered == 2 * EVENTS)
            async with asyncio.timeout(PATIENCE_SECS):
                while await desk.lines("backlog", "list"):
                    pass
            assert worker.worker.ledger.balances
            assert worker.worker.ledger.put_back > 0
        told = await desk.ask("check", "--since", "1h")
        assert (told["deliveries"]["delivered"], told["deliveries"]["missing"]) == (2 * EVENTS, 0)
