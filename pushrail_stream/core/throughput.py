"""Throughput: how many deliveries a second a destination has had lately.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import Final, final

_SPAN_SECS: Final = 2.0
"""Length of a span. Two spans count: short enough to notice a silent bus, long enough for calls of a second."""
KNOWN_SECS: Final = 2 * _SPAN_SECS
"""Longest time over which a speed is measured, in seconds."""
_LEAST_SECS: Final = 0.1
"""Shortest time over which a speed is measured, in seconds. The first deliveries would have an infinite one."""


@final
class Throughput:
    """A destination's recent speed."""

    __slots__ = ("_before", "_began", "_count", "_since", "last", "total")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._began = float("inf")
        self._count = 0
        self._before = 0
        self.total = 0
        """All deliveries."""
        self.last = float("-inf")
        """Time of the last delivery."""

    def add(self, deliveries: int, now: float) -> None:
        """Count deliveries."""
        self._turn(now)
        self._began = min(self._began, now)
        self._count += deliveries
        self.total += deliveries
        self.last = now

    def per_second(self, now: float) -> float:
        """Deliveries a second over the last two spans, or over those that there were."""
        self._turn(now)
        secs = min(_SPAN_SECS + now - self._since, max(self.age_secs(now), _LEAST_SECS))
        return (self._before + self._count) / secs

    def age_secs(self, now: float) -> float:
        """Seconds over which the speed is known; negative when it is not known."""
        self._turn(now)
        return now - self._began

    def _turn(self, now: float) -> None:
        passed = now - self._since
        if passed >= 2 * _SPAN_SECS:
            self._before = self._count = 0
            self._since, self._began = now, float("inf")
        elif passed >= _SPAN_SECS:
            self._before, self._count = self._count, 0
            self._since += _SPAN_SECS
