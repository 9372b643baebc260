from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Attempted, Backpressure, PartitionsAssigned, RecordsTrimmed
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Hang, Match, Probability, ResetAfter, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.workers import (
    Watched,
    committed,
    ends,
    make_topics,
    open_bus,
    outside,
    produce,
    read_all,
    running,
    settings_for,
    until,
)

pytestmark = pytest.mark.kafka
EXAMPLE = Path(__file__).parent.parent / "fixtures" / "example-event.json"


async def test_events_arrive_byte_for_byte(kafka_bootstrap: str, embedded_broker: EmbeddedBroker) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka_bootstrap, bus.url)
        make_topics(settings, embedded_broker if kafka_bootstrap == embedded_broker.bootstrap_servers else None)
        open_bus(bus, range(5))
        example = EXAMPLE.read_bytes()
        seed = with_access_key(0, customer_external_id="acct_8K2zRq")
        values = [example, *(event(1 + n % 4, n) for n in range(200))]
        async with running(settings, [seed, *(with_access_key(n) for n in range(1, 5))]) as worker:
            await produce(settings, ((json.loads(v)["customerExternalId"], v) for v in values))
            await worker.settled(len(values))
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted(values)
        [sample] = [a for a in bus.arrivals if a.bus_arn == bus_arn(0)]
        assert sample.detail.encode() == example
        assert (sample.source, sample.detail_type) == ("pushrail.acme", "order.completed")
        assert sample.resources == ("acct_8K2zRq", "order_38a91f-completed")
        assert sample.time == 1779805268
        assert sum(committed(settings).values()) == len(values)


async def test_a_thousand_events_end_as_they_should(real_kafka: str) -> None:
    customers, events, forbidden, malformed = range(20), 1000, 7, {f"key-{n}" for n in range(100, 1000, 200)}
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        open_bus(bus, customers)
        bus.set_plan(
            [
                Rule(
                    CallError(400, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(forbidden))
                ),
                Rule(EntryError("MalformedDetail", "bad"), Match(detail_contains=tuple(f'"{k}"' for k in malformed))),
                Rule(EntryError("ThrottlingException", "slow"), when=Probability(0.01)),
                Rule(EntryError("InternalFailure", "oops"), when=Probability(0.01)),
            ]
        )
        garbage, huge = b"\xff not json", event(3, 5000, payload={"blob": "x" * 1_200_000})
        records = [(f"acct_{n % 20}", event(n % 20, n)) for n in range(events)]
        records[500:500] = [("acct_1", garbage), ("acct_3", huge)]
        async with running(settings, [with_access_key(n) for n in customers]) as worker:
            await produce(settings, records)
            await worker.settled(len(records))
            attempts = [signal for signal in worker.signals if isinstance(signal, Attempted)]

        letters = read_all(settings, settings.topics.dlq)
        dead = {(value, h["pushrail-reason"], h.get("pushrail-error-code")) for _, value, h in letters}
        assert len(dead) == len(letters), "every dead letter is there once"
        blocked = [v for _, v in records if b'"acct_7"' in v]
        rejected = [v for _, v in records if json_key(v) in malformed and b'"acct_7"' not in v]
        refused = {letter for letter in dead if letter[0] in blocked}
        assert {value for value, _, _ in refused} == set(blocked)
        assert {reason for _, reason, _ in refused} <= {"blocked", "suspended"}
        assert dead - refused == {
            (garbage, "undecodable", "value"),
            (huge, "oversize", "EntryTooLarge"),
            *((value, "rejected", "MalformedDetail") for value in rejected),
        }
        gone = {value for value, _, _ in dead}
        arrived = [a.detail.encode() for a in bus.arrivals]
        assert set(arrived) == {v for _, v in records} - gone
        assert len(arrived) == len(set(arrived)), "no entry that had succeeded was sent again"
        assert committed(settings) == ends(settings, settings.topics.events)
        retried = sum(entry.attempt > 1 for signal in attempts for entry in signal.entries)
        assert retried > 0, "the faults must have bitten"


def json_key(value: bytes) -> str | None:
    try:
        return str(json.loads(value)["idempotencyKey"])
    except ValueError:
        return None


async def test_dead_letters_carry_their_history(real_kafka: str) -> None:
    async with outside(real_kafka) as (bus, settings):
        bus.set_plan([Rule(EntryError("NotAuthorizedForSourceException", "not yours"))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
        [(key, value, headers)] = read_all(settings, settings.topics.dlq)
        assert (key, value) == (b"acct_0", event(0, 1))
        assert headers["pushrail-destination"] == "dst_0"
        assert headers["pushrail-origin"].startswith(f"{settings.topics.events}/")
        assert headers["pushrail-attempts"] == "1"
        assert headers["pushrail-reason"] == "blocked"
        assert headers["pushrail-error-code"] == "NotAuthorizedForSourceException"
        assert headers["pushrail-request-id"] == bus.calls[0].request_id
        assert headers["__connect.errors.topic"] == settings.topics.events
        records = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
        assert [(r["status"], r["reason"], r["attempt"]) for r in records] == [("dead_lettered", "blocked", 1)]


async def test_settled_events_are_not_sent_again(real_kafka: str) -> None:
    async with outside(real_kafka, 4, delivery={"hold_secs": 60}) as (bus, settings):
        bus.set_plan([Rule(CallError(503, "ServiceUnavailable"), Match(operation="PutEvents", bus=bus_arn(0)))])
        # All under one key: one partition, and its first event stays open.
        records = [("same", event(n % 4, n)) for n in range(100)]
        async with running(settings, [with_access_key(n) for n in range(4)]) as worker:
            await produce(settings, records)
            await worker.until(lambda: worker.worker.ledger.delivered == 75)
        assert sum(committed(settings).values()) == 0
        bus.set_plan([])
        async with running(settings, [with_access_key(n) for n in range(4)]) as worker:
            await worker.settled(25)
            assert worker.worker.ledger.begun == 25
        arrived = [a.detail.encode() for a in bus.arrivals]
        assert sorted(arrived) == sorted(value for _, value in records), "each exactly once"
        assert max(committed(settings).values()) == 100


def topics_of(worker: Watched) -> set[str]:
    """The topics of which the worker has been assigned a partition."""
    assigned = [signal for signal in worker.signals if isinstance(signal, PartitionsAssigned)]
    return {partition.topic for signal in assigned for partition, _ in signal.partitions}


async def test_a_second_worker_takes_over(real_kafka: str) -> None:
    async with outside(real_kafka, 6) as (bus, settings):
        first, second = ([(f"acct_{n % 6}", event(n % 6, n)) for n in part] for part in (range(600), range(600, 1200)))
        everyone = [with_access_key(n) for n in range(6)]
        async with running(settings, everyone) as one:
            await produce(settings, first)
            await one.settled(600)
            async with running(settings, everyone) as two:
                await two.until(lambda: settings.topics.events in topics_of(two))
                await produce(settings, second)
                # An event may come twice while a partition changes hands, so that arrivals do not tell the end.
                await until(lambda: sum(committed(settings).values()) == 1200)
        assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in [*first, *second]}
        assert two.worker.ledger.delivered > 0


async def test_interrupted_calls_are_repeated(real_kafka: str) -> None:
    async with outside(real_kafka, 2) as (bus, settings):
        bus.set_plan([
            Rule(ResetAfter(), Match(operation="PutEvents", bus=bus_arn(0)), when=Times(1)),
            Rule(Hang(), Match(operation="PutEvents", bus=bus_arn(1)), when=Times(1)),
        ])  # fmt: skip
        async with running(settings, [with_access_key(0), with_access_key(1)]) as worker:
            await produce(settings, [(f"acct_{n}", event(n, n)) for n in (0, 1)])
            await worker.settled(2)
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted([event(0, 0), event(0, 0), event(1, 1)])
        assert sum(committed(settings).values()) == 2


async def test_a_full_worker_pauses_and_goes_on(real_kafka: str) -> None:
    async with outside(real_kafka, limits={"max_buffered_events": 200}) as (bus, settings):
        bus.set_plan([Rule(CallError(503, "ServiceUnavailable"))])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(3000)])
            await worker.until(lambda: any(isinstance(s, Backpressure) for s in worker.signals))
            held = worker.worker.ledger.in_flight
            assert 200 <= held <= 200 + 500, "at most one hand-over beyond the limit"
            bus.set_plan([])
            await worker.settled(3000)
        assert {a.detail.encode() for a in bus.arrivals} == {event(0, n) for n in range(3000)}
        assert sum(committed(settings).values()) == 3000


async def test_events_lost_to_retention_are_reported(real_kafka: str) -> None:
    async with outside(real_kafka) as (bus, settings):
        read, gone, left = ([("same", event(0, n)) for n in part] for part in (range(3), range(3, 8), range(8, 10)))
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, read)
            await worker.settled(len(read))
        [number] = [number for number, offset in committed(settings).items() if offset]
        await produce(settings, [*gone, *left])
        remove_below(settings, number, len(read) + len(gone))
        async with running(settings, [with_access_key(0)]) as worker:
            await worker.settled(len(left))
            told = [signal for signal in worker.signals if isinstance(signal, RecordsTrimmed)]
        assert told == [RecordsTrimmed(Partition(settings.topics.events, number), len(read), len(read) + len(gone))]
        assert [a.detail.encode() for a in bus.arrivals] == [value for _, value in [*read, *left]]
        async with running(settings, [with_access_key(0)]) as worker:
            await worker.until(lambda: any(isinstance(signal, PartitionsAssigned) for signal in worker.signals))
            assert not any(isinstance(signal, RecordsTrimmed) for signal in worker.signals), "once"


def remove_below(settings: Settings, partition: int, offset: int) -> None:
    """Remove the oldest records, as retention does, at once."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    [removed] = admin.delete_records([TopicPartition(settings.topics.events, partition, offset)]).values()
    assert removed.result(30).low_watermark == offset


async def test_thousands_of_destinations_are_served(embedded_broker: EmbeddedBroker) -> None:
    """A few hundred at a time: the bus works in this process too, and each has a connection."""
    everyone, at_once = range(3_000), 300
    async with FaultBus.serve() as bus:
        settings = settings_for(embedded_broker.bootstrap_servers, bus.url, delivery={"flush_ms": 10})
        make_topics(settings, embedded_broker)
        open_bus(bus, everyone)
        async with running(settings, [with_access_key(n) for n in everyone]) as worker:
            for first in range(0, len(everyone), at_once):
                some = everyone[first : first + at_once]
                await produce(settings, ((f"acct_{n}", event(n, n)) for n in some))
                await worker.settled(some.stop)
            page = await asyncio.to_thread(scrape, worker.worker.http_port)
        assert Counter(a.bus_arn for a in bus.arrivals) == Counter(bus_arn(n) for n in everyone)
        assert "\npushrail_lanes 0.0\n" in page
        assert committed(settings) == ends(settings, settings.topics.events)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        return str(reply.read().decode())
