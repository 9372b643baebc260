"""A worker's clock: wall time that a single jump of the machine's clock does not change.

Deliveries carry the time of their first attempt from worker to worker, so their age is a difference of wall times. A
machine's clock that jumps ahead for a minute must not make all that wait expire.
"""

from __future__ import annotations

import time
from typing import Final, final

_KEPT_SECS: Final = 600.0
"""Seconds for which the machine must keep the new time before it counts: operators set a wrong clock right by then."""
_NEW_SECS: Final = 60.0
"""Seconds from the start in which each jump counts at once: the machine may have started, too, and set its clock."""
_JUMP_MS: Final = 500
"""Milliseconds between two readings that are no jump: a clock that is set right in small steps never moves so far."""


@final
class SteadyClock:
    """Implements `ports.pipeline.Clock`."""

    __slots__ = ("_began_at", "_jumped_at", "_offset_ms")

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._offset_ms = time.time_ns() // 1_000_000 - 1000 * self._began_at
        """Wall time less the monotonic clock, in milliseconds."""
        self._jumped_at: float | None = None
        """Monotonic time at which a jump was noticed that does not count yet."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        wall_ms, now = time.time_ns() // 1_000_000, time.monotonic()
        offset_ms = wall_ms - 1000 * now
        if -_JUMP_MS < offset_ms - self._offset_ms < _JUMP_MS:
            self._jumped_at = None
        elif now - self._began_at >= _NEW_SECS:
            if self._jumped_at is None:
                self._jumped_at = now
            if now - self._jumped_at < _KEPT_SECS:
                return round(self._offset_ms + 1000 * now)
        self._offset_ms = offset_ms
        return wall_ms
