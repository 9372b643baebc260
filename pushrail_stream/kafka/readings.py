"""Where a consumer stands in its partitions, by its own account: nothing here asks a broker."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pushrail_stream.core.record import Partition
from pushrail_stream.pipeline.reading import Reading


def readings_of(consumer: Consumer, partitions: Iterable[Partition]) -> dict[Partition, Reading]:
    """The reading of each partition; what the client does not know yet is None."""
    try:
        positions = consumer.position([TopicPartition(*partition) for partition in partitions])
    except KafkaException:  # amid a change of the assignment: asked again in a second
        return {}
    return {Partition(p.topic, p.partition): Reading(_known(p.offset), _first(consumer, p)) for p in positions}


def _first(consumer: Consumer, partition: TopicPartition) -> int | None:
    """The start of the log in the newest answer that the client got when it fetched."""
    try:
        return _known(consumer.get_watermark_offsets(partition, cached=True)[0])
    except KafkaException:
        return None


def _known(offset: int) -> int | None:
    """None for the client's special values, which are negative."""
    return offset if offset >= 0 else None
