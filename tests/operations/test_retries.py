"""A bus is back: its backlog is delivered at once, nothing twice, and the copies of others keep their time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.signals import Attempted, Membership
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.fleet import read_fleet
from pushrail_stream.operations.retries import list_waiting, retry_now
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.workers import Watched, outside, produce, running, settings_for, until

EVENTS = 200
DELIVERY = {"hold_secs": 1, "flush_ms": 20, "backoff_cap_secs": 0.3}
DOWN = CallError(503, "InternalException", "down")


def failing(customer: int) -> Rule:
    return Rule(DOWN, Match(operation="PutEvents", bus=bus_arn(customer)))


async def waiting(settings: Settings) -> dict[str, int]:
    """Copies that wait, by destination."""
    found = await asyncio.to_thread(list_waiting, settings, ProgressBar(quiet=True))
    assert all(one.last_due_ms - one.oldest_ms > 500_000 for one in found)
    assert {one.reason for one in found} <= {"retryable", "held"}
    assert all(sum(one.topics.values()) == one.count for one in found)
    return dict(sum((Counter({one.destination: one.count}) for one in found), Counter[str]()))


async def ready(settings: Settings, worker: Watched) -> None:
    """Wait until the worker has the partitions of the retry topic, and can be asked."""
    await worker.until(lambda: Membership(f"{settings.kafka.group_id}.retry", active=True) in worker.signals)
    await until(lambda: bool(read_fleet(settings).alive))


def attempts_of(worker: Watched, customer: int) -> int:
    return sum(
        len(signal.deliveries)
        for signal in worker.signals
        if isinstance(signal, Attempted) and signal.destination.id == f"dst_{customer}"
    )


@pytest.mark.kafka
async def test_a_backlog_is_delivered_at_once(real_kafka: str) -> None:
    async with outside(real_kafka, 2, tiers=(600,), delivery=DELIVERY) as (bus, settings):
        bus.set_plan([failing(0), failing(1)])
        destinations = [with_access_key(0), with_access_key(1)]
        # One key: the copies of both lie in one partition, one after the other, and the other's is the first.
        records = [("one", event((n + 1) % 2, n)) for n in range(2 * EVENTS)]
        async with running(settings, destinations) as worker:
            await produce(settings, records)
            await worker.until(lambda: worker.worker.ledger.moved_to_retry == 2 * EVENTS)
            await ready(settings, worker)
            assert await waiting(settings) == {"dst_0": EVENTS, "dst_1": EVENTS}

            bus.set_plan([failing(1)])
            made = attempts_of(worker, 1)
            [answer] = await asyncio.to_thread(retry_now, settings, "dst_0")
            assert (answer.begun, answer.kept, answer.problem) == (EVENTS, 0, "")
            await worker.until(lambda: worker.worker.ledger.delivered == EVENTS)
            assert attempts_of(worker, 1) == made, "the copies of others keep their time"
            [again] = await asyncio.to_thread(retry_now, settings, "dst_0")
            assert (again.begun, again.problem) == (0, ""), "nothing is left"
        assert await waiting(settings) == {"dst_1": EVENTS}
        async with running(settings, destinations) as successor:
            bus.set_plan([])
            await until(lambda: bool(read_fleet(settings).alive))
            begun = 0
            while begun < EVENTS:  # its partitions come a little later
                [answer] = await asyncio.to_thread(retry_now, settings, "dst_1")
                begun += answer.begun
            [answer] = await asyncio.to_thread(retry_now, settings, "dst_0")
            assert answer.begun == 0, "the commit says which copies were delivered"
            await successor.settled(EVENTS)
        assert await waiting(settings) == {}
        arrived = Counter(arrival.detail.encode() for arrival in bus.arrivals)
        assert arrived == Counter(value for _, value in records), "all of them, and nothing twice"


@pytest.mark.kafka
async def test_a_bus_that_is_not_back_keeps_its_backlog(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.pipeline.retry_now._SILENT_SECS", 2.0)
    async with outside(real_kafka, tiers=(600,), delivery=DELIVERY) as (bus, settings):
        bus.set_plan([failing(0)])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("one", event(0, n)) for n in range(20)])
            await worker.until(lambda: worker.worker.ledger.moved_to_retry == 20)
            await ready(settings, worker)
            with pytest.raises(OperatorError, match="dst_9: there is no such destination"):
                await asyncio.to_thread(retry_now, settings, "dst_9")
            with pytest.raises(OperatorError, match="no delivery for 2 s"):
                await asyncio.to_thread(retry_now, settings, "dst_0")
            await worker.until(lambda: worker.worker.ledger.in_flight == 0)
        assert await waiting(settings) == {"dst_0": 20}


@pytest.mark.parametrize("destination", ["", "d" * 200, "\udcff", "\x1b[31md"])
def test_no_worker_is_asked_about_a_text_that_is_no_id(destination: str) -> None:
    with pytest.raises(UsageError, match="--destination: must be 1 to 64 letters"):
        retry_now(settings_for("127.0.0.1:1", "http://127.0.0.1:1"), destination)
