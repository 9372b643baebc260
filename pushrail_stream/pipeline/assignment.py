"""The assignment: one consumer's partitions, their offset trackers, their commits and their backpressure.

Nothing here waits, so a lane never blocks the consumer. The memory for unsettled records is bounded, and beyond the
bounds `FlowControl` tells the consumer to pause. Only offsets that the trackers have released are committed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, final

from pushrail_stream.core.commit import Committable, topic_of, was_recreated
from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.cursor_texts import Budget
from pushrail_stream.core.flood_guard import FloodGuard
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.record import Partition, Record, TopicIdentity
from pushrail_stream.core.signals import (
    CursorClosed,
    CursorTrimmed,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
    RestartReason,
)
from pushrail_stream.pipeline.buffer_room import BufferRoom
from pushrail_stream.pipeline.dispatcher import Dispatcher
from pushrail_stream.pipeline.early_records import EarlyRecord, EarlyRecords
from pushrail_stream.pipeline.metadata_room import MetadataRoom
from pushrail_stream.pipeline.policy import BufferLimits
from pushrail_stream.pipeline.read_progress import ReadPosition, ReadProgress
from pushrail_stream.pipeline.stats import PartitionStats
from pushrail_stream.ports.pipeline import Observer

_TEXT_BLOCKS: Final = 8
"""Blocks of cursors whose texts are made for the commits of one second: 128 cursors each, about 1.5 ms of the event
loop. Commits that need more blocks wait. The number doubles each time, until all have been made."""


class ReadingPlace(NamedTuple):
    """A place to read on at."""

    offset: int
    epoch: int | None = None
    """The newest leader epoch of the records before it. If the log was cut off below, reading goes on at the cut."""


class FlowControl(NamedTuple):
    """Instructions to the consumer: pause everything (``hold``), or only the partitions in ``full``."""

    hold: bool
    full: frozenset[Partition]
    seeks: Mapping[Partition, ReadingPlace] = MappingProxyType({})
    """Other places to read on at. Each comes again until `Assignment.sought` confirms it."""
    have_gaps: bool = False
    """Whether offsets are missing among the records. `Assignment.note_positions` finds the cause."""
    unread: frozenset[Partition] = frozenset()
    """Partitions from which nothing has been read for long, although Kafka has records."""


class Due(NamedTuple):
    """The answer of `Assignment.accept_poll`. It has no commits when a topic was recreated: `restart` comes first."""

    flow_control: FlowControl
    recreated: Mapping[Partition, TopicIdentity]
    commits: Sequence[tuple[Partition, Committable]] = ()


@final
class Assignment:
    """Takes records and releases commits. Lives on the event loop."""

    def __init__(
        self,
        take: Callable[[Iterable[tuple[Record, OffsetTracker]]], None],
        dispatcher: Dispatcher,
        guard: FloodGuard,
        limits: BufferLimits,
        observe: Observer,
        *,
        early: EarlyRecords | None = None,
    ) -> None:
        """``take`` gets a poll's records, each with its tracker. ``early`` holds those that wait until they are due."""
        self._take = take
        self._dispatcher = dispatcher
        self._guard = guard
        self._observe = observe
        self._early = early or EarlyRecords(_never)
        self._loop = asyncio.get_running_loop()
        self.trackers: dict[Partition, OffsetTracker] = {}
        """Of the partitions that are ours now."""
        self._replaced: list[tuple[Partition, OffsetTracker]] = []
        """Earlier trackers of restarted partitions that still have open records."""
        self._text_blocks = _TEXT_BLOCKS
        """Blocks of cursors whose texts the next commits may make."""
        self._committed: dict[Partition, Committable] = {}
        self._behind_since: dict[Partition, float] = {}
        self._progress = ReadProgress(observe)
        self._seeks: dict[Partition, ReadingPlace] = {}
        """Until the consumer reads on there, the records that come are of another place."""
        self._unread = frozenset[Partition]()
        self._room = BufferRoom(limits, dispatcher, self._early, observe)
        self.metadata = MetadataRoom()
        self.cursors_added: Callable[[], None] = _nothing
        """Called when there may be new cursors. The catch-up reader sleeps while there are none."""

    def assigned(
        self,
        committed: Mapping[Partition, Committable | None],
        topics: Mapping[str, TopicIdentity],
        cursors: Mapping[Partition, Sequence[CursorState]] = MappingProxyType({}),
    ) -> Collection[Partition]:
        """Start with these partitions and the group's commits. ``topics``: the current topics that are known.

        ``cursors``: of the destinations that were behind at the commits, as far as they are known. Returns the
        partitions to read from their beginning, because their topics were recreated after the commit.
        """
        recreated = set()
        for partition, committable in committed.items():
            start, topic, states = committable, topics.get(partition.topic), cursors.get(partition, ())
            if start is not None and was_recreated(topic_of(start), topic):
                self._observe(PartitionRestarted(partition, "recreated", start.offset))
                recreated.add(partition)
                for state in states:
                    self._tell_lost(partition, Cursor(state, OffsetTracker()), 0, start.offset)
                    self._observe(CursorClosed(partition, state.destination_id, "recreated"))
                start, states = None, ()
            self.trackers[partition] = OffsetTracker(start, topic, states)
            if start is not None:
                self._committed[partition] = start
        starts = tuple((p, None if p in recreated or c is None else c.offset) for p, c in committed.items())
        self._observe(PartitionsAssigned(starts))
        self.cursors_added()
        return recreated

    def recreated(self, topics: Mapping[str, TopicIdentity]) -> Mapping[Partition, TopicIdentity]:
        """Learn the current topics. Returns the partitions whose topic was recreated, for `restart`."""
        found = {}
        for partition, tracker in self.trackers.items():
            topic = topics.get(partition.topic)
            if was_recreated(tracker.topic, topic):
                found[partition] = topics[partition.topic]
            elif topic is not None:
                tracker.topic = topic
        return found

    def restart(self, partitions: Mapping[Partition, TopicIdentity]) -> None:
        """Restart these partitions, because their topics were recreated and the consumer reads from the beginning."""
        for partition, topic in partitions.items():
            self._replace(partition, topic, "recreated")

    async def revoked(
        self, partitions: Iterable[Partition], *, deadline_secs: float
    ) -> Sequence[tuple[Partition, Committable]]:
        """Give up partitions: drop waiting deliveries, finish those in flight, and return the last commits."""
        revoked = self._revoke(partitions, are_lost=False)
        dropped = self._dispatcher.drop_revoked()
        await self._dispatcher.drain(deadline_secs)
        if revoked:
            self._observe(PartitionsRevoked(tuple(revoked), lost=False, dropped=dropped))
        uncommitted = self._uncommitted(revoked, forget=True)
        for tracker in revoked.values():
            tracker.end()
        return uncommitted

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that were taken away. Nothing of them may be committed any more."""
        revoked = self._revoke(partitions, are_lost=True)
        for partition, tracker in revoked.items():
            self._committed.pop(partition, None)
            tracker.end()
        if revoked:
            dropped = self._dispatcher.drop_revoked()
            self._observe(PartitionsRevoked(tuple(revoked), lost=True, dropped=dropped))

    def tracker_of(self, partition: Partition) -> OffsetTracker | None:
        """The tracker of a partition of ours; None of any other one."""
        return self.trackers.get(partition)

    def not_begun(self) -> Mapping[Partition, int]:
        """By partition the first offset that has not begun, as far as one is known."""
        found = {}
        for partition, tracker in self.trackers.items():
            first = self._early.first_offset(partition)
            if tracker.next_offset is None and first is not None:
                tracker.pass_over(first)  # nothing was ever committed, and reading began at this record
            if tracker.next_offset is not None:
                found[partition] = tracker.next_offset
        return found

    def note_positions(self, readings: Mapping[Partition, ReadPosition]) -> None:
        """Note the consumer's positions. Call it only when `accept` has received every record that was read."""
        now = self._loop.time()
        kept_back = self._room.full_partitions | self._early.paused(now)
        is_held = self._room.is_full or self._guard.tripped
        for partition, reading in readings.items():
            tracker = self.trackers.get(partition)
            if tracker is not None and partition not in self._seeks:
                if reading.position is not None and tracker.awaits(reading.epoch):
                    # A new leader's marker came before any record of it.
                    tracker = self._jump(partition, tracker, reading.position, reading.epoch)
                    if tracker is None:
                        continue
                    self._meet_epoch(partition, tracker, reading.position, reading.epoch)
                tracker.log_start = max(tracker.log_start, reading.first or 0)
                is_wanted = not is_held and partition not in kept_back
                ahead, _ = self._early.size(partition)
                self._progress.note(partition, reading, tracker, now, is_wanted=is_wanted, ahead=ahead)

    def step_over(self, partition: Partition, offset: int) -> None:
        """Read a partition of ours on at ``offset``, because nothing below it can be read."""
        tracker = self.trackers.get(partition)
        if tracker is not None:
            self._seeks[partition] = ReadingPlace(offset)
            tracker.step_over(offset)

    def note_unread(self, partitions: Collection[Partition]) -> None:
        """Note the partitions of ours from which nothing has been read for long, although Kafka has records."""
        self._unread = frozenset(partition for partition in partitions if partition in self.trackers)

    def sought(self, places: Mapping[Partition, ReadingPlace]) -> None:
        """Note that the consumer reads on there."""
        for partition, place in places.items():
            if self._seeks.get(partition) == place:
                del self._seeks[partition]

    def accept_poll(
        self,
        records: Iterable[Record],
        topics: Mapping[str, TopicIdentity],
        readings: Mapping[Partition, ReadPosition],
    ) -> Due:
        """Take a poll's records, the current topics and, unless one was recreated, the positions after the records."""
        flow_control = self.accept(records)
        if recreated := self.recreated(topics):
            return Due(flow_control, recreated)
        self.note_positions(readings)
        return Due(flow_control, {}, self.committable())

    def committable(self) -> Sequence[tuple[Partition, Committable]]:
        """The commits that have moved since the last ones."""
        now = self._loop.time()
        uncommitted = self._uncommitted(self.trackers, forget=False)
        moved = {partition for partition, _ in uncommitted}
        for partition, tracker in self.trackers.items():
            if tracker.span or partition in moved:
                self._behind_since.setdefault(partition, now)
            else:
                self._behind_since.pop(partition, None)
        return uncommitted

    def partition_stats(self) -> list[PartitionStats]:
        """The statistics of each partition."""
        now = self._loop.time()
        return [
            PartitionStats(
                partition,
                tracker.open_records + self._early.size(partition)[0],
                tracker.open_bytes + self._early.size(partition)[1],
                tracker.oldest_at_ms,
                start.offset if (start := self._committed.get(partition)) else None,
                now - self._behind_since.get(partition, now),
                *self._progress.of(partition, now),
            )
            for partition, tracker in self.trackers.items()
        ]

    def committed(self, commits: Iterable[tuple[Partition, Committable]]) -> None:
        """Note that Kafka acknowledged these commits."""
        for partition, committable in commits:
            tracker = self.trackers.get(partition)
            if tracker is None:
                continue
            self._committed[partition] = committable
            self._behind_since.pop(partition, None)
            done = [cursor for cursor in tracker.cursors.values() if cursor.is_done(committable.offset)]
            for cursor in done:
                del tracker.cursors[cursor.destination_id]

    def accept(self, records: Iterable[Record]) -> FlowControl:
        """Take records. Those of partitions that we no longer own, or that are read again elsewhere, are ignored."""
        self._take(self._met(records))
        return self.flow_control()

    def _met(self, records: Iterable[Record]) -> Iterator[tuple[Record, OffsetTracker]]:
        """Meet each record when it is asked for."""
        trackers, partition = self.trackers, Partition("", 0)
        for record in records:
            if record.partition != partition.number or record.topic != partition.topic:
                partition = Partition(record.topic, record.partition)
            tracker = trackers.get(partition)
            if tracker is not None and partition not in self._seeks:
                if record.offset != tracker.read_to or record.leader_epoch != tracker.epoch:
                    tracker = self._jump(partition, tracker, record.offset, record.leader_epoch)
                    if tracker is None:
                        continue
                if record.leader_epoch != tracker.epoch or tracker.epoch_start == math.inf:
                    self._meet_epoch(partition, tracker, record.offset, record.leader_epoch)
                tracker.read_to = record.offset + 1
                yield record, tracker

    def flow_control(self) -> FlowControl:
        """Begin early records that have become due, and instruct the consumer."""
        now = self._loop.time()
        self._early.begin_due(now)
        self._replaced = [(partition, tracker) for partition, tracker in self._replaced if tracker.has_open]
        self._room.measure(self.trackers, [tracker for _, tracker in self._replaced], now)
        have_gaps = any(tracker.has_gaps for tracker in self.trackers.values())
        full = self._room.full_partitions | self._early.paused(now)
        return FlowControl(self._room.is_full or self._guard.tripped, full, dict(self._seeks), have_gaps, self._unread)

    def _jump(
        self, partition: Partition, tracker: OffsetTracker, offset: int, epoch: int | None
    ) -> OffsetTracker | None:
        """Go on reading at another place than the next one. Returns its tracker, or None to read again first."""
        if tracker.doubts(offset, epoch):
            self._seeks[partition] = ReadingPlace(tracker.read_to, tracker.epoch)
            return None
        if offset < tracker.read_to:
            return self._replace(partition, tracker.topic, "went_back", kept_below=offset)
        return tracker

    def _meet_epoch(self, partition: Partition, tracker: OffsetTracker, offset: int, epoch: int | None) -> None:
        for cursor in tracker.meet_epoch(epoch, offset):
            self._tell_lost(partition, cursor, offset, tracker.read_to)

    def _replace(
        self, partition: Partition, topic: TopicIdentity | None, why: RestartReason, kept_below: int = 0
    ) -> OffsetTracker:
        """Replace the tracker of a partition whose old offsets, from ``kept_below`` on, are of other records now.

        Kafka no longer has those records. The open deliveries continue, or move to a retry topic when the partition is
        revoked. While one of a record below is open, nothing is committed: the new tracker does not know of it. Cursors
        keep their place in the records below.
        """
        self._early.begin_all(partition)
        old, new = self.trackers[partition], OffsetTracker(topic=topic)
        old.replace(kept_below, new)
        self._replaced.append((partition, old))
        self.trackers[partition] = new
        self._observe(PartitionRestarted(partition, why, old.read_to or None))
        for cursor in old.cursors.values():
            self._tell_lost(partition, cursor, kept_below, old.read_to)
            if cursor.destination_id not in new.cursors:
                self._observe(CursorClosed(partition, cursor.destination_id, why))
        self._committed.pop(partition, None)
        self._forget_progress(partition)
        return new

    def _tell_lost(self, partition: Partition, cursor: Cursor, first: int, live_next: int) -> None:
        """Report the cursor's events that are lost with the records from ``first`` on. Those in memory are not lost."""
        lost = cursor.lost_from(first, live_next)
        if lost is not None:
            self._observe(CursorTrimmed(partition, cursor.destination_id, *lost))

    def _revoke(self, partitions: Iterable[Partition], *, are_lost: bool) -> dict[Partition, OffsetTracker]:
        revoked = {p: tracker for p in partitions if (tracker := self.trackers.pop(p, None)) is not None}
        for partition, tracker in revoked.items():
            tracker.revoke(is_lost=are_lost)
            self._early.drop(partition)
            self._forget_progress(partition)
        for partition, tracker in self._replaced:
            if partition in revoked:
                tracker.revoke(is_lost=are_lost)
        return revoked

    def _forget_progress(self, partition: Partition) -> None:
        self._behind_since.pop(partition, None)
        self._progress.forget(partition)
        self._seeks.pop(partition, None)
        self._unread -= {partition}

    def _uncommitted(
        self, trackers: Mapping[Partition, OffsetTracker], *, forget: bool
    ) -> Sequence[tuple[Partition, Committable]]:
        uncommitted, held = [], {partition for partition, tracker in self._replaced if tracker.holds_back}
        budget = None if forget else Budget(self._text_blocks)
        for partition, tracker in trackers.items():
            last = self._committed.pop(partition, None) if forget else self._committed.get(partition)
            released = tracker.committable(budget)
            if released is None or partition in held:
                continue
            fitting = self.metadata.fitting(released)
            if not fitting.says_as(last):
                uncommitted.append((partition, fitting))
        self._text_blocks = 2 * self._text_blocks if budget is not None and budget.is_exceeded else _TEXT_BLOCKS
        return uncommitted


def _nothing() -> None:
    """Do nothing: no reader of cursors is there to be told."""


def _never(_early: EarlyRecord) -> None:
    raise AssertionError("no record of this consumer is early")
