"""Leader epochs of positions: with its epoch, a committed offset tells whether the log was cut off below it since.

A consumer that resumes asks the leader where the epoch ended ("OffsetForLeaderEpoch" in Kafka's protocol). When that is
below the offset, records were lost and others may have taken their offsets: the reset policy decides where to go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pushrail_stream.core.offsets import Committable
from pushrail_stream.core.record import Partition


class _Mark(NamedTuple):
    offset: int
    epoch: int
    """The records below the offset have this epoch, or an earlier one."""


@final
class LeaderEpochs:
    """Learned from the consumer's positions, now and then: nothing here costs anything per record."""

    def __init__(self) -> None:
        self._marks: dict[Partition, list[_Mark]] = {}

    def start(self, committed: Iterable[TopicPartition]) -> None:
        """These partitions start at the group's commits."""
        for start in committed:
            self._marks[Partition(start.topic, start.partition)] = _marks(start)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions: their offsets mean other records now."""
        for partition in partitions:
            self._marks.pop(partition, None)

    def note(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Learn from where the consumer stands now."""
        try:
            positions = consumer.position([TopicPartition(*partition) for partition in partitions])
        except KafkaException:  # amid a change of the assignment
            return
        for position in positions:
            marks = self._marks.setdefault(Partition(position.topic, position.partition), [])
            for mark in _marks(position):
                if marks and marks[-1].epoch == mark.epoch:
                    marks.pop()
                marks.append(mark)

    def stamp(self, commits: Iterable[tuple[Partition, Committable]]) -> list[TopicPartition]:
        """The commits, each with its epoch where that is known."""
        return [self._stamped(partition, commit) for partition, commit in commits]

    def _stamped(self, partition: Partition, commit: Committable) -> TopicPartition:
        marks = self._marks.get(partition, [])
        while len(marks) > 1 and marks[0].offset < commit.offset:
            del marks[0]
        plain = (partition.topic, partition.number, commit.offset, commit.metadata)
        if not marks or marks[0].offset < commit.offset:
            return TopicPartition(*plain)
        return TopicPartition(*plain, marks[0].epoch)


def _marks(position: TopicPartition) -> list[_Mark]:
    """One mark where offset and epoch are known, else none."""
    epoch: int | None = position.leader_epoch
    return [] if position.offset < 0 or epoch is None or epoch < 0 else [_Mark(position.offset, epoch)]
