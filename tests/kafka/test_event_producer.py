"""The producer of ingest, where partitions end, and librdkafka's statistics, on real brokers and on none."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from pushrail_stream.core.record import Partition
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.lag import _LATEST, Watermarks
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.producer import FLUSH_SECS, KafkaLog, KafkaPublisher
from pushrail_stream.kafka.statistics import StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics, ProducerRecord, RecordMetadata
from pushrail_stream.sandbox.broker import ApiKey, EmbeddedBroker
from tests.support.kafka.fixtures import LocalKafkaFactory, NewTopic
from tests.support.kafka.topics import create_topic, unique_name

NOWHERE = "127.0.0.1:1"


def records(count: int) -> list[ProducerRecord]:
    return [ProducerRecord(b"key", f"value-{n}".encode(), (("a", b"b"),)) for n in range(count)]


@pytest.mark.kafka
async def test_each_record_is_answered_with_its_place(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    async with KafkaEventProducer.open(KafkaOptions(kafka_bootstrap), topic, 10) as producer:
        async with asyncio.timeout(60):
            # A topic that was just made may still be without a leader.
            while await producer.check(5):  # noqa: ASYNC110 - it is Kafka that takes its time
                await asyncio.sleep(0.1)
        assert await producer.publish_all(records(3)) == [
            RecordMetadata(0, 0),
            RecordMetadata(0, 1),
            RecordMetadata(0, 2),
        ]
        assert await producer.publish_all(records(1)) == [RecordMetadata(0, 3)]
        await until(lambda: producer.waiting == 0)  # librdkafka counts a record until its report was dealt with


async def test_what_cannot_be_written_says_why_one_by_one_and_in_time() -> None:
    few = KafkaOptions(NOWHERE, client={"queue.buffering.max.messages": 2, "topic.metadata.propagation.max.ms": 500})
    async with KafkaEventProducer.open(few, "topic", 1) as producer, asyncio.timeout(30):
        results = await producer.publish_all(records(4))
        assert [isinstance(result, str) and bool(result) for result in results] == [True] * 4
        assert results[2:] == ["the producer's queue is full"] * 2
        assert "full" not in str(results[:2]), "these waited for the time-out"
        assert (await producer.check(0.2)).startswith("Kafka is out of reach")


async def test_producers_that_end_while_kafka_is_away_wait_for_one_deadline_and_count_what_they_gave_up() -> None:
    options = KafkaOptions(NOWHERE)
    async with asyncio.timeout(FLUSH_SECS + 4):
        async with KafkaPublisher.open(options) as publisher, KafkaLog.open(options, "attempts") as log:
            for _ in range(3):
                log.append(b"key", b"value")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await publisher.publish("dlq", b"key", b"value", ())
            assert log.lost == 0
    assert log.lost == 3


@pytest.mark.kafka
async def test_a_producer_that_can_write_nothing_any_more_says_so_to_whoever_waits_and_to_whoever_asks() -> None:
    with EmbeddedBroker.start({"topic": 1}) as broker:
        options = KafkaOptions(broker.bootstrap_servers)
        async with (
            asyncio.timeout(20),
            KafkaEventProducer.open(options, "topic", 30) as producer,
            KafkaPublisher.open(options) as publisher,
        ):
            assert await producer.publish_all(records(1)) == [RecordMetadata(0, 0)]
            await publisher.publish("topic", b"key", b"value", ())
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            results = await producer.publish_all(records(3))
            assert all(isinstance(result, str) and result for result in results)
            with pytest.raises(OperatorError, match=r"cannot go on, start it anew: .*sequence desynchronization"):
                await producer.check(5)
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            for _ in range(2):  # the one that was on its way, and one that comes after
                with pytest.raises(OperatorError, match="cannot go on, start it anew: "):
                    await publisher.publish("topic", b"key", b"value", ())


@pytest.mark.kafka
async def test_a_topic_that_is_not_there_is_said(real_kafka: str) -> None:
    async with KafkaEventProducer.open(KafkaOptions(real_kafka), "there-is-no-such-topic", 2) as producer:
        assert "there-is-no-such-topic: " in await producer.check(10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


@pytest.mark.kafka
async def test_where_partitions_end_is_known_of_those_that_were_asked_about(
    kafka_bootstrap: str, new_topic: NewTopic
) -> None:
    topic = new_topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    options = KafkaOptions(kafka_bootstrap)
    async with KafkaEventProducer.open(options, topic, 10) as producer:
        async with asyncio.timeout(60):
            while await producer.check(5):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        written = [place for place in await producer.publish_all(records(7)) if isinstance(place, RecordMetadata)]
        assert len(written) == 7
    full, empty = (one, other) if written[0].partition == 0 else (other, one)
    async with Watermarks.open(options) as watermarks:
        following = asyncio.Task(watermarks.keep(lambda: [one, other]))
        try:
            await until(lambda: watermarks.lag(empty, None) is not None and watermarks.lag(full, None) is not None)
            assert (watermarks.lag(full, None), watermarks.lag(full, 3), watermarks.lag(full, 9)) == (7, 4, 0)
            assert watermarks.lag(empty, None) == 0
            assert watermarks.lag(Partition("other", 0), 1) is None, "nobody asked about it"
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


@pytest.mark.kafka
async def test_an_end_is_forgotten_when_kafka_does_not_say_it_again(
    local_kafka_factory: LocalKafkaFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = await asyncio.to_thread(local_kafka_factory)
    topic = unique_name("ends")
    await asyncio.to_thread(create_topic, kafka.bootstrap_servers, topic, partitions=1)
    monkeypatch.setattr("pushrail_stream.kafka.lag._PERIOD_SECS", 0.5)
    there = Partition(topic, 0)
    async with Watermarks.open(KafkaOptions(kafka.bootstrap_servers)) as watermarks:
        following = asyncio.Task(watermarks.keep(lambda: [there]))
        try:
            await until(lambda: watermarks.lag(there, None) == 0)
            await asyncio.to_thread(kafka.kill)
            await until(lambda: watermarks.lag(there, None) is None)
            await asyncio.to_thread(kafka.restart)
            await until(lambda: watermarks.lag(there, None) == 0)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


async def test_without_kafka_the_end_stays_unknown() -> None:
    async with Watermarks.open(KafkaOptions(NOWHERE)) as watermarks:
        assert await asyncio.to_thread(watermarks._ask, [Partition("topic", 0)], _LATEST) == {}
        assert watermarks.lag(Partition("topic", 0), 5) is None


def test_statistics_are_boiled_down_to_what_operators_act_on() -> None:
    keeper = StatisticsKeeper()
    assert keeper.newest == ClientStatistics()
    up = {"nodeid": 1, "state": "UP", "rtt": {"avg": 1_500}, "txerrs": 1, "rxerrs": 2, "req_timeouts": 3}
    down = up | {"nodeid": 2, "state": "DOWN", "rtt": {"avg": 9_000}}
    bootstrap = up | {"nodeid": -1, "rtt": {"avg": 99_000}}
    topics = {"t": {"partitions": {"0": {"fetchq_cnt": 5}, "1": {"fetchq_cnt": 2}}}}
    statistics = {"brokers": {"a": up, "b": down, "c": bootstrap}, "topics": topics, "msg_cnt": 4}
    keeper(json.dumps(statistics | {"cgrp": {"rebalance_cnt": 8}}))
    assert keeper.newest == ClientStatistics(1, 0.009, 12, 11, 8)
    keeper(json.dumps(statistics))
    assert keeper.newest.rebalances == 0, "a producer has no group"
    keeper(json.dumps(statistics | {"brokers": {"b": down | {"txerrs": 2}}}))
    assert keeper.newest.errors == 13, "what a broker counted that has left is not forgotten, and nothing counted twice"
    keeper(json.dumps(statistics | {"brokers": {"b": down | {"txerrs": 0}}}))
    assert keeper.newest.errors == 13
