"""The ends of partitions, on real brokers and on none."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pushrail_stream.core.record import Partition
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.lag import Watermarks
from pushrail_stream.ports.kafka import ProducerRecord, RecordMetadata
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import LocalKafkaFactory, NewTopic
from tests.support.kafka.topics import create_topic, unique_name
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import until


@pytest.mark.kafka
async def test_lag_is_known_for_the_requested_partitions(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    options = KafkaSettings(bootstrap_servers=kafka_bootstrap)
    async with KafkaEventProducer.open(options, topic, 10) as producer:
        async with asyncio.timeout(PATIENCE_SECS):
            while await producer.check(5):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        written = [
            place
            for place in await producer.publish_all([ProducerRecord(b"key", b"value", ())] * 7)
            if isinstance(place, RecordMetadata)
        ]
        assert len(written) == 7
    full, empty = (one, other) if written[0].partition == 0 else (other, one)
    watermarks = Watermarks(options)
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
async def test_lag_is_unknown_while_kafka_is_down(
    local_kafka_factory: LocalKafkaFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = await asyncio.to_thread(local_kafka_factory)
    topic = unique_name("ends")
    await asyncio.to_thread(create_topic, kafka.bootstrap_servers, topic, partitions=1)
    monkeypatch.setattr("pushrail_stream.kafka.lag._PERIOD_SECS", 0.5)
    there = Partition(topic, 0)
    watermarks = Watermarks(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers))
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


async def test_lag_is_unknown_without_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.lag._PERIOD_SECS", 0.01)
    monkeypatch.setattr("pushrail_stream.kafka.lag._TIMEOUT_SECS", 0.2)
    watermarks, asked, twice = Watermarks(KafkaSettings(bootstrap_servers="127.0.0.1:1")), list[int](), asyncio.Event()

    def partitions() -> list[Partition]:
        asked.append(1)
        if len(asked) > 1:
            twice.set()
        return [Partition("topic", 0)]

    following = asyncio.Task(watermarks.keep(partitions))
    try:
        async with asyncio.timeout(PATIENCE_SECS):
            await twice.wait()
        assert watermarks.lag(Partition("topic", 0), 5) is None
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
