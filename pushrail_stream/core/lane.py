"""The lane: one destination's queue, its batching, its pace and its health. A state machine; time is an argument.

Rules. A batch leaves when it is full (entries or bytes), when its first entry has waited ``flush_secs``, or when a
retry in it is due. As many batches are in flight as the window allows, and calls are spaced by the destination's rate.
Nothing waits here longer than ``hold_secs``, and nothing that could not be sent in that time: what is too late is
given out again (`overdue`) to wait elsewhere. A suspended lane sends one delivery at a time, its probe; the others wait
for the probe's answer. A shut lane sends nothing until it is known whether its bus exists. All times are seconds of one
monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from pushrail_stream.core.attempt import Attempt
from pushrail_stream.core.backlog import Backlog
from pushrail_stream.core.batch import Batch, CallLimits, Flush, LaneLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.health import Health
from pushrail_stream.core.outcome import CallResult, Outcome
from pushrail_stream.core.retry import RetryPolicy, RetryState
from pushrail_stream.core.signals import Signal
from pushrail_stream.core.suspension import LAST_PROBE_SECS

ROOM: Final = 200
"""Deliveries that may wait whatever the destination takes a second."""
PROBE_ROOM: Final = 1_000
"""Most deliveries that wait for a suspended destination's probe: enough for a burst, and a twentieth of the 20,000
events that a worker holds by default."""
_GRACE_SECS: Final = 2.0
"""What a lane delivered before it fell behind shows what it was given, not what it can: for so long it may hold any,
and so long a call may take before the destination counts as silent."""
_LOOK_SECS: Final = 0.5
"""How often retries that cannot leave are looked through for those that have waited too long."""
_KEPT_SECS: Final = 60.0
"""An idle destination's cut window is remembered for so long, and a blocking one's document looked at so often."""
_BLOCKING_KEPT_SECS: Final = 2 * LAST_PROBE_SECS
"""That an idle destination blocks is remembered for so long after its last call. What is offered when a probe is due is
called: by then nothing has come for a probe's longest pause, so its events go to another worker, or there are none."""

_RETRY: Final = RetryPolicy()


@final
class Lane:
    """A destination's deliveries that are not settled and not in flight, and what its bus showed of itself."""

    __slots__ = (
        "_asked_at", "_backlog", "_behind_since", "_bus_limits", "_called_at", "_fresh", "_fresh_bytes", "_limits",
        "_look_at", "_order", "_soonest_secs", "_waiting", "_widest", "call_limits", "destination", "health",
        "in_flight", "is_shut",
    )  # fmt: skip

    def __init__(
        self, destination: Destination, limits: LaneLimits, bus_limits: CallLimits, retry: RetryPolicy = _RETRY
    ) -> None:
        self.destination = destination
        self.in_flight = 0
        """Batches taken and not yet finished."""
        self.is_shut = False
        """Whether no batch leaves because it is not known yet whether the bus exists."""
        self._bus_limits = self._widest = bus_limits
        self.call_limits = limits.call.within(bus_limits)
        """The most that is put into a batch, by our own limits and the bus's."""
        self.health = Health(retry)
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
        self._look_at = float("-inf")

    def __len__(self) -> int:
        """Deliveries waiting here; those in flight are not counted."""
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
    def max_calls(self) -> int:
        """Calls that may be in flight now."""
        return 1 if self.is_suspended else self.health.window.size(self.destination.limits.max_in_flight)

    def learn(
        self, attempt: Attempt, result: CallResult, outcomes: Sequence[Outcome], now: float, jitter: Callable[[], float]
    ) -> list[Signal]:
        """Learn from one call of an attempt. Returns the changes of the destination's health."""
        return self.health.learn(attempt, self.destination, result, outcomes, now, jitter)

    def clear(self, now: float) -> list[Signal]:
        """End the suspension, because the document is gone or disabled."""
        return self.health.clear(self.destination, now)

    def adopt(self, destination: Destination) -> None:
        """Follow a changed document from the next batch on. A bus that is reached in another way is probed at once."""
        if destination.reach != self.destination.reach:
            self.health.suspension.probe_now()
        self.destination = destination

    def retry_state(self, delivery: Delivery, now: float, now_ms: int) -> RetryState:
        """The facts about a delivery that decide its next step."""
        first_ms = now_ms if delivery.first_attempt_ms is None else delivery.first_attempt_ms
        return RetryState((now_ms - first_ms) / 1000, delivery.hold_until - now, delivery.tier, self.busy_secs(now))

    def leave_for(self, delay_secs: float, now: float) -> None:
        """A delivery has left for a retry topic and is due again after ``delay_secs``."""
        self._backlog.add(delay_secs, now)

    def kept_until(self, now: float) -> float:
        """Until when an idle lane is to be remembered for its state; ``now`` when it may be forgotten."""
        if not self.health.suspension.is_clear and now < self._called_at + _BLOCKING_KEPT_SECS:
            return now + _KEPT_SECS
        cut_until = now if self.health.window.is_open else self._called_at + _KEPT_SECS
        return max(now, cut_until, self.health.next_call_at)

    def refuses(self, now: float) -> bool:
        """Whether a delivery is refused: the destination is suspended, and no probe is due or in flight."""
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

    def shut(self, now: float) -> None:
        """Send nothing until it is known whether the bus exists. The question counts as a call of the bus."""
        if not self.is_shut:
            self.is_shut = True
            self._begin_asking(now)

    def open(self) -> None:
        """Batches may leave again."""
        self.is_shut = False

    def is_silent(self, now: float) -> bool:
        """Whether the destination has been called for a while and has taken nothing."""
        if self.in_flight == 0 and not self.is_shut and self._asked_at <= self.health.throughput.last:
            return False
        return now - max(self._asked_at, self.health.throughput.last) >= _GRACE_SECS

    def busy_secs(self, now: float) -> float | None:
        """Seconds until the destination runs out of deliveries, late ones included; None when it makes no progress."""
        if now - self.health.throughput.last > self._limits.hold_secs:
            return None
        return self._backlog.busy_secs(len(self), self.health.throughput.pace, self._soonest_secs, now)

    def offer(self, delivery: Delivery, now: float) -> bool:
        """Queue a delivery; whether `overdue` and `take` are to be asked now.

        They are when it is the first to wait, completes one more batch, or is more than the lane can send in time.
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
        """Queue a delivery again, to be sent not before ``at``."""
        heapq.heappush(self._waiting, (at, self._order, delivery))
        self._order += 1

    def take(self, now: float) -> Batch | None:
        """The next batch, now in flight until `finish`; None when there is none to send yet."""
        if self.is_shut or self.in_flight >= self.max_calls or now < self.health.next_call_at:
            self._behind_since = min(self._behind_since, now) if self._is_full else float("inf")
            return None
        flush = self._ripe(now)
        if flush is None:
            self._behind_since = float("inf")
            return None
        picked = self._pick(now)
        self.in_flight += 1
        self._called_at = now
        self._begin_asking(now)
        self.space_calls(now)
        return Batch(self.destination, tuple(picked), self._widest, flush)

    def space_calls(self, at: float) -> None:
        """A call is made at this moment: when the destination's rate allows the next one."""
        if self.destination.limits.max_requests_per_second is not None:
            self.health.next_call_at = at + 1 / self.destination.limits.max_requests_per_second

    def finish(self) -> None:
        """A batch that was taken has its outcomes. Finishing more than was taken is a bug and raises."""
        if self.in_flight == 0:
            raise RuntimeError(f"lane {self.destination.id} finished a batch it never took")
        self.in_flight -= 1

    def overdue(self, now: float, room: int = ROOM) -> list[Delivery]:
        """Take out what must not wait here any longer: it has waited ``hold_secs``, or would have to.

        A lane keeps what it can send within ``hold_secs`` at its present rate, and in any case ``room``.
        """
        fresh, late = self._fresh, list[Delivery]()
        while fresh and fresh[0].hold_until <= now:
            late.append(self._pop_fresh())
        if len(fresh) > room:
            late += [self._pop_fresh() for _ in range(self._surplus(now, room))]
        if now >= self._look_at and self._waiting:
            self._look_at = now + _LOOK_SECS
            late += self._drop_retries(lambda delivery: delivery.hold_until <= now)
        return late

    def stalled(self, now: float) -> list[Delivery]:
        """Take out what waits for a silent destination: all of it, or while it is not being called what has failed."""
        if not self.is_silent(now):
            return []
        return self.drop(_any) if self.in_flight or self.is_shut else self._drop_retries(_any)

    def send_at(self) -> float:
        """When `take` will have a batch, if nothing is offered or finished before; infinity for never."""
        if self.is_shut or self.in_flight >= self.max_calls or len(self) == 0:
            return float("inf")
        retry_at = self._waiting[0][0] if self._waiting else float("inf")
        if self._is_probing_again:
            return max(retry_at, self.health.next_call_at)
        if self._is_full:
            return self.health.next_call_at
        flush_at = self._fresh[0].offered_at + self._limits.flush_secs if self._fresh else float("inf")
        return max(min(flush_at, retry_at), self.health.next_call_at)

    def overdue_at(self) -> float:
        """When `overdue` is to be asked again; infinity for never."""
        held_at = self._fresh[0].hold_until if self._fresh else float("inf")
        return min(held_at, self._look_at) if self._waiting else held_at

    def drop(self, is_gone: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every waiting delivery for which ``is_gone`` holds, unsent."""
        gone = [delivery for delivery in self._fresh if is_gone(delivery)]
        if gone:
            self._fresh = deque(d for d in self._fresh if not is_gone(d))
            self._fresh_bytes = sum(d.size for d in self._fresh)
        return gone + self._drop_retries(is_gone)

    @property
    def _is_probing_again(self) -> bool:
        """Whether a probe has failed and waits for its retry. No other delivery probes meanwhile."""
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
        """Why a batch is to leave now; None when none is."""
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
        """Due retries first, for they are the oldest; then what is fresh, ripe or not."""
        limits, picked, size = self.call_limits, list[Delivery](), 0
        waiting, fresh = self._waiting, self._fresh
        most = 1 if self.is_suspended else limits.max_entries
        while len(picked) < most:
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

    def _begin_asking(self, now: float) -> None:
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


def _any(_delivery: Delivery) -> bool:
    return True
