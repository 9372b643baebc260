"""Questions to a cluster that may be settling: a topic was just created, or a leader or a coordinator is changing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pushrail_stream.kafka.errors import SETTLING

T = TypeVar("T")
_TRIES: Final = 20
_PAUSE_SECS: Final = 0.25
_TIMEOUT_SECS: Final = 15.0


def retry_while_settling(ask: Callable[[], T]) -> T:
    """The answer, requested again for up to 5 s while the cluster is settling; then its KafkaException."""
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in SETTLING:
                raise
        time.sleep(_PAUSE_SECS)
    return ask()


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """The numbers of a topic's partitions; none if it does not exist. Raises KafkaException."""
    found = consumer.list_topics(topic, timeout=_TIMEOUT_SECS).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return list(found.partitions)


def bounds_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The first offset of a partition and its end. Raises KafkaException."""
    return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_SECS)


def positions_of(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The next offset of each partition. It also passes offsets that compaction and transactions left empty."""
    found = consumer.position([TopicPartition(topic, number) for number in partitions])
    return {place.partition: place.offset for place in found}


def offsets_for_time(consumer: Consumer, topic: str, epoch_ms: int, ends: Mapping[int, int]) -> dict[int, int]:
    """By partition of ``ends`` the first offset of this time or later; the end if there is none.

    Raises KafkaException if a partition's answer is an error, which does not say that there is no such offset.
    """
    wanted = [TopicPartition(topic, number, max(epoch_ms, 0)) for number in ends]
    found = consumer.offsets_for_times(wanted, timeout=_TIMEOUT_SECS)
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return {p.partition: p.offset if p.offset >= 0 else ends[p.partition] for p in found}
