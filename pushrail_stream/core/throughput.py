"""Throughput: what a destination took lately, so that its lane knows how much it may promise to send in time."""

from __future__ import annotations

from typing import Final, final

_SPAN_SECS: Final = 2.0
"""Two spans are looked at: short enough to see a bus fall silent, long enough for calls that take a second."""
_HALF_LIFE_SECS: Final = 60.0
"""The pace forgets half of what it knew in so long."""
_GAP_SECS: Final = 10.0
"""What passes between two deliveries counts for the pace up to this: in a longer gap nothing was there to be taken."""


@final
class Throughput:
    """Deliveries of one or two spans, and over a longer time. Times are seconds of one monotonic clock."""

    __slots__ = ("_before", "_count", "_secs", "_since", "_taken", "last")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._count = 0
        self._before = 0
        self._taken = 0.0
        self._secs = 0.0
        self.last = float("-inf")
        """When something was delivered last."""

    def add(self, deliveries: int, now: float) -> None:
        """So many were delivered."""
        self._turn(now)
        self._count += deliveries
        gap = min(now - self.last, _GAP_SECS) if self._taken else 0.0
        kept = 0.5 ** (gap / _HALF_LIFE_SECS)
        self._taken = self._taken * kept + deliveries
        self._secs = self._secs * kept + gap
        self.last = now

    @property
    def pace(self) -> float:
        """Deliveries a second as long as there were any, over the last minutes; 0 before the first."""
        return self._taken / max(self._secs, 1.0)

    def per_second(self, now: float) -> float:
        """Deliveries a second, lately."""
        self._turn(now)
        return (self._before + self._count) / (_SPAN_SECS + now - self._since)

    def _turn(self, now: float) -> None:
        passed = now - self._since
        if passed >= 2 * _SPAN_SECS:
            self._before = self._count = 0
            self._since = now
        elif passed >= _SPAN_SECS:
            self._before, self._count = self._count, 0
            self._since += _SPAN_SECS  # spans follow each other: nothing older than two of them counts
