"""Health: what attempts teach about a destination itself: its speed, and whether it takes anything at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Blocked, Delivered, Outcome, Reply, Retryable, asks_for_less
from pushrail_stream.core.retry import RetryPolicy, backoff
from pushrail_stream.core.signals import Resumed, Slowed, Suspended
from pushrail_stream.ports.pipeline import Jitter, Observer

LONGEST_PAUSE_SECS: Final = 5.0
"""Between calls to a destination that throttles even one at a time, or for an entry that it throttles among others: a
delivery held for 10 s gets its chance."""


@final
class Health:
    """Keeps every lane's window and suspension, and tells of their changes."""

    def __init__(self, *, policy: RetryPolicy, jitter: Jitter, observe: Observer) -> None:
        self._policy = policy
        self._jitter = jitter
        self._observe = observe

    def learn(
        self, lane: Lane, batch: Batch, reply: Reply, outcomes: Sequence[Outcome], sent_in: int, now: float
    ) -> bool:
        """Learn from a call sent in round ``sent_in`` of the lane's window; whether it left the lane suspended."""
        most = lane.destination.limits.max_in_flight
        delivered = sum(isinstance(outcome, Delivered) for outcome in outcomes)
        if delivered:
            lane.throughput.add(delivered, now)
            if not lane.suspension.is_clear:
                self.clear(lane, now)
        if self._count_failure(lane, reply, outcomes) or any(asks_for_less(outcome) for outcome in outcomes):
            self._slow_down(lane, sent_in, now, partly=delivered > 0)
        elif delivered and lane.window.went_through(most):
            self._observe(Slowed(lane.destination, lane.window.size(most), most))
        blocked = [outcome for outcome in outcomes if isinstance(outcome, Blocked)]
        if len(blocked) < len(outcomes) or batch.destination is not lane.destination:
            return False  # that it blocked by an older document says nothing of this one
        return self._block(lane, blocked[0], now)

    @staticmethod
    def _count_failure(lane: Lane, reply: Reply, outcomes: Sequence[Outcome]) -> bool:
        """Note whether the call failed as a whole; whether the one before it did too, so that the bus is ailing."""
        if reply.result == "answered":
            lane.window.answered()
            return False
        is_ailing = reply.result != "not_made" and isinstance(outcomes[0], Retryable)
        return is_ailing and lane.window.failed()

    def clear(self, lane: Lane, now: float) -> None:
        """Nothing speaks against the destination any more."""
        suspended = lane.suspension.took_one(now)
        if suspended is not None:
            self._observe(Resumed(lane.destination, suspended))

    def _slow_down(self, lane: Lane, sent_in: int, now: float, *, partly: bool) -> None:
        most = lane.destination.limits.max_in_flight
        if lane.window.throttled(sent_in, most, partly=partly):
            if lane.window.pauses:
                pause = backoff(lane.window.pauses, self._jitter(), self._policy)
                lane.next_call_at = max(lane.next_call_at, now + min(pause, LONGEST_PAUSE_SECS))
            self._observe(Slowed(lane.destination, lane.window.size(most), most))

    def _block(self, lane: Lane, blocked: Blocked, now: float) -> bool:
        first = not lane.is_suspended
        if not lane.suspension.blocked(now):
            return False
        probe_in = lane.suspension.probe_at - now
        self._observe(Suspended(lane.destination, blocked.code, blocked.message, probe_in, first))
        return True
