"""The lane: one destination's queue and its batching. A state machine with time as an argument.

Rules. A batch leaves when it is full (entries or bytes), when its first entry has waited ``flush_secs``, or when a
retry is due. The window bounds the batches in flight, and the destination's rate spaces the calls. No delivery waits
here longer than ``hold_secs``, and none that cannot be sent in that time: `overdue` gives these out to wait elsewhere.
A suspended lane sends one delivery at a time, its probe, while the others wait for the answer. A shut lane sends
nothing until it is known whether its bus exists. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Final, final

from pushrail_stream.core.backlog import Backlog
from pushrail_stream.core.batch import Batch, CallLimits, Flush, LaneLimits
from pushrail_stream.core.bus_status import BusState
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.health import Health
from pushrail_stream.core.pacing import PROBES
from pushrail_stream.core.retry import RetryPolicy, RetryState
from pushrail_stream.core.worker_calls import WorkerCalls

ROOM: Final = 200
"""Deliveries that may wait at any speed of the destination."""
PROBE_ROOM: Final = 1_000
"""Deliveries that may wait for a suspended destination's probe: enough for a burst, and a twentieth of the 20,000
events that a worker holds by default."""
_GRACE_SECS: Final = 2.0
"""Seconds before a destination counts as slow or silent. Until a lane falls behind, its speed is its input's, and the
destination's capacity is unknown. So the lane may hold any number of deliveries for this time."""
_SEARCH_SECS: Final = 0.5
"""Seconds between two searches for overdue retries."""
_KEPT_SECS: Final = 60.0
"""Seconds for which an idle lane remembers its calls, and between two looks at a blocking destination's document."""
_BLOCKING_KEPT_SECS: Final = 2 * PROBES.cap_secs
"""Seconds after the last call for which an idle lane remembers that its destination blocks. After the longest pause
between two probes, an idle lane is no longer needed: the events go to another worker, or there are none."""


def _any(_delivery: Delivery) -> bool:
    return True


@final
class Lane:
    """A destination's deliveries that wait for a call, and the destination's health."""

    __slots__ = (
        "_asked_at", "_backlog", "_behind_since", "_bus_limits", "_bus_state", "_called_at", "_fresh", "_fresh_bytes",
        "_limits", "_order", "_search_at", "_soonest_secs", "_waiting", "_widest", "call_limits", "destination",
        "health", "in_flight",
    )  # fmt: skip

    def __init__(
        self,
        destination: Destination,
        limits: LaneLimits,
        bus_limits: CallLimits,
        retry: RetryPolicy,
        calls: WorkerCalls,
    ) -> None:
        self.destination = destination
        self.in_flight = 0
        """Batches taken and not yet finished."""
        self._bus_state: BusState = "open"
        self._bus_limits = self._widest = bus_limits
        self.call_limits = limits.call.within(bus_limits)
        """Limits on a batch, the stricter of ours and the bus's."""
        self.health = Health(destination, retry, calls)
        self._backlog = Backlog()
        self._limits = limits
        self._soonest_secs = retry.tiers[0].delay_secs
        """The shortest time after which a delivery comes back from a retry topic."""
        self._fresh: deque[Delivery] = deque()
        self._fresh_bytes = 0
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._order = 0
        self._behind_since = float("inf")
        self._called_at = float("-inf")
        self._asked_at = float("-inf")
        """Time of the first call after the last delivery."""
        self._search_at = float("-inf")

    def __len__(self) -> int:
        """Deliveries that wait. Those in flight do not count."""
        return len(self._fresh) + len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.in_flight == 0 and not self._fresh and not self._waiting

    @property
    def is_suspended(self) -> bool:
        """Whether only probes are sent."""
        return self.health.suspension.since is not None

    @property
    def is_shut(self) -> bool:
        """Whether no batch leaves, because it is not known yet whether the bus exists."""
        return self._bus_state == "awaited"

    @property
    def state(self) -> DestinationState:
        """The worst state that the destination's calls and the checks of its bus have shown."""
        if self._bus_state == "missing":
            return "gone"
        if self.health.suspension.is_blocked:
            return "suspended" if self.is_suspended else "blocked"
        if self.health.is_slowed:
            return "slowed"
        return "retrying" if self._waiting else "ok"

    def adopt(self, destination: Destination) -> None:
        """Follow a changed document from the next batch on. A bus that is reached in another way is probed at once."""
        self.health.adopt(destination, is_same_bus=destination.bus == self.destination.bus)
        self.destination = destination

    def retry_state(self, delivery: Delivery, now: float, now_ms: int) -> RetryState:
        """The facts about a delivery that decide its next step."""
        first_ms = now_ms if delivery.first_attempt_ms is None else delivery.first_attempt_ms
        return RetryState((now_ms - first_ms) / 1000, delivery.hold_until - now, delivery.tier, self.backlog_secs(now))

    def leave_for(self, delay_secs: float, now: float) -> None:
        """A delivery has left for a retry topic and is due again after ``delay_secs``."""
        self._backlog.add(delay_secs, now)

    def kept_until(self, now: float) -> float:
        """Time until which an idle lane must be kept for its health; ``now`` when it may be dropped."""
        if not self.health.suspension.is_clear and now < self._called_at + _BLOCKING_KEPT_SECS:
            return now + _KEPT_SECS
        learned_until = now if self.health.is_plain(now) else self._called_at + _KEPT_SECS
        return max(now, learned_until, self.health.next_call_at)

    def refuses(self, now: float) -> bool:
        """Whether new deliveries are refused: the destination is suspended, and no probe is due or in flight."""
        return self.is_suspended and now < self.health.suspension.probe_at

    @property
    def is_overfull(self) -> bool:
        """Whether no further delivery may wait for the suspended destination's probe."""
        return self.is_suspended and len(self) >= PROBE_ROOM

    def adapt(self, bus_limits: CallLimits) -> None:
        """Respect these limits of the bus from the next batch on. An entry that was queued before may exceed them."""
        if bus_limits is not self._bus_limits:
            self._bus_limits, self._widest = bus_limits, self._widest.including(bus_limits)
            self.call_limits = self._limits.call.within(bus_limits)

    def follow_bus(self, bus_state: BusState, now: float) -> None:
        """Send nothing until it is known whether the bus exists. The check counts as a call."""
        if bus_state == "awaited" and not self.is_shut:
            self._note_asked(now)
        self._bus_state = bus_state

    def is_silent(self, now: float) -> bool:
        """Whether calls have been made for a while without a delivery."""
        if self.in_flight == 0 and not self.is_shut and self._asked_at <= self.health.throughput.last:
            return False
        return now - max(self._asked_at, self.health.throughput.last) >= _GRACE_SECS

    def oldest_secs(self, now: float) -> float:
        """Seconds for which the oldest waiting delivery has been here; 0 when none waits. Looks at every retry."""
        offered = [delivery.offered_at for _, _, delivery in self._waiting]
        if self._fresh:
            offered.append(self._fresh[0].offered_at)
        return now - min(offered, default=now)

    def backlog_secs(self, now: float) -> float | None:
        """Seconds until the destination runs out of deliveries, late ones included; None when it makes no progress."""
        if now - self.health.throughput.last > self._limits.hold_secs:
            return None
        return self._backlog.backlog_secs(len(self), self.health.throughput.pace, self._soonest_secs, now)

    def offer(self, delivery: Delivery, now: float) -> bool:
        """Queue a delivery. Returns whether `overdue` and `take` must be called now.

        They must when it is the first to wait, completes a batch, or is more than the lane can send in time.
        """
        delivery.offered_at = now
        delivery.hold_until = now + self._limits.hold_secs
        self._fresh.append(delivery)
        self._fresh_bytes += delivery.size
        limits, waiting = self.call_limits, len(self._fresh)
        return (
            waiting == 1
            or waiting % limits.max_entries == 0
            or self._fresh_bytes % limits.max_bytes < delivery.size
            or (waiting > ROOM and self._surplus(now, ROOM) > 0)
        )

    def retry(self, delivery: Delivery, at: float) -> None:
        """Queue a delivery again, to be sent at ``at`` or later."""
        heapq.heappush(self._waiting, (at, self._order, delivery))
        self._order += 1

    def retry_now(self, now: float) -> None:
        """Let no retry wait, and probe at once: an operator says that the destination is back."""
        self.make_due(now)
        self.health.call_now()

    def make_due(self, now: float) -> None:
        """Let no retry wait: the bus answers again."""
        self._waiting = [(min(at, now), order, delivery) for at, order, delivery in self._waiting]
        heapq.heapify(self._waiting)

    @property
    def has_retry_room(self) -> bool:
        """Whether a delivery from a retry topic may come ahead of its time."""
        return self._bus_state == "open" and not self.is_suspended and len(self) < ROOM

    def take(self, now: float) -> Batch | None:
        """The next batch, which is in flight until `finish`; None when none may leave yet."""
        if self.is_shut or self.in_flight >= self.health.max_calls or now < self.health.next_call_at:
            self._behind_since = min(self._behind_since, now) if self._is_full else float("inf")
            if self._is_full:
                self.health.note_wait(self.in_flight)
            return None
        flush = self._ripe(now)
        if flush is None:
            self._behind_since = float("inf")
            return None
        picked = self._pick(now)
        self.in_flight += 1
        self._called_at = now
        self._note_asked(now)
        self.health.begin_call(now)
        return Batch(self.destination, tuple(picked), self._widest, flush)

    def finish(self) -> None:
        """Note that a batch has its outcomes. To finish more batches than were taken is a bug and raises."""
        if self.in_flight == 0:
            raise RuntimeError(f"lane {self.destination.id} finished a batch it never took")
        self.in_flight -= 1
        self.health.end_call()

    def overdue(self, now: float, room: int = ROOM) -> list[Delivery]:
        """Take out deliveries that have waited ``hold_secs``, or would have to.

        A lane keeps the deliveries that it can send within ``hold_secs`` at its current speed, and at least ``room``.
        """
        fresh, late = self._fresh, list[Delivery]()
        while fresh and fresh[0].hold_until <= now:
            late.append(self._pop_fresh())
        if len(fresh) > room:
            late += [self._pop_fresh() for _ in range(self._surplus(now, room))]
        if now >= self._search_at and self._waiting:
            self._search_at = now + _SEARCH_SECS
            late += self._drop_retries(lambda delivery: delivery.hold_until <= now)
        return late

    def stalled(self, now: float) -> list[Delivery]:
        """Take out the deliveries to a silent destination: all of them, or only retries while no call is in flight."""
        if not self.is_silent(now):
            return []
        return self.drop() if self.in_flight or self.is_shut else self._drop_retries(_any)

    def send_at(self) -> float:
        """Time at which `take` has a batch, unless a delivery is offered or a batch finishes before; else infinity."""
        if self.is_shut or self.in_flight >= self.health.max_calls or len(self) == 0:
            return float("inf")
        retry_at = self._waiting[0][0] if self._waiting else float("inf")
        if self._is_probing_again:
            return max(retry_at, self.health.next_call_at)
        if self._is_full:
            return self.health.next_call_at
        flush_at = self._fresh[0].offered_at + self._limits.flush_secs if self._fresh else float("inf")
        return max(min(flush_at, retry_at), self.health.next_call_at)

    def overdue_at(self) -> float:
        """Time at which `overdue` must be called again; infinity for never."""
        held_at = self._fresh[0].hold_until if self._fresh else float("inf")
        return min(held_at, self._search_at) if self._waiting else held_at

    def drop(self, is_gone: Callable[[Delivery], bool] = _any) -> list[Delivery]:
        """Take out the deliveries for which ``is_gone`` holds, or all."""
        gone = [delivery for delivery in self._fresh if is_gone(delivery)]
        if gone:
            self._fresh = deque(d for d in self._fresh if not is_gone(d))
            self._fresh_bytes = sum(d.size for d in self._fresh)
        return gone + self._drop_retries(is_gone)

    @property
    def _is_probing_again(self) -> bool:
        """Whether a failed probe waits for its retry. Meanwhile no other delivery probes."""
        return self.is_suspended and bool(self._waiting)

    @property
    def _is_full(self) -> bool:
        return len(self._fresh) >= self.call_limits.max_entries or self._fresh_bytes >= self.call_limits.max_bytes

    def _surplus(self, now: float, room: int) -> int:
        """Deliveries beyond ``room`` and beyond what a lane that has fallen behind can send within ``hold_secs``."""
        if now - self._behind_since < _GRACE_SECS:
            return 0
        return len(self._fresh) - max(room, int(self.health.throughput.per_second(now) * self._limits.hold_secs))

    def _ripe(self, now: float) -> Flush | None:
        """The reason for a batch to leave now; None when there is none."""
        if self._is_probing_again:
            return "retry" if self._waiting[0][0] <= now else None
        if len(self._fresh) >= self.call_limits.max_entries:
            return "entries"
        if self._fresh_bytes >= self.call_limits.max_bytes:
            return "bytes"
        if self._waiting and self._waiting[0][0] <= now:
            return "retry"
        is_time = bool(self._fresh) and self._fresh[0].offered_at + self._limits.flush_secs <= now
        return "time" if is_time else None

    def _pick(self, now: float) -> list[Delivery]:
        """Take due retries first, because they are the oldest, and fill up with new deliveries."""
        limits, picked, size = self.call_limits, list[Delivery](), 0
        waiting, fresh = self._waiting, self._fresh
        max_entries = 1 if self.is_suspended else limits.max_entries
        while len(picked) < max_entries:
            due = bool(waiting) and waiting[0][0] <= now
            if not due and not fresh:
                break
            candidate = waiting[0][2] if due else fresh[0]
            if picked and size + candidate.size > limits.max_bytes:
                break
            size += candidate.size
            picked.append(candidate)
            if due:
                heapq.heappop(waiting)
            else:
                self._pop_fresh()
        return picked

    def _note_asked(self, now: float) -> None:
        if self._asked_at <= self.health.throughput.last:
            self._asked_at = now

    def _pop_fresh(self) -> Delivery:
        delivery = self._fresh.popleft()
        self._fresh_bytes -= delivery.size
        return delivery

    def _drop_retries(self, is_gone: Callable[[Delivery], bool]) -> list[Delivery]:
        gone = [delivery for _, _, delivery in self._waiting if is_gone(delivery)]
        if gone:
            self._waiting = [item for item in self._waiting if not is_gone(item[2])]
            heapq.heapify(self._waiting)
        return gone
