"""The producer of ingest, on real brokers and on none."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from confluent_kafka import KafkaError

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.producer import FLUSH_SECS, KafkaLog, KafkaPublisher
from pushrail_stream.ports.kafka import ProducerRecord, RecordMetadata
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.kafka.fixtures import NewTopic
from tests.support.patience import PATIENCE_SECS

NOWHERE = "127.0.0.1:1"


def records(count: int) -> list[ProducerRecord]:
    return [ProducerRecord(b"key", f"value-{n}".encode(), (("a", b"b"),)) for n in range(count)]


@pytest.mark.kafka
async def test_each_record_gets_its_partition_and_offset(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    async with KafkaEventProducer.open(KafkaSettings(bootstrap_servers=kafka_bootstrap), topic, 10) as producer:
        async with asyncio.timeout(PATIENCE_SECS):
            # A topic that was just made may still be without a leader.
            while await producer.check(5):  # noqa: ASYNC110 - it is Kafka that takes its time
                await asyncio.sleep(0.1)
        assert await producer.publish_all(records(3)) == [
            RecordMetadata(0, 0),
            RecordMetadata(0, 1),
            RecordMetadata(0, 2),
        ]
        assert await producer.publish_all(records(1)) == [RecordMetadata(0, 3)]
        async with asyncio.timeout(PATIENCE_SECS):
            while producer.waiting:  # noqa: ASYNC110 - librdkafka counts a record until its report was dealt with
                await asyncio.sleep(0.05)


async def test_each_failed_record_gets_its_reason() -> None:
    few = KafkaSettings(
        bootstrap_servers=NOWHERE,
        client=ClientProperties({"queue.buffering.max.messages": 2, "topic.metadata.propagation.max.ms": 500}),
    )
    async with KafkaEventProducer.open(few, "topic", 1) as producer, asyncio.timeout(PATIENCE_SECS):
        results = await producer.publish_all(records(4))
        assert [isinstance(result, str) and bool(result) for result in results] == [True] * 4
        assert results[2:] == ["the producer's queue is full"] * 2
        assert "full" not in str(results[:2]), "these waited for the time-out"
        assert (await producer.check(0.2)).startswith("Kafka is out of reach")


async def test_closing_shares_one_deadline() -> None:
    options = KafkaSettings(bootstrap_servers=NOWHERE)
    async with asyncio.timeout(FLUSH_SECS + 4):
        async with KafkaPublisher(options) as publisher, KafkaLog(options, "attempts") as log:
            for _ in range(3):
                log.append(b"key", b"value")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await publisher.publish("dlq", b"key", b"value", ())
            assert log.lost == 0
    assert log.lost == 3


@pytest.mark.kafka
async def test_a_fatal_error_reaches_every_caller() -> None:
    with BreakableBroker.start({"topic": 1}) as broker:
        options = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        async with (
            asyncio.timeout(20),
            KafkaEventProducer.open(options, "topic", 30) as producer,
            KafkaPublisher(options) as publisher,
        ):
            assert await producer.publish_all(records(1)) == [RecordMetadata(0, 0)]
            await publisher.publish("topic", b"key", b"value", ())
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            results = await producer.publish_all(records(3))
            assert all(isinstance(result, str) and result for result in results)
            with pytest.raises(
                OperatorError, match=r"cannot go on, restart this program: .*sequence desynchronization"
            ):
                await producer.check(5)
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            for _ in range(2):  # the one that was on its way, and one that comes after
                with pytest.raises(OperatorError, match="cannot go on, restart this program: "):
                    await publisher.publish("topic", b"key", b"value", ())


@pytest.mark.kafka
async def test_a_missing_topic_is_reported(real_kafka: str) -> None:
    async with KafkaEventProducer.open(
        KafkaSettings(bootstrap_servers=real_kafka), "there-is-no-such-topic", 2
    ) as producer:
        assert "there-is-no-such-topic: " in await producer.check(10)
