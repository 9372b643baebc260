"""Pacing: a token bucket limits a rate and allows bursts. Time is an argument."""

from __future__ import annotations

from typing import final


@final
class TokenBucket:
    """Allows ``per_second`` on average, and at most ``burst`` at once."""

    __slots__ = ("_burst", "_filled_at", "_level", "_per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        if per_second <= 0 or burst <= 0:
            raise ValueError("a token bucket has a rate and a burst above 0")
        self._per_second = per_second
        self._burst = burst
        self._level = burst
        self._filled_at = float("-inf")

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` (at most ``burst``) and return 0, or take nothing and return the seconds until it is there.

        ``now``: seconds of a monotonic clock.
        """
        if amount > self._burst:
            raise ValueError(f"{amount:g} exceeds the burst of {self._burst:g}")
        self._level = min(self._burst, self._level + max(0.0, now - self._filled_at) * self._per_second)
        self._filled_at = now
        if amount <= self._level:
            self._level -= amount
            return 0.0
        return (amount - self._level) / self._per_second
