"""The room in memory for the deliveries of cursors, shared fairly among the destinations that are behind.

A destination gets what its lane can send soon. When all of that together is too much, one upper limit
holds for every destination, and those that need less keep what they need. Bytes are shared in equal parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.lane import LEAST_FILL, ROOM, Lane
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.pipeline.policy import BufferLimits

_FRESH_SECS: Final = 0.25
"""Seconds for which a share counts. Computing the shares visits every cursor, and there may be 100,000."""
_SHARED_READ_FACTOR: Final = 3
"""Times `CursorRoom.of` that may wait for a destination while records are read for others too. Records that its cursor
does not take then are read again for it. With 1, ten destinations of one speed needed 3.0 records for each delivery;
with 2, they needed 1.7; with 3, they needed 1.3."""
_FULL_CALL: Final = 10
"""Deliveries of a full call to most buses. A destination that is not stuck has room for as many. With room for two,
10,000 destinations had 2.2 entries in a call after their sign-ins, and an event cost 1.6 times as much CPU."""
_ON_THEIR_WAY: Final = 1_000
"""Deliveries of one cursor that may be in calls and on the way to a topic, besides those that wait in the lane. It
bounds the dead letters in flight of a suspended destination. A window of 64 calls needs 640."""


@final
class CursorRoom:
    """Tells how many deliveries of cursors may be in memory. Lives on the event loop."""

    def __init__(
        self, trackers: Mapping[Partition, OffsetTracker], lanes: Mapping[str, Lane], limits: BufferLimits
    ) -> None:
        """``limits``: on the deliveries of all cursors. They come on top of the live reader's own."""
        self._trackers = trackers
        self._lanes = lanes
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._shared_at = float("-inf")
        self._most = limits.max_events
        """The most deliveries that wait for one destination."""
        self._most_of_shared_read = limits.max_events
        """The same while records are read for others too, unless the destination may have more."""
        self._most_bytes = limits.max_bytes
        """Bytes of one destination's deliveries in one partition."""
        self._left = limits.max_events
        """Deliveries that may still begin before the shares are computed again."""

    def began(self) -> None:
        """Note that a delivery of a cursor is in memory."""
        self._left -= 1

    def of(self, destination_id: str) -> int:
        """Deliveries that may wait in the destination's lane."""
        now = self._loop.time()
        if now >= self._shared_at + _FRESH_SECS:
            self._share(now)
        if self._most > LEAST_FILL:
            return min(self._want(destination_id, now), self._most)
        lane = self._lanes.get(destination_id)
        return self._most if lane is not None and lane.is_stuck(now) else max(self._most, _FULL_CALL)

    def of_shared_read(self, destination_id: str) -> int:
        """The same while records are read for others too. A stuck destination gets no more."""
        lane, room = self._lanes.get(destination_id), self.of(destination_id)
        if lane is not None and lane.is_stuck(self._loop.time()):
            return room
        return max(room, min(_SHARED_READ_FACTOR * room, self._most_of_shared_read))

    def is_hungry(self, cursor: Cursor) -> bool:
        """Whether the lane is half empty, and the cursor may fill it."""
        lane = self._lanes.get(cursor.destination_id)
        room = self.of(cursor.destination_id)
        return (lane is None or len(lane) <= room // 2) and self.takes(cursor, room)

    def is_filled(self, cursor: Cursor) -> bool:
        """Whether no further record needs to be read for this cursor."""
        return self._has(cursor, self.of(cursor.destination_id))

    def is_full(self, cursor: Cursor) -> bool:
        """Whether no further delivery of this cursor may wait in its lane, also of a read for others."""
        return self._has(cursor, self.of_shared_read(cursor.destination_id))

    def takes(self, cursor: Cursor, room: int = 0) -> bool:
        """Whether a further delivery of this cursor may be in memory, with ``room`` for those that wait in its lane."""
        if cursor.held == 0:
            return True
        return cursor.held < room + _ON_THEIR_WAY and cursor.held_bytes < self._most_bytes and self._left > 0

    def _has(self, cursor: Cursor, room: int) -> bool:
        lane = self._lanes.get(cursor.destination_id)
        return (lane is not None and len(lane) >= room) or not self.takes(cursor, room)

    def _want(self, destination_id: str, now: float) -> int:
        lane = self._lanes.get(destination_id)
        return ROOM if lane is None else lane.fill(now)

    def _share(self, now: float) -> None:
        self._shared_at = now
        held, cursors, destinations = 0, 0, set[str]()
        for tracker in self._trackers.values():
            for cursor in tracker.cursors.values():
                held += cursor.held
                cursors += 1
                destinations.add(cursor.destination_id)
        limits = self._limits
        if len(destinations) * LEAST_FILL >= limits.max_events:  # each wants at least its part
            self._most = max(1, limits.max_events // len(destinations))
        else:
            self._most = fair_share((self._want(name, now) for name in destinations), limits.max_events)
        self._most_of_shared_read = limits.max_events // max(1, len(destinations))
        self._most_bytes = limits.max_bytes // max(1, cursors)
        self._left = limits.max_events + _ON_THEIR_WAY - held


def fair_share(wants: Iterable[int], total: int) -> int:
    """The upper limit for each want at which all of them together get at most ``total``; at least 1."""
    ascending = sorted(wants)
    for number, want in enumerate(ascending):
        share = total // (len(ascending) - number)
        if want > share:
            return max(1, share)
        total -= want
    return max(total, *ascending[-1:], 1)
