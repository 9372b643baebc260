"""Deliver: every destination's lane from queue to outcome.

A lane is looked at when something was offered, when its timer fires and when an attempt ends; then every batch that is
ready leaves as an attempt of its own. A lane exists only while it holds something, or its pace.
"""

from __future__ import annotations

import asyncio
from typing import final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.dead_letter import DeadLetter
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import AssumeRole, Destination
from pushrail_stream.core.lane import BatchLimits, Lane
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.outcome import Delivered, Outcome, Refresh, Retryable, Split, Verdict, judge
from pushrail_stream.core.retry import Again, Bury, DeadReason, Decision, RetryPolicy, Settle, decide
from pushrail_stream.core.signals import Attempted, EntryAttempted
from pushrail_stream.pipeline.dead_letters import DeadLetters
from pushrail_stream.pipeline.under_way import UnderWay
from pushrail_stream.ports import Bus, Clock, Jitter, Observer


@final
class Deliver:
    """All lanes of one worker. Lives on the event loop; every method but `_attempt` returns at once."""

    def __init__(
        self,
        *,
        bus: Bus,
        dead_letters: DeadLetters,
        under_way: UnderWay,
        ledger: Ledger,
        limits: BatchLimits,
        policy: RetryPolicy,
        clock: Clock,
        jitter: Jitter,
        observe: Observer,
    ) -> None:
        self._bus = bus
        self._dead_letters = dead_letters
        self._under_way = under_way
        self._ledger = ledger
        self._limits = limits
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, Lane] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def lanes(self) -> int:
        """Destinations with something waiting or under way, or whose next call has to wait."""
        return len(self._lanes)

    def offer(self, delivery: Delivery, destination: Destination) -> None:
        """Queue a delivery on its destination's lane; ``destination`` is the current document."""
        lane = self._lanes.get(destination.id)
        if lane is None:
            lane = self._lanes[destination.id] = Lane(destination, self._limits)
        else:
            lane.destination = destination  # a changed document holds from the next batch on
        if lane.offer(delivery, self._loop.time()):
            self._pump(lane, self._loop.time())

    def bury(self, delivery: Delivery, reason: DeadReason, code: str, message: str, request_id: str | None) -> None:
        """Give a delivery up: it settles when Kafka has its dead letter."""
        letter = DeadLetter(
            record=delivery.record,
            reason=reason,
            attempts=delivery.attempts,
            failed_at_ms=self._clock.now_ms(),
            code=code,
            message=message,
            destination_id=delivery.destination_id,
            first_attempt_ms=delivery.first_attempt_ms,
            request_id=request_id,
        )
        self._dead_letters.bury(letter, delivery.event, delivery.ticket, delivery.settle)

    def drop_leaving(self) -> int:
        """Take every waiting delivery of a partition that is being given back out of its lane; how many there were."""
        dropped = 0
        for lane in list(self._lanes.values()):
            dropped += len(lane.drop(lambda delivery: delivery.ticket.is_leaving))
            self._schedule(lane)
        self._ledger.drop(dropped)
        return dropped

    def stop(self) -> None:
        """Cancel all timers: no batch leaves any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _pump(self, lane: Lane, now: float) -> None:
        while (batch := lane.take(now)) is not None:
            self._under_way.start(self._attempt(lane, batch), batch.is_leaving)
        self._schedule(lane)

    def _schedule(self, lane: Lane) -> None:
        lane_id = lane.destination.id
        at = lane.wake_at()
        timer = self._timers.get(lane_id)
        if at is None:
            if timer is not None:
                timer.cancel()
                del self._timers[lane_id]
            if lane.is_idle:
                self._retire(lane)
        elif timer is None or timer.when() > at:
            # A timer that fires too early costs one look; moving it on every batch would cost more.
            if timer is not None:
                timer.cancel()
            self._timers[lane_id] = self._loop.call_at(at, self._wake, lane, at)

    def _retire(self, lane: Lane) -> None:
        """Forget a lane, or keep it until its destination's rate has nothing to say about the next call."""
        per_second = lane.destination.limits.max_requests_per_second
        if per_second is None:
            self._lanes.pop(lane.destination.id, None)
        else:
            at = self._loop.time() + 1 / per_second
            self._timers[lane.destination.id] = self._loop.call_at(at, self._wake, lane, at)

    def _wake(self, lane: Lane, at: float) -> None:
        del self._timers[lane.destination.id]
        if lane.is_idle:
            del self._lanes[lane.destination.id]
            return
        # The loop's clock is coarse: it may show a moment before the one it was to wake us at.
        self._pump(lane, max(at, self._loop.time()))

    async def _attempt(self, lane: Lane, batch: Batch) -> None:
        try:
            verdict = await self._call(lane, batch, refreshed=False)
            if isinstance(verdict, Refresh):
                self._bus.forget_credentials(batch.destination)
                await self._call(lane, batch, refreshed=True)
        finally:
            lane.finish()
        self._pump(lane, self._loop.time())

    async def _call(self, lane: Lane, batch: Batch, *, refreshed: bool) -> Verdict:
        """One PutEvents call and what follows from it for each delivery."""
        at_ms, started = self._clock.now_ms(), self._loop.time()
        for delivery in batch.deliveries:
            delivery.attempts += 1
            if delivery.first_attempt_ms is None:
                delivery.first_attempt_ms = at_ms
        reply = await self._bus.put(batch)
        duration = self._loop.time() - started
        assumed_role = isinstance(batch.destination.auth, AssumeRole)
        verdict = judge(reply, len(batch.deliveries), assumed_role=assumed_role, refreshed=refreshed)
        match verdict:
            case Split(code, message):
                entries = [self._split(lane, delivery, code, message) for delivery in batch.deliveries]
            case Refresh(code, message):
                entries = [_report(d, Retryable(code, message), Again(0.0, "retryable")) for d in batch.deliveries]
            case outcomes:
                pairs = zip(batch.deliveries, outcomes, strict=True)
                entries = [self._conclude(lane, d, outcome, at_ms, reply.request_id) for d, outcome in pairs]
        self._observe(
            Attempted(batch.destination, "live", at_ms, duration, reply.http_status, reply.request_id, tuple(entries))
        )
        return verdict

    def _conclude(
        self, lane: Lane, delivery: Delivery, outcome: Outcome, at_ms: int, request_id: str | None
    ) -> EntryAttempted:
        if isinstance(outcome, Delivered):
            decision: Decision = Settle()
        else:
            first_ms = at_ms if delivery.first_attempt_ms is None else delivery.first_attempt_ms
            decision = decide(
                outcome,
                attempts=delivery.attempts,
                age_secs=(at_ms - first_ms) / 1000,
                jitter=self._jitter(),
                policy=self._policy,
            )
        match decision:
            case Settle():
                delivery.settle()
                self._ledger.deliver(1)
            case Again(delay_secs):
                self._requeue(lane, delivery, delay_secs)
            case Bury(reason, code, message):  # pragma: no branch - mypy proves that there is no fourth case
                self.bury(delivery, reason, code, message, request_id)
        return _report(delivery, outcome, decision)

    def _split(self, lane: Lane, delivery: Delivery, code: str, message: str) -> EntryAttempted:
        delivery.alone = True
        self._requeue(lane, delivery, 0.0)
        return _report(delivery, Retryable(code, message), Again(0.0, "retryable"))

    def _requeue(self, lane: Lane, delivery: Delivery, delay_secs: float) -> None:
        if delivery.ticket.is_leaving:
            self._ledger.drop(1)
        else:
            lane.retry(delivery, self._loop.time() + delay_secs)


def _report(delivery: Delivery, outcome: Outcome, decision: Decision) -> EntryAttempted:
    return EntryAttempted(delivery.event, delivery.record.origin, delivery.size, delivery.attempts, outcome, decision)
