"""A dead letter: a delivery given up on, with reason and origin, as the DLQ topic will hold it."""

from __future__ import annotations

from dataclasses import dataclass

from pushrail_stream.core.delivery import Replay, Trigger
from pushrail_stream.core.headers import DeliveryHeaders, connect_headers, encode_headers
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.core.retry import DeadReason


@dataclass(frozen=True, slots=True)
class DeadLetterCopy:
    """The original record, untouched, and why its delivery was given up.

    The DLQ holds all of it but ``trigger``, ``bus_arn`` and ``reported``, which are for those who watch.
    """

    record: Record
    reason: DeadReason
    attempts: int
    failed_at_ms: int
    code: str
    message: str
    destination_id: str | None = None
    first_attempt_ms: int | None = None
    request_id: str | None = None
    replay: Replay | None = None
    trigger: Trigger = "live"
    bus_arn: str | None = None
    """The destination's, where there is one."""
    reported: bool = False
    """Whether it died of an attempt, whose signal has said so; else it was given up without a call."""

    def headers(self) -> Headers:
        """The producer's headers, the delivery's (contract 3.4) and Kafka Connect's."""
        state = DeliveryHeaders(
            origin=self.record.origin,
            attempts=self.attempts,
            reason=self.reason,
            failed_at_ms=self.failed_at_ms,
            destination=self.destination_id,
            first_attempt_at_ms=self.first_attempt_ms,
            error_code=self.code,
            error_message=self.message,
            request_id=self.request_id,
            replay=self.replay.id if self.replay else None,
            replay_count=self.replay.count if self.replay else None,
        )
        described = f"{self.reason}: {self.code}: {self.message}"
        return (*encode_headers(state, self.record.headers), *connect_headers(self.record.origin, described))
