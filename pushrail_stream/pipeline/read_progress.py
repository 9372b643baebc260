"""How far each partition has been read: what Kafka removed unread, and where reading stands still.

Offsets are not records. Transaction markers and aborted records take offsets as well, and a consumer never sees them.
So the consumer's position counts, and not the last record: everything below it that can be read has been read.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import RecordsTrimmed
from pushrail_stream.ports.pipeline import Observer

_SILENT_SECS: Final = 10.0
"""How long a partition must bring nothing before its queue counts as empty. Records that the client fetched before
Kafka removed them arrive within a second, since the client fetches no more than a moment's work ahead."""


class ReadPosition(NamedTuple):
    """Where reading one partition stands, as Kafka's client says."""

    position: int | None
    """The offset after the last one that was read, markers included; None before anything was read."""
    first: int | None
    """The first offset that Kafka still has; None while unknown."""


class _Last(NamedTuple):
    position: int | None
    since: float
    """When it moved, or when reading was last held back: seconds of the loop's clock."""


@final
class ReadProgress:
    """The last reading of each assigned partition. Nothing here costs anything per record."""

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
        """Learn where reading stands.

        ``is_wanted``: whether the partition is being read, and not held back. ``ahead``: how many of its records have
        been read and not begun; while there are some, the tracker must not pass over anything.
        """
        position, first = reading.position, reading.first
        if tracker.next_offset is not None:
            position = max(tracker.next_offset, -1 if position is None else position)
        # Where nothing was committed, reading begins at the first offset there is.
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
        """The position, and how many seconds it has stood still although the partition was being read."""
        last = self._last.get(partition)
        return (None, 0.0) if last is None else (last.position, now - last.since)

    def forget(self, partition: Partition) -> None:
        """The partition is no longer ours."""
        self._last.pop(partition, None)
