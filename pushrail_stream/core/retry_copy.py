"""A retry copy: a delivery as a retry topic will hold it, to be tried again when that tier's time has passed."""

from __future__ import annotations

from dataclasses import dataclass

from pushrail_stream.core.delivery import Problem, Replay
from pushrail_stream.core.event import Event
from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.core.retry import RetryReason, Tier


@dataclass(frozen=True, slots=True)
class RetryCopy:
    """The original record, untouched, and where its delivery stands."""

    record: Record
    event: Event
    destination_id: str
    tier: Tier
    reason: RetryReason
    attempts: int
    first_attempt_ms: int | None
    failed_at_ms: int
    problem: Problem | None
    replay: Replay | None = None

    def headers(self) -> Headers:
        """The producer's headers and the delivery's (contract 3.4)."""
        problem = self.problem
        state = DeliveryHeaders(
            origin=self.record.origin,
            attempts=self.attempts,
            reason=self.reason,
            failed_at_ms=self.failed_at_ms,
            destination=self.destination_id,
            first_attempt_at_ms=self.first_attempt_ms,
            not_before_ms=self.failed_at_ms + round(self.tier.delay_secs * 1000),
            error_code=problem.code if problem else None,
            error_message=problem.message if problem else None,
            request_id=problem.request_id if problem else None,
            replay=self.replay.id if self.replay else None,
            replay_count=self.replay.count if self.replay else None,
        )
        return encode_headers(state, self.record.headers)
