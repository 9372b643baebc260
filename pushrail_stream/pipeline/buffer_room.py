"""The room in memory for records that have not settled: of the worker as a whole, and of each partition.

Beyond the bounds the consumer pauses. Before that, the dispatcher makes room for the others when deliveries to some
destinations take too much of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, final

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Backpressure
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.early_records import EarlyRecords
from pushrail_stream.pipeline.policy import BufferLimits
from pushrail_stream.ports.pipeline import Observer

_PRESSED_SHARE: Final = 0.5
"""Share of the limits at which the dispatcher sheds load. Calls to silent buses take seconds to come back."""
_SHED_EVERY_SECS: Final = 0.5
"""Seconds between two requests to shed load."""
_EARLY_SHARE: Final = 0.5
"""Largest share of the limits that early records count for, so that due records never wait for them."""
_BLOCKING_OFFSETS: Final = 1_000
"""Oldest offsets of a partition that are searched for open records when its span is full of settled ones."""


@final
class BufferRoom:
    """Tells when there is no room for more records. Lives on the event loop."""

    def __init__(self, limits: BufferLimits, dispatcher: Dispatcher, early: EarlyRecords, observe: Observer) -> None:
        self._limits = limits
        self._dispatcher = dispatcher
        self._early = early
        self._observe = observe
        self.is_full = False
        """Whether the worker has no room for more records of any partition."""
        self.full_partitions = frozenset[Partition]()
        """The partitions that have no room for more records."""
        self._shed_at = float("-inf")

    def measure(
        self, trackers: Mapping[Partition, OffsetTracker], replaced: Collection[OffsetTracker], now: float
    ) -> None:
        """Measure the records in memory, and make room if it is scarce. ``replaced``: earlier trackers."""
        limits, holding_some = self._limits, [*trackers.values(), *replaced]
        events = sum(tracker.open_records for tracker in holding_some)
        size = sum(tracker.open_bytes for tracker in holding_some)
        is_pressed = events >= limits.max_events * _PRESSED_SHARE or size >= limits.max_bytes * _PRESSED_SHARE
        early_events, early_bytes = self._early.total()
        events += min(early_events, int(limits.max_events * _EARLY_SHARE))
        size += min(early_bytes, int(limits.max_bytes * _EARLY_SHARE))
        share = limits.resume_share if self.is_full else 1.0
        is_full = events >= limits.max_events * share or size >= limits.max_bytes * share
        if is_full != self.is_full:
            self.is_full = is_full
            self._observe(Backpressure(is_full, events, size))
        self.full_partitions = frozenset(p for p, tracker in trackers.items() if self._has_no_room(p, tracker))
        if (is_pressed or self.full_partitions) and now >= self._shed_at + _SHED_EVERY_SECS:
            self._shed_at = now
            self._shed_load(trackers, is_pressed=is_pressed)

    def _has_no_room(self, partition: Partition, tracker: OffsetTracker) -> bool:
        share = self._limits.resume_share if partition in self.full_partitions else 1.0
        return (
            tracker.span >= self._limits.partition_max_offsets * share
            or tracker.open_bytes >= self._limits.partition_max_bytes * share
        )

    def _shed_load(self, trackers: Mapping[Partition, OffsetTracker], *, is_pressed: bool) -> None:
        """Make room when deliveries to some destinations block the others."""
        self._dispatcher.shed_late(
            {tracker for p, tracker in trackers.items() if is_pressed or p in self.full_partitions}
        )
        if is_pressed:
            self._dispatcher.shed_load()
        blocking_head = {
            pending
            for partition in self.full_partitions
            if (tracker := trackers[partition]).is_mostly_settled
            for pending in tracker.oldest(_BLOCKING_OFFSETS)
        }
        if blocking_head:
            self._dispatcher.evict(lambda delivery: delivery.pending in blocking_head)
