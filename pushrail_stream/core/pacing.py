"""Pacing: the one rate limiter and the one backoff. Times are seconds of one monotonic clock, and arguments."""

from __future__ import annotations

import math
from typing import Final, NamedTuple, final


@final
class TokenBucket:
    """Allows ``per_second`` on average, and at most ``burst`` at once. `math.inf` a second is no limit."""

    __slots__ = ("_burst", "_full_at", "per_second")

    def __init__(self, per_second: float, burst: float = 1.0) -> None:
        if per_second <= 0 or burst <= 0:
            raise ValueError("a token bucket has a rate and a burst above 0")
        self.per_second = per_second
        self._burst = burst
        self._full_at = -math.inf

    def ready_at(self, amount: float = 1.0) -> float:
        """Time from which ``amount`` may be spent. More than ``burst`` has to wait after the bucket is full."""
        return self._full_at - (self._burst - amount) / self.per_second

    def wait_secs(self, now: float, amount: float = 1.0) -> float:
        """Seconds until ``amount`` may be spent."""
        return max(0.0, self.ready_at(amount) - now)

    def spend(self, now: float, amount: float = 1.0) -> None:
        """Spend ``amount``. When it is spent ahead of its time, later amounts wait for that."""
        if self.per_second < math.inf:
            self._full_at = max(self._full_at, now) + amount / self.per_second

    def pause(self, until: float) -> None:
        """Allow nothing before ``until``, and one at that time."""
        self._full_at = max(self._full_at, until + (self._burst - 1) / self.per_second)

    def is_full(self, now: float) -> bool:
        """Whether a whole burst may be spent, so that there is no state to keep."""
        return self._full_at <= now


class Backoff(NamedTuple):
    """Pauses that double with each failure in a row."""

    first_secs: float
    cap_secs: float

    def pause_secs(self, failures: int, jitter: float = 1.0) -> float:
        """Seconds to wait after this number of failures in a row, times ``jitter``, from 0 to 1.

        A jitter that is uniform in [0, 1) spreads calls that failed together.
        """
        # 2**60 is beyond any cap. Without a bound the float overflows after a thousand failures.
        return jitter * min(self.cap_secs, self.first_secs * 2.0 ** min(failures - 1, 60))


PROBES: Final = Backoff(30.0, 600.0)
"""Seconds between two probes of a destination that takes no deliveries, calls and checks of its bus alike."""
