"""The care of cursors: the rules that hold whether or not their records are read.

A cursor ends where its destination is deleted or given to another customer. The age of its deliveries begins again
after a fault of our own. Deliveries that are too old become dead letters without a call, once this worker has had them
for as long: it cannot know for how long their partition had no owner before. When a cursor comes near the start of the
log, its deliveries move to the last retry topic, before retention removes their records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import owner_mark
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.signals import CursorClosed, CursorEndangered
from pushrail_stream.pipeline.backlogs import Backlogs
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.settlement import Settlement

_EVERY_SECS: Final = 0.5
"""Seconds between two looks at all cursors, unless there are very many."""
_AT_ONCE: Final = 1_000
"""Cursors that one look takes care of: about 8 milliseconds. Of 10,000, each has its turn within 5 s."""
_NEAR_SHARE: Final = 0.1
"""A cursor is near the start of the log when its lowest offset is in this share of the offsets that Kafka keeps.
Retention removes whole segments, and a partition that is limited by size has about ten or more."""


@final
class CursorCare:
    """Looks after all cursors. Lives on the event loop."""

    def __init__(
        self,
        ports: Ports,
        policy: Policy,
        settlement: Settlement,
        backlogs: Backlogs,
        trackers: Mapping[Partition, OffsetTracker],
        lanes: Mapping[str, Lane],
    ) -> None:
        """``trackers``: of the partitions that are ours now. ``lanes``: of all destinations."""
        self._clock = ports.clock
        self._directory = ports.directory
        self._observe = ports.observe
        self._retry = policy.retry
        self._settlement = settlement
        self._backlogs = backlogs
        self._trackers = trackers
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._looked_at = float("-inf")
        self._left = list[tuple[Partition, OffsetTracker, Cursor]]()
        """Cursors that the next looks take care of."""

    def look(self) -> None:
        """Look after the cursors, unless that was done a moment ago. Of many, the next looks take the rest."""
        now = self._loop.time()
        if not self._left:
            if now < self._looked_at + _EVERY_SECS:
                return
            self._looked_at, self._left = now, list(self._cursors())
        turn, self._left = self._left[-_AT_ONCE:], self._left[:-_AT_ONCE]
        ours = [
            (partition, tracker, cursor)
            for partition, tracker, cursor in turn
            if self._trackers.get(partition) is tracker and tracker.cursors.get(cursor.destination_id) is cursor
        ]
        for name in {cursor.destination_id for _, _, cursor in ours} & self._lanes.keys():
            self._backlogs.adopt_late(self._lanes[name])
        for partition, tracker, cursor in ours:
            self._look_after(partition, tracker, cursor, self._clock.now_ms())

    def document_changed(self, destination_id: str) -> None:
        """End the destination's cursors at once if it was deleted, or is another customer's now."""
        for partition, tracker in self._trackers.items():
            cursor = tracker.cursors.get(destination_id)
            if cursor is not None:
                self.ends(partition, tracker, cursor)

    def ends(self, partition: Partition, tracker: OffsetTracker, cursor: Cursor) -> bool:
        """Whether the destination was deleted, or is another customer's now. Its cursor ends where the live reader is.

        A destination that is restored gets the events that were not skipped yet.
        """
        destination = self._directory.get(cursor.destination_id)
        if destination is not None and cursor.serves(owner_mark(*destination.owner)):
            return False
        if cursor.to is None:
            cursor.close(tracker.untouched_from)
            self._observe(CursorClosed(partition, cursor.destination_id, "deleted"))
        return True

    def due_ms(self, record: Record, cursor: Cursor) -> int:
        """Epoch milliseconds from which the age of a record's delivery counts."""
        return max(record.recorded_at_ms or 0, cursor.opened_ms)

    def is_expired(self, record: Record, cursor: Cursor, destination: Destination) -> bool:
        """Whether the delivery of this record is too old for a call."""
        return self._is_expired(record.recorded_at_ms or 0, cursor, self._clock.now_ms(), destination)

    def _is_expired(self, due_ms: int, cursor: Cursor, now_ms: int, destination: Destination) -> bool:
        """Whether a delivery with this due time has reached its greatest age while this worker had the cursor."""
        since_ms = now_ms if cursor.taken_ms is None else max(due_ms, cursor.opened_ms, cursor.taken_ms)
        return now_ms - since_ms >= self._retry.max_age_secs(destination) * 1000

    def _look_after(self, partition: Partition, tracker: OffsetTracker, cursor: Cursor, now_ms: int) -> None:
        lane = self._lanes.get(cursor.destination_id)
        is_gone = self.ends(partition, tracker, cursor)
        if lane is not None and lane.health.own_fault is not None:
            cursor.begin_age(now_ms)
        if cursor.taken_ms is None:
            cursor.taken_ms = now_ms
        destination = self._directory.get(cursor.destination_id)
        is_late = destination is None or self._is_expired(cursor.position_ms, cursor, now_ms, destination)
        cursor.is_urgent = is_gone or is_late
        if lane is not None and self._is_expired(0, cursor, now_ms, lane.destination):
            self._expire_waiting(cursor, lane, now_ms)
        self._watch_start(partition, tracker, cursor, lane)

    def _cursors(self) -> Iterator[tuple[Partition, OffsetTracker, Cursor]]:
        for partition, tracker in self._trackers.items():
            for cursor in tracker.cursors.values():
                yield partition, tracker, cursor

    def _expire_waiting(self, cursor: Cursor, lane: Lane, now_ms: int) -> None:
        """Give up the deliveries that have waited in the lane for too long, and not because of us."""

        def is_expired(delivery: Delivery) -> bool:
            if delivery.pending.owner is not cursor or delivery.first_attempt_ms is None:
                return False
            if delivery.problem is not None and delivery.problem.is_our_delay:
                return False
            return self._is_expired(delivery.first_attempt_ms, cursor, now_ms, lane.destination)

        for delivery in lane.deliveries.drop(is_expired):
            self._settlement.expire(delivery, lane.destination.bus.arn)

    def _watch_start(self, partition: Partition, tracker: OffsetTracker, cursor: Cursor, lane: Lane | None) -> None:
        """Move the cursor's deliveries to the last retry topic while it is near the start of the log."""
        near = tracker.log_start + int((tracker.read_to - tracker.log_start) * _NEAR_SHARE)
        is_near = tracker.log_start > 0 and cursor.lowest < near
        if is_near and not cursor.is_near_start:
            where = (partition, cursor.destination_id, cursor.lowest, tracker.log_start)
            self._observe(CursorEndangered(*where))
        cursor.is_near_start = is_near
        if is_near and lane is not None:
            for delivery in lane.deliveries.drop(
                lambda waiting: waiting.pending.owner is cursor and waiting.pending.offset < near
            ):
                self._settlement.keep(delivery)
