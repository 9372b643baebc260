"""Retry now: the waiting retries of a destination that is back begin at once, and others' keep their time.

A retry topic holds the copies of many destinations, and its consumer stops at the first that is not due. So a second
reader, outside the group, reads on from there to the topic's present end. The destination's copies begin ahead of their
turn, as fast as its lane takes them. The trackers know them: the consumer passes them when it arrives there, and
commits carry them. Copies that fail again lie behind that end and wait as always. A copy must lie within
`core.offsets.MAX_AHEAD` offsets above the partition's first record that waits; those beyond keep their time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, final

from pushrail_stream.core.headers import BadHeader, decode_headers
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.errors import OperatorError
from pushrail_stream.pipeline.assignment import Assignment
from pushrail_stream.pipeline.bus_monitor import BusMonitor
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.retry_consumer import RetryConsumer
from pushrail_stream.ports.pipeline import Directory

ReadTopic = Callable[[str, Mapping[int, int]], AsyncGenerator[Sequence[Record]]]
"""Reads a topic from these offsets, by partition, to its present end. Raises `OperatorError`."""
_SILENT_SECS: Final = 15.0
"""Seconds without a delivery after which the destination is not back: longer than a call and its retries in memory."""
_STUCK_SECS: Final = 5.0
"""Seconds for which a partition's first waiting record may stay before copies out of reach are left."""
_PAUSE_SECS: Final = 0.02
"""Seconds between two looks for room or reach: 50 a second cost no noticeable CPU time."""
_REST: Final = "the rest keep their time"


@dataclass(slots=True)
class RetryRun:
    """One destination's copies, as they begin."""

    destination_id: str
    begun: int = 0
    kept: int = 0
    """Copies out of reach, which keep their time."""
    problem: str = ""
    """Why it ended early; empty when it did not."""
    is_back: bool = False
    """Whether the destination has taken a delivery since."""
    stuck: set[Partition] = field(default_factory=set)
    """Partitions whose first waiting record does not move."""


@final
class RetryNow:
    """Begins the retries of destinations ahead of their time. Lives on the event loop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        bus_monitor: BusMonitor,
        assignment: Assignment,
        consumer: RetryConsumer,
        directory: Directory,
    ) -> None:
        self._dispatcher = dispatcher
        self._bus_monitor = bus_monitor
        self._assignment = assignment
        self._consumer = consumer
        self._directory = directory
        self._loop = asyncio.get_running_loop()

    async def run(self, run: RetryRun, read: ReadTopic) -> None:
        """Begin every copy of ``run.destination_id`` that waits on the assigned partitions of the retry topics."""
        started = self._loop.time()
        self._dispatcher.retry_now(run.destination_id)
        topics: dict[str, dict[int, int]] = {}
        for partition, offset in self._assignment.not_begun().items():
            topics.setdefault(partition.topic, {})[partition.number] = offset
        try:
            for topic, starts in topics.items():
                async with aclosing(read(topic, starts)) as batches:
                    async for batch in batches:
                        for record in batch:
                            await self._begin(run, record, started)
        except OperatorError as error:
            run.problem = str(error)

    async def _begin(self, run: RetryRun, record: Record, started: float) -> None:
        headers = decode_headers(record.headers)
        if isinstance(headers, BadHeader) or headers.destination != run.destination_id:
            return
        await self._wait_for_room(run, started)
        partition = Partition(record.topic, record.partition)
        if not await self._reach(run, partition, record.offset):
            run.kept += 1
            return
        tracker = self._assignment.tracker_of(partition)
        if tracker is not None and self._consumer.begin_ahead(record, headers, tracker):
            run.begun += 1

    async def _wait_for_room(self, run: RetryRun, started: float) -> None:
        """Wait until the lane takes another delivery. Raises `OperatorError` when the destination is not back."""
        while not self._has_room(run, started):
            lane, now = self._dispatcher.lanes.get(run.destination_id), self._loop.time()
            if lane is not None and now - max(started, lane.health.throughput.last) >= _SILENT_SECS:
                raise OperatorError(f"it has taken no delivery for {_SILENT_SECS:.0f} s; {_REST}")
            await asyncio.sleep(_PAUSE_SECS)

    def _has_room(self, run: RetryRun, started: float) -> bool:
        """Whether a copy may begin now: one alone, until a delivery has shown that the destination is back."""
        destination, bus_state = self._directory.get(run.destination_id), self._bus_monitor.doubt(run.destination_id)
        if destination is None or destination.closed_as is not None:
            raise OperatorError(f"its document was disabled, paused or deleted; {_REST}")
        if bus_state == "missing":
            raise OperatorError(f"its bus does not exist; {_REST}")
        lane, now = self._dispatcher.lanes.get(run.destination_id), self._loop.time()
        # A lane that has gone has nothing in flight, and its destination does not block.
        run.is_back = run.is_back or (run.begun > 0 if lane is None else lane.health.throughput.last >= started)
        if bus_state == "awaited" or (not run.is_back and run.begun > 0):
            return False
        if not run.is_back:
            return lane is None or (lane.is_idle and not lane.refuses(now))
        return lane is None or lane.has_retry_room(now)

    async def _reach(self, run: RetryRun, partition: Partition, offset: int) -> bool:
        """Whether the record is within reach, perhaps after a wait. It is, when the partition is not ours any more."""
        until = self._loop.time() + _STUCK_SECS
        while (tracker := self._assignment.tracker_of(partition)) is not None and not tracker.reaches(offset):
            if partition in run.stuck or self._loop.time() >= until:
                run.stuck.add(partition)
                return False
            await asyncio.sleep(_PAUSE_SECS)
        return True
