"""The logs of partitions, numbered: a number changes when Kafka may have lost records of the log.

That may be at each election of a leader, and while the partition was not ours. Records that were read under an earlier
number may be among the lost ones, although the present log has others at their offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, final
from weakref import ReferenceType, ref

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition


class _Log(NamedTuple):
    tracker: ReferenceType[OffsetTracker]
    epoch: int | None
    number: int


@final
class KnownLogs:
    """The numbers of the logs of our partitions. A tracker lives for one assignment."""

    def __init__(self, trackers: Mapping[Partition, OffsetTracker]) -> None:
        """``trackers``: of the partitions that are ours now."""
        self._trackers = trackers
        self._logs: dict[Partition, _Log] = {}
        self._last = 0

    def number(self, partition: Partition) -> int | None:
        """The present number of the partition's log; None when the partition is not ours."""
        tracker = self._trackers.get(partition)
        if tracker is None:
            return None
        log = self._logs.get(partition)
        if log is None or log.tracker() is not tracker or log.epoch != tracker.epoch:
            self._last += 1
            log = self._logs[partition] = _Log(ref(tracker), tracker.epoch, self._last)
        return log.number

    def numbers(self) -> dict[Partition, int]:
        """The present numbers of all partitions that are ours. Forgets the others."""
        self._logs = {partition: log for partition, log in self._logs.items() if partition in self._trackers}
        return {partition: number for partition in self._trackers if (number := self.number(partition)) is not None}
