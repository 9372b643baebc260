"""A copy: a record as a retry topic or the DLQ will hold it, with the state of its delivery in the headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pushrail_stream.core.delivery import Delivery, Problem, Replay, Trigger
from pushrail_stream.core.event import Event
from pushrail_stream.core.headers import DeliveryHeaders, connect_headers, encode_headers
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.core.retry import DeadReason, RetryReason, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The original record, untouched, and the state of its delivery.

    ``event``, ``trigger``, ``bus`` and ``reported`` are for observers only. Kafka gets the other fields.
    """

    record: Record
    reason: DeadReason | RetryReason
    failed_at_ms: int
    problem: Problem | None
    """The failure of the last attempt. None when no attempt was made. A dead letter always has one."""
    tier: Tier | None = None
    """The retry tier to wait on. None for a dead letter."""
    attempts: int = 0
    destination_id: str | None = None
    """None when the record could not be decoded or has no destination."""
    first_attempt_ms: int | None = None
    replay: Replay | None = None
    event: Event | None = None
    """None when the record could not be decoded."""
    trigger: Trigger = "live"
    bus: str | None = None
    reported: bool = False
    """Whether an `Attempted` signal has reported this dead letter. Otherwise it was given up without a call."""

    @property
    def code(self) -> str:
        """The failure's code, or an empty text."""
        return self.problem.code if self.problem else ""

    @property
    def message(self) -> str:
        """The failure's message, or an empty text."""
        return self.problem.message if self.problem else ""

    @classmethod
    def of(
        cls, delivery: Delivery, reason: DeadReason | RetryReason, problem: Problem | None, now_ms: int, **details: Any
    ) -> Copy:
        """A copy of the delivery as it is now. ``details``: the other fields."""
        return cls(
            record=delivery.record, reason=reason, failed_at_ms=now_ms, problem=problem, attempts=delivery.attempts,
            destination_id=delivery.destination_id, first_attempt_ms=delivery.first_attempt_ms, replay=delivery.replay,
            event=delivery.event, **details,
        )  # fmt: skip

    def headers(self) -> Headers:
        """The producer's headers, the delivery's and, on a dead letter, Kafka Connect's."""
        problem, tier = self.problem, self.tier
        state = DeliveryHeaders(
            origin=self.record.origin,
            attempts=self.attempts,
            reason=self.reason,
            failed_at_ms=self.failed_at_ms,
            destination=self.destination_id,
            first_attempt_at_ms=self.first_attempt_ms,
            not_before_ms=self.failed_at_ms + round(tier.delay_secs * 1000) if tier else None,
            error_code=problem.code if problem else None,
            error_message=problem.message if problem else None,
            request_id=problem.request_id if problem else None,
            replay=self.replay.id if self.replay else None,
            replay_count=self.replay.count if self.replay else None,
        )
        headers = encode_headers(state, self.record.headers)
        if tier is not None:
            return headers
        described = f"{self.reason}: {self.code}: {self.message}"
        return (*headers, *connect_headers(self.record.origin, described))
