"""Formats of producers' records on a real Kafka: worker and commands read them, or name what they do not read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pushrail_stream.core.headers import producer_headers
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import EventsSettings, Settings
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.replay_world import settled
from tests.support.workers import make_topics, open_bus, read_all, settings_for

pytestmark = pytest.mark.kafka

Sent = tuple[bytes, list[tuple[str, str | bytes | None]]]
"""Value and headers."""
FRAME = b"\0\0\0\0\x07"
AVRO = FRAME + b"\x1eorder.completed"


def cloudevent(number: int, *, as_binary: bool, customer: str = "acct_0") -> Sent:
    attributes = {
        "specversion": "1.0",
        "id": str(number),
        "source": "shop",
        "type": "order.completed",
        "time": "2026-05-26T14:21:08Z",
        "customerexternalid": customer,
    }
    if as_binary:
        return b'{ "n": %d.0 }' % number, [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    head = json.dumps(attributes).encode()
    return head[:-1] + b', "data": { "n": %d.0 }}' % number, [("content-type", b"application/cloudevents+json")]


def send_all(settings: Settings, sent: list[Sent]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "log_level": 0,
            "message.max.bytes": 2_000_000,
            "compression.type": "lz4",
        }
    )
    for value, headers in sent:
        producer.produce(settings.topics.events, value, "acct_0", headers=headers)
    assert producer.flush(60) == 0


def dead(settings: Settings) -> dict[bytes | None, str]:
    return {value: said["pushrail-error-message"] for _, value, said in read_all(settings, settings.topics.dlq)}


async def test_cloudevents_go_through_the_worker_and_the_commands(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(
            real_kafka, bus.url, tiers=(1,), delivery={"flush_ms": 20}, events={"format": "cloudevents"}
        )
        make_topics(settings)
        open_bus(bus, range(2))
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0, event_types=("order.*",)), with_access_key(1, enabled=False)])
        good = [cloudevent(n, as_binary=n % 2 == 0) for n in range(20)]
        skipped = [cloudevent(n, as_binary=True, customer="acct_1") for n in range(3)]
        bad = cloudevent(99, as_binary=True, customer="")
        await asyncio.to_thread(
            send_all, settings, [*good, *skipped, bad, (event(0, 7, eventType="order.paid"), []), (AVRO, [])]
        )
        async with desk.working():
            await settled(settings, 2)
            arrived = {json.loads(one.detail)["idempotencyKey"]: one for one in bus.arrivals}
            assert set(arrived) == {"key-7", *(f"shop {n}" for n in range(20))}
            for n in range(20):
                assert f'"payload":{{ "n": {n}.0 }}' in arrived[f"shop {n}"].detail, "data are untouched"
                assert arrived[f"shop {n}"].resources == ("acct_0", f"shop {n}")
            bus.clear()
            told = await desk.ask("replay", "events", "--since", "1h", "--customer", "acct_0", "--yes")
            assert told["sent"] == 21
            await bus.wait_for_arrivals(21)
            assert {json.loads(one.detail)["idempotencyKey"] for one in bus.arrivals} == set(arrived)
            await settled(settings, 2)
        assert dead(settings) == {
            bad[0]: "customerexternalid: has 0 characters, not 1 to 256",
            AVRO: "value: is not one JSON object in UTF-8: Confluent framing, schema id 7, Avro",
        }
        told = await desk.ask("check", "--since", "1h")
        assert (told["events"], told["deliveries"]["delivered"], told["deliveries"]["skipped"]) == (26, 21, 3)
        assert told["missing"] == []


async def test_the_events_behind_a_schema_id_arrive_byte_for_byte(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, tiers=(1,), events={"format": "confluent_json"})
        make_topics(settings)
        open_bus(bus, [0])
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        values = [event(0, n) for n in range(20)]
        # The producer's headers, and its value with the prefix, are in the dead letter and in what is sent again.
        large = FRAME + event(0, 50, payload={"blob": "x" * 1_100_000})
        await asyncio.to_thread(
            send_all, settings, [*((FRAME + value, []) for value in values), (large, [("trace", b"1")]), (AVRO, [])]
        )
        async with desk.working():
            await settled(settings, 2)
        assert sorted(one.detail.encode() for one in bus.arrivals) == sorted(values)
        found = {value: said for _, value, said in read_all(settings, settings.topics.dlq)}
        assert {value: said["pushrail-reason"] for value, said in found.items()} == {
            large: "oversize",
            AVRO: "undecodable",
        }
        assert producer_headers(tuple((n, v.encode()) for n, v in found[large].items())) == (("trace", b"1"),)
        shown = await desk.lines("dlq", "show", "--reason", "oversize")
        assert shown[0]["event"]["idempotencyKey"] == "key-50"


async def test_a_format_that_is_not_set_is_named_and_read_after_the_setting_was_changed(
    real_kafka: str, tmp_path: Path
) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, tiers=(1,))
        make_topics(settings)
        open_bus(bus, [0])
        desk = Desk(tmp_path, settings)
        structured, binary = (cloudevent(n, as_binary=n == 1) for n in range(2))
        await asyncio.to_thread(send_all, settings, [structured, binary, (FRAME + event(0, 1), []), (AVRO, [])])
        async with desk.working():
            await settled(settings, 4)
        assert dead(settings) == {
            structured[0]: "value: is a CloudEvent in structured mode (events.format: cloudevents reads it)",
            binary[0]: "value: is a CloudEvent in binary mode (events.format: cloudevents reads it)",
            FRAME + event(0, 1): "value: is not one JSON object in UTF-8: Confluent framing, schema id 7, "
            "JSON (events.format: confluent_json reads it)",
            AVRO: "value: is not one JSON object in UTF-8: Confluent framing, schema id 7, Avro",
        }
        changed = settings.model_copy(update={"events": EventsSettings(format="cloudevents")})
        (tmp_path / "changed").mkdir()
        desk = Desk(tmp_path / "changed", changed)
        desk.put([with_access_key(0)])
        async with desk.working():
            told = await desk.ask("replay", "dlq", "--reason", "undecodable")
            assert (told["sent"], told["leftOut"]) == (2, {"cannot be decoded": 2})
            await bus.wait_for_arrivals(2)
        assert {json.loads(one.detail)["idempotencyKey"] for one in bus.arrivals} == {"shop 0", "shop 1"}
