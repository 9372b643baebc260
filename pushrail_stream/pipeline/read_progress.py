"""Read progress: the consumer's position in each partition, and the records that Kafka removed before they were read.

Transaction markers and aborted records take offsets too, and a consumer never sees them. So the consumer's position
counts and not the last record: every record below it that can be read has been read.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import RecordsTrimmed
from pushrail_stream.ports.pipeline import Observer

_SILENT_SECS: Final = 10.0
"""Seconds without a record after which a partition's queue counts as empty. Records that the client fetched before
Kafka removed them arrive within a second, because the client fetches little ahead."""


class ReadPosition(NamedTuple):
    """The position in one partition, by Kafka's client."""

    position: int | None
    """The offset after the last one that was read, markers included; None before anything was read."""
    first: int | None
    """The first offset that Kafka still has; None while unknown."""
    epoch: int | None = None
    """Leader epoch of the record or marker before the position; None while unknown."""


class _Last(NamedTuple):
    position: int | None
    since: float
    """Time at which it moved, or at which reading was last paused: seconds of the loop's clock."""


@final
class ReadProgress:
    """The positions of all assigned partitions. Nothing here runs per record."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._last: dict[Partition, _Last] = {}

    def note(
        self,
        partition: Partition,
        reading: ReadPosition,
        tracker: OffsetTracker,
        now: float,
        *,
        is_wanted: bool,
        ahead: int,
    ) -> None:
        """Note a position.

        ``is_wanted``: whether the partition is being read and not paused. ``ahead``: records that were read and have
        not begun. While there are some, the tracker must not pass over any offset.
        """
        position, first = reading.position, reading.first
        if tracker.next_offset is not None:
            position = max(tracker.next_offset, -1 if position is None else position)
        # Without a commit, reading begins at the first offset.
        shown, last = first if position is None else position, self._last.get(partition)
        if last is None or last.position != shown or not is_wanted:
            last = self._last[partition] = _Last(shown, now)
        for start, end in tracker.take_gaps():
            if first is not None and start < first:
                self._observe(RecordsTrimmed(partition, start, min(end, first)))
        if position is None or ahead:
            return
        if first is not None and position < first and now - last.since >= _SILENT_SECS:
            self._observe(RecordsTrimmed(partition, position, first))
            position = first
        tracker.pass_over(position)

    def of(self, partition: Partition, now: float) -> tuple[int | None, float]:
        """The position, and the seconds for which it has not moved although the partition was being read."""
        last = self._last.get(partition)
        return (None, 0.0) if last is None else (last.position, now - last.since)

    def forget(self, partition: Partition) -> None:
        """Forget a partition that is no longer ours."""
        self._last.pop(partition, None)
