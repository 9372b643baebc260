"""Throughput: what a destination took lately, so that its lane knows how much it may promise to send in time."""

from __future__ import annotations

from typing import Final, final

_SPAN_SECS: Final = 2.0
"""Two spans are looked at: short enough to see a bus fall silent, long enough for calls that take a second."""


@final
class Throughput:
    """Deliveries of one or two spans. Times are seconds of one monotonic clock."""

    __slots__ = ("_before", "_count", "_since", "last")

    def __init__(self) -> None:
        self._since = float("-inf")
        self._count = 0
        self._before = 0
        self.last = float("-inf")
        """When something was delivered last."""

    def add(self, deliveries: int, now: float) -> None:
        """So many were delivered."""
        self._turn(now)
        self._count += deliveries
        self.last = now

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
