"""Health: what a destination's calls teach. Its window, its pauses and outages, its speed and its suspension.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, final

from pushrail_stream.core.batch import Attempt, Batch
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outage import PAUSES, Outage
from pushrail_stream.core.outcome import (
    SIGN_INS_QUEUED,
    Blocked,
    CallResult,
    Delivered,
    Outcome,
    Retryable,
    Throttled,
    is_silence,
)
from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.core.signals import Resumed, ResumeReason, Signal, Slowed, Suspended
from pushrail_stream.core.suspension import Suspension
from pushrail_stream.core.throughput import Throughput
from pushrail_stream.core.window import Window
from pushrail_stream.core.worker_calls import WorkerCalls

_MAX_PAUSE_SECS: Final = 5.0
"""Longest pause for a destination that throttles, so that a delivery gets its chance within 10 s (`hold_secs`)."""


@final
class Health:
    """The health of one destination, by its calls."""

    __slots__ = (
        "_calls", "_own_faults", "_own_pause_until", "_policy", "call_rate", "errors", "is_curbed", "last_error",
        "outage", "own_fault", "suspension", "throughput", "window",
    )  # fmt: skip

    def __init__(self, destination: Destination, policy: RetryPolicy, calls: WorkerCalls) -> None:
        self._policy = policy
        self._calls = calls
        self.window = Window(destination.limits.max_in_flight)
        self.outage = Outage(calls.endpoint(destination.bus))
        self.suspension = Suspension()
        self.throughput = Throughput()
        self.errors = Throughput()
        """The same of entries that were not delivered."""
        self.last_error = ""
        """Code of the last of them; empty when there was none."""
        self.own_fault: Problem | None = None
        """The failure of the last call, if our own side was at fault: deliveries without a call wait because of it."""
        self._own_faults = 0
        """Calls in a row that failed so."""
        self._own_pause_until = float("-inf")
        self.is_curbed = False
        """Whether one call may be in flight at a time until one delivers, because the worker needs room."""
        self.call_rate = TokenBucket(destination.limits.max_requests_per_second or math.inf)

    @property
    def max_calls(self) -> int:
        """Calls that may be in flight now."""
        if self.suspension.since is not None or self.is_curbed or self.is_ill or self.outage.is_endpoint_down:
            return 1
        size = self.window.size
        return size if self._calls.has_room else min(size, self.window.usual)

    @property
    def is_slowed(self) -> bool:
        """Whether fewer calls may be in flight than usual, or pauses follow them."""
        return self._calls_allowed[1]

    @property
    def is_ill(self) -> bool:
        """Whether the last calls failed as a whole, for several calls or for a fault of our own."""
        return self.own_fault is not None or self.outage.is_down

    @property
    def is_ill_with_others(self) -> bool:
        """Whether calls fail for a cause that many destinations share: their endpoint is down, or we are at fault."""
        return self.own_fault is not None or self.outage.is_endpoint_down

    def is_plain(self, now: float) -> bool:
        """Whether calls are made as to a new destination, so that there is no state to keep."""
        return self.outage.failures == 0 and self.window.is_plain(now)

    def adopt(self, destination: Destination, *, is_same_bus: bool) -> None:
        """Follow a changed document. A bus that is reached in another way is probed at once."""
        if not is_same_bus:
            self.suspension.probe_now()
            self.outage.move(self._calls.endpoint(destination.bus))
        self.window.allow(destination.limits.max_in_flight)
        self.call_rate.per_second = destination.limits.max_requests_per_second or math.inf

    def call_now(self) -> None:
        """Wait for no probe: an operator says that the destination is back."""
        self.suspension.probe_now()
        self.outage.forget()
        self._own_pause_until = float("-inf")

    def begin_call(self, now: float) -> None:
        """A batch leaves."""
        self._calls.in_flight += 1
        self.call_rate.spend(now)
        self.outage.called(now)

    def end_call(self) -> None:
        """A batch has its outcomes."""
        self._calls.in_flight -= 1

    def note_wait(self, in_flight: int) -> None:
        """A full batch waits while this number of calls is in flight."""
        if in_flight >= self.window.size and self._calls.has_room:
            self.window.note_wait()

    def learn(
        self,
        attempt: Attempt,
        result: CallResult,
        outcomes: Sequence[Outcome],
        *,
        secs: float,
        now: float,
        jitter: Callable[[], float],
    ) -> list[Signal]:
        """Learn from one call of an attempt, which took ``secs``. Returns the changes of the destination's health."""
        signals, destination, before = list[Signal](), attempt.lane.destination, self._calls_allowed
        failures = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
        self._note_own_fault(outcomes[0], now)
        if failures:
            self.errors.add(len(failures), now)
            self.last_error = failures[-1].code
        if delivered := len(outcomes) - len(failures):
            self.throughput.add(delivered, now)
            self.is_curbed = False
            if not self.suspension.is_clear:
                signals += self.clear(destination, now, "delivered")
        self._note_answer(attempt, result, outcomes[0], now)
        if failures and any(isinstance(failure, Throttled) for failure in failures):
            if self.window.throttled(attempt.cuts, now, partly=delivered > 0):
                self._pause(now, jitter)
        elif delivered:
            self.window.went_through(secs, now)
        if self._calls_allowed != before:
            signals.append(Slowed(destination, self._calls_allowed[0], self.window.usual))
        return signals if delivered else signals + self._block(attempt, outcomes, now)

    @property
    def next_call_at(self) -> float:
        """No call is made before this time."""
        return max(self.call_rate.ready_at(), self.outage.next_call_at, self._own_pause_until)

    def suspended_secs(self, now: float) -> float:
        """Seconds since the suspension began."""
        return 0.0 if self.suspension.since is None else now - self.suspension.since

    def clear(self, destination: Destination, now: float, why: ResumeReason) -> list[Signal]:
        """End the suspension, and forget its causes and those of an outage."""
        self.outage.forget()
        suspended_secs = self.suspension.end(now)
        return [] if suspended_secs is None else [Resumed(destination, suspended_secs, why)]

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

    @property
    def _calls_allowed(self) -> tuple[int, bool]:
        """The state whose changes are signals: calls allowed, up to the usual number, and whether these are slowed."""
        is_down, size, usual = self.outage.is_down, self.window.size, self.window.usual
        return min(1 if is_down else size, usual), is_down or size < usual or self.window.pauses > 0

    def _note_answer(self, attempt: Attempt, result: CallResult, first: Outcome, now: float) -> None:
        """Note whether a call failed as a whole. One alone may be an accident, except for a time-out.

        A bus that does not answer must not hold as many calls as one that does: each time-out costs a connection.
        A call that was not made tells nothing.
        """
        if result == "not_made":
            return
        if result == "answered" or not isinstance(first, Retryable):
            self.outage.answered()
            return
        self.outage.failed(now)
        if is_silence(first) or self.outage.failures > 1:
            self.window.failed(attempt.cuts, now)

    def _note_own_fault(self, first: Outcome, now: float) -> None:
        """Note whether a call failed for a fault of our own. After each such call there is a pause, as in an outage.

        A sign-in that waits for its turn tells nothing about a fault that is known.
        """
        if self.own_fault is None and isinstance(first, Delivered):
            return
        if isinstance(first, Retryable) and first.code == SIGN_INS_QUEUED:
            return
        self.own_fault = _own_fault(first)
        self._own_faults = 0 if self.own_fault is None else self._own_faults + 1
        self._own_pause_until = now + PAUSES.pause_secs(self._own_faults) if self._own_faults else float("-inf")

    def _pause(self, now: float, jitter: Callable[[], float]) -> None:
        if self.window.pauses:
            pause_secs = min(self._policy.backoff.pause_secs(self.window.pauses, jitter()), _MAX_PAUSE_SECS)
            self.call_rate.pause(now + pause_secs)

    def _block(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> list[Signal]:
        """Count an attempt that was blocked. A refusal of an older document says nothing about the current one."""
        first, destination, is_first = outcomes[0], attempt.lane.destination, self.suspension.since is None
        if not isinstance(first, Blocked) or not all(isinstance(outcome, Blocked) for outcome in outcomes):
            return []
        if attempt.batch.destination is not destination or not self.suspension.count_blocked(now):
            return []
        probe_in_secs = self.suspension.probe_at - now
        return [Suspended(destination, first.code, first.message, probe_in_secs, is_first)]


def _own_fault(first: Outcome) -> Problem | None:
    """The failure of a call for a fault of our own; None of any other call. All its entries have the same outcome."""
    if isinstance(first, Retryable) and first.is_our_fault:
        return Problem(first.code, first.message, is_our_delay=True)
    return None
