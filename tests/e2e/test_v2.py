"""Buses of eventbridgev2 beside classic ones: full calls to each, and what is sent again arrives once."""

from __future__ import annotations

import pytest

from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.core.signals import Attempted
from pushrail_stream.eventbridge.error_codes import BUS_KEY_DENIED
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Match, Probability, ResetAfter, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import event, v2_bus_arn, with_access_key
from tests.support.workers import (
    PATIENT,
    committed,
    letters,
    make_topics,
    open_bus,
    produce,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka
V2_CUSTOMERS = range(2)
CLASSIC = 2


def on_v2(customer: int) -> dict[str, str]:
    return {"type": "EVENTBRIDGE_V2", "bus": v2_bus_arn(customer)}


async def test_each_bus_gets_full_calls_and_repeats_arrive_once(
    kafka_bootstrap: str, embedded_broker: EmbeddedBroker
) -> None:
    per_customer = 200
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka_bootstrap, bus.url, delivery=PATIENT)
        make_topics(settings, embedded_broker if kafka_bootstrap == embedded_broker.bootstrap_servers else None)
        open_bus(bus, [CLASSIC])
        for customer in V2_CUSTOMERS:
            bus.add_bus(v2_bus_arn(customer))
        bus.set_plan(
            [
                Rule(ResetAfter(), Match(operation="PutEvents", bus=v2_bus_arn(0)), Times(2)),
                Rule(CallError(429, "ThrottlingException", "slow"), Match(bus=v2_bus_arn(1)), Times(1)),
                Rule(CallError(409, "InvalidStateException", "soon"), Match(bus=v2_bus_arn(1)), Times(1)),
                Rule(EntryError("InternalException"), Match(bus=v2_bus_arn(1)), Probability(0.1)),
            ]
        )
        values = [event(n % 3, n) for n in range(3 * per_customer)]
        destinations = [*(with_access_key(n, **on_v2(n)) for n in V2_CUSTOMERS), with_access_key(CLASSIC)]
        await produce(settings, [(f"acct_{n % 3}", value) for n, value in enumerate(values)])
        async with running(settings, destinations) as worker:
            await worker.settled(len(values))
            sizes = {
                (signal.destination.id, len(signal.entries))
                for signal in worker.signals
                if isinstance(signal, Attempted)
            }
        assert sorted(arrival.detail.encode() for arrival in bus.arrivals) == sorted(values), "each once"
        assert bus.counts()["deduplicated"] >= 100
        assert {("dst_0", 100), ("dst_2", 10)} <= sizes
        assert max(size for destination, size in sizes if destination == "dst_2") == 10
        assert letters(settings) == []
        assert sum(committed(settings).values()) == len(values)


async def test_a_missing_bus_and_a_denied_key_become_dead_letters(
    kafka_bootstrap: str, embedded_broker: EmbeddedBroker
) -> None:
    denied = "KMS_ACCESS_DENIED: the key of the bus cannot be used"
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka_bootstrap, bus.url)
        make_topics(settings, embedded_broker if kafka_bootstrap == embedded_broker.bootstrap_servers else None)
        open_bus(bus, [])
        bus.add_bus(v2_bus_arn(1))
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", denied), Match(bus=v2_bus_arn(1)))])
        missing, locked = event(0, 0), event(1, 1)
        await produce(settings, [("acct_0", missing), ("acct_1", locked)])
        async with running(settings, [with_access_key(n, **on_v2(n)) for n in V2_CUSTOMERS]) as worker:
            await worker.settled(2)
        assert set(letters(settings)) == {(missing, "blocked", BUS_NOT_FOUND), (locked, "blocked", BUS_KEY_DENIED)}
        assert bus.arrivals == []
        assert bus.counts()["describeEventBus"] == 0
