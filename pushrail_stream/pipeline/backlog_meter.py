"""Measures backlogs: the events that a destination which has fallen behind has still to get, and how fast they go.

A commit is already past these events, so the lag of the consumer group does not show them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.pipeline.stats import BacklogStats

_SPAN_SECS: Final = 20.0
"""Seconds over which a backlog's speed is measured: long enough for a reader that fills a lane in steps of up to half
a second, and short enough to notice within half a minute that a bus is back."""
_STEP_SECS: Final = 1.0
"""Shortest time between two sizes that are kept, in seconds. A size is kept when it is measured: at scrapes, and every
5 s for the worker's record."""
_SECS_PER_CURSOR: Final = 0.0002
"""Seconds for which a measurement counts, for each cursor. Measuring one takes about 8 microseconds, so screens and
scrapes take at most 4 % of a processor for any number of cursors."""
_AT_ONCE: Final = 1_000
"""Cursors that are measured in one turn of the event loop: about 8 milliseconds."""
_LEAST_SECS: Final = 3.0
"""Shortest time over which a speed is measured, in seconds: over less, one step of the reader would decide it."""


@final
class BacklogMeter:
    """Measures the backlogs of one worker. Lives on the event loop."""

    def __init__(self, trackers: Mapping[Partition, OffsetTracker], lanes: Mapping[str, Lane]) -> None:
        """``trackers``: of the events partitions that are ours now. ``lanes``: of all destinations."""
        self._trackers = trackers
        self._lanes = lanes
        self._sizes: dict[str, deque[tuple[float, int]]] = {}
        """By destination the sizes of its backlog, with their times; the oldest first."""
        self._measured: list[BacklogStats] = []
        self._measured_at = float("-inf")
        self._now = float("-inf")
        """Time of this turn of the event loop. A measurement may take seconds, and a lane must not see an earlier time
        than its last call's."""
        self._measuring: Iterator[None] | None = None
        """A measurement that goes on in the next turns of the event loop."""

    def measure(self, now: float) -> Sequence[BacklogStats]:
        """The backlogs, the largest first: of this moment, or of some seconds ago where there are very many."""
        cursors = sum(len(tracker.cursors) for tracker in self._trackers.values())
        if self._measuring is None and (not cursors or now - self._measured_at >= cursors * _SECS_PER_CURSOR):
            self._measured_at, self._measuring = now, self._measure()
            self._go_on(self._measuring, now)
        return self._measured

    def _go_on(self, measuring: Iterator[None], now: float) -> None:
        """Measure what one turn of the event loop has time for."""
        self._now = now
        if next(measuring, self) is self:
            self._measuring = None
        else:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: self._go_on(measuring, loop.time()))

    def _measure(self) -> Iterator[None]:
        """Measure all backlogs, and yield after a number of cursors."""
        behind, found, done = dict[str, list[tuple[Cursor, int]]](), list[BacklogStats](), 0
        for cursor, live_next in list(self._cursors()):
            if cursor.to is None or cursor.waiting or cursor.unread(live_next):
                behind.setdefault(cursor.destination_id, []).append((cursor, live_next))
            if (done := done + 1) % _AT_ONCE == 0:
                yield
        for name, cursors in behind.items():
            found.append(self._one(name, cursors, self._now))
            if (done := done + len(cursors)) % _AT_ONCE < len(cursors):
                yield
        self._sizes = {one.destination_id: self._sizes[one.destination_id] for one in found}
        self._measured = sorted(found, key=lambda one: (-one.events, one.destination_id))

    def _cursors(self) -> Iterator[tuple[Cursor, int]]:
        for tracker in self._trackers.values():
            for cursor in tracker.cursors.values():
                yield cursor, tracker.read_to

    def _one(self, destination_id: str, cursors: Sequence[tuple[Cursor, int]], now: float) -> BacklogStats:
        lane = self._lanes.get(destination_id)
        waiting = sum(cursor.waiting for cursor, _ in cursors)
        unread = sum(cursor.unread(live_next) for cursor, live_next in cursors)
        return BacklogStats(
            destination_id,
            len(cursors),
            min(cursor.opened_ms for cursor, _ in cursors),
            waiting,
            unread,
            min(cursor.oldest_ms for cursor, _ in cursors),
            0.0 if lane is None else lane.health.throughput.per_second(now),
            self._catch_up_secs(destination_id, waiting + unread, now),
        )

    def _catch_up_secs(self, destination_id: str, size: int, now: float) -> float | None:
        """Seconds until nothing is left, at the speed of the last seconds; None while the backlog does not shrink."""
        sizes = self._sizes.setdefault(destination_id, deque())
        while len(sizes) > 1 and now - sizes[1][0] >= _SPAN_SECS:
            sizes.popleft()
        if not sizes or now - sizes[-1][0] >= _STEP_SECS:
            sizes.append((now, size))
        since, before = sizes[0]
        if now - since < _LEAST_SECS or size >= before:
            return None
        return size * (now - since) / (before - size)
