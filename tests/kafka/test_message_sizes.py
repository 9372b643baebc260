"""Events that ingest may write to a topic with a small limit: the topic's own limit decides, before any is written.

Kafka counts a batch as it is sent, which is compressed.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from pushrail_stream.kafka import event_producer as module
from pushrail_stream.kafka.event_producer import KafkaEventProducer, largest_batch, max_message_bytes
from pushrail_stream.ports.kafka import ProducerRecord, RecordMetadata, RecordTooLarge
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.topics import create_topic, unique_name
from tests.support.patience import PATIENCE_SECS

pytestmark = pytest.mark.kafka
LIMIT = 20_000
dice = random.Random(18)


def small_topic(bootstrap: str, **config: str) -> str:
    """A topic of one partition that takes batches of `LIMIT` bytes."""
    name = unique_name("small")
    create_topic(bootstrap, name, config={"max.message.bytes": str(LIMIT), **config})
    return name


def noise(size: int) -> ProducerRecord:
    """A record that nothing makes smaller."""
    return ProducerRecord(b"key", dice.randbytes(size), (("pushrail-vendor", b"acme"),))


def blank(size: int) -> ProducerRecord:
    """A record that becomes very small when it is compressed."""
    return ProducerRecord(b"key", b"x" * size, ())


def end_of(bootstrap: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "log_level": 0})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1])
    finally:
        consumer.close()


@pytest.mark.parametrize("compression", ["producer", "lz4", "uncompressed"])
async def test_kafka_decides_about_doubtful_sizes(real_kafka: str, compression: str) -> None:
    topic = small_topic(real_kafka, **{"compression.type": compression})
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=real_kafka), topic, 10) as producer:
        surely = [noise(size) for size in range(LIMIT - 400, LIMIT) if largest_batch(noise(size)) <= LIMIT]
        assert len(surely) > 200, "the estimate is close"
        assert all(isinstance(result, RecordMetadata) for result in await producer.publish_all(surely))
        assert await producer.publish_all([noise(LIMIT)]) == [RecordTooLarge(LIMIT)]
        [result] = await producer.publish_all([blank(10 * LIMIT)])
        assert isinstance(result, RecordTooLarge if compression == "uncompressed" else RecordMetadata)


async def test_an_oversized_record_stops_its_request(real_kafka: str) -> None:
    topic = small_topic(real_kafka)
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=real_kafka), topic, 10) as producer:
        results = await producer.publish_all([noise(10), noise(2 * LIMIT), noise(10)])
        assert results[1] == RecordTooLarge(LIMIT)
        assert [type(result) for result in results] == [str, RecordTooLarge, str]
        assert end_of(real_kafka, topic) == 0
        assert [type(r) for r in await producer.publish_all([blank(2 * LIMIT), noise(10)])] == [
            RecordMetadata,
            RecordMetadata,
        ]
        assert [type(r) for r in await producer.publish_all([blank(2 * LIMIT)] * 3)] == [RecordMetadata] * 3


async def test_many_small_records_fit_together(real_kafka: str) -> None:
    topic = small_topic(real_kafka)
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=real_kafka), topic, 10) as producer:
        requests = [[noise(LIMIT // 3)] * 20 for _ in range(10)]
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(producer.publish_all(request)) for request in requests]
        assert all(isinstance(result, RecordMetadata) for answer in answers for result in answer.result())
        assert end_of(real_kafka, topic) == 200


async def test_an_oversized_record_delays_no_other(real_kafka: str) -> None:
    topic = small_topic(real_kafka)
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=real_kafka), topic, 10) as producer:
        async with asyncio.TaskGroup() as tasks:
            refused = [tasks.create_task(producer.publish_all([noise(2 * LIMIT)])) for _ in range(20)]
            taken = [tasks.create_task(producer.publish_all([noise(10)])) for _ in range(20)]
        assert [task.result() for task in refused] == [[RecordTooLarge(LIMIT)]] * 20
        assert all(isinstance(task.result()[0], RecordMetadata) for task in taken)
        assert await producer.check(10) == "", "no producer has met anything fatal"


async def test_a_raised_limit_is_noticed(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT_SECS", 0.0)
    topic = small_topic(real_kafka)
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=real_kafka), topic, 10) as producer:
        assert await producer.publish_all([noise(2 * LIMIT)]) == [RecordTooLarge(LIMIT)]
        raised = ConfigEntry("max.message.bytes", "1000000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[raised])
        admin = AdminClient({"bootstrap.servers": real_kafka})
        admin.incremental_alter_configs([resource])[resource].result(30)
        async with asyncio.timeout(PATIENCE_SECS):
            while not isinstance((await producer.publish_all([noise(2 * LIMIT)]))[0], RecordMetadata):
                assert await producer.check(10) == ""


@pytest.mark.parametrize("known", [None, 1_000_000])
async def test_a_refusal_makes_the_limit_known(
    real_kafka: str, monkeypatch: pytest.MonkeyPatch, known: int | None
) -> None:
    topic = small_topic(real_kafka)
    options = KafkaSettings(bootstrap_servers=real_kafka)
    answers = iter([known])
    monkeypatch.setattr(module, "max_message_bytes", lambda *_: next(answers, LIMIT))
    async with KafkaEventProducer.open(options, topic, 10) as producer:
        results = await producer.publish_all([noise(10), noise(2 * LIMIT), noise(10)])
        assert [type(result) for result in results] == [str, RecordTooLarge, str]
        assert end_of(real_kafka, topic) == 0
        many = await producer.publish_all([noise(LIMIT // 3)] * 20)
        assert [type(result) for result in many] == [RecordMetadata] * 20


async def test_without_a_known_limit_kafka_decides() -> None:
    with EmbeddedBroker.start({"topic": 1}) as broker:
        options = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        assert max_message_bytes(options, "topic") is None
        async with KafkaEventProducer.open(options, "topic", 10) as producer:
            assert [type(r) for r in await producer.publish_all([noise(2_000_000), noise(10)])] == [
                RecordMetadata,
                RecordMetadata,
            ]


async def test_a_forbidden_limit_stays_unknown(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
    )
    bootstrap = kafka.bootstrap_servers
    topic = small_topic(bootstrap)
    admin, options = AdminClient({"bootstrap.servers": bootstrap}), KafkaSettings(bootstrap_servers=bootstrap)
    assert max_message_bytes(options, topic) == LIMIT
    for operation, permission in (
        (AclOperation.DESCRIBE_CONFIGS, AclPermissionType.DENY),
        (AclOperation.ALL, AclPermissionType.ALLOW),
    ):
        rule = AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission
        )
        admin.create_acls([rule])[rule].result(30)
    async with asyncio.timeout(PATIENCE_SECS):
        while max_message_bytes(options, topic) is not None:  # noqa: ASYNC110 - the rule takes its time to spread
            await asyncio.sleep(0.1)
    async with KafkaEventProducer.open(options, topic, 10) as producer:
        [result, other] = await producer.publish_all([noise(2 * LIMIT), noise(10)])
        assert "too large" in str(result)
        assert isinstance(other, RecordMetadata | str)
