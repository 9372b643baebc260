"""The backlog: what of a lane waits on retry topics, and for how long its destination is busy without one more.

A destination that takes less than it is offered keeps a queue longer than its lane may hold. Whoever leaves the lane
is to be back when it is its turn and not long before: else the whole queue goes round through Kafka every ten seconds.
All deliveries of a tier wait equally long, so each tier's are due in the order they left; they are counted in small
steps of time. Workers share nothing: what comes back elsewhere is presumed back here. Times are seconds of one
monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final, final

_STEPS: Final = 50
"""A tier's delay is counted in so many steps, of a second at least: retries are seldom more punctual than that."""
_SLACK_SECS: Final = 0.5
"""What is due so soon may be back already."""
_HASTE: Final = 1.25
"""The destination may be swifter than it was seen to be: rather back too soon than too late."""


@final
class Backlog:
    """The deliveries that have left a lane for retry topics and are not due back yet."""

    __slots__ = ("_away",)

    def __init__(self) -> None:
        self._away: dict[float, deque[tuple[float, int]]] = {}
        """By delay: when the first of a step is due, and how many there are in the step; ascending."""

    def add(self, delay_secs: float, now: float) -> None:
        """A delivery has left the lane and is due again after ``delay_secs``."""
        away, due = self._away.setdefault(delay_secs, deque()), now + delay_secs
        if away and due < away[-1][0] + max(1.0, delay_secs / _STEPS):
            since, count = away.pop()
            away.append((since, count + 1))
        else:
            away.append((due, 1))

    def busy_secs(self, waiting: int, per_second: float, soonest_secs: float, now: float) -> float:
        """After how long a destination that takes ``per_second`` runs out of deliveries, where ``waiting`` are there.

        One more cannot be back before ``soonest_secs``: that it runs out until then, nobody can help.
        """
        queue, at, per_second = float(waiting), 0.0, _HASTE * per_second
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
