"""Positions and commits of a consumer. Only the thread that owns the consumer may use them.

A commit carries its leader epoch: with it, a consumer that resumes asks the leader where the epoch ended
("OffsetForLeaderEpoch" in Kafka's protocol). When that is below the committed offset, records were lost and others may
have taken their offsets, and the reset policy decides where to go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, final

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from pushrail_stream.core.commit import Committable, epoch_of
from pushrail_stream.core.record import Partition
from pushrail_stream.kafka.snapshots import LAST_SECS, Snapshots
from pushrail_stream.pipeline.read_progress import ReadPosition

_OFFSETS_SECS: Final = 10.0
"""Longest wait for the group's committed offsets."""
_LENGTHS: Final = 3
"""Lengths of a commit's metadata: all of it, without the map, or without the cursors too."""


class _Mark(NamedTuple):
    offset: int
    epoch: int
    """The records below the offset have this epoch, or an earlier one."""


@final
class Commits:
    """Makes commits, and learns leader epochs from the consumer's positions: nothing here costs anything per record."""

    def __init__(
        self, snapshots: Snapshots | None = None, tell_trouble: Callable[[str], object] = lambda _problem: None
    ) -> None:
        """``snapshots``: of the cursors for which a commit has no room; None for a topic that has no cursors."""
        self._snapshots = snapshots
        self._tell_trouble = tell_trouble
        self._marks: dict[Partition, list[_Mark]] = {}
        self._is_under_way = False
        """Whether a commit without a wait has no answer yet."""

    def restore(self, partition: Partition, commit: Committable) -> Committable:
        """As `Snapshots.restore`."""
        return commit if self._snapshots is None else self._snapshots.restore(partition, commit)

    def start(self, committed: Iterable[TopicPartition]) -> None:
        """Begin with partitions that start at the group's commits."""
        committed = list(committed)
        self.forget(map(partition_of, committed))
        for start in committed:
            self._marks[partition_of(start)] = _marks(start)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions: their offsets mean other records now."""
        for partition in partitions:
            self._marks.pop(partition, None)
            if self._snapshots is not None:
                self._snapshots.forget(partition)

    def commit_async(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> None:
        """Commit without waiting: while the coordinator is away, a wait would keep the thread from polling.

        A commit that needs a snapshot is made when Kafka has it. One commit is under way at a time: librdkafka makes a
        commit again when its connection breaks, and would undo a newer one that came before it on another connection.
        """
        if self._is_under_way:
            return
        ready = _naming(commits) if self._snapshots is None else self._snapshots.ready(commits, self._tell_trouble)
        if ready:
            consumer.commit(offsets=self._with_epochs(consumer, ready), asynchronous=True)
            self._is_under_way = True

    def answered(self) -> None:
        """Note that the commit under way has its answer, or that its client is closed."""
        self._is_under_way = False

    def commit_sync(
        self, consumer: Consumer, commits: Mapping[Partition, Committable], deadline: float = math.inf
    ) -> KafkaError | None:
        """Commit and wait, with shorter metadata until the broker accepts it; the error if that fails.

        A commit whose snapshot does not reach Kafka soon is not made, which costs repeats only. ``deadline``: of the
        wait for snapshots, in monotonic seconds.
        """
        error, until = None, min(time.monotonic() + LAST_SECS, deadline)
        for _ in range(_LENGTHS):
            last = (
                _naming(commits) if self._snapshots is None
                else self._snapshots.last(commits, self._tell_trouble, until)
            )  # fmt: skip
            error = self._try(consumer, last) if last else None
            if not is_too_large(error):
                break
            commits = {partition: commit.shorter() for partition, commit in commits.items()}
        return error

    def _try(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> KafkaError | None:
        try:
            made = consumer.commit(offsets=self._with_epochs(consumer, commits), asynchronous=False)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            return reason
        return next((partition.error for partition in made if is_too_large(partition.error)), None)

    def _with_epochs(self, consumer: Consumer, commits: Mapping[Partition, Committable]) -> list[TopicPartition]:
        for position in _positions(consumer, commits):
            marks = self._marks.setdefault(partition_of(position), [])
            for mark in _marks(position):
                # Below a former mark, the client has met a loss: records of a later epoch take the offsets from there.
                while marks and (marks[-1].epoch == mark.epoch or marks[-1].offset >= mark.offset):
                    marks.pop()
                marks.append(mark)
        return [self._with_epoch(partition, commit) for partition, commit in commits.items()]

    def _with_epoch(self, partition: Partition, commit: Committable) -> TopicPartition:
        marks = self._marks.get(partition, [])
        while len(marks) > 1 and marks[0].offset < commit.offset:
            del marks[0]
        plain = (partition.topic, partition.number, commit.offset, commit.metadata)
        is_known = bool(marks) and marks[0].offset >= commit.offset
        # A client that has noticed a loss is back below: its position says nothing of what was read before.
        epoch = marks[0].epoch if is_known else epoch_of(commit)
        return TopicPartition(*plain) if epoch is None else TopicPartition(*plain, epoch)


def _naming(commits: Mapping[Partition, Committable]) -> dict[Partition, Committable]:
    """The commits that name their cursors. Any other would be past events that no cursor names."""
    return {partition: commit for partition, commit in commits.items() if not commit.needs_snapshot}


def _marks(position: TopicPartition) -> list[_Mark]:
    """One mark where offset and epoch are known, else none."""
    epoch: int | None = position.leader_epoch
    return [] if position.offset < 0 or epoch is None or epoch < 0 else [_Mark(position.offset, epoch)]


def _positions(consumer: Consumer, partitions: Iterable[Partition]) -> list[TopicPartition]:
    try:
        return consumer.position([TopicPartition(*partition) for partition in partitions])
    except KafkaException:  # while the assignment changes; the next call comes in a second
        return []


def partition_of(partition: TopicPartition) -> Partition:
    """The partition of a librdkafka value."""
    return Partition(partition.topic, partition.partition)


def is_too_large(error: KafkaError | None) -> bool:
    """Whether the broker's ``offset.metadata.max.bytes`` is too small for a commit."""
    return error is not None and error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE


def committed_offsets(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The group's commits of these partitions. Raises KafkaException, also when one of them is not known.

    A partition without an answer looks like one without a commit, and would be read from its beginning.
    """
    found = consumer.committed(partitions, timeout=_OFFSETS_SECS)
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return found


def committable_of(partition: TopicPartition) -> Committable | None:
    """A group's commit of one partition; None if it has none."""
    if partition.offset == OFFSET_INVALID:
        return None
    return Committable(partition.offset, partition.metadata or "")


def commits_of(partitions: Iterable[TopicPartition]) -> list[tuple[Partition, Committable]]:
    """Commits as librdkafka reports them."""
    return [(partition_of(p), Committable(p.offset, p.metadata or "")) for p in partitions]


def read_positions_of(consumer: Consumer, partitions: Iterable[Partition]) -> dict[Partition, ReadPosition]:
    """The reading of each partition, as far as the client knows it: this asks no broker."""
    positions = {}
    for p in _positions(consumer, partitions):
        first = OFFSET_INVALID
        with suppress(KafkaException):
            first, _ = consumer.get_watermark_offsets(p, cached=True)  # from the newest answer to a fetch
        # The client's special values are negative.
        position, first_offset = (None if offset < 0 else offset for offset in (p.offset, first))
        epoch = next((mark.epoch for mark in _marks(p)), None)
        positions[partition_of(p)] = ReadPosition(position, first_offset, epoch)
    return positions
