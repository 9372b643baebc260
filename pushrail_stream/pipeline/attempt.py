"""Attempt: one batch on its way to its bus, and the consequences of the reply for the lane and for each delivery.

Most attempts are one call. A call that was refused for its session's credentials is made once more with new ones. A
call that was refused for one of its entries is followed by one call for each entry; when all of these are refused too,
the fault is the destination's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import (
    HOLD_EXCEEDED,
    Blocked,
    Outcome,
    Refresh,
    Rejected,
    Reply,
    Retryable,
    Split,
    TooLarge,
)
from pushrail_stream.core.retry import Decision, RetryInMemory
from pushrail_stream.core.signals import Attempted, EntryAttempted
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.conclude import Conclude, report
from pushrail_stream.pipeline.health import Health
from pushrail_stream.ports.pipeline import Bus, Clock, Observer

_CALL_SECS: Final = 2.0
"""Seconds that a call gets for its reply, however late in its deliveries' time it begins."""
_AGAIN_SECS: Final = 1.0
"""Seconds that must be left of an attempt's time for another call to begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The parts that every attempt works with."""

    bus: Bus
    health: Health
    conclude: Conclude
    bus_monitor: BusMonitor
    clock: Clock
    observe: Observer
    is_pressed: Callable[[float], bool]
    """Whether the worker has no room at this moment for deliveries that fail at a silent bus."""


class _Call(NamedTuple):
    """One call that has ended."""

    batch: Batch
    at_ms: int
    secs: float
    """Duration."""
    reply: Reply


@final
class Attempt:
    """One attempt of a batch that its lane has given out. ``run`` it once."""

    __slots__ = ("_batch", "_calls", "_is_probe", "_lane", "_loop", "_round", "_until")

    def __init__(self, calls: Calls, lane: Lane, batch: Batch) -> None:
        self._calls = calls
        self._lane = lane
        self._batch = batch
        self._is_probe = lane.is_suspended
        self._round = lane.window.round
        self._loop = asyncio.get_running_loop()
        # Its deliveries must not keep their partitions' commits waiting any longer, however many calls it takes.
        held_until = min(delivery.hold_until for delivery in batch.deliveries)
        self._until = max(self._loop.time() + _CALL_SECS, held_until)

    async def run(self) -> None:
        """Make the calls; afterwards every delivery is settled, handed over or back in its lane."""
        call = await self._call(self._batch)
        if isinstance(call.reply.verdict, Refresh):
            self._put_off(call, call.reply.verdict)
            if not await self._turn():
                self._leave(self._batch.deliveries)
                return
            call = await self._call(self._batch, refreshed=True)
        if isinstance(call.reply.verdict, TooLarge):
            conclude, limits = self._calls.conclude, self._calls.bus.limits(self._batch.destination)
            self._tell(
                call,
                conclude.too_large(self._lane, self._batch, call.reply.verdict, limits.max_bytes, self._loop.time()),
            )
        elif isinstance(call.reply.verdict, Split):
            self._put_off(call, call.reply.verdict)
            await self._split()
        elif (rejected := _rejection(call)) and self._lane.suspension.refused():
            self._block([(call, rejected)])
        else:
            self._finish(call, _outcomes(call))

    async def _split(self) -> None:
        """Send each entry alone, as long as the bus answers."""
        refused: list[tuple[_Call, Rejected]] = []
        unsent = deque(self._batch.deliveries)
        while unsent and not self._is_over and await self._turn():
            call = await self._call(Batch(self._batch.destination, (unsent.popleft(),), self._batch.limits, "alone"))
            if rejected := _rejection(call):
                refused.append((call, rejected))
                continue
            (entry,) = self._finish(call, _outcomes(call))
            if call.reply.result != "answered" and not isinstance(entry.outcome, Rejected):
                self._leave(unsent, entry.decision)
                break
        else:
            self._leave(unsent)
        if len(refused) == len(self._batch.deliveries):
            self._block(refused)
            return
        for call, rejected in refused:
            self._finish(call, (rejected,))

    @property
    def _is_over(self) -> bool:
        """Whether no further call is to be made: the partition is given back, or the destination was suspended."""
        return self._batch.is_revoked() or self._is_refused

    @property
    def _is_refused(self) -> bool:
        """Whether the destination was suspended since the attempt began."""
        return self._lane.is_suspended and not self._is_probe

    def _block(self, refused: Sequence[tuple[_Call, Rejected]]) -> None:
        """Every entry was refused by itself: no event can be delivered, so the destination is at fault."""
        for number, (call, (code, message)) in enumerate(refused):
            # The attempt counts once, however many calls it took.
            self._finish(call, (Blocked(code, message),), learns=number == 0)

    async def _call(self, batch: Batch, *, refreshed: bool = False) -> _Call:
        at_ms, started = self._calls.clock.now_ms(), self._loop.time()
        for delivery in batch.deliveries:
            delivery.attempts += 1
            if delivery.first_attempt_ms is None:
                delivery.first_attempt_ms = at_ms
        reply = await self._put(batch, self._until - started, refreshed=refreshed)
        return _Call(batch, at_ms, self._loop.time() - started, reply)

    async def _put(self, batch: Batch, secs: float, *, refreshed: bool) -> Reply:
        """One call, cut off when its time is over."""
        try:
            async with asyncio.timeout(secs):
                return await self._calls.bus.put(batch, refreshed=refreshed)
        except TimeoutError:
            outcome = Retryable(HOLD_EXCEEDED, f"no reply in the {secs:.1f} s that were left")
            return Reply((outcome,) * len(batch.deliveries), "failed")

    async def _turn(self) -> bool:
        """Wait until the destination's rate allows another call; whether there is time for one."""
        now = self._loop.time()
        at = max(now, self._lane.next_call_at)
        if self._until - at < _AGAIN_SECS:
            return False
        self._lane.space_calls(at)
        await asyncio.sleep(at - now)
        return True

    def _put_off(self, call: _Call, verdict: Split | Refresh) -> None:
        """The call is followed by others, which bring the outcomes."""
        outcome = Retryable(verdict.code, verdict.message)
        self._tell(
            call, [report(delivery, outcome, RetryInMemory(0.0, "retryable")) for delivery in call.batch.deliveries]
        )

    def _leave(self, unsent: Iterable[Delivery], decision: Decision | None = None) -> None:
        """No call is made for these. They wait with the delivery whose call failed, or on a retry topic."""
        conclude, now = self._calls.conclude, self._loop.time()
        for delivery in unsent:
            if self._is_refused:
                conclude.refuse(self._lane, delivery, now)
            elif isinstance(decision, RetryInMemory):
                conclude.again(self._lane, delivery, now, decision.delay_secs)
            else:
                conclude.hold(self._lane, delivery, now)

    def _finish(self, call: _Call, outcomes: tuple[Outcome, ...], *, learns: bool = True) -> list[EntryAttempted]:
        """The call has brought these outcomes: learn from them, and take each delivery's next step."""
        lane, conclude, now = self._lane, self._calls.conclude, self._loop.time()
        if learns and self._calls.health.learn(lane, call.batch, call.reply, outcomes, self._round, now):
            for delivery in lane.drop(lambda _delivery: True):
                conclude.refuse(lane, delivery, now)
        outcomes = self._calls.bus_monitor.judge(call.batch, outcomes, call.at_ms)
        is_pressed = self._calls.is_pressed(now)
        entries = conclude.attempted(
            lane, call.batch, outcomes, now, call.reply, probing=self._is_probe, pressed=is_pressed
        )
        self._tell(call, entries)
        return entries

    def _tell(self, call: _Call, entries: list[EntryAttempted]) -> None:
        batch, reply = call.batch, call.reply
        self._calls.observe(
            Attempted(
                batch.destination,
                call.at_ms,
                call.secs,
                reply.http_status,
                reply.request_id,
                tuple(entries),
                batch.flush,
            )
        )


def _outcomes(call: _Call) -> tuple[Outcome, ...]:
    """The outcomes of a call that no other follows."""
    verdict = call.reply.verdict
    if isinstance(verdict, Split | TooLarge | Refresh):
        return (Retryable(verdict.code, verdict.message),) * len(call.batch.deliveries)
    return verdict


def _rejection(call: _Call) -> Rejected | None:
    """The outcome of a call with one entry that the bus found invalid; None of any other call."""
    outcome = _outcomes(call)[0]
    return outcome if call.reply.result == "invalid" and isinstance(outcome, Rejected) else None
