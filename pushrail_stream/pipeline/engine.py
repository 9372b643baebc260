"""The engine: the pipeline's parts put together. The worker and the tests build the same graph."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import final

from pushrail_stream.core.destination_state import severity
from pushrail_stream.core.flood_guard import FloodGuard
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import BusMissing
from pushrail_stream.pipeline.admission import Admission
from pushrail_stream.pipeline.assignment import Assignment
from pushrail_stream.pipeline.backlog_meter import BacklogMeter
from pushrail_stream.pipeline.backlogs import Backlogs
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.catch_up import CatchUp
from pushrail_stream.pipeline.cursor_care import CursorCare
from pushrail_stream.pipeline.cursor_room import CursorRoom
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.event_consumer import EventConsumer
from pushrail_stream.pipeline.in_flight import InFlight
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.pipeline.retry_consumer import RetryConsumer
from pushrail_stream.pipeline.retry_now import ReadTopic, RetryNow, RetryRun
from pushrail_stream.pipeline.settlement import Settlement
from pushrail_stream.pipeline.stats import (
    DestinationStats,
    DispatcherStats,
    PartitionStats,
    WorkerStats,
)


@final
class Engine:
    """One worker's pipeline. Lives on the event loop."""

    def __init__(self, ports: Ports, policy: Policy, tasks: asyncio.TaskGroup) -> None:
        """Its work runs as tasks of this group, so that no failure is lost."""
        self.ledger = Ledger()
        self.in_flight = in_flight = InFlight(tasks)
        self._loop = asyncio.get_running_loop()
        guard = FloodGuard(policy.flood)
        settlement = Settlement(ports, policy, in_flight, self.ledger, guard)
        self.bus_monitor = BusMonitor(ports, in_flight)
        self.dispatcher = Dispatcher(ports, policy, settlement, self.bus_monitor, in_flight)
        admission = Admission(self.dispatcher, settlement, self.ledger, guard, ports.clock)
        event_consumer = EventConsumer(ports, policy, admission, settlement)
        retry_consumer = RetryConsumer(ports, policy, admission)
        observe = ports.observe
        self.events = Assignment(event_consumer.take, self.dispatcher, guard, policy.event_buffer, observe)
        self.retries = Assignment(
            retry_consumer.take, self.dispatcher, guard, policy.retry_buffer, observe, early=retry_consumer.early
        )
        self._meter = BacklogMeter(self.events.trackers, self.dispatcher.lanes)
        trackers, lanes = self.events.trackers, self.dispatcher.lanes
        room = CursorRoom(trackers, lanes, policy.event_buffer)
        backlogs = Backlogs(self.events, room, self.ledger, ports.clock, observe)
        care = CursorCare(ports, policy, settlement, backlogs, trackers, lanes)
        self.catch_up = CatchUp(ports, policy, admission, care, room, trackers)
        self.events.cursors_added = self.catch_up.begin
        self.dispatcher.fell_behind = backlogs.open
        self.dispatcher.waited_long = backlogs.adopt_overdue
        self.dispatcher.document_changed = care.document_changed
        self.dispatcher.attempts.take_over = backlogs.take_over
        self.dispatcher.can_take_more = self.catch_up.wake
        self._retry_now = RetryNow(self.dispatcher, self.bus_monitor, self.retries, retry_consumer, ports.directory)

    async def begin_retries(self, run: RetryRun, read: ReadTopic) -> None:
        """As `RetryNow.run`."""
        await self._retry_now.run(run, read)

    def step_over(self, partition: Partition, offset: int) -> None:
        """Let a partition be read on from ``offset``, because nothing below it can be read."""
        self.events.step_over(partition, offset)
        self.retries.step_over(partition, offset)

    def note_unread(self, partitions: Collection[Partition]) -> None:
        """Note the partitions from which nothing has been read for long, although Kafka has records."""
        self.events.note_unread(partitions)
        self.retries.note_unread(partitions)

    def partition_stats(self) -> Mapping[str, Sequence[PartitionStats]]:
        """The assigned partitions of events and of retries."""
        return {"events": self.events.partition_stats(), "retries": self.retries.partition_stats()}

    def stats(self, max_destinations: int = 0) -> WorkerStats:
        """The engine's part of the statistics. Visits every lane."""
        lanes, missing_buses = self.dispatcher.lanes.values(), self.bus_monitor.missing_buses()
        now = self._loop.time()
        return WorkerStats(
            ledger=self.ledger,
            dispatcher=_count(lanes, len(missing_buses)),
            destinations=_worst(lanes, missing_buses, max_destinations, now) if max_destinations else [],
            backlogs=self._meter.measure(now),
            missing_buses=missing_buses,
            partitions=self.partition_stats(),
            catch_up=self.catch_up.stats,
        )

    def stop(self) -> None:
        """End all work. Unsettled deliveries are left to the next owners of their partitions."""
        self.dispatcher.stop()
        self.bus_monitor.stop()
        self.in_flight.cancel()


def _count(lanes: Collection[Lane], gone: int) -> DispatcherStats:
    suspended = slowed = calls = waiting = 0
    for lane in lanes:
        suspended += lane.is_suspended
        slowed += lane.health.is_slowed
        calls += lane.in_flight
        waiting += lane.waiting
    return DispatcherStats(len(lanes), suspended, slowed, gone, calls, waiting)


def _worst(
    lanes: Collection[Lane], missing_buses: Sequence[BusMissing], max_destinations: int, now: float
) -> list[DestinationStats]:
    """The destinations that need attention most: by state, then by deliveries that wait, then the busiest."""
    # Deliveries to a missing bus do not wait, so its lane seldom exists. The destination is listed all the same.
    gone = {missing.destination.id for missing in missing_buses}
    stats = [DestinationStats(name, "gone", 0, 0, 0, 0.0) for name in gone]
    stats += [
        DestinationStats(
            lane.destination.id, lane.state, lane.waiting, lane.in_flight, lane.health.max_calls,
            lane.health.throughput.per_second(now), lane.health.errors.per_second(now), lane.health.last_error,
            lane.oldest_secs(now),
        )
        for lane in lanes
        if lane.destination.id not in gone
    ]  # fmt: skip
    return heapq.nsmallest(
        max_destinations,
        stats,
        key=lambda one: (-severity(one.state), -one.waiting, -one.per_second, one.destination_id),
    )
