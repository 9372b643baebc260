"""Deliver: every destination's lane from queue to outcome.

A lane is looked at when something was offered, when its timer fires and when an attempt ends; then every batch that is
ready leaves as an attempt of its own, and what has waited too long leaves for a retry topic. A lane exists only while
it holds something, or while its destination's pace or health is worth remembering.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from typing import Final, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.lane import ROOM, Lane
from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.pipeline.attempt import Attempt, Calls
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.conclude import Conclude
from pushrail_stream.pipeline.health import Health
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.pipeline.stats import DestinationState, DestinationStats, DispatcherStats

_ROOM_UNDER_PRESSURE: Final = 10
_PRESSURE_SECS: Final = 1.0
"""The worker is under pressure for so long after it was last told so."""
_NEVER: Final = float("inf")
_ORDER: Final = {"gone": 0, "suspended": 1, "slowed": 2, "ok": 3}


@final
class Dispatcher:
    """All lanes of one worker. Lives on the event loop; every method but `_attempt` returns at once."""

    def __init__(
        self, ports: Ports, policy: Policy, settlement: Settlement, bus_monitor: BusMonitor, in_flight: InFlight
    ) -> None:
        self._bus = ports.bus
        self._directory = ports.directory
        self._settlement = settlement
        self._health = Health(policy=policy.retry, jitter=ports.jitter, observe=ports.observe)
        self._bus_monitor = bus_monitor
        self._in_flight = in_flight
        self._limits = policy.lanes
        self._conclude = Conclude(settlement=settlement, policy=policy.retry, clock=ports.clock, jitter=ports.jitter)
        self._calls = Calls(
            bus=ports.bus,
            health=self._health,
            conclude=self._conclude,
            bus_monitor=bus_monitor,
            clock=ports.clock,
            observe=ports.observe,
            is_pressed=self._is_pressed,
        )
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, Lane] = {}
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}
        """When it fires (what uvloop calls at once is no timer and cannot tell), and how to cancel it."""
        self._pressed_until = float("-inf")
        bus_monitor.answered = self._revisit

    @property
    def lanes(self) -> int:
        """Destinations with something waiting or in flight, or with a state that is remembered."""
        return len(self._lanes)

    def stats(self) -> DispatcherStats:
        """Numbers of destinations, calls and deliveries. Visits every lane."""
        suspended = slowed = calls = waiting = 0
        for lane in self._lanes.values():
            suspended += lane.is_suspended
            slowed += not lane.window.is_open
            calls += lane.in_flight
            waiting += len(lane)
        return DispatcherStats(len(self._lanes), suspended, slowed, self._bus_monitor.missing, calls, waiting)

    def destination_stats(self, max_destinations: int) -> list[DestinationStats]:
        """The destinations that need attention most: by state, then by deliveries that wait. Visits every lane."""
        if not max_destinations:
            return []
        now = self._loop.time()
        # Deliveries to a missing bus do not wait, so its lane exists seldom. The destination is listed all the same.
        gone = {missing.destination.id for missing in self._bus_monitor.missing_buses()}
        stats = [DestinationStats(name, "gone", 0, 0, 0, 0.0) for name in gone]
        stats += [_stats_of(lane, now) for name, lane in self._lanes.items() if name not in gone]
        return heapq.nsmallest(
            max_destinations, stats, key=lambda one: (_ORDER[one.state], -one.waiting, one.destination_id)
        )

    def offer(self, delivery: Delivery, destination: Destination) -> None:
        """Queue a delivery on its destination's lane; ``destination`` is the current document.

        An entry that no request can hold is dead-lettered.
        """
        bus_limits = self._bus.limits(destination)
        if delivery.size > self._limits.max_bytes or delivery.size > bus_limits.max_bytes:
            max_bytes = min(self._limits.max_bytes, bus_limits.max_bytes)
            problem = f"the entry has {delivery.size} bytes; one request holds at most {max_bytes}"
            self._settlement.dead_letter(delivery, destination.bus, "oversize", Problem("EntryTooLarge", problem))
            return
        now = self._loop.time()
        lane = self._lanes.get(destination.id)
        if lane is None:
            lane = self._lanes[destination.id] = Lane(destination, self._limits, bus_limits)
        elif lane.destination is not destination:
            self._adopt(lane, destination)
        is_suspended = lane.is_suspended
        if is_suspended and delivery.replay is not None and delivery.first_attempt_ms is None:
            lane.suspension.asked()
        if is_suspended and lane.refuses(now):
            self._conclude.refuse(lane, delivery, now)
        elif (is_suspended and lane.is_overfull) or self._is_pressed_out(lane, now):
            self._conclude.hold(lane, delivery, now)
        elif lane.offer(delivery, now):
            self._pump(lane, now)

    def drop_revoked(self) -> int:
        """Take every waiting delivery of a partition that is being given back out of its lane; how many there were."""
        dropped = 0
        now = self._loop.time()
        for lane in list(self._lanes.values()):
            for delivery in lane.drop(lambda delivery: delivery.pending.is_revoked):
                if delivery.pending.is_for_next_owner:
                    dropped += 1
                else:
                    self._conclude.hold(lane, delivery, now)
            self._schedule(lane, now)
        self._settlement.abandon(dropped)
        return dropped + self._settlement.abandon_withheld()

    async def drain(self, deadline_secs: float) -> None:
        """Wait until no work in flight holds a delivery of a revoked partition, or the deadline has passed."""
        await self._in_flight.drain(deadline_secs)

    def shed_load(self) -> None:
        """The worker is under pressure: what waits for a bus that is silent or falls behind leaves for a retry topic.

        So does what comes for a silent one, or fails there, for a while.
        """
        now = self._loop.time()
        self._pressed_until = now + _PRESSURE_SECS
        for lane in list(self._lanes.values()):
            for delivery in lane.stalled(now):
                self._conclude.hold(lane, delivery, now)
            self._pump(lane, now, _ROOM_UNDER_PRESSURE)

    def evict(self, blocks_head: Callable[[Delivery], bool]) -> None:
        """Move waiting deliveries to a retry topic ahead of their time."""
        now = self._loop.time()
        for lane in list(self._lanes.values()):
            for delivery in lane.drop(blocks_head):
                self._conclude.hold(lane, delivery, now)
            self._schedule(lane, now)

    def documents_changed(self, destination_ids: Iterable[str]) -> None:
        """The documents of these destinations are new, changed or gone: forget the state of the old ones."""
        for destination_id in destination_ids:
            self._bus_monitor.changed(destination_id)
            self._revisit(destination_id)
            if self._directory.get(destination_id) is None:
                self._bus.forget(destination_id)

    def stop(self) -> None:
        """Cancel all timers: no batch leaves any more."""
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _revisit(self, destination_id: str) -> None:
        """Something changed for the destination: its lane may have something to do."""
        lane = self._lanes.get(destination_id)
        if lane is not None:
            self._pump(lane, self._loop.time())

    def _is_pressed_out(self, lane: Lane, now: float) -> bool:
        """Whether the worker is under pressure and the lane's destination is silent."""
        return now < self._pressed_until and not lane.is_idle and lane.is_silent(now)

    def _pump(self, lane: Lane, now: float, room: int = ROOM) -> None:
        self._look_up(lane, now)
        lane.adapt(self._bus.limits(lane.destination))
        for delivery in lane.overdue(now, room):
            self._conclude.hold(lane, delivery, now)
        while (batch := lane.take(now)) is not None:
            self._in_flight.start(self._attempt(lane, batch), batch.is_revoked)
        self._schedule(lane, now)

    def _look_up(self, lane: Lane, now: float) -> None:
        """The lane's document as it is now; without one, or with one that is disabled, nothing is sent.

        Nothing is sent either while the bus is missing, or before it is known whether it exists.
        """
        destination = self._directory.get(lane.destination.id)
        if destination is not None and destination.enabled:
            if destination is not lane.destination:
                self._adopt(lane, destination)
            if not lane.is_idle:
                self._follow_bus(lane, now)
        else:
            self._end(lane, destination, now)

    def _follow_bus(self, lane: Lane, now: float) -> None:
        """Open or shut the lane, or give up its deliveries, by what is known of the bus."""
        state = self._bus_monitor.watch(lane.destination)
        if state == "awaited":
            lane.shut(now)
            return
        lane.open()
        if state == "missing":
            self._dead_letter_all(lane)

    def _end(self, lane: Lane, destination: Destination | None, now: float) -> None:
        """The lane's document is deleted, disabled, or another customer's."""
        if destination is None or destination.owner != lane.destination.owner:
            self._orphan(lane)
        else:
            for delivery in lane.drop(lambda _delivery: True):
                self._settlement.skip(delivery, destination.bus, "disabled")
        lane.open()
        self._health.clear(lane, now)

    def _adopt(self, lane: Lane, destination: Destination) -> None:
        """A changed document holds from the next batch on; one that is reached in another way is probed at once."""
        before = lane.destination
        if destination.owner != before.owner:
            self._orphan(lane)
        lane.destination = destination
        if destination.reach != before.reach:
            lane.suspension.probe_now()

    def _orphan(self, lane: Lane) -> None:
        """What the lane's destination was is no more: what waits for it goes nowhere."""
        for delivery in lane.drop(lambda _delivery: True):
            self._settlement.skip(delivery, None, "deleted")

    def _dead_letter_all(self, lane: Lane) -> None:
        """The bus is missing: a call would succeed, and its events would be lost."""
        problem = Problem(BUS_NOT_FOUND, self._bus_monitor.problem(lane.destination))
        for delivery in lane.drop(lambda _delivery: True):
            self._settlement.dead_letter(delivery, lane.destination.bus, "blocked", problem)

    def _schedule(self, lane: Lane, now: float) -> None:
        lane_id = lane.destination.id
        if lane.is_idle:
            at = lane.kept_until(now)
            if at <= now:
                self._lanes.pop(lane_id, None)
                at = _NEVER
        else:
            at = min(lane.send_at(), lane.overdue_at())
        timer = self._timers.get(lane_id)
        if at == _NEVER:
            if timer is not None:
                timer[1].cancel()
                del self._timers[lane_id]
        elif timer is None or timer[0] > at:
            # A timer that fires too early costs one look; moving it on every batch would cost more.
            if timer is not None:
                timer[1].cancel()
            self._timers[lane_id] = at, self._loop.call_at(at, self._wake, lane, at)

    def _wake(self, lane: Lane, at: float) -> None:
        del self._timers[lane.destination.id]
        # The loop's clock is coarse: it may show a moment before the one it was to wake us at.
        self._pump(lane, max(at, self._loop.time()))

    async def _attempt(self, lane: Lane, batch: Batch) -> None:
        try:
            await Attempt(self._calls, lane, batch).run()
        finally:
            lane.finish()
        self._pump(lane, self._loop.time())

    def _is_pressed(self, now: float) -> bool:
        return now < self._pressed_until


def _stats_of(lane: Lane, now: float) -> DestinationStats:
    state: DestinationState = "suspended" if lane.is_suspended else "ok" if lane.window.is_open else "slowed"
    max_calls = lane.window.size(lane.destination.limits.max_in_flight)
    return DestinationStats(
        lane.destination.id, state, len(lane), lane.in_flight, max_calls, lane.throughput.per_second(now)
    )
