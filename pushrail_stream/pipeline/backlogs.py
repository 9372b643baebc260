"""Backlogs: destinations that fall behind get a cursor on each partition where their deliveries wait.

A cursor takes over the first-time deliveries that wait in the destination's lane. Calls and copies in flight stay the
live reader's. A lane keeps only the deliveries that it can send soon, and the others are read again later.

While few deliveries wait, a cursor takes over only those that have waited for their turn for their whole hold. It has
no end to reach: the live reader keeps the records that follow.
"""

from __future__ import annotations

import math
from typing import Final, cast, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState, owner_mark
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import CursorOpened
from pushrail_stream.pipeline.assignment import Assignment
from pushrail_stream.pipeline.cursor_room import CursorRoom
from pushrail_stream.ports.pipeline import Clock, Observer

MAX_CURSORS: Final = 20_000
"""Most cursors of one partition. Each adds about 20 to 75 bytes to their snapshot: 1.5 MB at most. Further destinations
that fall behind get copies."""


@final
class Backlogs:
    """Opens cursors and tells how much a lane may take from them. Lives on the event loop."""

    def __init__(
        self,
        events: Assignment,
        room: CursorRoom,
        ledger: Ledger,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """``events``: of the events topic."""
        self._events = events
        self._room = room
        self._ledger = ledger
        self._clock = clock
        self._observe = observe

    def open(self, lane: Lane, _now: float) -> None:
        """Let cursors take over the lane's first-time deliveries, and keep only as many as it can send soon."""
        adopted: dict[Partition, int] = {}
        opened = dict[Partition, Cursor]()
        for delivery in lane.deliveries.waiting():
            partition = Partition(delivery.record.topic, delivery.record.partition)
            tracker = self._events.trackers.get(partition)
            if tracker is None or not _is_first(delivery, tracker):
                continue
            before = tracker.cursors.get(lane.destination.id)
            is_open = before is not None and before.to is None
            cursor = self._cursor(lane.destination, tracker, delivery)
            if cursor is None:
                continue
            cursor.reopen(tracker.read_to)
            if not is_open:
                opened[partition] = cursor
            self._adopt(delivery, cursor)
            adopted[partition] = adopted.get(partition, 0) + 1
        for partition, cursor in opened.items():
            self._observe(CursorOpened(partition, lane.destination.id, cursor.begins_at, adopted[partition]))
        self._events.cursors_added()
        self.trim(lane)

    def adopt_overdue(self, lane: Lane, until: float) -> None:
        """Let cursors take over the deliveries whose hold is over by then. A cursor that is new has no others."""
        for delivery in lane.deliveries.waiting():
            tracker = self._events.trackers.get(Partition(delivery.record.topic, delivery.record.partition))
            if delivery.hold_until > until or tracker is None or not _is_first(delivery, tracker):
                continue
            cursor = self._cursor(lane.destination, tracker, delivery)
            if cursor is not None:
                self._adopt(delivery, cursor)
                lane.has_cursor = True
        self._events.cursors_added()
        self.trim(lane)

    def adopt_late(self, lane: Lane) -> None:
        """Let open cursors take over deliveries that were in a call when they opened, and wait again."""
        for delivery in lane.deliveries.waiting():
            self.take_over(lane, delivery)

    def take_over(self, lane: Lane, delivery: Delivery) -> None:
        """Let its destination's open cursor, if there is one, take over a delivery that the live reader began."""
        tracker = self._events.trackers.get(Partition(delivery.record.topic, delivery.record.partition))
        if tracker is None or not _is_first(delivery, tracker):
            return
        cursor = tracker.cursors.get(lane.destination.id)
        if cursor is not None and cursor.to is None and cursor.serves(owner_mark(*lane.destination.owner)):
            self._adopt(delivery, cursor)

    def trim(self, lane: Lane) -> None:
        """Take the cursors' deliveries that the lane cannot send soon out of memory."""
        for delivery in lane.deliveries.trim(self._room.of_shared_read(lane.destination.id)):
            cast("Cursor", delivery.pending.owner).put_back(delivery.pending)  # nothing else reads a record again
            self._ledger.put_back += 1

    def _adopt(self, delivery: Delivery, cursor: Cursor) -> None:
        delivery.pending = cursor.adopt(delivery.pending)
        delivery.hold_until = math.inf
        if delivery.first_attempt_ms is None:
            delivery.first_attempt_ms = max(delivery.record.recorded_at_ms or 0, cursor.opened_ms)

    def _cursor(self, destination: Destination, tracker: OffsetTracker, delivery: Delivery) -> Cursor | None:
        """The destination's cursor, a new one without a part of its own if there is none; None when it can have none.

        That is so while the cursor of its former customer goes on, when the broker takes too little metadata to name
        cursors, and when there are too many of them.
        """
        cursor, owner = tracker.cursors.get(destination.id), owner_mark(*destination.owner)
        if cursor is not None:
            return cursor if cursor.serves(owner) else None
        if not self._events.metadata.can_name_cursors or len(tracker.cursors) >= MAX_CURSORS:
            return None
        state = CursorState(
            destination_id=destination.id,
            owner=owner,
            since=tracker.read_to,
            next=tracker.read_to,
            to=tracker.read_to,
            oldest_ms=delivery.pending.at_ms,
            opened_ms=self._clock.now_ms(),
        )
        cursor = tracker.cursors[destination.id] = Cursor(state, tracker)
        return cursor


def _is_first(delivery: Delivery, tracker: OffsetTracker) -> bool:
    """Whether the delivery is the live reader's, of a partition that is ours."""
    return delivery.pending.owner is tracker and not tracker.is_revoked
