"""The log of one partition, as its leader has it: offsets, leader epochs, transactions, retention and compaction.

There is one log for all replicas. An unclean election is a truncation of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

ErrorCode = int
"""A code of `KafkaError`. A broker's are positive, the client's own are negative."""
Headers = tuple[tuple[str | bytes, bytes | None], ...]
"""Names are bytes where they are not UTF-8."""
NO_PRODUCER: Final = -1
_KEPT_BATCHES: Final = 5
"""Batches of each producer by which a broker recognizes a repeated one: as many as a producer may have on their way."""
_HEAD_BYTES: Final = 30
"""Approximate bytes of a record besides key, value and headers."""


class NewRecord(NamedTuple):
    """A record before it is in a log."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0

    @property
    def size(self) -> int:
        """Approximate bytes in a batch."""
        size = _HEAD_BYTES + len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value or b"")
        return size


class LogRecord:
    """A record in a log; or a transaction's marker, or the head of a batch that clients cannot read."""

    __slots__ = (
        "epoch", "headers", "is_aborted", "is_marker", "key", "last", "offset", "producer_id", "size", "timestamp_ms",
        "unreadable", "value",
    )  # fmt: skip

    def __init__(self, offset: int, epoch: int, new: NewRecord, producer_id: int = NO_PRODUCER) -> None:
        self.offset = offset
        self.last = offset
        """The last offset that this fills: above ``offset`` only for an unreadable batch."""
        self.epoch = epoch
        self.key, self.value, self.headers, self.timestamp_ms = new
        self.size = new.size
        """Approximate bytes."""
        self.producer_id = producer_id
        """The producer whose transaction it belongs to."""
        self.is_aborted = False
        self.is_marker = False
        """Whether it only ends a transaction. Clients skip it."""
        self.unreadable: ErrorCode | None = None


class Fetched(NamedTuple):
    """A broker's answer about one partition to a Fetch."""

    records: Sequence[LogRecord] = ()
    """Those to hand over: in order, with gaps, without markers, aborted records and what an open transaction hides."""
    next_offset: int = 0
    """The offset to fetch next: after the last record, marker or gap that was read."""
    epoch: int = -1
    """Leader epoch of the last record or marker that was read; -1 when there was none."""
    unreadable: LogRecord | None = None
    """The batch after ``records`` that the client cannot read. Fetching stands there."""
    high_watermark: int = -1
    last_stable: int = -1
    first: int = -1
    error: ErrorCode | None = None


class ProducerState:
    """The end of what a producer wrote to a partition."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[tuple[int, int, int]] = deque(maxlen=_KEPT_BATCHES)
        """First sequence number, number of records and first offset of the newest batches."""

    @property
    def next_sequence(self) -> int:
        """The sequence number that must come next."""
        if not self.batches:
            return 0
        first, count, _ = self.batches[-1]
        return first + count


class PartitionLog:
    """The records of a partition and its leadership."""

    def __init__(self, topic: str, number: int, replicas: Sequence[int]) -> None:
        self.topic = topic
        self.number = number
        self.replicas = tuple(replicas)
        self.leader: int | None = self.replicas[0]
        self.is_deleted = False
        self.epoch = 0
        self.first = 0
        self.end = 0
        self.records: list[LogRecord] = []
        self._epoch_starts: list[tuple[int, int]] = [(0, 0)]
        """Leader epochs with their first offsets."""
        self._open: dict[int, int] = {}
        """By producer the first offset of its open transaction."""
        self._producers: dict[int, ProducerState] = {}
        self._waiting: list[Callable[[], None]] = []

    @property
    def last_stable(self) -> int:
        """The offset at which readers of committed records stand."""
        return min(self._open.values()) if self._open else self.end

    def append(
        self,
        records: Sequence[NewRecord],
        *,
        producer: tuple[int, int] = (NO_PRODUCER, -1),
        sequence: int = -1,
        is_transactional: bool = False,
    ) -> int:
        """Append a batch; its first offset. Raises `AppendRefused`.

        ``producer``: id and epoch. ``sequence``: of the first record. A batch that is repeated is not written again.
        """
        producer_id, producer_epoch = producer
        base = self.end
        if producer_id != NO_PRODUCER:
            known = self._check_producer(producer_id, producer_epoch, sequence, len(records))
            if known is not None:
                return known
            self._producers[producer_id].batches.append((sequence, len(records), base))
        if is_transactional:
            self._open.setdefault(producer_id, base)
        owner = producer_id if is_transactional else NO_PRODUCER
        self.records += [LogRecord(base + i, self.epoch, record, owner) for i, record in enumerate(records)]
        self.end += len(records)
        self.wake()
        return base

    def has_open(self, producer_id: int) -> bool:
        """Whether a transaction of this producer is open here."""
        return producer_id in self._open

    def append_unreadable(self, count: int, error: ErrorCode, timestamp_ms: int = 0) -> int:
        """Append a batch of ``count`` records that no client of this librdkafka can read; its first offset."""
        batch = LogRecord(self.end, self.epoch, NewRecord(None, None, timestamp_ms=timestamp_ms))
        batch.last = self.end + count - 1
        batch.unreadable = error
        self.records.append(batch)
        self.end += count
        self.wake()
        return batch.offset

    def _check_producer(self, producer_id: int, epoch: int, sequence: int, count: int) -> int | None:
        """The first offset of the batch if it is here already."""
        state = self._producers.get(producer_id)
        if state is None or state.epoch < epoch:
            if state is not None and sequence != 0:
                raise AppendRefused(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            state = self._producers[producer_id] = ProducerState(epoch)
            if sequence != 0:  # the broker has forgotten the producer, as after a truncation
                return None
        if state.epoch > epoch:
            raise AppendRefused(KafkaError.INVALID_PRODUCER_EPOCH)
        for first, length, offset in state.batches:
            if (first, length) == (sequence, count):
                return offset
        if state.batches and sequence != state.next_sequence:
            raise AppendRefused(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        return None

    def end_transaction(self, producer: tuple[int, int], *, is_committed: bool) -> None:
        """Append the marker that ends a producer's transaction here. The marker fills an offset."""
        producer_id, epoch = producer
        begun = self._open.pop(producer_id, None)
        state = self._producers.setdefault(producer_id, ProducerState(epoch))
        if epoch > state.epoch:
            self._producers[producer_id] = ProducerState(epoch)
        if begun is not None and not is_committed:
            for record in self.records[self._index(begun) :]:
                record.is_aborted |= record.producer_id == producer_id
        marker = LogRecord(self.end, self.epoch, NewRecord(None, None))
        marker.is_marker = True
        self.records.append(marker)
        self.end += 1
        self.wake()

    def read(
        self, offset: int, epoch: int = -1, *, max_bytes: int = 2**20, max_records: int = 10_000, committed_only: bool
    ) -> Fetched:
        """Answer a Fetch of a consumer that believes in this leader epoch (-1: in none)."""
        if (error := self.fence(epoch)) is not None:
            return Fetched(error=error)
        if not self.first <= offset <= self.end:
            return self._answer((), offset, error=KafkaError.OFFSET_OUT_OF_RANGE)
        limit = self.last_stable if committed_only else self.end
        found: list[LogRecord] = []
        size, position, newest = 0, offset, -1
        for index in range(self._index(offset), len(self.records)):
            record = self.records[index]
            if record.offset >= limit or len(found) >= max_records or size >= max_bytes:
                return self._answer(found, position, newest)
            if record.unreadable is not None:
                return self._answer(found, position, newest, record)
            position, newest = record.offset + 1, record.epoch
            if not record.is_marker and not (committed_only and record.is_aborted):
                found.append(record)
                size += record.size
        return self._answer(found, max(position, limit), newest)

    def _answer(
        self,
        records: Sequence[LogRecord],
        next_offset: int,
        epoch: int = -1,
        unreadable: LogRecord | None = None,
        error: ErrorCode | None = None,
    ) -> Fetched:
        return Fetched(records, next_offset, epoch, unreadable, self.end, self.last_stable, self.first, error)

    def fence(self, epoch: int) -> ErrorCode | None:
        """The error for a client that believes in another leader epoch."""
        if epoch < 0 or epoch == self.epoch:
            return None
        return KafkaError.FENCED_LEADER_EPOCH if epoch < self.epoch else KafkaError.UNKNOWN_LEADER_EPOCH

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """Answer OffsetForLeaderEpoch: the newest epoch up to this one, and its end; -1 and -1 if that is unknown."""
        if epoch == self.epoch:
            return epoch, self.end
        older = [entry for entry in self._epoch_starts if entry[0] <= epoch]
        newer = [entry for entry in self._epoch_starts if entry[0] > epoch]
        if not newer:
            return -1, -1
        return (older[-1][0] if older else epoch), newer[0][1]

    def offset_for_time(self, timestamp_ms: int) -> tuple[int, int]:
        """The first record of this time or later: its offset and time; -1 and -1 if there is none."""
        found = (record for record in self.records if record.timestamp_ms >= timestamp_ms and not record.is_marker)
        record = next(found, None)
        return (-1, -1) if record is None else (record.offset, record.timestamp_ms)

    def elect(self, leader: int | None, truncate_to: int | None = None) -> None:
        """Make this broker the leader, in a new epoch. ``truncate_to``: the end after an unclean election."""
        self.leader = leader
        if truncate_to is not None:
            self._truncate(truncate_to)
        if leader is not None:
            self.epoch += 1
            self._epoch_starts.append((self.epoch, self.end))
        self.wake()

    def _truncate(self, end: int) -> None:
        end = max(self.first, min(end, self.end))
        del self.records[self._index(end) :]
        if self.records and self.records[-1].last >= end:
            end = self.records.pop().offset  # a batch is kept whole or not at all
        self.end = end
        self._epoch_starts = [entry for entry in self._epoch_starts if entry[1] < end] or [(self.epoch, end)]
        self._open = {producer: first for producer, first in self._open.items() if first < end}
        for state in self._producers.values():
            state.batches = deque((b for b in state.batches if b[2] + b[1] <= end), maxlen=_KEPT_BATCHES)
        self._producers = {producer: state for producer, state in self._producers.items() if state.batches}

    def remove_before(self, offset: int) -> None:
        """Move the first offset, as retention does."""
        offset = max(self.first, min(offset, self.end))
        index = self._index(offset)
        if index < len(self.records) and self.records[index].offset < offset:
            index += 1
        del self.records[:index]
        self.first = offset
        older = [entry for entry in self._epoch_starts if entry[1] <= offset]
        if older:
            self._epoch_starts = [(older[-1][0], offset), *self._epoch_starts[len(older) :]]

    def compact(self, before: int, *, drop_tombstones: bool = False) -> None:
        """Keep the newest record of each key, as far as ``before``. Offsets stay, and gaps remain."""
        before = min(before, self.last_stable)
        newest = {
            r.key: r.offset for r in self.records if r.unreadable is None and not r.is_marker and not r.is_aborted
        }

        def is_kept(record: LogRecord) -> bool:
            if record.offset >= before or record.unreadable is not None:
                return True
            if record.is_aborted or newest.get(record.key) != record.offset:
                return record.is_marker
            return record.value is not None or not drop_tombstones

        self.records = [record for record in self.records if is_kept(record)]

    def when_changed(self, wake: Callable[[], None]) -> None:
        """Call this once, when there is something new to read or another leader."""
        self._waiting.append(wake)

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def _index(self, offset: int) -> int:
        """The place of the first record or batch that fills ``offset`` or a later one."""
        return bisect_left(self.records, offset, key=lambda record: record.last)


class AppendRefused(Exception):  # noqa: N818 - an answer of a broker, not a fault of ours
    """A broker refuses to write a batch."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code
