"""Stretches: the records that a consumer without a group has read, by partition, until they are taken.

Destinations that are behind take a part of what was read, and the rest soon after. A stretch keeps the rest, because a
new fetch at its first offset would throw away all that was fetched.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, cast, final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from pushrail_stream.core.record import Partition, Record, TopicIdentity
from pushrail_stream.kafka.commits import read_positions_of
from pushrail_stream.kafka.records import records_of, take_messages
from pushrail_stream.pipeline.catch_up import Reading

_POLL_SECS: Final = 0.1
"""Longest wait of one poll, in seconds, while nothing is left to hand out."""
_BATCH: Final = 500
"""Most records of one poll. The reading of a partition that is not wanted now ends when as many are kept."""
_BATCH_BYTES: Final = 4 * 2**20
"""Bytes of records after which a poll ends, to bound its memory."""
_KEPT_BYTES: Final = 16 * 2**20
"""Bytes of all records that are kept. Beyond them, partitions that are not wanted now are forgotten."""
_STOP_SECS: Final = 5.0
"""Longest wait until a consumer has ended the reading of a partition, in seconds. It takes a millisecond."""
_STOP_PAUSE_SECS: Final = 0.001
"""Seconds between two looks at whether it has ended."""


class StuckConsumerError(Exception):
    """A consumer does not end the reading of a partition, so what it says of the partition cannot be trusted."""


class _Gap(NamedTuple):
    """Offsets without a record, before a record or a marker of this leader epoch."""

    start: int
    epoch: int | None


@final
class _Stretch:
    """Records of one partition, in order: all from ``start`` to below ``end`` that Kafka still has."""

    __slots__ = ("end", "epoch", "first", "is_read", "log", "records", "size", "start")

    def __init__(self, start: int, log: int | None) -> None:
        self.start = self.end = start
        self.log = log
        """The number of the log that was known when the reading began."""
        self.first = 0
        """The first offset that Kafka still has, as far as it is known."""
        self.records = deque[Record]()
        self.size = 0
        self.epoch: int | None = None
        """Leader epoch of the last record that came."""
        self.is_read = False
        """Whether the consumer reads on at ``end``."""

    def has(self, offset: int, log: int | None) -> bool:
        """Whether the stretch goes on from this offset of this log."""
        return self.start <= offset <= self.end and self.log == log

    def begin_at(self, offset: int) -> None:
        """Forget what is below."""
        records = self.records
        while records and records[0].offset < offset:
            self.size -= _size(records.popleft())
        self.start = max(self.start, offset)

    def reading(self, partition: Partition) -> Reading:
        """The stretch as a value. Records that were read before retention removed them count as there."""
        first = min(self.first, self.records[0].offset) if self.records else self.first
        return Reading(partition, self.start, self.end, tuple(self.records), first, self.log, self.epoch)

    def add(self, records: Iterable[Record], known_gap: _Gap | None) -> _Gap | None:
        """Add records that came, without those of a reset to an earlier offset, up to a doubtful gap. Returns this one.

        A gap is doubtful when the next record's leader was elected after the last record came. When a log has lost its
        end, librdkafka throws away the records that it has fetched, and goes on at the new end: those between were not
        lost. ``known_gap`` was read twice, so the log has it.
        """
        for record in records:
            gap = _Gap(self.end, record.leader_epoch)
            if (
                record.offset > self.end
                and gap != known_gap
                and (self.epoch is None or record.leader_epoch != self.epoch)
            ):
                return gap
            if record.offset >= self.end:
                self.records.append(record)
                self.size += _size(record)
                self.end, self.epoch = record.offset + 1, record.leader_epoch
        return None

    def pass_to(self, position: int, epoch: int | None, known_gap: _Gap | None) -> _Gap | None:
        """Pass markers, to the client's position, or return a doubtful gap before it, as `add` does."""
        if position > self.end:
            gap = _Gap(self.end, epoch)
            if None not in {epoch, self.epoch} and epoch != self.epoch and gap != known_gap:
                return gap
            self.end = position
            self.epoch = self.epoch if epoch is None else epoch
        return None


@final
class Stretches:
    """The partitions that one consumer reads. Only the thread that owns the consumer may use them."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._stretches: dict[Partition, _Stretch] = {}
        self._offered: dict[Partition, int] = {}
        """The places from which the last readings had records."""
        self._gaps: dict[Partition, _Gap] = {}
        """The last doubtful gap of each partition."""
        self.failed: list[tuple[Partition, int, KafkaError]] = []
        """Errors that came in the place of records since the last `read`, with the offset to read on from."""

    def read(
        self,
        plan: Mapping[Partition, int],
        topics: Mapping[str, TopicIdentity],
        logs: Mapping[Partition, int] = MappingProxyType({}),
    ) -> Sequence[Reading]:
        """Read on in the wanted partitions, each from its offset. Waits a moment when nothing is there.

        ``logs``: the numbers of the partitions' logs, as in `CatchUp.logs`. Raises `StuckConsumerError` when the
        consumer is of no use any more.
        """
        self.failed.clear()
        self._follow(plan, logs)
        if not all(self._stretches[partition].records for partition in plan):
            has_some = any(self._stretches[partition].records for partition in plan)
            self._poll(plan, 0 if has_some else _POLL_SECS, topics)
        self._offered = {p: place for p, place in plan.items() if self._stretches[p].records}
        return [
            stretch.reading(partition)
            for partition in plan
            if (stretch := self._stretches[partition]).end > stretch.start
        ]

    def _follow(self, plan: Mapping[Partition, int], logs: Mapping[Partition, int]) -> None:
        """Read exactly from the plan's offsets, and keep what is known of the other partitions.

        Records that were read before the log's number changed, or that were offered in vain, may be those of a log
        that Kafka has lost: they are read again.
        """
        self._forget(
            [
                partition
                for partition, place in plan.items()
                if (old := self._stretches.get(partition))
                and (self._offered.get(partition) == place or not old.has(place, logs.get(partition)))
            ]
        )
        if sum(stretch.size for stretch in self._stretches.values()) > _KEPT_BYTES:
            self._forget([partition for partition in self._stretches if partition not in plan])
        for partition, place in plan.items():
            self._stretches.setdefault(partition, _Stretch(place, logs.get(partition))).begin_at(place)
        begun = {p: self._stretches[p] for p in plan if not self._stretches[p].is_read}
        if begun:
            self._consumer.incremental_assign([TopicPartition(*p, stretch.end) for p, stretch in begun.items()])
            for stretch in begun.values():
                stretch.is_read = True

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self._end([partition for partition in partitions if self._stretches[partition].is_read])
        for partition in partitions:
            del self._stretches[partition]

    def _end(self, partitions: Sequence[Partition]) -> None:
        """End the reading, and wait until the consumer no longer has a position.

        Until then it may hand out records and the position of the earlier reading, also after a new one has begun.
        Cursors would pass over the records between.
        """
        if not partitions:
            return
        places = [TopicPartition(*partition) for partition in partitions]
        self._consumer.incremental_unassign(places)
        for partition in partitions:
            self._stretches[partition].is_read = False
        deadline = time.monotonic() + _STOP_SECS
        while any(place.offset >= 0 for place in self._consumer.position(places)):
            if time.monotonic() >= deadline:
                raise StuckConsumerError
            time.sleep(_STOP_PAUSE_SECS)

    def _poll(self, plan: Mapping[Partition, int], wait_secs: float, topics: Mapping[str, TopicIdentity]) -> None:
        came: dict[Partition, list[Message]] = {}
        for message in take_messages(self._consumer, wait_secs, _BATCH, _BATCH_BYTES):
            partition = Partition(message.topic() or "", cast("int", message.partition()))
            stretch = self._stretches.get(partition)
            if (error := message.error()) is not None:
                end = 0 if stretch is None else stretch.end
                self.failed.append((partition, max(end, message.offset() or 0), error))
            elif stretch is not None and stretch.is_read:
                came.setdefault(partition, []).append(message)
        for partition, messages in came.items():
            stretch = self._stretches[partition]
            gap = stretch.add(records_of(messages, topics), self._gaps.get(partition))
            if gap is not None:  # read again from there
                self._gaps[partition] = gap
                self._end([partition])
        self._note_positions(is_silent=wait_secs > 0 and not came and not self.failed)
        idle = [p for p, stretch in self._stretches.items() if p not in plan and len(stretch.records) >= _BATCH]
        self._end([partition for partition in idle if self._stretches[partition].is_read])

    def _note_positions(self, *, is_silent: bool) -> None:
        """Pass offsets without a record: gaps of transactions, and what retention has removed."""
        read = [partition for partition, stretch in self._stretches.items() if stretch.is_read]
        for partition, (position, first, epoch) in read_positions_of(self._consumer, read).items():
            stretch = self._stretches[partition]
            stretch.first = max(stretch.first, first or 0)
            gap = stretch.pass_to(position or 0, epoch, self._gaps.get(partition))
            if gap is not None:
                self._gaps[partition] = gap
                self._end([partition])
                continue
            if is_silent:  # the client has nothing below the first offset, and a log that is empty brings nothing
                stretch.end = max(stretch.end, stretch.first)


def _size(record: Record) -> int:
    return len(record.value or b"")
