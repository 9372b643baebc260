"""Partitions that a topic gets while workers run."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from pushrail_stream.kafka.client_properties import checked_kafka, copies_producer
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import Settings
from tests.kafka.test_client_properties import clients_of
from tests.support.builders import event, with_access_key
from tests.support.kafka.librdkafka import read_back
from tests.support.workers import PARTITIONS, ends, make_topics, open_bus, produce, running, settings_for

pytestmark = pytest.mark.kafka
REFRESH: Final = "topic.metadata.refresh.interval.ms"
READ_WITHIN_MS: Final = 30_000


def test_every_client_finds_new_partitions() -> None:
    for role, kind, properties in clients_of(checked_kafka(Settings())):
        assert int(read_back(kind, properties).values[REFRESH]) <= READ_WITHIN_MS / 2, role


def grow(bootstrap: str, topic: str, partitions: int) -> None:
    """Give a topic partitions, and return when a broker tells of them."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)
    while len(admin.list_topics(topic, timeout=20).topics[topic].partitions) < partitions:
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_partition_that_is_added_is_read(protocol: str, real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        client = {"group_protocol": protocol, "client": ClientProperties({REFRESH: 500})}
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update=client)})
        make_topics(settings)
        open_bus(bus, [0])
        topic = settings.topics.events
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
            added = range(PARTITIONS, PARTITIONS + 5)
            await asyncio.to_thread(grow, real_kafka, topic, added.stop)
            producer = Producer(copies_producer(checked_kafka(settings)))
            for number in added:
                producer.produce(topic, event(0, number), "acct_0", number)
            assert await asyncio.to_thread(producer.flush, 20) == 0
            await worker.settled(1 + len(added))
            assert {arrival.resources[1] for arrival in bus.arrivals} == {"key-1", *(f"key-{n}" for n in added)}
            assert {p: offset for p, offset in ends(settings, topic).items() if p in added} == dict.fromkeys(added, 1)
