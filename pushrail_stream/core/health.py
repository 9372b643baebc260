"""Health: the calls that a destination may have in flight, the pauses between them, its speed and its suspension."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, final

from pushrail_stream.core.attempt import Attempt
from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import (
    Blocked,
    CallResult,
    Delivered,
    Outcome,
    Retryable,
    Throttled,
    asks_for_less,
)
from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.core.signals import Resumed, Signal, Slowed, Suspended
from pushrail_stream.core.suspension import Suspension
from pushrail_stream.core.throughput import Throughput
from pushrail_stream.core.window import Window

_MAX_PAUSE_SECS: Final = 5.0
"""Longest pause for a destination that throttles, so that a delivery gets its chance within 10 s (`hold_secs`)."""


@final
class Health:
    """The health of one destination, by its calls. Times are seconds of one monotonic clock."""

    __slots__ = ("_policy", "call_rate", "suspension", "throughput", "window")

    def __init__(self, destination: Destination, policy: RetryPolicy) -> None:
        self._policy = policy
        self.window = Window()
        self.suspension = Suspension()
        self.throughput = Throughput()
        self.call_rate = TokenBucket(destination.limits.max_requests_per_second or math.inf)

    def learn(
        self, attempt: Attempt, result: CallResult, outcomes: Sequence[Outcome], now: float, jitter: Callable[[], float]
    ) -> list[Signal]:
        """Learn from one call of an attempt. Returns the changes of the destination's health."""
        signals, destination = list[Signal](), attempt.lane.destination
        max_calls = destination.limits.max_in_flight
        failures = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
        delivered = len(outcomes) - len(failures)
        if delivered:
            self.throughput.add(delivered, now)
            if not self.suspension.is_clear:
                signals += self.clear(destination, now)
        if self._is_failing(result, outcomes[0]) or any(asks_for_less(failure) for failure in failures):
            if self.window.throttled(attempt.round, max_calls, partly=delivered > 0):
                self._pause(now, jitter)
                signals.append(Slowed(destination, self.window.size(max_calls), max_calls))
        elif delivered and self.window.count_clean(max_calls):
            signals.append(Slowed(destination, self.window.size(max_calls), max_calls))
        blocked = [failure for failure in failures if isinstance(failure, Blocked)]
        # A refusal of an older document says nothing about the current one.
        if len(blocked) == len(outcomes) and attempt.batch.destination is destination:
            signals += self._block(destination, blocked[0], now)
        return signals

    @property
    def next_call_at(self) -> float:
        """No call is made before this time."""
        return self.call_rate.ready_at()

    def suspended_secs(self, now: float) -> float:
        """Seconds since the suspension began."""
        return 0.0 if self.suspension.since is None else now - self.suspension.since

    def clear(self, destination: Destination, now: float) -> list[Signal]:
        """End the suspension, and forget its causes."""
        suspended_secs = self.suspension.end(now)
        return [] if suspended_secs is None else [Resumed(destination, suspended_secs)]

    def retry_delay_secs(
        self, batch: Batch, result: CallResult, outcomes: Sequence[Outcome], now: float, jitter: float
    ) -> float:
        """Seconds until the undelivered entries are sent again. All wait equally, so that one call carries them.

        The delivery with the fewest attempts decides.
        """
        pairs = zip(batch.deliveries, outcomes, strict=True)
        attempts = min(delivery.attempts for delivery, outcome in pairs if not isinstance(outcome, Delivered))
        delay_secs = self._policy.backoff.pause_secs(attempts, jitter)
        if result != "answered":
            pause_secs = max(0.0, self.next_call_at - now)
            return pause_secs if isinstance(outcomes[0], Throttled) else max(delay_secs, pause_secs)
        is_throttled = any(isinstance(outcome, Throttled) for outcome in outcomes)
        return min(delay_secs, _MAX_PAUSE_SECS) if is_throttled else delay_secs

    def _is_failing(self, result: CallResult, first: Outcome) -> bool:
        """Whether this call failed as a whole, and the one before did too. A call that was not made does not count."""
        if result == "answered":
            self.window.answered()
            return False
        return result != "not_made" and isinstance(first, Retryable) and self.window.failed()

    def _pause(self, now: float, jitter: Callable[[], float]) -> None:
        if self.window.pauses:
            pause_secs = min(self._policy.backoff.pause_secs(self.window.pauses, jitter()), _MAX_PAUSE_SECS)
            self.call_rate.pause(now + pause_secs)

    def _block(self, destination: Destination, blocked: Blocked, now: float) -> list[Signal]:
        is_first = self.suspension.since is None
        if not self.suspension.count_blocked(now):
            return []
        probe_in_secs = self.suspension.probe_at - now
        return [Suspended(destination, blocked.code, blocked.message, probe_in_secs, is_first)]
