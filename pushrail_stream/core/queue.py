"""The queue of a lane: deliveries that wait for their first call in this lane, and deliveries that wait for a retry.

Deliveries from a retry topic may wait for their turn for more than one hold. Then they yield to newer ones, so that a
crowd of them delays no event and no cursor. They get the places that are left in calls. Every fourth call takes them
first.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.delivery import Delivery

_SEARCH_SECS: Final = 0.1
"""Shortest time between two searches for overdue deliveries, each of which looks at the whole queue."""
_LATE_FIRST_EVERY: Final = 4
"""Every fourth call takes deliveries in `late` before new ones, so that they do not wait for ever."""


def holds_commit(delivery: Delivery) -> bool:
    """Whether its partition's commit waits for it. No commit waits for a cursor's delivery."""
    return not delivery.pending.can_be_put_back


def _any(_delivery: Delivery) -> bool:
    return True


@final
class Queue:
    """A destination's deliveries that wait for a call."""

    __slots__ = ("_order", "_overdue_at", "_picks", "fresh", "fresh_bytes", "late", "retries")

    def __init__(self) -> None:
        self.fresh: deque[Delivery] = deque()
        """The deliveries that wait for their first call in this lane, in their order."""
        self.fresh_bytes = 0
        self.retries: list[tuple[float, int, Delivery]] = []
        """A heap of those that wait for a retry, by the time from which they may be sent."""
        self.late: deque[Delivery] = deque()
        """Those from a retry topic that have waited for more than one hold, in their order."""
        self._picks = 0
        """Calls that `pick` has filled one delivery at a time."""
        self._order = 0
        self._overdue_at = math.inf
        """No delivery is overdue before this time."""

    def __len__(self) -> int:
        """Deliveries that wait. Those in `late` yield to all others, and do not count."""
        return len(self.fresh) + len(self.retries)

    def __bool__(self) -> bool:
        return bool(self.fresh or self.retries or self.late)

    @property
    def has_holds(self) -> bool:
        """Whether a commit may wait for one of them."""
        return self._overdue_at < math.inf

    def waiting(self) -> list[Delivery]:
        """All deliveries, those that wait for a retry last."""
        return [*self.late, *self.fresh, *(delivery for _, _, delivery in self.retries)]

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries, each of which holds back its partition's commit until its `hold_until`, or for no time."""
        if self._overdue_at == math.inf:
            self._overdue_at = min(delivery.hold_until for delivery in deliveries)
        self.fresh.extend(deliveries)
        self.fresh_bytes += sum([delivery.size for delivery in deliveries])

    def add_retry(self, delivery: Delivery, at: float) -> None:
        """Queue a delivery again, to be sent at ``at`` or later."""
        self._overdue_at = min(self._overdue_at, delivery.hold_until)
        heapq.heappush(self.retries, (at, self._order, delivery))
        self._order += 1

    def hold_again(self, delivery: Delivery, hold_until: float) -> None:
        """Let an overdue delivery wait for another hold."""
        delivery.hold_until = hold_until
        self._overdue_at = min(self._overdue_at, hold_until)
        self.late.append(delivery)

    def make_due(self, now: float) -> None:
        """Let no retry wait."""
        self.retries = [(min(at, now), order, delivery) for at, order, delivery in self.retries]
        heapq.heapify(self.retries)

    def pick(self, limits: CallLimits, now: float) -> list[Delivery]:
        """Take due retries first, because they are the oldest, and fill up with new deliveries, then with late ones."""
        picked, size = list[Delivery](), 0
        retries, fresh, late = self.retries, self.fresh, self.late
        if self.fresh_bytes <= limits.max_bytes and not late and not (retries and retries[0][0] <= now):
            picked = [fresh.popleft() for _ in range(min(limits.max_entries, len(fresh)))]
            self.fresh_bytes -= sum([delivery.size for delivery in picked])
            return picked
        self._picks += 1
        is_late_first = self._picks % _LATE_FIRST_EVERY == 0
        while len(picked) < limits.max_entries:
            due = bool(retries) and retries[0][0] <= now
            source = late if late and (is_late_first or not fresh) else fresh
            if not due and not source:
                break
            candidate = retries[0][2] if due else source[0]
            if picked and size + candidate.size > limits.max_bytes:
                break
            size += candidate.size
            picked.append(candidate)
            if due:
                heapq.heappop(retries)
            else:
                source.popleft()
                self.fresh_bytes -= candidate.size if source is fresh else 0
        return picked

    def overdue_at(self) -> float:
        """Time at which `overdue` must be called again; infinity for never."""
        return self._overdue_at

    def overdue(self, now: float) -> list[Delivery]:
        """Take out the deliveries that may not hold back their partition's commit any longer."""
        if now < self._overdue_at:
            return []
        late = self.drop(lambda delivery: delivery.hold_until <= now and holds_commit(delivery))
        self.follow_holds(now)
        return late

    def follow_holds(self, now: float) -> None:
        """Look at the holds, because cursors have taken some of the deliveries over."""
        holds = [delivery.hold_until for delivery in self.waiting() if holds_commit(delivery)]
        self._overdue_at = max(min(holds), now + _SEARCH_SECS) if holds else math.inf

    def drop(self, is_gone: Callable[[Delivery], bool] = _any) -> list[Delivery]:
        """Take out the deliveries for which ``is_gone`` holds, or all."""
        late = self.drop_late(is_gone)
        gone = [delivery for delivery in self.fresh if is_gone(delivery)]
        if gone:
            self.fresh = deque(delivery for delivery in self.fresh if not is_gone(delivery))
            self.fresh_bytes = sum(delivery.size for delivery in self.fresh)
        return late + gone + self.drop_retries(is_gone)

    def drop_retries(self, is_gone: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out the deliveries that wait for a retry and for which ``is_gone`` holds."""
        gone = [delivery for _, _, delivery in self.retries if is_gone(delivery)]
        if gone:
            self.retries = [item for item in self.retries if not is_gone(item[2])]
            heapq.heapify(self.retries)
        return gone

    def drop_late(self, is_gone: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out the deliveries in `late` for which ``is_gone`` holds."""
        gone = [delivery for delivery in self.late if is_gone(delivery)]
        if gone:
            self.late = deque(delivery for delivery in self.late if not is_gone(delivery))
        return gone

    def trim(self, room: int) -> list[Delivery]:
        """Take out the newest deliveries that a cursor can read again, and keep ``room`` of those without a call."""
        kept, trimmed = deque[Delivery](), list[Delivery]()
        for delivery in self.fresh:
            (kept if len(kept) < room or holds_commit(delivery) else trimmed).append(delivery)
        self.fresh = kept
        self.fresh_bytes -= sum(delivery.size for delivery in trimmed)
        return trimmed
