"""Throughput: a destination's recent speed. Its lane holds only as many deliveries as it can send in time."""

from __future__ import annotations

from typing import Final, final

_SPAN_SECS: Final = 2.0
"""Length of a span. Two spans count: short enough to notice a silent bus, long enough for calls of a second."""
_HALF_LIFE_SECS: Final = 60.0
"""Time after which a delivery counts half as much for the pace."""
_GAP_SECS: Final = 10.0
"""Longest gap between two deliveries that counts for the pace. In a longer one there was nothing to deliver."""


@final
class Throughput:
    """Deliveries of the last two spans, and of the last minutes. Times are seconds of one monotonic clock."""

    __slots__ = ("_before", "_count", "_secs", "_since", "_taken", "last")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._count = 0
        self._before = 0
        self._taken = 0.0
        self._secs = 0.0
        self.last = float("-inf")
        """Time of the last delivery."""

    def add(self, deliveries: int, now: float) -> None:
        """Count deliveries."""
        self._turn(now)
        self._count += deliveries
        gap = min(now - self.last, _GAP_SECS) if self._taken else 0.0
        kept = 0.5 ** (gap / _HALF_LIFE_SECS)
        self._taken = self._taken * kept + deliveries
        self._secs = self._secs * kept + gap
        self.last = now

    @property
    def pace(self) -> float:
        """Deliveries a second over the last minutes, pauses left out; 0 before the first delivery."""
        return self._taken / max(self._secs, 1.0)

    def per_second(self, now: float) -> float:
        """Deliveries a second over the last two spans."""
        self._turn(now)
        return (self._before + self._count) / (_SPAN_SECS + now - self._since)

    def _turn(self, now: float) -> None:
        passed = now - self._since
        if passed >= 2 * _SPAN_SECS:
            self._before = self._count = 0
            self._since = now
        elif passed >= _SPAN_SECS:
            self._before, self._count = self._count, 0
            self._since += _SPAN_SECS
