"""The retry decision: the next step of a delivery after an attempt.

A delivery waits in memory while its partition's commit may wait for it. After that it waits on the retry topics, each
time one tier higher up to the last, and it is given up when it is too old. A delivery that a cursor has holds back no
commit: it waits in memory for any time while its destination takes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from pushrail_stream.core.destination import Destination, RetryBounds
from pushrail_stream.core.event import VENDOR_SETTING
from pushrail_stream.core.outcome import (
    SIGN_INS_QUEUED,
    Blocked,
    Delivered,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    is_our_delay,
)
from pushrail_stream.core.pacing import Backoff

DeadReason = Literal["rejected", "blocked", "suspended", "expired", "oversize", "undecodable"]
"""The reason for giving a delivery up (CONTRACTS.md, "Delivery headers")."""
FOREIGN: Final = "foreign"
"""The reason shown for a record in the DLQ that is no dead letter of ours."""
REASONS: Final = (*get_args(DeadReason), FOREIGN)
"""Every reason that a record in the DLQ is shown with."""
MAX_REPLAYS: Final = 3
"""Replays after which a delivery is left out, unless the operator raises the limit."""
Fault = Literal["customer", "producer", "ours"]
"""``customer``: their bus, their limits or their event. ``producer``: the writer of the record, us included.
``ours``: the settings of this installation."""
FAULTS: Final[tuple[Fault, ...]] = ("customer", "producer", "ours")
_CUSTOMERS: Final = frozenset({"rejected", "blocked", "suspended", "expired", "oversize"})
_UNBOUNDED: Final = RetryBounds()
RetryReason = Literal["retryable", "throttled", "held"]
"""The reason for another attempt (CONTRACTS.md, "Delivery headers")."""


def fault_of(reason: str, code: str = "") -> Fault:
    """The party that caused a dead letter of this reason and code. An unknown reason is the producer's."""
    if reason == "undecodable" and code == VENDOR_SETTING:
        return "ours"
    return "customer" if reason in _CUSTOMERS else "producer"


class Tier(NamedTuple):
    """A retry topic. All deliveries on it wait equally long."""

    topic: str
    delay_secs: float


class Settled(NamedTuple):
    """The delivery is done."""


class RetryInMemory(NamedTuple):
    """Send it again after ``delay_secs``."""

    delay_secs: float
    reason: RetryReason


class RetryOnTopic(NamedTuple):
    """Let it wait on this retry tier, so that its partition can be committed."""

    tier: Tier
    reason: RetryReason


class DeadLetter(NamedTuple):
    """Give it up."""

    reason: DeadReason
    code: str
    message: str


Decision = Settled | RetryInMemory | RetryOnTopic | DeadLetter


class RetryState(NamedTuple):
    """The facts about a delivery that decide its next step."""

    age_secs: float
    """Seconds since its first attempt, on whichever tier that was made."""
    left_secs: float
    """Seconds that it may still wait in memory; infinity while it holds back no commit."""
    tier: int
    """The tier it came back from, from 1; 0 for a new delivery."""
    makes_progress: bool = False
    """Whether its destination takes deliveries at present, so that waiting for a turn is no failure."""
    attempts: int = 0
    """Its attempts, without those that failed for a delay of ours."""
    bounds: RetryBounds = _UNBOUNDED
    """Its destination's own."""
    is_refused: bool = False
    """Whether its destination was suspended while it was in flight, so that no retry waits for it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays between attempts, and the end of them."""

    backoff: Backoff
    bounds: RetryBounds
    """Bounds for all destinations. The age of a delivery counts from its first attempt."""
    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("a retry policy has at least one tier")

    def max_age_secs(self, destination: Destination) -> float:
        """Age at which a delivery to this destination expires."""
        return min(self.bounds.max_age_secs, destination.retry.max_age_secs)

    def ends(self, state: RetryState) -> bool:
        """Whether a delivery gets no further attempt: it is too old, or has had as many as are allowed."""
        max_age_secs = min(self.bounds.max_age_secs, state.bounds.max_age_secs)
        max_attempts = min(self.bounds.max_attempts, state.bounds.max_attempts)
        return state.age_secs >= max_age_secs or state.attempts >= max_attempts


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
    """The tier for a delivery that may not wait in memory any longer: the one above its own, up to the last.

    A delivery that only waits for its turn climbs no tier. It comes back after the shortest delay, because its
    destination may soon have room. One that would expire for its destination meanwhile comes back sooner.
    """
    tier = 0 if state.makes_progress and reason != "retryable" else min(state.tier, len(policy.tiers) - 1)
    while tier and state.age_secs + policy.tiers[tier].delay_secs > state.bounds.max_age_secs:
        tier -= 1
    return RetryOnTopic(policy.tiers[tier], reason)


def _retry(outcome: Retryable | Throttled, state: RetryState, delay_secs: float, policy: RetryPolicy) -> Decision:
    reason: RetryReason = "throttled" if isinstance(outcome, Throttled) else "retryable"
    if policy.ends(state) and not is_our_delay(outcome):
        return DeadLetter("expired", outcome.code, outcome.message)
    if state.is_refused:
        return DeadLetter("suspended", outcome.code, outcome.message)
    if outcome.code == SIGN_INS_QUEUED:  # nothing has failed: it stays on its tier
        reason, state = "held", state._replace(tier=max(state.tier - 1, 0))
    # When its hold is over, it moves to a cursor. A retry topic has none.
    waits_for_turn = reason == "throttled" and state.makes_progress and state.tier == 0
    if delay_secs < state.left_secs or waits_for_turn:
        return RetryInMemory(delay_secs, reason)
    return move_on(state, policy, reason)
