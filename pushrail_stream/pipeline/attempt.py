"""Attempts: call the bus with a batch, and take the next step of each delivery.

Most attempts are one call. A call that was refused for stale credentials is made once more with new ones. A call that
was refused for one of its entries is followed by one call for each entry. When all of these are refused too, the
destination is to blame.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, final

from pushrail_stream.core.batch import Attempt, Batch
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.holds import note_failure, retry_state
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import (
    HOLD_EXCEEDED,
    SIGN_INS_QUEUED,
    Blocked,
    Delivered,
    NotDelivered,
    Outcome,
    Refresh,
    Rejected,
    Reply,
    Retryable,
    Split,
    TooLarge,
    is_our_delay,
)
from pushrail_stream.core.retry import DeadLetter, Decision, RetryInMemory, Settled, decide
from pushrail_stream.core.signals import Attempted, Suspended
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.deadlines import Deadlines
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.settlement import Settlement

_MIN_SECS_LEFT: Final = 1.0
"""Seconds that must be left of an attempt for another call to begin, or for the first one after a sign-in."""
_SIGNED_IN_LATE: Final = Retryable(SIGN_INS_QUEUED, "the sign-in left no time for a call")
_SETTLED: Final = Settled()


class _Call(NamedTuple):
    """One call that has ended."""

    batch: Batch
    at_ms: int
    secs: float
    reply: Reply


@final
class AttemptRunner:
    """Runs the attempts of all lanes."""

    def __init__(self, ports: Ports, policy: Policy, settlement: Settlement, bus_monitor: BusMonitor) -> None:
        self._bus = ports.bus
        self._clock = ports.clock
        self._jitter = ports.jitter
        self._observe = ports.observe
        self._policy = policy.retry
        self._settlement = settlement
        self._bus_monitor = bus_monitor
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()
        self.take_over: Callable[[Lane, Delivery], None] = _nothing
        """Called with a delivery of a stuck destination whose call failed. A cursor may take it over."""

    async def run(self, attempt: Attempt) -> None:
        """Make the calls. Afterwards every delivery is settled, on its way to Kafka, or back in its lane."""
        call = await self._call(attempt, attempt.batch)
        if isinstance(call.reply.verdict, Refresh):
            self._report_retried(call, call.reply.verdict)
            if not await self._wait_for_turn(attempt):
                self._return(attempt, attempt.batch.deliveries)
                return
            attempt.refreshed = True
            call = await self._call(attempt, attempt.batch)
        if isinstance(call.reply.verdict, TooLarge):
            self._resize(attempt, call, call.reply.verdict)
        elif isinstance(call.reply.verdict, Split):
            self._report_retried(call, call.reply.verdict)
            await self._split(attempt)
        elif (rejected := call.reply.rejection) and attempt.lane.health.suspension.count_rejected():
            self._block(attempt, [(call, rejected)])
        else:
            self._finish(attempt, call, call.reply.outcomes(len(call.batch.deliveries)))

    async def _split(self, attempt: Attempt) -> None:
        """Send each entry alone, for as long as the bus answers."""
        batch, rejected = attempt.batch, list[tuple[_Call, Rejected]]()
        unsent = deque(batch.deliveries)
        attempt.refreshed = False
        while unsent and not attempt.is_over and await self._wait_for_turn(attempt):
            call = await self._call(attempt, Batch(batch.destination, (unsent.popleft(),), batch.limits, "alone"))
            if rejection := call.reply.rejection:
                rejected.append((call, rejection))
                continue
            (decision,) = self._finish(attempt, call, call.reply.outcomes(1))
            if call.reply.result != "answered" and not isinstance(call.reply.outcomes(1)[0], Rejected):
                self._return(attempt, unsent, decision)
                break
        else:
            self._return(attempt, unsent)
        if len(rejected) == len(batch.deliveries):
            self._block(attempt, rejected)
            return
        for call, rejection in rejected:
            self._finish(attempt, call, (rejection,))

    def _block(self, attempt: Attempt, rejected: Sequence[tuple[_Call, Rejected]]) -> None:
        """Every entry was rejected by itself: no event can be delivered, so the destination is to blame."""
        for number, (call, (code, message)) in enumerate(rejected):
            # The attempt counts once, however many calls it took.
            self._finish(attempt, call, (Blocked(code, message),), learns=number == 0)

    def _resize(self, attempt: Attempt, call: _Call, verdict: TooLarge) -> None:
        """The bus takes only smaller calls: send again each delivery that fits one, and give up the others."""
        lane, max_bytes, now = attempt.lane, self._bus.limits(attempt.batch.destination).max_bytes, self._loop.time()
        fitting = [delivery.size <= max_bytes for delivery in attempt.batch.deliveries]
        outcomes = tuple(Retryable(*verdict) if fits else Rejected(*verdict) for fits in fitting)
        decisions = tuple(
            RetryInMemory(0.0, "retryable") if fits else DeadLetter("oversize", *verdict) for fits in fitting
        )
        for delivery, decision in zip(attempt.batch.deliveries, decisions, strict=True):
            self._settlement.carry_out(lane, delivery, decision, now)
        self._report(call, outcomes, decisions)

    async def _call(self, attempt: Attempt, batch: Batch) -> _Call:
        """Make one call, and cut it off at the attempt's deadline."""
        at_ms, started = self._clock.now_ms(), self._loop.time()
        for delivery in batch.deliveries:
            delivery.attempts += 1
            if delivery.first_attempt_ms is None:
                delivery.first_attempt_ms = at_ms
        try:
            reply = await self._deadlines.run(self._put(attempt, batch), attempt.deadline)
        except TimeoutError:
            secs = attempt.deadline - started
            outcome = Retryable(HOLD_EXCEEDED, f"no reply in the {secs:.1f} s that were left")
            reply = Reply((outcome,) * len(batch.deliveries), "failed")
        return _Call(batch, at_ms, self._loop.time() - started, reply)

    async def _put(self, attempt: Attempt, batch: Batch) -> Reply:
        """Sign in if needed, and make one call if there is time for it: one that is cut off may arrive all the same."""
        if self._bus.must_sign_in(batch.destination):
            await self._bus.sign_in(batch.destination)
            if attempt.deadline - self._loop.time() < _MIN_SECS_LEFT:
                return Reply((_SIGNED_IN_LATE,) * len(batch.deliveries), "not_made")
        return await self._bus.put(batch, refreshed=attempt.refreshed)

    async def _wait_for_turn(self, attempt: Attempt) -> bool:
        """Wait until the destination's rate allows another call. Returns whether there is time for one."""
        call_rate, now = attempt.lane.health.call_rate, self._loop.time()
        wait_secs = call_rate.wait_secs(now)
        if attempt.deadline - now - wait_secs < _MIN_SECS_LEFT:
            return False
        call_rate.spend(now)
        await asyncio.sleep(wait_secs)
        return True

    def _return(self, attempt: Attempt, unsent: Iterable[Delivery], decision: Decision | None = None) -> None:
        """Make no call for these. They wait with the delivery whose call failed, or on a retry topic."""
        lane, settlement, now = attempt.lane, self._settlement, self._loop.time()
        for delivery in unsent:
            if attempt.is_refused:
                settlement.refuse(lane, delivery, now)
            elif isinstance(decision, RetryInMemory):
                settlement.retry_in_memory(lane, delivery, decision.delay_secs, now)
            else:
                settlement.retry_later(lane, delivery, now)

    def _finish(
        self, attempt: Attempt, call: _Call, outcomes: tuple[Outcome, ...], *, learns: bool = True
    ) -> tuple[Decision, ...]:
        """Learn from the outcomes of a call, and take the next step of each of its deliveries."""
        now = self._loop.time()
        if learns:
            self._learn(attempt, call, outcomes, now)
        outcomes = self._bus_monitor.judge(call.batch, outcomes, call.at_ms)
        pairs = zip(call.batch.deliveries, outcomes, strict=True)
        delivered = [delivery for delivery, outcome in pairs if isinstance(outcome, Delivered)]
        self._settlement.delivered(delivered)
        if len(delivered) == len(outcomes):
            decisions: tuple[Decision, ...] = (_SETTLED,) * len(outcomes)
        else:
            decisions = self._take_steps(attempt, call, outcomes, now)
        self._report(call, outcomes, decisions)
        return decisions

    def _take_steps(
        self, attempt: Attempt, call: _Call, outcomes: Sequence[Outcome], now: float
    ) -> tuple[Decision, ...]:
        """Take the next step of each delivery that failed. All of a call wait equally long."""
        batch, reply, health = call.batch, call.reply, attempt.lane.health
        delay_secs = health.retry_delay_secs(batch, reply.result, outcomes, now, self._jitter())
        decisions = list[Decision]()
        for delivery, outcome in zip(batch.deliveries, outcomes, strict=True):
            decision: Decision = _SETTLED
            if not isinstance(outcome, Delivered):
                decision = self._decide(attempt, delivery, outcome, delay_secs, now)
                delivery.problem = _problem(delivery, outcome, reply)
                self._settlement.carry_out(attempt.lane, delivery, decision, now)
            decisions.append(decision)
        return tuple(decisions)

    def _learn(self, attempt: Attempt, call: _Call, outcomes: tuple[Outcome, ...], now: float) -> None:
        lane, was_ill = attempt.lane, attempt.lane.health.is_ill
        for signal in lane.health.learn(
            attempt, call.reply.result, outcomes, secs=call.secs, now=now, jitter=self._jitter
        ):
            self._observe(signal)
            if isinstance(signal, Suspended):
                for delivery in lane.deliveries.drop():
                    self._settlement.refuse(lane, delivery, now)
        if was_ill and not lane.health.is_ill:
            lane.deliveries.make_due(now)

    def _decide(
        self, attempt: Attempt, delivery: Delivery, outcome: Outcome, delay_secs: float, now: float
    ) -> Decision:
        if attempt.lane.is_stuck(now):
            self.take_over(attempt.lane, delivery)
        note_failure(attempt.lane, delivery, outcome, now)
        state = retry_state(attempt.lane, delivery, now, self._clock.now_ms())
        if attempt.is_refused and delivery.replay is None:
            state = state._replace(is_refused=True)
        return decide(outcome, state, delay_secs, self._policy)

    def _report_retried(self, call: _Call, verdict: Split | Refresh) -> None:
        """Report a call whose outcomes come from the calls that follow."""
        entries = len(call.batch.deliveries)
        outcomes = (Retryable(verdict.code, verdict.message),) * entries
        self._report(call, outcomes, (RetryInMemory(0.0, "retryable"),) * entries)

    def _report(self, call: _Call, outcomes: tuple[Outcome, ...], decisions: tuple[Decision, ...]) -> None:
        (batch, at_ms, secs, reply), deliveries = call, call.batch.deliveries
        answer = at_ms, secs, reply.http_status, reply.request_id
        attempts = tuple([delivery.attempts for delivery in deliveries])
        self._observe(Attempted(batch.destination, *answer, deliveries, attempts, outcomes, decisions, batch.flush))


def _problem(delivery: Delivery, outcome: NotDelivered, reply: Reply) -> Problem:
    """The failure of the delivery's last attempt."""
    is_ours, before = is_our_delay(outcome), 0 if delivery.problem is None else delivery.problem.our_delays
    return Problem(outcome.code, outcome.message, reply.request_id, is_ours, before + is_ours)


def _nothing(_lane: Lane, _delivery: Delivery) -> None:
    """Leave the delivery with the live reader: there are no cursors."""
