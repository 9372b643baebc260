"""Settlement: every end of a delivery.

A delivery ends as delivered, skipped, a dead letter, a retry copy, or abandoned to the partition's next owner. A copy
settles its delivery once Kafka has acknowledged it. While Kafka refuses a copy, the record stays open and its offset
uncommitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, final

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Delivery, Problem, Trigger
from pushrail_stream.core.event import Event
from pushrail_stream.core.flood_guard import FloodGuard, customer_of
from pushrail_stream.core.holds import retry_state
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.pacing import Backoff
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadLetter, DeadReason, Decision, RetryInMemory, RetryOnTopic, Settled, move_on
from pushrail_stream.core.signals import CopyFailed, DeadLettered, Flooded, MovedToRetry, Skipped, SkipReason
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.ports.pipeline import PublishError

_WRITE_BACKOFF: Final = Backoff(1.0, 10.0)
"""Seconds between two writes of a copy. Kafka's client retries for half a minute before it reports a failure."""


@final
class Settlement:
    """The ends of one worker's deliveries. Every public method returns at once."""

    def __init__(self, ports: Ports, policy: Policy, in_flight: InFlight, ledger: Ledger, guard: FloodGuard) -> None:
        self._clock = ports.clock
        self._observe = ports.observe
        self._publisher = ports.publisher
        self._jitter = ports.jitter
        self._policy = policy.retry
        self._dlq = policy.dlq
        self._in_flight = in_flight
        self._ledger = ledger
        self._guard = guard
        self._withheld: list[PendingRecord] = []
        """Records that would be dead letters, but stay open because of a flood."""
        self._loop = asyncio.get_running_loop()

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """The bus confirmed these deliveries."""
        for delivery in deliveries:
            delivery.settle()
        self._ledger.delivered += len(deliveries)

    def skip(self, delivery: Delivery, bus: str | None, reason: SkipReason) -> None:
        """Settle the delivery unsent."""
        delivery.settle()
        self._ledger.skipped += 1
        origin, replay_id = delivery.record.origin, delivery.replay.id if delivery.replay else None
        signal = Skipped(
            delivery.event, origin, delivery.destination_id, bus, reason, delivery.trigger, self._clock.now_ms(),
            replay_id,
        )  # fmt: skip
        self._observe(signal)

    def skip_unrouted(self, record: Record, event: Event, pending: PendingRecord) -> None:
        """Settle a record whose customer has no destination."""
        pending.settle()
        self._ledger.skipped += 1
        self._observe(Skipped(event, record.origin, None, None, "no_destination", "live", self._clock.now_ms()))

    def abandon(self, deliveries: int) -> None:
        """Leave deliveries to the next owner of their partition."""
        self._ledger.dropped += deliveries

    def carry_out(self, lane: Lane, delivery: Delivery, decision: Decision, now: float) -> None:
        """Take the step that was decided after a failed call."""
        match decision:
            case Settled():
                raise AssertionError("a confirmed delivery has settled")
            case RetryInMemory(delay_secs):
                self.retry_in_memory(lane, delivery, delay_secs, now)
            case RetryOnTopic():
                self._retry_on(delivery, decision)
            case DeadLetter(reason, code, message):  # pragma: no branch - mypy proves that there is no fifth case
                request_id = delivery.problem.request_id if delivery.problem else None
                problem = Problem(code, message, request_id)
                self.dead_letter(delivery, lane.destination.bus.arn, reason, problem, reported=True)

    def retry_in_memory(self, lane: Lane, delivery: Delivery, delay_secs: float, now: float) -> None:
        """Put the delivery back into its lane, unless its partition or its destination has gone meanwhile."""
        if delivery.pending.is_for_next_owner:
            self.abandon(1)
        elif delivery.pending.is_revoked:
            self.retry_later(lane, delivery, now)
        elif lane.destination.owner != delivery.event.owner:
            # The destination's id was given to another customer while the call was in flight.
            self.skip(delivery, None, "deleted")
        else:
            lane.retry(delivery, now + delay_secs)

    def retry_later(self, lane: Lane, delivery: Delivery, now: float) -> None:
        """Move a delivery that may not wait in its lane any longer to a retry topic, or give it up when it expired.

        While calls to its destination fail for a fault of our own, it waits because of that, and does not expire.
        """
        delivery.problem = lane.health.own_fault or delivery.problem
        if delivery.first_attempt_ms is None:
            delivery.first_attempt_ms = self._clock.now_ms()
        state = retry_state(lane, delivery, now, self._clock.now_ms())
        problem = delivery.problem or Problem("Held", "no attempt could be made in time")
        if self._policy.ends(state) and not problem.is_our_delay:
            self.dead_letter(delivery, lane.destination.bus.arn, "expired", problem)
        else:
            self._retry_on(delivery, move_on(state, self._policy))

    def refuse(self, lane: Lane, delivery: Delivery, now: float) -> None:
        """Give up a delivery to a suspended destination. A replayed one waits for the next probe instead."""
        if delivery.replay is None:
            message = f"every attempt was blocked, the last {lane.health.suspended_secs(now):.0f} s ago or later"
            problem = delivery.problem or Problem("DestinationSuspended", message)
            self.dead_letter(delivery, lane.destination.bus.arn, "suspended", problem)
        elif delivery.first_attempt_ms is None:
            # The probe may be in flight: once, the delivery stays on its own tier; after that it climbs.
            delivery.first_attempt_ms = self._clock.now_ms()
            tier = self._policy.tiers[max(delivery.tier - 1, 0)]
            self._retry_on(delivery, RetryOnTopic(tier, "held"))
        else:
            self.retry_later(lane, delivery, now)

    def expire(self, delivery: Delivery, bus: str) -> None:
        """Give up a delivery that has become too old while its destination was behind."""
        problem = delivery.problem or Problem(
            "Held", "its destination was behind, and no attempt could be made in time"
        )
        self.dead_letter(delivery, bus, "expired", problem)

    def keep(self, delivery: Delivery) -> None:
        """Let a delivery wait on the last retry topic, because Kafka may soon remove its event's record."""
        self._retry_on(delivery, RetryOnTopic(self._policy.tiers[-1], "held"))

    def dead_letter(
        self, delivery: Delivery, bus: str, reason: DeadReason, problem: Problem, *, reported: bool = False
    ) -> None:
        """Give the delivery up. ``reported``: the attempt's signal says so."""
        now_ms, trigger = self._clock.now_ms(), delivery.trigger
        copy = Copy.of(delivery, reason, problem, now_ms, trigger=trigger, bus=bus, reported=reported)
        self._dead_letter(copy, delivery.pending, delivery.settle)

    def dead_letter_record(
        self, record: Record, event: Event | None, pending: PendingRecord, problem: Problem, trigger: Trigger = "live"
    ) -> None:
        """Give up a record without a delivery: it cannot be decoded, or its event has no destination."""
        reason: DeadReason = "undecodable" if event is None else "rejected"
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

    def _retry_on(self, delivery: Delivery, step: RetryOnTopic) -> None:
        """Write a retry copy, unless the partition's next owner reads the record again."""
        if delivery.pending.is_for_next_owner:
            self.abandon(1)
            return
        delivery.first_attempt_ms = delivery.age_from_ms  # the copy leaves the cursor, which knew it
        now_ms, trigger = self._clock.now_ms(), delivery.trigger
        copy = Copy.of(delivery, step.reason, delivery.problem, now_ms, tier=step.tier, trigger=trigger)
        pending = delivery.pending
        self._in_flight.start(self._write(copy, pending, delivery.settle), lambda: pending.is_revoked)

    def _dead_letter(self, copy: Copy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        """Write a dead letter. During a flood, a record that its producer or our settings spoiled stays open."""
        if copy.reason not in {"undecodable", "rejected"} or not self._is_flood(copy, pending):
            self._in_flight.start(self._write(copy, pending, settle), lambda: pending.is_revoked)
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

    async def _write(self, copy: Copy, pending: PendingRecord, settle: Callable[[], None]) -> None:
        """Write a copy until Kafka acknowledges it, and settle its delivery then.

        When Kafka refuses it and the partition was revoked, it is left to the partition's next owner. When the topic
        was created again, no next owner can read its record, and it is written again.
        """
        topic, record, headers, failures = copy.tier.topic if copy.tier else self._dlq, copy.record, copy.headers(), 0
        while True:
            try:
                await self._publisher.publish(topic, record.key, record.value, headers)
                break
            except PublishError as error:
                failures += 1
                delay_secs = _WRITE_BACKOFF.pause_secs(failures, 0.5 + self._jitter() / 2)
                self._observe(CopyFailed(copy, str(error), delay_secs))
            if pending.has_next_owner:
                self.abandon(1)
                return
            await asyncio.sleep(delay_secs)
        settle()
        if copy.tier is None:
            self._ledger.dead_lettered += 1
            self._observe(DeadLettered(copy, copy.event))
        else:
            self._ledger.moved_to_retry += 1
            self._observe(MovedToRetry(copy, topic))
