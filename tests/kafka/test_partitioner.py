"""The partition of a key: ours and that of Java's clients."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer

from pushrail_stream.kafka.client_properties import copies_producer
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.producer import KafkaLog, KafkaPublisher
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.ports.kafka import ProducerRecord
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka import distribution
from tests.support.kafka.local import java_command
from tests.support.kafka.topics import fresh_topic

PARTITIONS: Final = 12
MURMUR2: Final = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Hashes of keys as Apache Kafka's own test has them (org.apache.kafka.common.utils.UtilsTest.testMurmur2)."""

JAVA_PRODUCER: Final = """
import java.util.Map;
import java.util.Scanner;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

class Write {
    public static void main(String[] args) {
        var serializer = new StringSerializer();
        var settings = Map.<String, Object>of("bootstrap.servers", args[0]);
        try (var producer = new KafkaProducer<>(settings, serializer, serializer)) {
            new Scanner(System.in, "UTF-8").forEachRemaining(key ->
                producer.send(new ProducerRecord<>(args[1], key, "{}")));
        }
    }
}
"""
"""Writes a record for each line of its input."""


def java_partition(key: str) -> int:
    """Java's choice (org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey)."""
    return (MURMUR2[key] & 0x7FFFFFFF) % PARTITIONS


def partitions_of(options: KafkaSettings, topic: str) -> dict[str, int]:
    """By key the partition of its record."""
    with Scan(options, topic) as scan:
        return {(record.key or b"").decode(): record.partition for batch in scan for record in batch}


async def write_with_every_producer(options: KafkaSettings, topics: Iterable[str], keys: Iterable[str]) -> None:
    copies, ingest, attempts = topics
    encoded = [key.encode() for key in keys]
    async with (
        KafkaPublisher(options) as publisher,
        KafkaEventProducer.open(options, ingest, 10) as producer,
        KafkaLog(options, attempts) as log,
    ):
        for key in encoded:
            await publisher.publish(copies, key, b"{}", ())
            log.append(key, b"{}")
        await producer.publish_all([ProducerRecord(key, b"{}", ()) for key in encoded])


def test_every_producer_partitions_like_java() -> None:
    topics = {"copies": PARTITIONS, "ingest": PARTITIONS, "attempts": PARTITIONS}
    with EmbeddedBroker.start(topics) as broker:
        options = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        asyncio.run(write_with_every_producer(options, topics, MURMUR2))
        for topic in topics:
            assert partitions_of(options, topic) == {key: java_partition(key) for key in MURMUR2}


def test_a_replay_partitions_like_java(real_kafka: str) -> None:
    options = KafkaSettings(bootstrap_servers=real_kafka, group_id="partitioner")
    with fresh_topic(real_kafka, partitions=PARTITIONS) as topic, fresh_topic(real_kafka) as marks:
        journal = ReplayJournal(options, marks)
        journal.write(topic, [(key.encode(), b"{}", ()) for key in MURMUR2], [("replay", b"{}")])
        assert partitions_of(options, topic) == {key: java_partition(key) for key in MURMUR2}


@pytest.mark.skipif(distribution.missing() is not None, reason="Java's client comes with a local Kafka")
def test_our_client_and_javas_agree_on_every_key(real_kafka: str, tmp_path: Path) -> None:
    keys = [f"acct_{number}é" for number in range(200)]
    (tmp_path / "Write.java").write_text(JAVA_PRODUCER, encoding="utf-8")
    options = KafkaSettings(bootstrap_servers=real_kafka)
    with fresh_topic(real_kafka, partitions=PARTITIONS) as ours, fresh_topic(real_kafka, partitions=PARTITIONS) as java:
        producer = Producer(copies_producer(options))
        for key in keys:
            producer.produce(ours, b"{}", key)
        assert producer.flush(20) == 0
        program = [*java_command(distribution.ensure_jars()), "-Dfile.encoding=UTF-8", str(tmp_path / "Write.java")]
        subprocess.run([*program, real_kafka, java], input="\n".join(keys).encode(), check=True, timeout=60)
        assert partitions_of(options, java) == partitions_of(options, ours)
        assert len(partitions_of(options, ours)) == len(keys)
