"""A whole worker in a flood of dead letters: it stops consuming and says so, and a good release finds the events."""

from __future__ import annotations

import json

import pytest

from pushrail_stream.core.signals import Flooded
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import EntryError, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.e2e.test_ops import ask, totals
from tests.support.builders import event, with_access_key
from tests.support.workers import committed, ends, make_topics, open_bus, produce, read_all, running, settings_for

pytestmark = pytest.mark.kafka
CUSTOMERS = range(6)


async def test_the_next_worker_delivers_after_a_flood(
    embedded_broker: EmbeddedBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    async with FaultBus.serve() as bus:
        guard = {"min_dead_letters": 20, "min_customers": 3}
        settings = settings_for(embedded_broker.bootstrap_servers, bus.url, flood_guard=guard)
        make_topics(settings, embedded_broker)
        open_bus(bus, CUSTOMERS)
        bus.set_plan([Rule(EntryError("MalformedDetail", "a release of ours breaks every entry"))])
        destinations = [with_access_key(n) for n in CUSTOMERS]
        async with running(settings, destinations) as worker:
            port = worker.worker.http_port
            await produce(settings, [(f"acct_{n % 6}", event(n % 6, n)) for n in range(600)])
            await worker.until(lambda: any(isinstance(signal, Flooded) for signal in worker.signals))
            await produce(settings, [(f"acct_{n % 6}", event(n % 6, n)) for n in range(600, 1500)])
            assert await ask(port, "/readyz") == (
                503, {"ready": False, "reasons": ["stopped by a flood of dead letters"]},
            )  # fmt: skip
            assert await ask(port, "/livez") == (200, {"live": True})
            assert totals((await ask(port, "/metrics"))[1])["pushrail_flooded"] == 1
            # It began nothing besides the records that it had read.
            assert worker.worker.ledger.begun < 1500
        lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
        [flood] = [line for line in lines if line["event"] == "flood_of_dead_letters"]
        assert flood["level"] == "error"
        assert flood["affected"] >= 3
        dead = [json.loads(value or b"")["idempotencyKey"] for _, value, _ in read_all(settings, settings.topics.dlq)]
        assert len(dead) < 600
        assert sum(committed(settings).values()) <= len(dead)
        bus.set_plan([])
        async with running(settings, destinations) as worker:
            await bus.wait_for_arrivals(1500 - len(dead))
            await worker.settled(1500 - len(dead))
        arrived = {arrival.resources[1] for arrival in bus.arrivals}
        assert arrived == {f"key-{n}" for n in range(1500)} - set(dead)
        assert committed(settings) == ends(settings, settings.topics.events)
