"""A delivery: the duty to bring one event to one destination. It settles exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

from pushrail_stream.core.event import Event
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Record

Trigger = Literal["live", "retry", "replay", "test"]
"""The reason for an attempt (CONTRACTS.md, "The attempt record")."""


class Problem(NamedTuple):
    """Why an attempt failed, in the bus's words."""

    code: str
    message: str
    request_id: str | None = None
    is_our_delay: bool = False
    """As `core.outcome.is_our_delay` says."""
    our_delays: int = 0
    """Attempts of the delivery in this worker that failed so: they do not count."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The operator's request to make a delivery again."""

    id: str
    count: int
    """Replays of this delivery so far, this one included."""


@final
class Delivery:
    """One event on its way to one destination.

    It is a mutable object with slots and not a dataclass, because it is created on the hot path.
    """

    __slots__ = (
        "attempts", "destination_id", "event", "first_attempt_ms", "hold_until", "offered_at", "pending",
        "problem", "record", "replay", "settled", "size", "tier",
    )  # fmt: skip

    def __init__(
        self, event: Event, record: Record, destination_id: str, size: int, pending: PendingRecord, tier: int = 0
    ) -> None:
        self.event = event
        self.record = record
        """The event's original record, also when the delivery comes back from a retry topic."""
        self.destination_id = destination_id
        self.size = size
        """Entry size in bytes, as the bus counts."""
        self.pending = pending
        """The record to settle: the copy's when the delivery comes back from a retry topic."""
        self.tier = tier
        """The retry tier it came back from, from 1; 0 for a new delivery."""
        self.attempts = 0
        self.first_attempt_ms: int | None = None
        """Epoch milliseconds from which its age counts: its first attempt, or the time at which it was due and could
        not be made. A cursor's delivery is due from the later of its record's time and the cursor's opening on.
        """
        self.offered_at = 0.0
        """Time at which the lane took it, seconds of the monotonic clock."""
        self.hold_until = 0.0
        """Time until which it may hold back its partition's commit, seconds of the monotonic clock."""
        self.problem: Problem | None = None
        """The failure of its last attempt."""
        self.replay: Replay | None = None
        self.settled = False

    @property
    def trigger(self) -> Trigger:
        """The reason for its next attempt."""
        if self.replay is not None:
            return "replay"
        return "retry" if self.tier else "live"

    @property
    def counted_attempts(self) -> int:
        """Its attempts, without those that failed for a delay of ours."""
        return self.attempts if self.problem is None else self.attempts - self.problem.our_delays

    @property
    def age_from_ms(self) -> int | None:
        """Epoch milliseconds from which its age counts; None before its first attempt.

        Its cursor lets the age begin again after a fault of our own.
        """
        first_ms = self.first_attempt_ms
        return None if first_ms is None else max(first_ms, self.pending.owner.age_from_ms)

    def settle(self) -> None:
        """Settle the delivery. A second time is a bug and raises."""
        if self.settled:
            raise RuntimeError(f"delivery of {self.record.origin} to {self.destination_id} settled twice")
        self.settled = True
        self.pending.settle()

    def __repr__(self) -> str:
        return f"Delivery({self.record.origin} to {self.destination_id}, attempts={self.attempts})"
