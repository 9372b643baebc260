"""Traps about promises kept on paper only: figures that do not add up, limits that nobody enforces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pushrail_stream.core.destination import Limits
from pushrail_stream.core.event import Event, decode
from pushrail_stream.documents import open_registry
from pushrail_stream.eventbridge.entry import entry_size
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Latency, Match, Probability, Rule, Times
from pushrail_stream.sandbox.demo.events import example_event
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, modified, with_access_key
from tests.support.workers import (
    LATENCY_SECS,
    committed,
    ends,
    max_in_flight,
    outside,
    produce,
    read_all,
    running,
    until,
)

pytestmark = pytest.mark.kafka
SHIPPED = Path(__file__).parents[2] / "config" / "destinations"
NOT_ENFORCED_YET = {
    # Ingest is a process of its own and reads these. Its time-out is read here too: every program tries out the
    # properties of all Kafka clients, and that of ingest's producer depends on it.
    "ingest.host", "ingest.port", "ingest.keys_file", "ingest.max_body_mib", "ingest.max_buffered_mib",
    "ingest.max_events_per_second",
    # Only a destination with a bus of eventbridgev2 needs it. The example has a classic bus.
    "eventbridge.v2_endpoint_url",
    # Commands that look back read these; workers do not.
    "history.index",
    # Commands that change something read these.
    "audit.enabled", "audit.actor",
    # The command reads it before a worker starts.
    "kafka.start",
}  # fmt: skip


async def test_every_delivery_is_in_one_column(embedded_broker: EmbeddedBroker) -> None:
    """Every delivery is in one column of the ledger, at every signal (`running`); and every column is true."""
    quick = {"hold_secs": 0.5, "flush_ms": 20}
    async with outside(embedded_broker, customers=6, tiers=(1,), delivery=quick) as (bus, settings):
        bus.set_plan([
            # More often than its deliveries can be sent within hold_secs, whatever the jitter.
            Rule(CallError(503, "ServiceUnavailable"), Match(operation="PutEvents", bus=bus_arn(4)), Times(15)),
            Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(3))),
            Rule(CallError(413), Match(operation="PutEvents", detail_contains=('"key-42"',))),
            Rule(EntryError("MalformedDetail", "bad"), Match(detail_contains=('"key-60"',))),
            Rule(EntryError("InternalFailure", "oops"), when=Probability(0.05)),
        ])  # fmt: skip
        destinations = [
            *(with_access_key(n) for n in range(6)),
            modified(with_access_key(5), id="dst_5_too", event_types=("invoice.*",)),
            with_access_key(6, enabled=False),
        ]
        events = [(f"acct_{n % 8}", event(n % 8, n)) for n in range(400)]  # customer 7 has no destination
        events[200:200] = [("acct_1", b"poison"), ("acct_1", event(1, 1000, payload={"blob": "x" * 1_100_000}))]
        async with running(settings, destinations) as worker:
            await produce(settings, events)
            await until(lambda: everything_is_committed(settings))
            ledger = worker.worker.ledger
        logged = Counter(
            json.loads(value or b"")["status"] for _, value, _ in read_all(settings, settings.topics.attempts)
        )
        dead = len(read_all(settings, settings.topics.dlq))
        moved = sum(len(read_all(settings, topic)) for topic in settings.topics.retry)
        assert ledger.delivered == len(bus.arrivals) == logged["delivered"] > 0
        assert ledger.dead_lettered == dead == logged["dead_lettered"] == 50 + 4
        assert ledger.skipped == logged["skipped"] == 50 * 3
        assert ledger.moved_to_retry == moved
        first_hand = 402 + 50  # a second destination for the events of customer 5
        assert ledger.delivered + ledger.dead_lettered + ledger.skipped == first_hand
        assert ledger.begun == first_hand + moved > first_hand
        assert (ledger.in_flight, ledger.dropped) == (0, 0)


def everything_is_committed(settings: Settings) -> bool:
    retries = settings.topics.retry
    return committed(settings) == ends(settings, settings.topics.events) and all(
        committed(settings, topic) == ends(settings, topic) for topic in retries
    )


async def test_accepted_limits_are_enforced(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running worker reads every key that an operator may set."""
    role = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOURS000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "our-secret")
    async with outside(embedded_broker, registry={"path": str(SHIPPED)}) as (bus, settings):
        bus.add_key("AKIAOURS000000000000", "our-secret", buses=[])
        bus.add_role(role, external_id="acme-ext-7Pq2")
        asked = set[str]()

        def note(model: Any, name: str) -> Any:
            value = object.__getattribute__(model, name)
            if name in type(model).model_fields:
                asked.add(f"{type(model).__name__}.{name}")
            return value

        for kind in {Settings, *(type(section) for _, section in settings if isinstance(section, BaseModel))}:
            monkeypatch.setattr(kind, "__getattribute__", note)
        async with open_registry(settings, {}) as (catalog, updater):
            await updater.load(lambda _: None)
            async with running(settings, catalog) as worker:
                assert len(catalog) == 1
                # The first sign-in reads the settings of STS.
                await produce(settings, [("acct_8K2zRq", example_event())])
                await worker.settled(1)
        monkeypatch.undo()
        assert set(_keys(settings, asked)) == NOT_ENFORCED_YET


def _keys(settings: Settings, asked: set[str]) -> Iterator[str]:
    """The keys of the settings that no code has read."""
    for name, section in settings:
        if not isinstance(section, BaseModel):
            if f"Settings.{name}" not in asked:
                yield name
            continue
        yield from (f"{name}.{key}" for key, _ in section if f"{type(section).__name__}.{key}" not in asked)


@pytest.mark.parametrize("most", [1, 3])
async def test_call_limits_bound_a_call(embedded_broker: EmbeddedBroker, most: int) -> None:
    decoded = decode(event(0, 100), (), "acme")
    assert isinstance(decoded, Event)
    size = entry_size(decoded, with_access_key(0))
    for delivery in ({"max_entries": most}, {"max_request_bytes": most * size}):
        async with outside(embedded_broker, delivery=delivery) as (bus, settings):
            async with running(settings, [with_access_key(0)]) as worker:
                await produce(settings, (("acct_0", event(0, 100 + n)) for n in range(60)))
                await worker.settled(60)
            assert max(call.entries for call in bus.calls) == most


@pytest.mark.parametrize("most", [1, 3])
async def test_calls_in_flight_are_bounded(embedded_broker: EmbeddedBroker, most: int) -> None:
    async with outside(embedded_broker) as (bus, settings):
        bus.set_plan([Rule(Latency(LATENCY_SECS), Match(operation="PutEvents"))])
        async with running(settings, [with_access_key(0, limits=Limits(max_in_flight=most))]) as worker:
            await produce(settings, (("acct_0", event(0, n)) for n in range(100)))
            await worker.settled(100)
        assert max_in_flight(bus) == most
