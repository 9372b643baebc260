"""A delivery: the duty to bring one event to one destination. It settles exactly once."""

from __future__ import annotations

from typing import Literal, final

from pushrail_stream.core.event import Event
from pushrail_stream.core.offsets import Ticket
from pushrail_stream.core.record import Record

Trigger = Literal["live", "retry", "replay", "test"]
"""Why an attempt is made (contract 3.6)."""


@final
class Delivery:
    """One event on its way to one destination.

    A mutable object with slots and not a dataclass: one is made per delivery on the hot path, and only its lane
    changes it.
    """

    __slots__ = (
        "alone",
        "attempts",
        "destination_id",
        "event",
        "first_attempt_ms",
        "offered_at",
        "record",
        "settled",
        "size",
        "ticket",
    )

    def __init__(self, event: Event, record: Record, destination_id: str, size: int, ticket: Ticket) -> None:
        self.event = event
        self.record = record
        self.destination_id = destination_id
        self.size = size
        """Entry size in bytes, as AWS counts."""
        self.ticket = ticket
        self.attempts = 0
        self.first_attempt_ms: int | None = None
        """Epoch milliseconds; None before the first attempt."""
        self.offered_at = 0.0
        """When the lane took it, seconds of the monotonic clock."""
        self.alone = False
        """Whether it must be sent without neighbours: its last batch was refused as a whole."""
        self.settled = False

    def settle(self) -> None:
        """It was delivered or skipped, or Kafka acknowledged its copy. A second time is a bug and raises."""
        if self.settled:
            raise RuntimeError(f"delivery of {self.record.origin} to {self.destination_id} settled twice")
        self.settled = True
        self.ticket.settle()

    def __repr__(self) -> str:
        return f"Delivery({self.record.origin} to {self.destination_id}, attempts={self.attempts})"
