"""The retry decision: what happens next to a delivery, given what became of its attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pushrail_stream.core.outcome import Blocked, Delivered, Outcome, Rejected, Retryable, Throttled

DeadReason = Literal["rejected", "blocked", "suspended", "expired", "oversize", "undecodable"]
"""Why a delivery was given up on (contract 3.4)."""
RetryReason = Literal["retryable", "throttled", "held"]
"""Why a delivery waits for another attempt (contract 3.4)."""


class Settle(NamedTuple):
    """It is delivered."""


class Again(NamedTuple):
    """Send it again after ``delay_secs``."""

    delay_secs: float
    reason: RetryReason


class Bury(NamedTuple):
    """Give it up: a dead letter."""

    reason: DeadReason
    code: str
    message: str


Decision = Settle | Again | Bury


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patiently to try again."""

    backoff_base_secs: float = 0.2
    backoff_cap_secs: float = 20.0
    max_age_secs: float = 86_400.0
    """Age of the first attempt at which a delivery expires: EventBridge itself gives up after 24 h."""


def decide(outcome: Outcome, *, attempts: int, age_secs: float, jitter: float, policy: RetryPolicy) -> Decision:
    """What to do after attempt number ``attempts`` (1 is the first), ``age_secs`` after the first one began.

    ``jitter`` is uniform in [0, 1): full jitter, so that entries that failed together do not come back together.
    """
    match outcome:
        case Delivered():
            return Settle()
        case Rejected(code, message):
            return Bury("rejected", code, message)
        case Blocked(code, message):
            return Bury("blocked", code, message)
        case Retryable(ours=True):
            return Again(backoff(attempts, jitter, policy), "retryable")
        case Retryable(code, message) | Throttled(code, message):  # pragma: no branch - mypy proves it the last
            if age_secs >= policy.max_age_secs:
                return Bury("expired", code, message)
            reason: RetryReason = "throttled" if isinstance(outcome, Throttled) else "retryable"
            return Again(backoff(attempts, jitter, policy), reason)


def backoff(attempts: int, jitter: float, policy: RetryPolicy) -> float:
    """Seconds to wait after this many attempts: ``jitter`` of an exponential, capped."""
    # 2**60 base seconds is beyond any cap; without the bound the float overflows after a thousand attempts.
    return jitter * min(policy.backoff_cap_secs, policy.backoff_base_secs * 2.0 ** min(attempts - 1, 60))
