"""Early records: records of a retry topic that were read before they are due.

All records of one tier wait equally long, so the head of a partition is always the next one due. A partition is not
read on while its head is far from due, or while too many of its records wait here. A record that was begun ahead of its
turn waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, final

from pushrail_stream.core.headers import BadHeader, DeliveryHeaders
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition, Record

_READ_AHEAD_SECS: Final = 1.0
"""Reading resumes this long before the head is due: the first record after a pause takes 0.7 to 1 s to arrive."""
_MAX_RECORDS: Final = 500
_MAX_BYTES: Final = 2 * 2**20
"""Early records of one partition that may wait in memory."""


class EarlyRecord(NamedTuple):
    """A record of a retry topic, and the time at which its delivery begins."""

    due_at: float
    """Seconds of the loop's clock, so that a change of the wall clock delays nothing."""
    record: Record
    headers: DeliveryHeaders | BadHeader
    tracker: OffsetTracker

    def is_due(self, now: float) -> bool:
        """Whether its delivery begins now, or has begun ahead of its turn."""
        return self.due_at <= now or self.tracker.is_ahead(self.record.offset)

    @property
    def size(self) -> int:
        """Bytes of the record's value."""
        return len(self.record.value or b"")


class _Queue:
    """The early records of one partition, in order."""

    def __init__(self) -> None:
        self.records: deque[EarlyRecord] = deque()
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.records) >= _MAX_RECORDS or self.bytes >= _MAX_BYTES


@final
class EarlyRecords:
    """The early records of all assigned partitions."""

    def __init__(self, begin: Callable[[EarlyRecord], None]) -> None:
        """``begin`` is called with each record when it is due."""
        self._begin = begin
        self._queues: dict[Partition, _Queue] = {}

    def add(self, partition: Partition, early: EarlyRecord) -> None:
        """Wait for a record that was just read."""
        queue = self._queues.setdefault(partition, _Queue())
        queue.records.append(early)
        queue.bytes += early.size

    def begin_due(self, now: float) -> None:
        """Begin the records that are due."""
        for partition, queue in list(self._queues.items()):
            while queue.records and queue.records[0].is_due(now):
                early = queue.records.popleft()
                queue.bytes -= early.size
                self._begin(early)
            if not queue.records:
                del self._queues[partition]

    def begin_all(self, partition: Partition) -> None:
        """Begin every record of a partition now, because Kafka may no longer have it."""
        queue = self._queues.pop(partition, None)
        for early in queue.records if queue is not None else ():
            self._begin(early)

    def drop(self, partition: Partition) -> None:
        """Drop the records of a revoked partition. Its next owner reads them again."""
        self._queues.pop(partition, None)

    def first_offset(self, partition: Partition) -> int | None:
        """The offset of the partition's first early record; None when there is none."""
        queue = self._queues.get(partition)
        return None if queue is None else queue.records[0].record.offset

    def size(self, partition: Partition) -> tuple[int, int]:
        """Records that wait, and their bytes."""
        queue = self._queues.get(partition)
        return (0, 0) if queue is None else (len(queue.records), queue.bytes)

    def total(self) -> tuple[int, int]:
        """As `size`, of all partitions."""
        queues = self._queues.values()
        if not queues:
            return 0, 0
        return sum(len(queue.records) for queue in queues), sum(queue.bytes for queue in queues)

    def paused(self, now: float) -> frozenset[Partition]:
        """Partitions that must not be read on for now."""
        soon = now + _READ_AHEAD_SECS
        return frozenset(p for p, queue in self._queues.items() if queue.records[0].due_at > soon or queue.is_full)
