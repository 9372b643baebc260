"""Commits to Kafka: with the leader's epoch, and no longer than the broker takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, final

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from pushrail_stream.core.offsets import Committable
from pushrail_stream.core.record import Partition
from pushrail_stream.kafka.epochs import LeaderEpochs

_LENGTHS: Final = 3
"""Lengths of a commit's metadata: all of it, without the map, or none."""


@final
class Commits:
    """Makes commits. To be called by the thread that owns the consumer."""

    def __init__(self) -> None:
        self.epochs = LeaderEpochs()

    def later(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> None:
        """Commit without waiting: with the coordinator away, waiting would keep the thread from polling."""
        consumer.commit(offsets=self._stamped(consumer, commits), asynchronous=True)

    def now(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> KafkaError | None:
        """Commit and wait, with shorter commits until the broker takes them; the error if that fails."""
        error = None
        for _ in range(_LENGTHS if commits else 0):
            error = self._try(consumer, commits)
            if not is_too_large(error):
                break
            commits = {partition: commit.shorter() for partition, commit in commits.items()}
        return error

    def _try(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> KafkaError | None:
        try:
            made = consumer.commit(offsets=self._stamped(consumer, commits), asynchronous=False)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            return reason
        return next((partition.error for partition in made if is_too_large(partition.error)), None)

    def _stamped(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> list[TopicPartition]:
        self.epochs.note(consumer, commits)
        return self.epochs.stamp(commits.items())


def is_too_large(error: KafkaError | None) -> bool:
    """Whether the broker's ``offset.metadata.max.bytes`` is too small for a commit."""
    return error is not None and error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE


def committable_of(partition: TopicPartition) -> Committable | None:
    """A group's commit of one partition; None where it has none."""
    if partition.offset == OFFSET_INVALID:
        return None
    return Committable(partition.offset, partition.metadata or "")


def commits_of(partitions: Iterable[TopicPartition]) -> list[tuple[Partition, Committable]]:
    """Commits as librdkafka reports them."""
    return [(Partition(p.topic, p.partition), Committable(p.offset, p.metadata or "")) for p in partitions]
