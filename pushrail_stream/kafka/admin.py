"""Questions to a cluster that may be settling: a topic was just created, or a leader or a coordinator is changing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata

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
    """The first offset of a partition and its end. Raises KafkaException, also while the cluster is settling."""
    return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_SECS)


def settled_bounds_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """As `bounds_of`, and requested again while the cluster is settling. Raises KafkaException."""
    return retry_while_settling(lambda: bounds_of(consumer, topic, partition))


def positions_of(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The next offset of each partition. It also passes offsets that compaction and transactions left empty."""
    found = consumer.position([TopicPartition(topic, number) for number in partitions])
    return {place.partition: place.offset for place in found}


def offsets_for_time(
    consumer: Consumer, topic: str, epoch_ms: int, bounds: Mapping[int, tuple[int, int]]
) -> dict[int, int] | None:
    """By partition of ``bounds`` the first offset of this time or later; the end if there is none.

    None from a broker that cannot look up by time: librdkafka's built-in cluster answers every time as if there were no
    such record. Raises KafkaException if a partition's answer is an error, which does not say that there is no such
    offset.
    """
    found = _look_up(consumer, topic, max(epoch_ms, 0), bounds)
    filled = [number for number, (first, end) in bounds.items() if first < end]
    # Only when no partition has so late a record, one more question proves that the broker finds any.
    if (
        filled
        and all(found[number] < 0 for number in filled)
        and max(_look_up(consumer, topic, 0, filled).values()) < 0
    ):
        return None
    return {number: found[number] if found[number] >= 0 else end for number, (_, end) in bounds.items()}


def _look_up(consumer: Consumer, topic: str, epoch_ms: int, partitions: Iterable[int]) -> dict[int, int]:
    """The broker's answers; negative for no record of this time or later."""
    wanted = [TopicPartition(topic, number, epoch_ms) for number in partitions]
    found = consumer.offsets_for_times(wanted, timeout=_TIMEOUT_SECS)
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return {place.partition: place.offset for place in found}


def has_controller(cluster: ClusterMetadata) -> bool:
    """Whether requests that only a controller answers make sense: without one, librdkafka waits for its time-out.

    librdkafka's built-in cluster has none.
    """
    return cluster.controller_id in cluster.brokers


def is_embedded(cluster: ClusterMetadata) -> bool:
    """Whether it is librdkafka's built-in cluster, as in the sandbox (rdkafka_mock.c gives it this id)."""
    return str(cluster.cluster_id).startswith("mockCluster")
