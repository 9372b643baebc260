"""Settlement: every end of a delivery.

A delivery ends as delivered, skipped, a dead letter, a retry copy, or abandoned to the partition's next owner. A copy
settles its delivery once Kafka has acknowledged it. While Kafka refuses a copy, the record stays open and its offset
uncommitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final, final

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Delivery, Problem, Trigger
from pushrail_stream.core.event import Event
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import PendingRecord
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadReason, RetryOnTopic, RetryPolicy, backoff
from pushrail_stream.core.signals import CopyFailed, DeadLettered, Flooded, MovedToRetry, Skipped, SkipReason
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.ports.pipeline import PublishError

_WRITE_BACKOFF: Final = RetryPolicy(backoff_base_secs=1.0, backoff_cap_secs=10.0)
"""Pauses between two writes of a copy. Kafka's client retries for half a minute before it reports a failure."""


@final
class Settlement:
    """The ends of one worker's deliveries. Every public method returns at once."""

    def __init__(self, ports: Ports, policy: Policy, in_flight: InFlight, ledger: Ledger, guard: FloodGuard) -> None:
        self._publisher = ports.publisher
        self._clock = ports.clock
        self._jitter = ports.jitter
        self._observe = ports.observe
        self._dlq = policy.dlq
        self._in_flight = in_flight
        self._ledger = ledger
        self._guard = guard
        self._withheld: list[PendingRecord] = []
        """Records that would be dead letters, but stay open because of a flood."""
        self._loop = asyncio.get_running_loop()

    def delivered(self, delivery: Delivery) -> None:
        """The bus confirmed the delivery."""
        delivery.settle()
        self._ledger.deliver(1)

    def skip(self, delivery: Delivery, bus: str | None, reason: SkipReason) -> None:
        """Settle the delivery unsent."""
        delivery.settle()
        self._ledger.skip(1)
        replay_id = delivery.replay.id if delivery.replay else None
        self._observe(
            Skipped(
                delivery.event,
                delivery.record.origin,
                delivery.destination_id,
                bus,
                reason,
                delivery.trigger,
                self._clock.now_ms(),
                replay_id,
            )
        )

    def skip_unrouted(self, record: Record, event: Event, pending: PendingRecord) -> None:
        """Settle a record whose customer has no destination."""
        pending.settle()
        self._ledger.skip(1)
        self._observe(Skipped(event, record.origin, None, None, "no_destination", "live", self._clock.now_ms()))

    def abandon(self, deliveries: int) -> None:
        """Leave deliveries to the next owner of their partition."""
        self._ledger.drop(deliveries)

    def retry_later(self, delivery: Delivery, step: RetryOnTopic) -> None:
        """Write a retry copy, or abandon the delivery when the partition's next owner reads its record again."""
        if delivery.pending.is_for_next_owner:
            self.abandon(1)
            return
        copy = Copy(
            record=delivery.record,
            reason=step.reason,
            failed_at_ms=self._clock.now_ms(),
            problem=delivery.problem,
            tier=step.tier,
            attempts=delivery.attempts,
            destination_id=delivery.destination_id,
            first_attempt_ms=delivery.first_attempt_ms,
            replay=delivery.replay,
            event=delivery.event,
        )
        self._start(self._write_retry(copy, step.tier.topic, delivery.pending, delivery.settle), delivery.pending)

    def dead_letter(
        self, delivery: Delivery, bus: str, reason: DeadReason, problem: Problem, *, reported: bool = False
    ) -> None:
        """Give the delivery up. ``reported``: the attempt's signal says so."""
        copy = Copy(
            record=delivery.record,
            reason=reason,
            failed_at_ms=self._clock.now_ms(),
            problem=problem,
            attempts=delivery.attempts,
            destination_id=delivery.destination_id,
            first_attempt_ms=delivery.first_attempt_ms,
            replay=delivery.replay,
            event=delivery.event,
            trigger=delivery.trigger,
            bus=bus,
            reported=reported,
        )
        self._dead_letter(copy, delivery.pending, delivery.settle)

    def dead_letter_record(
        self,
        record: Record,
        event: Event | None,
        pending: PendingRecord,
        reason: DeadReason,
        problem: Problem,
        trigger: Trigger = "live",
    ) -> None:
        """Give up a record that has no delivery: it cannot be decoded, or its customer has no destination."""
        now_ms = self._clock.now_ms()
        copy = Copy(record=record, reason=reason, failed_at_ms=now_ms, problem=problem, event=event, trigger=trigger)
        self._dead_letter(copy, pending, pending.settle)

    def abandon_withheld(self) -> int:
        """Abandon the withheld records of revoked partitions. Returns their number."""
        staying = [pending for pending in self._withheld if not pending.is_revoked]
        abandoned = len(self._withheld) - len(staying)
        self._withheld = staying
        self.abandon(abandoned)
        return abandoned

    def _dead_letter(self, copy: Copy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        """Write a dead letter. During a flood, a record that its producer or we are to blame for stays open instead."""
        if copy.reason not in {"undecodable", "rejected"} or not self._is_flood(copy, pending):
            self._start(self._write_dead_letter(copy, pending, settle), pending)
        elif pending.is_revoked:
            self.abandon(1)
        else:
            self._withheld.append(pending)

    def _is_flood(self, copy: Copy, pending: PendingRecord) -> bool:
        """Count this dead record, once. A replayed record was counted before."""
        guard = self._guard
        if copy.replay is None and not pending.is_dead_lettered and not guard.tripped:
            pending.is_dead_lettered = True
            if guard.count_dead_letter(customer_of(copy.event, copy.record.key), self._loop.time()):
                self._observe(Flooded(guard.report()))
        return guard.tripped

    def _start(self, work: Coroutine[None, None, None], pending: PendingRecord) -> None:
        self._in_flight.start(work, lambda: pending.is_revoked)

    async def _write_dead_letter(self, copy: Copy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        if await self._write(copy, self._dlq, pending):
            settle()
            self._ledger.dead_letter(1)
            self._observe(DeadLettered(copy, copy.event))

    async def _write_retry(self, copy: Copy, topic: str, pending: PendingRecord, settle: Callable[[], None]) -> None:
        if await self._write(copy, topic, pending):
            settle()
            self._ledger.move(1)
            self._observe(MovedToRetry(copy, topic))

    async def _write(self, copy: Copy, topic: str, pending: PendingRecord) -> bool:
        """Whether Kafka has acknowledged the copy. Otherwise its partition was revoked, and the delivery abandoned."""
        record, headers, failures = copy.record, copy.headers(), 0
        while True:
            try:
                await self._publisher.publish(topic, record.key, record.value, headers)
            except PublishError as error:
                failures += 1
                delay = backoff(failures, 0.5 + self._jitter() / 2, _WRITE_BACKOFF)
                self._observe(CopyFailed(copy, str(error), delay))
                if pending.is_revoked:
                    self.abandon(1)
                    return False
                await asyncio.sleep(delay)
            else:
                return True
