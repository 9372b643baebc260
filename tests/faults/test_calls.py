"""Traps about a PutEvents call: what it carries, what becomes of each entry, and what happens beside it."""

from __future__ import annotations

import pytest

from pushrail_stream.core.destination import Limits
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Latency, Match, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import event, with_access_key
from tests.support.workers import (
    LATENCY_SECS,
    PATIENT,
    attempts,
    committed,
    ends,
    letters,
    max_in_flight,
    outside,
    produce,
    running,
)

pytestmark = pytest.mark.kafka


def of(key: int) -> Match:
    """This event of the first customer, or the call that carries it."""
    return Match(operation="PutEvents", detail_contains=(f'"key-{key}"',))


def arrived(bus: FaultBus) -> list[bytes]:
    return sorted(arrival.detail.encode() for arrival in bus.arrivals)


async def test_a_temporary_entry_error_is_repeated(embedded_broker: EmbeddedBroker) -> None:
    events = [event(0, n) for n in range(10)]
    async with outside(embedded_broker, delivery=PATIENT) as (bus, settings):
        bus.set_plan([
            Rule(EntryError("ThrottlingException", "slow down"), of(3), Times(1)),
            Rule(EntryError("MalformedDetail", "Detail is malformed."), of(7)),
        ])  # fmt: skip
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, (("acct_0", value) for value in events))
            await worker.settled(10)
            assert attempts(worker) == {f"key-{n}": 2 if n == 3 else 1 for n in range(10)}
        assert [call.entries for call in bus.calls] == [10, 1], "the throttled one alone is sent again"
        assert arrived(bus) == sorted(value for value in events if value != events[7])
        assert letters(settings) == [(events[7], "rejected", "MalformedDetail")]
        assert committed(settings) == ends(settings, settings.topics.events)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (CallError(413, body="html"), "413"),
        (CallError(400, "ValidationException", "Total size of the entries in the request is over the limit."), None),
    ],
    ids=["413", "ValidationException"],
)
async def test_a_refused_call_rejects_only_one_entry(
    embedded_broker: EmbeddedBroker, refusal: CallError, code: str | None
) -> None:
    events = [event(0, n) for n in range(10)]
    async with outside(embedded_broker, delivery=PATIENT) as (bus, settings):
        bus.set_plan([Rule(refusal, of(4))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, (("acct_0", value) for value in events))
            await worker.settled(10)
        assert sorted(call.entries for call in bus.calls) == [1] * 10 + [10], "once together, then each alone, once"
        assert arrived(bus) == sorted(value for value in events if value != events[4])
        assert letters(settings) == [(events[4], "rejected", code or refusal.code)]
        assert committed(settings) == ends(settings, settings.topics.events)


async def test_an_oversized_event_leaves_its_batch(embedded_broker: EmbeddedBroker) -> None:
    events = [event(0, n, payload={"blob": "x" * (1_100_000 if n == 4 else 10)}) for n in range(11)]
    async with outside(embedded_broker, delivery=PATIENT) as (bus, settings):
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, (("acct_0", value) for value in events))
            await worker.settled(11)
        assert [call.entries for call in bus.calls] == [10], "what cannot be taken is not sent at all"
        assert arrived(bus) == sorted(value for value in events if value != events[4])
        assert letters(settings) == [(events[4], "oversize", "EntryTooLarge")]


async def test_a_detail_type_over_128_is_refused(embedded_broker: EmbeddedBroker) -> None:
    too_long, longest, wide = (event(0, n, eventType=kind) for n, kind in enumerate(["t" * 129, "t" * 128, "ü" * 128]))
    async with outside(embedded_broker) as (bus, settings):
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, (("acct_0", value) for value in (too_long, longest, wide)))
            await worker.settled(3)
        assert bus.counts()["discarded"] == 0
        assert arrived(bus) == sorted([longest, wide])
        assert letters(settings) == [(too_long, "undecodable", "eventType")]


async def test_no_pause_follows_a_call(embedded_broker: EmbeddedBroker) -> None:
    """One call after the other is worth 100 calls a second at a round trip of 10 ms, however fast the rest is."""
    async with outside(embedded_broker) as (bus, settings):
        bus.set_plan([Rule(Latency(LATENCY_SECS), Match(operation="PutEvents"))])
        async with running(settings, [with_access_key(0, limits=Limits(max_in_flight=8))]) as worker:
            await produce(settings, (("acct_0", event(0, n)) for n in range(400)))
            await worker.settled(400)
        assert max_in_flight(bus) == 8
