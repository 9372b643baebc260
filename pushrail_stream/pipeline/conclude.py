"""Conclude: what becomes of a delivery after an attempt, a hold or a refusal: back to its lane, or handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import (
    Delivered,
    NotDelivered,
    Outcome,
    Rejected,
    Reply,
    Retryable,
    Throttled,
    TooLarge,
)
from pushrail_stream.core.retry import (
    DeadLetter,
    Decision,
    RetryInMemory,
    RetryOnTopic,
    RetryPolicy,
    RetryState,
    Settled,
    backoff,
    decide,
    move_on,
)
from pushrail_stream.core.signals import EntryAttempted
from pushrail_stream.pipeline.health import LONGEST_PAUSE_SECS
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.ports.pipeline import Clock, Jitter


@final
class Conclude:
    """The next step of each delivery. Every method returns at once; ``now`` is the loop's time."""

    def __init__(self, *, settlement: Settlement, policy: RetryPolicy, clock: Clock, jitter: Jitter) -> None:
        self._settlement = settlement
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def attempted(
        self,
        lane: Lane,
        batch: Batch,
        outcomes: Sequence[Outcome],
        now: float,
        reply: Reply,
        *,
        probing: bool,
        pressed: bool,
    ) -> list[EntryAttempted]:
        """A call has ended with these outcomes. ``pressed``: the worker has no room for what fails at a silent bus."""
        delay_secs: float | None = None
        entries = list[EntryAttempted]()
        for delivery, outcome in zip(batch.deliveries, outcomes, strict=True):
            decision: Decision
            if isinstance(outcome, Delivered):
                self._settlement.delivered(delivery)
                decision = Settled()
            else:
                if delay_secs is None:
                    delay_secs = self._delay_secs(lane, batch, outcomes, now, reply)
                decision = self._decide(lane, delivery, outcome, now, delay_secs, probing=probing, pressed=pressed)
                ours = isinstance(outcome, Retryable) and outcome.ours
                delivery.problem = Problem(outcome.code, outcome.message, reply.request_id, ours)
                self._carry_out(lane, delivery, decision, now)
            entries.append(report(delivery, outcome, decision))
        return entries

    def _delay_secs(self, lane: Lane, batch: Batch, outcomes: Sequence[Outcome], now: float, reply: Reply) -> float:
        """Seconds until the undelivered entries are sent again. All wait equally, so that they are sent in one call.

        The delivery with the fewest attempts decides. The lane's window limits how often an ailing bus is called.
        """
        pairs = zip(batch.deliveries, outcomes, strict=True)
        attempts = min(delivery.attempts for delivery, outcome in pairs if not isinstance(outcome, Delivered))
        delay_secs = backoff(attempts, self._jitter(), self._policy)
        pause_secs = max(0.0, lane.next_call_at - now)
        if reply.result != "answered":
            return pause_secs if isinstance(outcomes[0], Throttled) else max(delay_secs, pause_secs)
        is_throttled = any(isinstance(outcome, Throttled) for outcome in outcomes)
        return min(delay_secs, LONGEST_PAUSE_SECS) if is_throttled else delay_secs

    def _decide(
        self,
        lane: Lane,
        delivery: Delivery,
        outcome: NotDelivered,
        now: float,
        delay_secs: float,
        *,
        probing: bool,
        pressed: bool,
    ) -> Decision:
        standing = self._standing(lane, delivery, now)
        decision = decide(outcome, standing, delay_secs, self._policy)
        if isinstance(decision, RetryInMemory) and pressed and lane.is_silent(now):
            decision = move_on(standing, self._policy, decision.reason)
        if (
            isinstance(decision, RetryInMemory | RetryOnTopic)
            and lane.is_suspended
            and not probing
            and delivery.replay is None
        ):
            decision = _refused(outcome.code, outcome.message)
        return decision

    def too_large(self, lane: Lane, batch: Batch, said: TooLarge, max_bytes: int, now: float) -> list[EntryAttempted]:
        """The bus takes only smaller calls: send again each delivery that fits one, and give up the others."""
        entries = list[EntryAttempted]()
        for delivery in batch.deliveries:
            fits = delivery.size <= max_bytes
            decision = RetryInMemory(0.0, "retryable") if fits else DeadLetter("oversize", said.code, said.message)
            self._carry_out(lane, delivery, decision, now)
            entries.append(report(delivery, Retryable(*said) if fits else Rejected(*said), decision))
        return entries

    def again(self, lane: Lane, delivery: Delivery, now: float, delay_secs: float) -> None:
        """Send it again after a delay, unless its partition or its destination has gone meanwhile."""
        if delivery.pending.is_for_next_owner:
            self._settlement.abandon(1)
        elif delivery.pending.is_revoked:
            self.hold(lane, delivery, now)
        elif lane.destination.owner != delivery.event.owner:
            # The id has come to be another customer's while the call was in flight.
            self._settlement.skip(delivery, None, "deleted")
        else:
            lane.retry(delivery, now + delay_secs)

    def hold(self, lane: Lane, delivery: Delivery, now: float) -> None:
        """A delivery has waited as long as it may, or would have to."""
        if delivery.first_attempt_ms is None:
            delivery.first_attempt_ms = self._clock.now_ms()
        standing = self._standing(lane, delivery, now)
        if lane.is_shut:  # nothing has failed: it stays on its tier
            standing = standing._replace(tier=max(standing.tier - 1, 0))
        problem = delivery.problem or Problem("Held", "no attempt could be made in time")
        if standing.age_secs >= self._policy.max_age_secs and not problem.ours:
            self._settlement.dead_letter(delivery, lane.destination.bus, "expired", problem)
        else:
            self._retry_later(lane, delivery, move_on(standing, self._policy), now)

    def refuse(self, lane: Lane, delivery: Delivery, now: float) -> None:
        """Its destination is suspended and this is not its probe. What somebody sends again waits for the probe."""
        if delivery.replay is not None:
            self._wait_for_probe(lane, delivery, now)
            return
        secs = 0.0 if lane.suspension.since is None else now - lane.suspension.since
        message = f"every attempt was blocked, the last {secs:.0f} s ago or later"
        problem = delivery.problem or Problem("DestinationSuspended", message)
        self._settlement.dead_letter(delivery, lane.destination.bus, "suspended", problem)

    def _carry_out(self, lane: Lane, delivery: Delivery, decision: Decision, now: float) -> None:
        match decision:
            case Settled():
                raise AssertionError("what was delivered has settled")
            case RetryInMemory(delay_secs):
                self.again(lane, delivery, now, delay_secs)
            case RetryOnTopic():
                self._retry_later(lane, delivery, decision, now)
            case DeadLetter(reason, code, message):  # pragma: no branch - mypy proves that there is no fifth case
                request_id = delivery.problem.request_id if delivery.problem else None
                problem = Problem(code, message, request_id)
                self._settlement.dead_letter(delivery, lane.destination.bus, reason, problem, reported=True)

    def _retry_later(self, lane: Lane, delivery: Delivery, move: RetryOnTopic, now: float) -> None:
        lane.backlog.left(move.tier.delay_secs, now)
        self._settlement.retry_later(delivery, move)

    def _wait_for_probe(self, lane: Lane, delivery: Delivery, now: float) -> None:
        if delivery.first_attempt_ms is None:
            # The probe may be in flight: once around on its own tier, and only then higher.
            delivery.first_attempt_ms = self._clock.now_ms()
            self._retry_later(lane, delivery, RetryOnTopic(self._policy.tiers[max(delivery.tier - 1, 0)], "held"), now)
        else:
            self.hold(lane, delivery, now)

    def _standing(self, lane: Lane, delivery: Delivery, now: float) -> RetryState:
        now_ms = self._clock.now_ms()
        first_ms = now_ms if delivery.first_attempt_ms is None else delivery.first_attempt_ms
        return RetryState(
            age_secs=(now_ms - first_ms) / 1000,
            left_secs=delivery.hold_until - now,
            tier=delivery.tier,
            busy_secs=lane.busy_secs(self._policy.tiers[0].delay_secs, now),
        )


def report(delivery: Delivery, outcome: Outcome, decision: Decision) -> EntryAttempted:
    """A delivery's part in an attempt, for observers."""
    record, attempt = delivery.record, delivery.attempts
    return EntryAttempted(
        delivery.event,
        record.origin,
        delivery.trigger,
        delivery.size,
        attempt,
        outcome,
        decision,
        record.recorded_at_ms,
        delivery.replay.id if delivery.replay else None,
    )


def _refused(code: str, message: str) -> DeadLetter:
    """It was in flight when its destination was suspended: without a call there is nothing to wait for."""
    return DeadLetter("suspended", code, message)
