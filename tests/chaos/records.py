"""Reading a topic from its beginning to where it ends now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, Message, TopicPartition

_BATCH: Final = 1_000
_ANSWER_SECS: Final = 10.0


def read_records(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every record of a topic, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=_ANSWER_SECS).topics[topic].partitions
        for number in known:
            yield from _read_partition(consumer, TopicPartition(topic, number, 0))
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, partition: TopicPartition) -> Iterator[Message]:
    consumer.assign([partition])
    # By the end that the broker tells: offsets have gaps, where transactions or compaction were.
    while True:
        message = consumer.poll(_ANSWER_SECS)
        if message is None:
            raise TimeoutError(f"{partition.topic}/{partition.partition} could not be read to its end")
        if message.error() is None:
            yield message
        elif message.error().code() == _END:
            return
