"""A topic's records, from its beginning to its present end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

_ANSWER_SECS: Final = 10.0


def read_records(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every record of a topic."""
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
        left = set(consumer.list_topics(topic, timeout=_ANSWER_SECS).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        # To the ends that the broker tells: counting would go wrong where compaction has left gaps.
        while left:
            message = consumer.poll(_ANSWER_SECS)
            if message is None:
                raise TimeoutError(f"{topic} could not be read to its end: partitions {sorted(left)}")
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
    finally:
        consumer.close()
