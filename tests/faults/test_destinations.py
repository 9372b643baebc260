"""Traps about destinations: one that is broken, blocked, switched off or gone is nobody else's trouble."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter

import pytest

from pushrail_stream.core.signals import Suspended
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, Match, ResetAfter, Rule, Times
from pushrail_stream.settings.event_filter import EventFilter
from pushrail_stream.settings.eventbridge import AssumeRole
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.workers import letters, outside, produce, read_all, running

pytestmark = pytest.mark.kafka
ROLE = "arn:aws:iam::123456789012:role/Gone"
DENIED = Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(0)))
QUICK = {"hold_secs": 1, "flush_ms": 20}


async def test_a_permanent_error_stops_no_worker(embedded_broker: EmbeddedBroker) -> None:
    """One customer's permissions are gone for good: every other customer goes on, and so does the worker."""
    async with outside(embedded_broker, customers=5) as (bus, settings):
        bus.set_plan([DENIED])
        async with running(settings, [with_access_key(n) for n in range(5)]) as worker:
            await produce(settings, [(f"acct_{n % 5}", event(n % 5, n)) for n in range(500)])
            await worker.settled(500)
            await produce(settings, [("acct_1", event(1, 1000))])
            await worker.settled(501)
        assert len(bus.arrivals) == 401
        assert {reason for _, reason, _ in letters(settings)} <= {"blocked", "suspended"}


async def test_bad_credentials_abort_no_events(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that cannot be assumed: every event is a dead letter that says so, and STS is seldom asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key("AKIABASE000000000000", "base-secret")
        began = asyncio.get_running_loop().time()
        async with running(settings, [with_access_key(0, auth=AssumeRole(ROLE, "ext"))]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(200)])
            await worker.settled(200)
        dead = letters(settings)
        assert {value for value, _, _ in dead} == {event(0, n) for n in range(200)}
        assert {reason for _, reason, _ in dead} == {"blocked", "suspended"}
        # Once, where the machine is quick; each time STS is left alone for twice as long.
        passed = asyncio.get_running_loop().time() - began
        assert 1 <= len(bus.assumed) <= 1 + sum(passed >= secs for secs in itertools.accumulate([1, 2, 4, 8, 15, 15]))


async def test_cloud_events_are_equal_each_time(embedded_broker: EmbeddedBroker) -> None:
    """A call whose reply is lost is made again with the same CloudEvents; the customer's other bus gets the events."""
    async with outside(embedded_broker, customers=2) as (bus, settings):
        bus.set_plan([Rule(ResetAfter(), Match(operation="PutEvents", bus=bus_arn(0)), Times(1))])
        both = [with_access_key(0, detail_format="cloudevents"), with_access_key(0, id="dst_plain", bus=bus_arn(1))]
        async with running(settings, both) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(5)])
            await worker.settled(10)
        details = Counter(one.detail for one in bus.arrivals if one.bus_arn == bus_arn(0))
        assert max(details.values()) == 2
        assert {json.loads(detail)["id"]: json.loads(detail)["data"] for detail in details} == {
            f"key-{n}": json.loads(event(0, n))["payload"] for n in range(5)
        }
        assert len(details) == 5
        assert {one.detail.encode() for one in bus.arrivals if one.bus_arn == bus_arn(1)} == {
            event(0, n) for n in range(5)
        }


async def test_a_filter_chooses_events_by_content(embedded_broker: EmbeddedBroker) -> None:
    """Events that a destination's pattern leaves out are recorded as skipped; a retried one is not filtered again."""
    async with outside(embedded_broker) as (bus, settings):
        bus.set_plan([Rule(CallError(503), Match(operation="PutEvents"), Times(1))])
        pattern = {"detail": {"payload": {"number": [{"numeric": [">=", 7]}]}}}
        picky = with_access_key(0)
        chosen = EventFilter(pattern, bus_arn=picky.bus.arn, source=picky.source, detail_format="canonical")
        async with running(settings, [with_access_key(0, filter=chosen)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(10)])
            await worker.settled(10)
        assert sorted(one.detail.encode() for one in bus.arrivals) == [event(0, n) for n in (7, 8, 9)]
        said = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
        skipped = {one["idempotencyKey"] for one in said if one.get("reason") == "filtered"}
        assert skipped == {f"key-{n}" for n in range(7)}


async def test_a_suspension_spends_no_attempts(embedded_broker: EmbeddedBroker) -> None:
    """While a destination is suspended nothing is called, and no delivery counts an attempt for it."""
    async with outside(embedded_broker) as (bus, settings):
        bus.set_plan([DENIED])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(200)])
            await worker.settled(200)
            assert len([signal for signal in worker.signals if isinstance(signal, Suspended)]) == 1
            # New deliveries are refused on arrival; deliveries in flight or in the lane are refused there.
            await produce(settings, [("acct_0", event(0, n)) for n in range(200, 250)])
            await worker.settled(250)
            assert worker.worker.ledger.moved_to_retry == 0
        said = [headers for _, _, headers in read_all(settings, settings.topics.dlq)]
        attempts = Counter((one["pushrail-reason"], one["pushrail-attempts"]) for one in said)
        assert attempts.keys() == {("blocked", "1"), ("suspended", "0")}
        assert sum(call.entries for call in bus.calls) == attempts["blocked", "1"]


async def test_events_of_a_disabled_one_are_skipped(embedded_broker: EmbeddedBroker) -> None:
    """They are recorded, one by one, so that they can be delivered again."""
    async with outside(embedded_broker) as (bus, settings):
        async with running(settings, [with_access_key(0, enabled=False)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(3)])
            await worker.settled(3)
        records = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
        assert {(r["status"], r["reason"], r["destinationId"], r["idempotencyKey"]) for r in records} == {
            ("skipped", "disabled", "dst_0", f"key-{n}") for n in range(3)
        }
        assert not bus.arrivals


async def test_a_deleted_destination_ends_its_retries(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker, tiers=(1,), delivery=QUICK) as (bus, settings):
        bus.set_plan([Rule(CallError(500, "InternalFailure", "no"), Match(operation="PutEvents"))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 0))])
            await worker.until(lambda: worker.worker.ledger.moved_to_retry >= 1)
        async with running(settings, []) as worker:
            await worker.until(lambda: worker.worker.ledger.skipped == 1)
        said = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
        assert [r["status"] for r in said if r.get("reason") == "deleted"] == ["skipped"]
        assert not letters(settings)
