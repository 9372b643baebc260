"""Documents change under a running worker. A change holds within seconds, for new batches only."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pushrail_stream.core.signals import (
    BusFound,
    BusMissing,
    DocumentRefused,
    RegistryChanged,
    Resumed,
    Signal,
    Skipped,
    Suspended,
)
from pushrail_stream.documents import open_registry, open_store
from pushrail_stream.ports.documents import DocumentStore
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import to_document
from pushrail_stream.sandbox.bus.faults import CallError, Latency, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import KEY_ID, SECRET, bus_arn, event, with_access_key
from tests.support.relay import Relay
from tests.support.workers import (
    LATENCY_SECS,
    Watched,
    make_topics,
    max_in_flight,
    open_bus,
    produce,
    read_all,
    running,
    settings_for,
    until,
)

pytestmark = pytest.mark.kafka
NEW_KEY_ID, NEW_SECRET = "AKIAIOSFODNN8EXAMPLE", "another-secret-of-the-customer"
NEW_KEY = {"accessKeyId": NEW_KEY_ID, "secretAccessKey": "env:NEW"}
ENVIRON = {"OLD": SECRET, "NEW": NEW_SECRET}


def document(customer: int, **changes: Any) -> dict[str, Any]:
    form: dict[str, Any] = to_document(with_access_key(customer))
    form["auth"] |= {"secretAccessKey": "env:OLD"}
    return form | changes


class Live:
    """A worker that follows its registry, and an operator who changes it."""

    def __init__(
        self, bus: FaultBus, relay: Relay, settings: Settings, worker: Watched, store: DocumentStore, catalog: Catalog
    ) -> None:
        self.bus = bus
        self.relay = relay
        self.settings = settings
        self.worker = worker
        self.catalog = catalog
        self._store = store
        self._number = 0

    async def put(self, content: dict[str, Any] | bytes, name: str = "dst_0") -> None:
        """Write a document and wait until the worker goes by it, or has refused it."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        await self._change(name, raw)

    async def delete(self, name: str = "dst_0") -> None:
        await self._change(name, None)

    async def _change(self, name: str, raw: bytes | None) -> None:
        seen = self._told()
        await self._store.write(self._name(name), raw)
        await self.worker.until(lambda: self._told() > seen, within_secs=30)

    def _name(self, name: str) -> str:
        registry = self.settings.registry
        return name if registry.topic else str(registry.path / f"{name}.json")

    def _told(self) -> int:
        return sum(isinstance(signal, RegistryChanged) for signal in self.worker.signals)

    async def send(self, count: int = 1, customer: int = 0, **changes: Any) -> None:
        """Produce events and wait until every delivery there is has settled."""
        ledger = self.worker.worker.ledger
        before = ledger.begun
        records = [(f"acct_{customer}", event(customer, self._number + n, **changes)) for n in range(count)]
        self._number += count
        await produce(self.settings, records)
        await self.worker.until(lambda: ledger.begun >= before + count and ledger.in_flight == 0)

    async def metrics(self) -> str:
        """The worker's metrics, as a scrape sees them."""
        url = f"http://127.0.0.1:{self.worker.worker.http_port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as reply:
            return await reply.text()

    def told(self, kind: type[Signal]) -> int:
        return sum(isinstance(signal, kind) for signal in self.worker.signals)

    def dead(self) -> list[tuple[str, str]]:
        """Destination and reason of every dead letter."""
        letters = read_all(self.settings, self.settings.topics.dlq)
        return [(headers["pushrail-destination"], headers["pushrail-reason"]) for _, _, headers in letters]

    def skips(self) -> Counter[str]:
        return Counter(signal.reason for signal in self.worker.signals if isinstance(signal, Skipped))


@pytest.fixture(params=["folder", "topic"])
def open_live(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Opens a worker of one customer, whose document is there."""
    is_topic = request.param == "topic"
    bootstrap = request.getfixturevalue("real_kafka")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Live]:
        async with FaultBus.serve() as bus, Relay.before(bus.url) as relay:
            registry = {"path": str(tmp_path), "topic": is_topic}
            patient = {"endpoint_url": relay.url, "read_timeout_secs": 60}
            delivery = {"flush_ms": 20, "hold_secs": 60}
            settings = settings_for(bootstrap, bus.url, registry=registry, delivery=delivery, eventbridge=patient)
            make_topics(settings)
            open_bus(bus, range(3))
            bus.add_key(NEW_KEY_ID, NEW_SECRET)
            async with open_store(settings) as store, open_registry(settings, ENVIRON) as (catalog, updater):
                name = "dst_0" if is_topic else str(tmp_path / "dst_0.json")
                await store.write(name, json.dumps(document(0)).encode())
                async with running(settings, catalog, updater=updater) as worker:
                    yield Live(bus, relay, settings, worker, store, catalog)

    return opened


async def test_document_changes_hold_from_now_on(
    open_live: Callable[[], Any],
) -> None:
    async with open_live() as live:
        await live.send(3)
        await live.put(document(0, eventTypes=["invoice.*"]))
        await live.send(2)
        await live.send(1, eventType="invoice.paid")
        await live.put(document(0, enabled=False))
        await live.send(4)
        await live.delete()
        await live.send(5)
        await live.put(document(0))
        await live.send(6)
        assert live.skips() == {"filtered": 2, "disabled": 4, "no_destination": 5}
        assert len(live.bus.arrivals) == 3 + 1 + 6


async def test_new_documents_are_served(open_live: Callable[[], Any]) -> None:
    async with open_live() as live:
        await live.send(2, customer=1)
        await live.put(document(1), "dst_1")
        await live.send(3, customer=1)
        await live.put(document(1) | {"id": "dst_1b", "busArn": bus_arn(2)}, "dst_1b")
        await live.send(4, customer=1)
        assert live.skips() == {"no_destination": 2}
        arrived = Counter(arrival.bus_arn for arrival in live.bus.arrivals)
        assert arrived == {bus_arn(1): 3 + 4, bus_arn(2): 4}


async def test_a_bad_edit_keeps_the_last_good_one(open_live: Callable[[], Any]) -> None:
    whole = json.dumps(document(0, eventTypes=["order.*"])).encode()
    async with open_live() as live:
        await live.put(whole[: len(whole) // 2])  # an editor, half-way through
        refused = [signal for signal in live.worker.signals if isinstance(signal, DocumentRefused)]
        assert [signal.field for signal in refused] == [""]
        await live.send(1, eventType="invoice.paid")
        assert len(live.bus.arrivals) == 1
        await live.put(document(0, region="mars"))
        await live.send(1, eventType="invoice.paid")
        assert len(live.bus.arrivals) == 2
        await live.put(whole)
        await live.send(1, eventType="invoice.paid")
        assert live.skips() == {"filtered": 1}


async def test_a_refused_document_means_dead_letters(
    open_live: Callable[[], Any],
) -> None:
    async with open_live() as live:
        await live.put(document(1, region="mars"), "dst_1")
        await live.send(2, customer=1)
        assert live.skips() == {}
        assert await asyncio.to_thread(live.dead) == [("dst_1", "blocked")] * 2
        await live.put(document(1), "dst_1")
        await live.send(3, customer=1)
        assert Counter(arrival.bus_arn for arrival in live.bus.arrivals) == {bus_arn(1): 3}


async def test_calls_in_flight_keep_the_old_key(open_live: Callable[[], Any]) -> None:
    async with open_live() as live:
        answer = live.relay.hold()
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(live.send(1))
            await live.bus.wait_for_calls(1)
            live.relay.pass_on()
            changed = document(0)
            changed["auth"] |= NEW_KEY
            await live.put(changed)
            assert not slow.done()
            await produce(live.settings, [("acct_0", event(0, 100))])
            await live.bus.wait_for_arrivals(2)
            answer.set()
        await live.send(3)
        keys = [call.access_key for call in live.bus.calls]
        assert (keys[0], set(keys[1:])) == (KEY_ID, {NEW_KEY_ID})
        assert {call.status for call in live.bus.calls} == {200}
        assert len(live.bus.arrivals) == 5


async def test_limits_hold_from_the_next_batch(open_live: Callable[[], Any]) -> None:
    async with open_live() as live:
        live.bus.set_plan([Rule(Latency(LATENCY_SECS), Match(operation="PutEvents"))])
        await live.send(200)
        assert max_in_flight(live.bus) > 1
        await live.put(document(0, limits={"maxInFlight": 1}))
        live.bus.clear()
        await live.send(100)
        assert max_in_flight(live.bus) == 1


async def test_the_newest_flush_time_holds(open_live: Callable[[], Any]) -> None:
    async with open_live() as live:
        await live.put(document(0, limits={"flushMs": 60_000}))
        async with asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(live.send(9))
            await until(lambda: live.worker.worker.ledger.begun == 9)
            assert not live.bus.calls
            await live.put(document(0, limits={"flushMs": 0}))
            await waits
        await live.send(1)
        assert [call.entries for call in live.bus.calls] == [9, 1]


async def test_a_missing_bus_loses_no_event(
    open_live: Callable[[], Any],
) -> None:
    missing = {"busArn": bus_arn(9)}
    async with open_live() as live:
        await live.send(2)
        taken = live.bus.counts()["calls"]
        await live.put(document(0, **missing))
        await live.send(300)
        assert live.told(BusMissing) == 1
        assert live.bus.counts()["calls"] == taken, "nothing is sent where it would vanish"
        letters = await asyncio.to_thread(read_all, live.settings, live.settings.topics.dlq)
        assert [said["pushrail-error-code"] for _, _, said in letters] == ["EventBusNotFound"] * 300
        assert {said["pushrail-reason"] for _, _, said in letters} == {"blocked"}

        live.bus.add_bus(bus_arn(9))
        # With another key it is asked about at once, and not in 30 s.
        await live.put(document(0, **missing, auth={**document(0)["auth"], **NEW_KEY}))
        await live.send(1)
        await live.worker.until(lambda: live.told(BusFound) == 1)
        live.bus.clear()
        await live.send(2)
        assert [arrival.bus_arn for arrival in live.bus.arrivals] == [bus_arn(9)] * 2


async def test_a_missing_bus_ends_with_its_document(open_live: Callable[[], Any]) -> None:
    async with open_live() as live:
        await live.put(document(0, busArn=bus_arn(9)))
        await live.send(1)
        assert "pushrail_buses_missing 1.0" in await live.metrics()
        await live.delete()
        assert "pushrail_buses_missing 0.0" in await live.metrics()


async def test_a_repaired_destination_takes_a_burst(open_live: Callable[[], Any]) -> None:
    denied = Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents"))
    async with open_live() as live:
        live.bus.set_plan([denied])
        for _ in range(6):
            await live.send(10)
        assert live.told(Suspended) == 1
        refused = len(live.dead())
        live.bus.set_plan([Rule(Latency(LATENCY_SECS), Match(operation="PutEvents"))])
        # With another key it is probed at once, and not in 30 s.
        await live.put(document(0, auth={**document(0)["auth"], **NEW_KEY}))
        await live.send(200)
        assert live.told(Resumed) == 1
        assert len(live.bus.arrivals) == 200
        assert len(live.dead()) == refused == 60
