"""Partner event sources beside classic buses: full calls, signed by us, and what fails for our fault waits."""

from __future__ import annotations

import pytest

from pushrail_stream.core.signals import Attempted
from pushrail_stream.eventbridge.error_codes import OWN_IDENTITY_DENIED
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Match, Probability, ResetBefore, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import event, partner_bus_arn, partner_destination, with_access_key
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
PARTNERS = range(2)
CLASSIC = 2
OUR_KEY = ("AKIABASE000000000000", "base-secret")


@pytest.fixture(autouse=True)
def _our_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OUR_KEY[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OUR_KEY[1])


async def test_partner_event_sources_get_all_events(kafka_bootstrap: str, embedded_broker: EmbeddedBroker) -> None:
    per_customer = 100
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka_bootstrap, bus.url, delivery=PATIENT)
        make_topics(settings, embedded_broker if kafka_bootstrap == embedded_broker.bootstrap_servers else None)
        open_bus(bus, [CLASSIC])
        bus.add_key(*OUR_KEY)
        for customer in PARTNERS:
            bus.add_bus(partner_bus_arn(customer))
        bus.set_plan(
            [
                Rule(ResetBefore(), Match(operation="PutPartnerEvents", bus=partner_bus_arn(0)), Times(2)),
                Rule(CallError(400, "ThrottlingException", "slow"), Match(bus=partner_bus_arn(1)), Times(1)),
                Rule(CallError(400, "AccessDeniedException", "not yet"), Match(bus=partner_bus_arn(1)), Times(2)),
                Rule(EntryError("InternalFailure"), Match(bus=partner_bus_arn(1)), Probability(0.1)),
            ]
        )
        values = [event(n % 3, n) for n in range(3 * per_customer)]
        destinations = [*map(partner_destination, PARTNERS), with_access_key(CLASSIC)]
        await produce(settings, [(f"acct_{n % 3}", value) for n, value in enumerate(values)])
        async with running(settings, destinations) as worker:
            await worker.settled(len(values))
            attempts = [signal for signal in worker.signals if isinstance(signal, Attempted)]
        assert sorted(arrival.detail.encode() for arrival in bus.arrivals) == sorted(values), "each once"
        assert {arrival.access_key for arrival in bus.arrivals if arrival.source.startswith("aws.")} == {OUR_KEY[0]}
        assert {arrival.access_key for arrival in bus.arrivals if not arrival.source.startswith("aws.")} != {OUR_KEY[0]}
        sizes = {(signal.destination.id, len(signal.entries)) for signal in attempts}
        assert ("dst_0", 20) in sizes
        assert max(size for name, size in sizes if name == "dst_2") == 10
        assert letters(settings) == []
        assert OWN_IDENTITY_DENIED in repr(attempts), "our denial was met, and nothing became a dead letter"
        assert sum(committed(settings).values()) == len(values)
