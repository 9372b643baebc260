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
    """Where a delivery stands when its next step is decided."""

    age_secs: float
    """Since the first attempt, on whichever tier it was made."""
    left_secs: float
    """How long its partition's commit may still wait for it."""
    tier: int
    """The tier it came back from, from 1; 0 for the first time around."""
    busy_secs: float | None
    """For how long its destination, which has taken something lately, has enough to do; None: it takes nothing."""


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


def decide(outcome: Outcome, standing: RetryState, delay_secs: float, policy: RetryPolicy) -> Decision:
    """What to do after an attempt; the next one would be made after ``delay_secs``, if it can wait in memory."""
    match outcome:
        case Delivered():
            return Settled()
        case Rejected(code, message):
            return DeadLetter("rejected", code, message)
        case Blocked(code, message):
            return DeadLetter("blocked", code, message)
        case Retryable():
            return _retry(outcome, standing, delay_secs, policy)
        case Throttled(code, message):  # pragma: no branch - mypy proves it the last
            if standing.age_secs >= policy.max_age_secs:
                return DeadLetter("expired", code, message)
            return _wait(standing, delay_secs, "throttled", policy)


def move_on(standing: RetryState, policy: RetryPolicy, reason: RetryReason = "held") -> RetryOnTopic:
    """The tier for a delivery that may not wait in memory any longer.

    One that only waits for its turn gets the last tier from which it is back before its destination runs out of others.
    """
    if standing.busy_secs is None or reason == "retryable":
        return RetryOnTopic(policy.tiers[min(standing.tier, len(policy.tiers) - 1)], reason)
    in_time = [tier for tier in policy.tiers if tier.delay_secs <= standing.busy_secs]
    return RetryOnTopic(in_time[-1] if in_time else policy.tiers[0], reason)


def _retry(outcome: Retryable, standing: RetryState, delay_secs: float, policy: RetryPolicy) -> Decision:
    if not outcome.ours and standing.age_secs >= policy.max_age_secs:
        return DeadLetter("expired", outcome.code, outcome.message)
    if outcome.code == SIGN_INS_QUEUED:  # nothing has failed: it stays on its tier
        return _wait(standing._replace(tier=max(standing.tier - 1, 0)), delay_secs, "held", policy)
    return _wait(standing, delay_secs, "retryable", policy)


def _wait(
    standing: RetryState, delay_secs: float, reason: RetryReason, policy: RetryPolicy
) -> RetryInMemory | RetryOnTopic:
    if delay_secs < standing.left_secs:
        return RetryInMemory(delay_secs, reason)
    return move_on(standing, policy, reason)


def backoff(attempts: int, jitter: float, policy: RetryPolicy) -> float:
    """Seconds to wait after this many attempts: ``jitter``, uniform in [0, 1), of an exponential, capped.

    Full jitter, so that entries that failed together do not come back together.
    """
    # 2**60 base seconds is beyond any cap; without the bound the float overflows after a thousand attempts.
    return jitter * min(policy.backoff_cap_secs, policy.backoff_base_secs * 2.0 ** min(attempts - 1, 60))
