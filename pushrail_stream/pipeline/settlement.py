"""Hand over: how a delivery leaves: delivered, to the DLQ, to a retry topic, unsent, or to another worker."""

from __future__ import annotations

from typing import final

from pushrail_stream.core.dead_letter import DeadLetterCopy
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.retry import DeadReason, RetryOnTopic
from pushrail_stream.core.retry_copy import RetryCopy
from pushrail_stream.core.signals import Skipped, SkipReason
from pushrail_stream.pipeline.copies import Copies
from pushrail_stream.ports.pipeline import Clock, Observer


@final
class Settlement:
    """Turns a delivery into what becomes of it. Every method returns at once."""

    def __init__(self, *, copies: Copies, ledger: Ledger, clock: Clock, observe: Observer) -> None:
        self._copies = copies
        self._ledger = ledger
        self._clock = clock
        self._observe = observe

    def delivered(self, delivery: Delivery) -> None:
        """EventBridge confirmed it."""
        delivery.settle()
        self._ledger.deliver(1)

    def dead_letter(
        self, delivery: Delivery, bus_arn: str, reason: DeadReason, problem: Problem, *, reported: bool = False
    ) -> None:
        """Give it up: it settles when Kafka has its dead letter. ``told``: the signal of its attempt says so."""
        letter = DeadLetterCopy(
            record=delivery.record,
            reason=reason,
            attempts=delivery.attempts,
            failed_at_ms=self._clock.now_ms(),
            code=problem.code,
            message=problem.message,
            destination_id=delivery.destination_id,
            first_attempt_ms=delivery.first_attempt_ms,
            request_id=problem.request_id,
            replay=delivery.replay,
            trigger=delivery.trigger,
            bus_arn=bus_arn,
            reported=reported,
        )
        self._copies.dead_letter(letter, delivery.event, delivery.pending, delivery.settle)

    def retry_later(self, delivery: Delivery, move: RetryOnTopic) -> None:
        """Move it to a retry tier: it settles when Kafka has its copy. What is leaving is the next owner's to begin."""
        if delivery.pending.is_for_next_owner:
            self.drop(1)
            return
        copy = RetryCopy(
            record=delivery.record,
            event=delivery.event,
            destination_id=delivery.destination_id,
            tier=move.tier,
            reason=move.reason,
            attempts=delivery.attempts,
            first_attempt_ms=delivery.first_attempt_ms,
            failed_at_ms=self._clock.now_ms(),
            problem=delivery.problem,
            replay=delivery.replay,
        )
        self._copies.retry_later(copy, delivery.pending, delivery.settle)

    def skip(self, delivery: Delivery, bus_arn: str | None, reason: SkipReason) -> None:
        """Settle it unsent, and say so."""
        delivery.settle()
        self._ledger.skip(1)
        self._observe(
            Skipped(
                delivery.event,
                delivery.record.origin,
                delivery.destination_id,
                bus_arn,
                reason,
                delivery.trigger,
                self._clock.now_ms(),
                delivery.replay.id if delivery.replay else None,
            )
        )

    def drop(self, deliveries: int) -> None:
        """Leave deliveries to the next owner of their partition."""
        self._ledger.drop(deliveries)
