"""Reading a topic from its beginning to where it ends now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

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
    # To the end that the broker tells: counting would go wrong where compaction has left gaps.
    while (message := consumer.poll(_ANSWER_SECS)) is not None:
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            return
    raise TimeoutError(f"{partition.topic}/{partition.partition} could not be read to its end")
