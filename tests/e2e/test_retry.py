"""Retry topics on a real Kafka: no broken bus holds back a partition's commit, and no delivery is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pushrail_stream.core.signals import Attempted, MovedToRetry, Resumed, Skipped, Suspended
from pushrail_stream.sandbox.bus.faults import CallError, Hang, Match, Rule
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    Watched,
    committed,
    ends,
    outside,
    produce,
    read_all,
    running,
)

pytestmark = pytest.mark.kafka
DELIVERY = {"hold_secs": 1, "flush_ms": 20}


async def until_committed(settings: Settings, worker: Watched) -> None:
    """Until the group has committed the whole events topic."""
    async with asyncio.timeout(PATIENCE_SECS):
        while await asyncio.to_thread(lambda: committed(settings) != ends(settings, settings.topics.events)):
            pass
    assert worker.worker.ledger.balances


async def test_a_hanging_bus_holds_no_commit(real_kafka: str) -> None:
    async with outside(real_kafka, 3, tiers=(1, 2), delivery=DELIVERY) as (bus, settings):
        bus.set_plan([Rule(Hang(), Match(operation="PutEvents", bus=bus_arn(0)))])
        records = [(f"acct_{n % 3}", event(n % 3, n)) for n in range(150)]
        async with running(settings, [with_access_key(n) for n in range(3)]) as worker:
            await produce(settings, records)
            await until_committed(settings, worker)
            moved = [signal.copy for signal in worker.signals if isinstance(signal, MovedToRetry)]
            assert {copy.destination_id for copy in moved} == {"dst_0"}, "the others do not notice"
            await worker.until(lambda: any(_tier(worker, 1)))
            bus.set_plan([])
            await worker.until(lambda: worker.worker.ledger.delivered == len(records))
        arrived = Counter(a.detail.encode() for a in bus.arrivals)
        assert set(arrived) == {value for _, value in records}
        assert not read_all(settings, settings.topics.dlq)
        for topic in settings.topics.retry:
            assert committed(settings, topic) == ends(settings, topic), "what came back is committed too"
        attempts = [e for s in worker.signals if isinstance(s, Attempted) for e in s.entries if e.trigger == "retry"]
        assert {entry.origin.topic for entry in attempts} == {settings.topics.events}, "the origin stays the event's"
        for _, value, said in read_all(settings, next(iter(settings.topics.retry))):
            assert value in arrived
            assert said["pushrail-destination"] == "dst_0"
            assert said["pushrail-origin"].startswith(f"{settings.topics.events}/")
            assert said["pushrail-reason"] in {"held", "retryable"}
            assert int(said["pushrail-not-before"]) > 0


def _tier(worker: Watched, index: int) -> list[MovedToRetry]:
    moved = [signal for signal in worker.signals if isinstance(signal, MovedToRetry)]
    topics = list(dict.fromkeys(signal.topic for signal in moved))
    return [signal for signal in moved if signal.topic in topics[index:]]


async def test_a_retry_without_destination_is_skipped(real_kafka: str) -> None:
    async with outside(real_kafka, 2, tiers=(1,), delivery=DELIVERY) as (bus, settings):
        bus.set_plan([Rule(CallError(500, "InternalFailure", "no"), Match(operation="PutEvents"))])
        async with running(settings, [with_access_key(0), with_access_key(1)]) as worker:
            await produce(settings, [("acct_0", event(0, 0)), ("acct_1", event(1, 1))])
            await worker.until(lambda: worker.worker.ledger.moved_to_retry >= 2)
        bus.set_plan([])
        async with running(settings, [with_access_key(1, enabled=False)]) as worker:
            await worker.until(lambda: worker.worker.ledger.skipped == 2)
            skipped = {(s.destination_id, s.reason, s.trigger) for s in worker.signals if isinstance(s, Skipped)}
        assert skipped == {("dst_0", "deleted", "retry"), ("dst_1", "disabled", "retry")}
        assert not bus.arrivals
        assert not read_all(settings, settings.topics.dlq)


async def test_a_blocking_destination_is_suspended(real_kafka: str) -> None:
    # On a busy machine, deliveries would move to a retry topic before the fifth refusal with a hold of 1 s.
    async with outside(real_kafka, 2, delivery=DELIVERY | {"hold_secs": 10}) as (bus, settings):
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", "no"), Match(bus=bus_arn(0)))])
        async with running(settings, [with_access_key(0), with_access_key(1)]) as worker:
            await produce(settings, ((f"acct_{n % 2}", event(n % 2, n)) for n in range(400)))
            await worker.settled(400)
            [suspended] = [signal for signal in worker.signals if isinstance(signal, Suspended)]
            assert (suspended.destination.id, suspended.probe_in_secs) == ("dst_0", 30)
            refused = [s for s in worker.signals if isinstance(s, Attempted) and s.destination.id == "dst_0"]
            assert 5 <= len(refused) <= 5 + 8, "what was in flight already, and no more"
            assert not any(isinstance(signal, Resumed) for signal in worker.signals)
        letters = read_all(settings, settings.topics.dlq)
        assert len(letters) == 200
        reasons = Counter(said["pushrail-reason"] for _, _, said in letters)
        assert set(reasons) == {"blocked", "suspended"}
        unsent = {said["pushrail-attempts"] for _, _, said in letters if said["pushrail-reason"] == "suspended"}
        assert unsent == {"0"}, "a refusal is no attempt"
        assert len(bus.arrivals) == 200
