"""The dispatcher: the lanes of all destinations, and their timers.

A lane is pumped when a delivery was offered, when its timer fires and when an attempt ends. Every batch that is ready
then leaves as an attempt, overdue deliveries move to a cursor or leave for a retry topic, and those of a destination
that falls behind move to cursors. A lane exists only while it holds deliveries, or while its destination's health is
worth remembering.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, final

from pushrail_stream.core.batch import Attempt
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.holds import end_holds, may_wait_on_cursor
from pushrail_stream.core.lane import PRESSED_ROOM, Lane
from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.core.pending import RecordOwner
from pushrail_stream.core.signals import ResumeReason
from pushrail_stream.core.worker_calls import WorkerCalls
from pushrail_stream.pipeline.attempt import AttemptRunner
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.settlement import Settlement

_NEVER: Final = float("inf")


@final
class Dispatcher:
    """All lanes of one worker. Lives on the event loop. Every method except `drain` and `_run` returns at once."""

    def __init__(
        self, ports: Ports, policy: Policy, settlement: Settlement, bus_monitor: BusMonitor, in_flight: InFlight
    ) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._settlement = settlement
        self._observe = ports.observe
        self._clock = ports.clock
        self._bus_monitor = bus_monitor
        self._in_flight = in_flight
        self._limits = policy.lanes
        self._retry = policy.retry
        self.attempts = AttemptRunner(ports, policy, settlement, bus_monitor)
        self._loop = asyncio.get_running_loop()
        self._calls = WorkerCalls()
        self.lanes: dict[str, Lane] = {}
        """By destination: the lanes that hold deliveries, or a health that is remembered."""
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}
        """By destination: the time, and the handle. A handle that uvloop calls at once does not know its time."""
        bus_monitor.answered = self._revisit
        self.fell_behind: Callable[[Lane, float], None] = _nothing
        """Called with a lane whose first-time deliveries belong on cursors."""
        self.waited_long: Callable[[Lane, float], None] = _nothing
        """Called with a lane and a time: first-time deliveries whose hold is over by then belong on cursors."""
        self.document_changed: Callable[[str], None] = _nothing
        """Called with a destination whose document is new, changed or deleted."""
        self.can_take_more: Callable[[Lane], None] = _nothing
        """Called when a lane may take more deliveries from cursors."""

    def offer(self, deliveries: Sequence[Delivery], destination: Destination) -> None:
        """Queue deliveries on their destination's lane. An entry that no call can hold becomes a dead letter."""
        bus_limits = self._bus.limits(destination)
        max_bytes = min(self._limits.max_bytes, bus_limits.max_bytes)
        fitting = [delivery for delivery in deliveries if delivery.size <= max_bytes]
        if len(fitting) < len(deliveries):
            self._refuse_large(deliveries, max_bytes, destination)
        if not fitting:
            return
        now = self._loop.time()
        lane = self.lanes.get(destination.id)
        if lane is None:
            lane = self.lanes[destination.id] = Lane(destination, self._limits, bus_limits, self._retry, self._calls)
        elif lane.destination is not destination:
            self._adopt(lane, destination)
        if lane.is_suspended:
            fitting = [delivery for delivery in fitting if not self._refuse(lane, delivery, now)]
        if fitting and lane.offer(fitting, now):
            self._pump(lane, now)

    def drop_revoked(self) -> int:
        """Take the waiting deliveries of revoked partitions out of their lanes. Returns how many were abandoned."""
        abandoned, now = 0, self._loop.time()
        for lane in list(self.lanes.values()):
            for delivery in lane.deliveries.drop(lambda delivery: delivery.pending.is_revoked):
                if delivery.pending.is_for_next_owner:
                    abandoned += 1
                else:
                    self._settlement.retry_later(lane, delivery, now)
            self._schedule(lane, now)
        self._settlement.abandon(abandoned)
        return abandoned + self._settlement.abandon_withheld()

    async def drain(self, deadline_secs: float) -> None:
        """Wait until no work in flight holds a delivery of a revoked partition, or the deadline has passed."""
        await self._in_flight.drain(deadline_secs)

    def shed_load(self) -> None:
        """Make room: move what waits for stuck destinations to cursors. Copy it where one destination has little."""
        now = self._loop.time()
        for lane in [lane for lane in self.lanes.values() if lane.deliveries.has_holds]:
            if lane.falls_behind(now, PRESSED_ROOM):
                self._fall_behind(lane, now)
            elif lane.waits_with_others and lane.is_stuck(now):
                self.waited_long(lane, math.inf)
            lane.deliveries.follow_holds(now)
            for delivery in lane.spare(now):
                self._settlement.retry_later(lane, delivery, now)
            self._pump(lane, now)

    def shed_late(self, owners: Collection[RecordOwner]) -> None:
        """Copy the deliveries of these partitions of retry topics that have waited for longer than their hold."""
        now = self._loop.time()
        for lane in list(self.lanes.values()):
            for delivery in lane.deliveries.drop_late(lambda delivery: delivery.pending.owner in owners):
                self._settlement.retry_later(lane, delivery, now)

    def evict(self, blocks_head: Callable[[Delivery], bool]) -> None:
        """Let destinations fall behind whose waiting deliveries block a partition's commit.

        On a retry topic there are no cursors: its deliveries move to the next tier ahead of their time.
        """
        now = self._loop.time()
        for lane in list(self.lanes.values()):
            if any(map(blocks_head, lane.deliveries.waiting())):
                self._fall_behind(lane, now)
            for delivery in lane.deliveries.drop(blocks_head):
                self._settlement.retry_later(lane, delivery, now)
            self._schedule(lane, now)

    def documents_changed(self, destination_ids: Iterable[str]) -> None:
        """Follow new, changed and deleted documents."""
        for destination_id in destination_ids:
            self.document_changed(destination_id)
            self._bus_monitor.changed(destination_id)
            self._revisit(destination_id)
            if self._directory.get(destination_id) is None:
                self._bus.forget(destination_id)

    def retry_now(self, destination_id: str) -> None:
        """Let nothing wait for a destination that is back: no retry, no probe, and no check of its bus."""
        self._bus_monitor.check_now(destination_id)
        lane, now = self.lanes.get(destination_id), self._loop.time()
        if lane is not None:
            lane.retry_now(now)
            self._pump(lane, now)

    def stop(self) -> None:
        """Cancel all timers, so that no batch leaves any more."""
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _refuse_large(self, deliveries: Iterable[Delivery], max_bytes: int, destination: Destination) -> None:
        """Give up the deliveries whose entries have more bytes than a call."""
        for delivery in deliveries:
            if delivery.size > max_bytes:
                problem = f"the entry has {delivery.size} bytes; one request holds at most {max_bytes}"
                why = Problem("EntryTooLarge", problem)
                self._settlement.dead_letter(delivery, destination.bus.arn, "oversize", why)

    def _refuse(self, lane: Lane, delivery: Delivery, now: float) -> bool:
        """Give up a delivery to a suspended destination, unless it can be a probe. Returns whether it is given up."""
        if delivery.replay is not None and delivery.first_attempt_ms is None:
            lane.health.suspension.request_probe()
        is_refused = lane.refuses(now)
        if is_refused:
            self._settlement.refuse(lane, delivery, now)
        return is_refused

    def _revisit(self, destination_id: str) -> None:
        """Pump the destination's lane, because its document or its bus has changed."""
        lane = self.lanes.get(destination_id)
        if lane is not None:
            self._pump(lane, self._loop.time())

    def _pump(self, lane: Lane, now: float) -> None:
        self._follow_document(lane, now)
        lane.adapt(self._bus.limits(lane.destination))
        if lane.falls_behind(now):
            self._fall_behind(lane, now)
        if lane.deliveries.overdue_at() <= now:
            self._end_holds(lane, now)
        while (batch := lane.take(now)) is not None:
            self._in_flight.start(self._run(Attempt(lane, batch, now)), batch.is_revoked)
        self._schedule(lane, now)
        if lane.has_cursor and len(lane) <= lane.fill(now) // 2:
            self.can_take_more(lane)

    def _fall_behind(self, lane: Lane, now: float) -> None:
        lane.moved_at, lane.has_cursor = now, True
        self.fell_behind(lane, now)

    def _end_holds(self, lane: Lane, now: float) -> None:
        """Move the deliveries whose hold is over to cursors or retry topics, or hold them again."""
        if may_wait_on_cursor(lane, now):
            self.waited_long(lane, now)
        for delivery in end_holds(lane, now, self._clock.now_ms()):
            self._settlement.retry_later(lane, delivery, now)

    def _follow_document(self, lane: Lane, now: float) -> None:
        """Follow the current document. Without an enabled one, or with a paused one, nothing is sent."""
        destination = self._directory.get(lane.destination.id)
        if destination is not None and destination.closed_as is None:
            if destination is not lane.destination:
                self._adopt(lane, destination)
            self._follow_bus(lane, now)
            return
        if destination is None or destination.owner != lane.destination.owner:
            self._skip_deleted(lane)
        else:
            for delivery in lane.deliveries.drop():
                self._settlement.skip(delivery, destination.bus.arn, destination.closed_as or "disabled")
        lane.follow_bus("open", now)
        self._clear(lane, now, "document")

    def _clear(self, lane: Lane, now: float, why: ResumeReason) -> None:
        for signal in lane.health.clear(lane.destination, now, why):
            self._observe(signal)

    def _follow_bus(self, lane: Lane, now: float) -> None:
        """Send nothing while the bus is missing, or before it is known whether it exists."""
        # A lane without deliveries needs no check.
        lane.follow_bus("open" if lane.is_idle else self._bus_monitor.watch(lane.destination), now)
        if lane.is_gone:
            # A call would succeed, and its events would be lost.
            problem = Problem(BUS_NOT_FOUND, self._bus_monitor.problem(lane.destination))
            for delivery in lane.deliveries.drop():
                self._settlement.dead_letter(delivery, lane.destination.bus.arn, "blocked", problem)

    def _adopt(self, lane: Lane, destination: Destination) -> None:
        if destination.owner != lane.destination.owner:
            self._skip_deleted(lane)
        elif not destination.chooses_as(lane.destination):
            self._skip_unwanted(lane, destination)
        lane.adopt(destination)

    def _skip_unwanted(self, lane: Lane, destination: Destination) -> None:
        """The filter has changed: skip what waits for its first attempt and is not wanted any more."""

        def is_unwanted(delivery: Delivery) -> bool:
            is_new = delivery.tier == 0 and delivery.attempts == 0
            return is_new and not destination.wants(delivery.event)

        for delivery in lane.deliveries.drop(is_unwanted):
            self._settlement.skip(delivery, destination.bus.arn, "filtered")

    def _skip_deleted(self, lane: Lane) -> None:
        """The destination was deleted or reassigned: skip everything queued for it."""
        for delivery in lane.deliveries.drop():
            self._settlement.skip(delivery, None, "deleted")

    def _schedule(self, lane: Lane, now: float) -> None:
        lane_id = lane.destination.id
        if lane.is_idle:
            at = lane.kept_until(now)
            if at <= now:
                self.lanes.pop(lane_id, None)
                self._clear(lane, now, "idle")
                at = _NEVER
        else:
            at = min(lane.send_at(), lane.deliveries.overdue_at())
        timer = self._timers.get(lane_id)
        if at == _NEVER:
            if timer is not None:
                timer[1].cancel()
                del self._timers[lane_id]
        elif timer is None or timer[0] > at:
            # A timer that fires too early costs one pump. To move it with every batch would cost more.
            if timer is not None:
                timer[1].cancel()
            self._timers[lane_id] = at, self._loop.call_at(at, self._wake, lane, at)

    def _wake(self, lane: Lane, at: float) -> None:
        del self._timers[lane.destination.id]
        # The loop's clock is coarse and may still show an earlier time.
        self._pump(lane, max(at, self._loop.time()))

    async def _run(self, attempt: Attempt) -> None:
        try:
            await self.attempts.run(attempt)
        finally:
            attempt.lane.finish()
        self._pump(attempt.lane, self._loop.time())


def _nothing(*_: object) -> None:
    """Do nothing: there are no cursors."""
