"""The backlog: a lane's deliveries on retry topics, and the time until the destination has room for one more.

A slow destination has a longer queue than its lane may hold. A delivery that leaves the lane must return when it is its
turn and not long before; otherwise the whole queue passes through Kafka every ten seconds. All deliveries of a tier
wait equally long and return in the order in which they left, so they are counted in small steps of time. Workers share
nothing: a delivery that returns to another worker counts as returned. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final, final

_STEPS: Final = 50
"""Steps in which a tier's delay is counted, of at least a second each. Retries are seldom more punctual than that."""
_SLACK_SECS: Final = 0.5
"""A delivery that is due within this time counts as returned."""
_SPEED_FACTOR: Final = 1.25
"""Safety factor: assume the destination is 25 % faster than measured, so retries return early rather than late."""


@final
class Backlog:
    """The deliveries that have left a lane for retry topics and are not due back yet."""

    __slots__ = ("_away",)

    def __init__(self) -> None:
        self._away: dict[float, deque[tuple[float, int]]] = {}
        """By delay, ascending: the time at which a step's first delivery is due, and the deliveries of the step."""

    def add(self, delay_secs: float, now: float) -> None:
        """A delivery has left the lane and is due again after ``delay_secs``."""
        away, due = self._away.setdefault(delay_secs, deque()), now + delay_secs
        if away and due < away[-1][0] + max(1.0, delay_secs / _STEPS):
            since, count = away.pop()
            away.append((since, count + 1))
        else:
            away.append((due, 1))

    def backlog_secs(self, waiting: int, per_second: float, soonest_secs: float, now: float) -> float:
        """Seconds until the destination runs out of deliveries, with ``waiting`` in its lane and at this speed.

        Another delivery returns after ``soonest_secs`` at the earliest, so a gap before that cannot be filled.
        """
        queue, at, per_second = float(waiting), 0.0, _SPEED_FACTOR * per_second
        for due, count in heapq.merge(*self._not_due(now)):
            next_at = due - now
            empty_at = at + queue / per_second
            if empty_at < next_at and next_at > soonest_secs + _SLACK_SECS:
                return max(empty_at, soonest_secs)
            queue = max(0.0, queue - per_second * (next_at - at)) + count
            at = next_at
        return max(at + queue / per_second, soonest_secs)

    def _not_due(self, now: float) -> list[deque[tuple[float, int]]]:
        for delay_secs, away in list(self._away.items()):
            while away and away[0][0] <= now + _SLACK_SECS:
                away.popleft()
            if not away:
                del self._away[delay_secs]
        return list(self._away.values())
