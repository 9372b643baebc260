"""The shortest way into a topic and out of it, for tests of brokers."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

_DEADLINE_SECS: Final = 30.0


def produce(bootstrap_servers: str, topic: str, values: list[bytes], *, partition: int = 0) -> None:
    """Write ``values`` to one partition and return when the broker has acknowledged them all."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "max.in.flight": 1, "log_level": 0})
    failed: list[object] = []
    for value in values:
        producer.produce(
            topic, value, partition=partition, on_delivery=lambda error, _: failed.append(error) if error else None
        )
    unsent = producer.flush(_DEADLINE_SECS)
    assert not unsent, f"{unsent} of {len(values)} records were not acknowledged"
    assert not failed, failed


def consume(bootstrap_servers: str, topic: str, count: int, *, partition: int = 0) -> list[bytes]:
    """Read the first ``count`` values of one partition, without joining a group."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "roundtrip", "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        values: list[bytes] = []
        deadline = time.monotonic() + _DEADLINE_SECS
        while len(values) < count:
            assert time.monotonic() < deadline, f"{len(values)} of {count} records arrived"
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue  # errors here are passing ones: a broker that restarts
            value = message.value()
            assert isinstance(value, bytes)
            values.append(value)
    finally:
        consumer.close()
    return values
