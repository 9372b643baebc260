"""A delivery: the duty to bring one event to one destination. It settles exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

from pushrail_stream.core.event import Event
from pushrail_stream.core.offsets import PendingRecord
from pushrail_stream.core.record import Record

Trigger = Literal["live", "retry", "replay", "test"]
"""Why an attempt is made (CONTRACTS.md, "The attempt record")."""


class Problem(NamedTuple):
    """Why an attempt failed, in the bus's words."""

    code: str
    message: str
    request_id: str | None = None
    ours: bool = False
    """Our own clock or base credentials were at fault."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The request by which a delivery is made again."""

    id: str
    count: int
    """How often it has been replayed, this time included."""


@final
class Delivery:
    """One event on its way to one destination.

    A mutable object with slots and not a dataclass: one is made per delivery on the hot path, and only its lane
    changes it.
    """

    __slots__ = (
        "attempts",
        "destination_id",
        "event",
        "first_attempt_ms",
        "hold_until",
        "offered_at",
        "pending",
        "problem",
        "record",
        "replay",
        "settled",
        "size",
        "tier",
    )

    def __init__(
        self, event: Event, record: Record, destination_id: str, size: int, pending: PendingRecord, tier: int = 0
    ) -> None:
        self.event = event
        self.record = record
        """The event's record: of a delivery that comes back from a retry topic, what was produced first."""
        self.destination_id = destination_id
        self.size = size
        """Entry size in bytes, as the bus counts."""
        self.pending = pending
        """Of the record it came with, which is the copy's when it comes back from a retry topic."""
        self.tier = tier
        """The retry tier it came back from, from 1; 0 for the first time around."""
        self.attempts = 0
        self.first_attempt_ms: int | None = None
        """Epoch milliseconds of the first attempt, or of when it was due and could not be made; None before that."""
        self.offered_at = 0.0
        """When the lane took it, seconds of the monotonic clock."""
        self.hold_until = 0.0
        """How long it may keep its partition's commit waiting, seconds of the monotonic clock."""
        self.problem: Problem | None = None
        """What its last attempt failed of."""
        self.replay: Replay | None = None
        self.settled = False

    @property
    def trigger(self) -> Trigger:
        """Why its next attempt is made."""
        if self.replay is not None:
            return "replay"
        return "retry" if self.tier else "live"

    def settle(self) -> None:
        """It was delivered or skipped, or Kafka acknowledged its copy. A second time is a bug and raises."""
        if self.settled:
            raise RuntimeError(f"delivery of {self.record.origin} to {self.destination_id} settled twice")
        self.settled = True
        self.pending.settle()

    def __repr__(self) -> str:
        return f"Delivery({self.record.origin} to {self.destination_id}, attempts={self.attempts})"
