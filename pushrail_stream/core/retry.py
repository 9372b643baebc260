"""The retry decision: what happens next to a delivery, given what became of its attempt.

In memory for as long as its partition's commit may wait for it, then on the retry topics, one tier up a time, staying
on the last; given up when it is too old. Waiting because the destination asks for less speed, or because others are
before it, is no failure: while the destination makes progress such a delivery climbs no tier, but waits as long as
those before it take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pushrail_stream.core.outcome import SIGN_INS_QUEUED, Blocked, Delivered, Outcome, Rejected, Retryable, Throttled

DeadReason = Literal["rejected", "blocked", "suspended", "expired", "oversize", "undecodable"]
"""Why a delivery was given up on (contract 3.4)."""
RetryReason = Literal["retryable", "throttled", "held"]
"""Why a delivery waits for another attempt (contract 3.4)."""


class Tier(NamedTuple):
    """A retry topic: every delivery on it waits equally long."""

    topic: str
    delay_secs: float


DEFAULT_TIERS: Final = (
    Tier("pushrail.retry.10s", 10), Tier("pushrail.retry.2m", 120), Tier("pushrail.retry.30m", 1800),
)  # fmt: skip
"""Contract 3.1."""


class Settled(NamedTuple):
    """It is delivered."""


class RetryInMemory(NamedTuple):
    """Send it again after ``delay_secs``."""

    delay_secs: float
    reason: RetryReason


class RetryOnTopic(NamedTuple):
    """Let it wait on this retry tier, so that its partition goes on."""

    tier: Tier
    reason: RetryReason


class DeadLetter(NamedTuple):
    """Give it up: a dead letter."""

    reason: DeadReason
    code: str
    message: str


Decision = Settled | RetryInMemory | RetryOnTopic | DeadLetter


class RetryState(NamedTuple):
    """The facts about a delivery that decide its next step."""

    age_secs: float
    """Seconds since its first attempt, on whichever tier that was made."""
    left_secs: float
    """Seconds that it may still wait in memory and hold back its partition's commit."""
    tier: int
    """The tier it came back from, from 1; 0 for a new delivery."""
    busy_secs: float | None
    """Seconds until its destination runs out of deliveries; None when the destination makes no progress."""
    is_refused: bool = False
    """Whether its destination was suspended while it was in flight, so that no retry waits for it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patiently to try again."""

    backoff_base_secs: float = 0.2
    backoff_cap_secs: float = 20.0
    max_age_secs: float = 86_400.0
    """Age of the first attempt at which a delivery expires: by default a day."""
    tiers: tuple[Tier, ...] = DEFAULT_TIERS

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("what cannot be delivered now has to wait somewhere: at least one retry tier")


def decide(outcome: Outcome, state: RetryState, delay_secs: float, policy: RetryPolicy) -> Decision:
    """The step that follows an attempt. A retry in memory would be sent after ``delay_secs``."""
    match outcome:
        case Delivered():
            return Settled()
        case Rejected(code, message):
            return DeadLetter("rejected", code, message)
        case Blocked(code, message):
            return DeadLetter("blocked", code, message)
        case Retryable() | Throttled():  # pragma: no branch - mypy proves it the last
            return _retry(outcome, state, delay_secs, policy)


def move_on(state: RetryState, policy: RetryPolicy, reason: RetryReason = "held") -> RetryOnTopic:
    """The tier for a delivery that may not wait in memory any longer.

    One that only waits for its turn gets the last tier from which it is back before its destination runs out of others.
    """
    if state.busy_secs is None or reason == "retryable":
        return RetryOnTopic(policy.tiers[min(state.tier, len(policy.tiers) - 1)], reason)
    in_time = [tier for tier in policy.tiers if tier.delay_secs <= state.busy_secs]
    return RetryOnTopic(in_time[-1] if in_time else policy.tiers[0], reason)


def _retry(outcome: Retryable | Throttled, state: RetryState, delay_secs: float, policy: RetryPolicy) -> Decision:
    reason: RetryReason = "throttled" if isinstance(outcome, Throttled) else "retryable"
    is_ours = isinstance(outcome, Retryable) and outcome.ours
    if state.age_secs >= policy.max_age_secs and not is_ours:
        return DeadLetter("expired", outcome.code, outcome.message)
    if state.is_refused:
        return DeadLetter("suspended", outcome.code, outcome.message)
    if outcome.code == SIGN_INS_QUEUED:  # nothing has failed: it stays on its tier
        reason, state = "held", state._replace(tier=max(state.tier - 1, 0))
    if delay_secs < state.left_secs:
        return RetryInMemory(delay_secs, reason)
    return move_on(state, policy, reason)


def backoff(attempts: int, jitter: float, policy: RetryPolicy) -> float:
    """Seconds to wait after this many attempts: ``jitter``, uniform in [0, 1), of an exponential, capped.

    Full jitter, so that entries that failed together do not come back together.
    """
    # 2**60 base seconds is beyond any cap; without the bound the float overflows after a thousand attempts.
    return jitter * min(policy.backoff_cap_secs, policy.backoff_base_secs * 2.0 ** min(attempts - 1, 60))
