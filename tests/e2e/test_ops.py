"""A worker seen from outside: metrics that add up at every look, and whether it is ready."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pushrail_stream.app import run_worker
from pushrail_stream.observe.logging import open_log
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.ports import Failed
from pushrail_stream.registry import FileDirectory
from pushrail_stream.sandbox.bus import CallError, FaultBus, Match, Probability, Rule
from tests.e2e.world import (
    bus_arn,
    destination,
    event,
    make_topics,
    open_bus,
    produce,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka
README = Path(__file__).parents[2] / "README.md"


async def ask(port: int, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as reply:
        return reply.status, await (reply.json() if "json" in reply.content_type else reply.text())


def totals(text: str) -> dict[str, float]:
    return {
        sample.name: sum(s.value for s in family.samples if s.name == sample.name)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_accounts_balance_at_every_scrape(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, tiers=(1,), delivery={"hold_secs": 1, "flush_ms": 20})
        make_topics(settings)
        open_bus(bus, range(3))
        bus.set_plan([
            Rule(CallError(503, "ServiceUnavailable", "busy"), Match(operation="PutEvents"), when=Probability(0.4)),
            Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(1))),
        ])  # fmt: skip
        async with running(settings, [destination(n) for n in range(3)]) as worker:
            port = worker.worker.http_port
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(600)])
            scrapes = 0
            async with asyncio.timeout(60):
                while worker.worker.ledger.delivered < 400:
                    seen = totals((await ask(port, "/metrics"))[1])
                    ended = seen.get("pushrail_deliveries_total", 0)
                    assert seen["pushrail_deliveries_begun_total"] == ended + seen["pushrail_deliveries_in_flight"]
                    scrapes += 1
            assert scrapes > 3
            assert await ask(port, "/readyz") == (200, {"ready": True, "reasons": []})
            assert await ask(port, "/livez") == (200, {"live": True})
            last = totals((await ask(port, "/metrics"))[1])
            assert last["pushrail_destinations_suspended"] == 1
            assert last["pushrail_dead_letters_total"] == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(port, "/livez")


async def test_a_port_that_is_taken_is_named(embedded_broker: Any) -> None:
    async with FaultBus.serve() as bus:
        taken = int(bus.url.rpartition(":")[2])
        settings = settings_for(embedded_broker.bootstrap_servers, bus.url).model_copy()
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": taken})})
        make_topics(settings, embedded_broker)
        with pytest.raises(Failed, match=r"http\.host, http\.port: 127\.0\.0\.1:\d+ cannot be had"):
            await run_worker(settings, FileDirectory(), open_log("warning"))


def test_every_metric_is_in_the_readme_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(pushrail_\w+)`", README.read_text(), flags=re.MULTILINE))
    exported = {family.name + ("_total" if family.type == "counter" else "") for family in Metrics().collect()}
    assert documented == exported
