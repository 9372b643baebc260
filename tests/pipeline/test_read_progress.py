"""Positions: removed records, markers, and batches that cannot be read."""

from __future__ import annotations

import asyncio

from pushrail_stream.core.offsets import Committable, OffsetTracker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import KafkaTrouble, OffsetsSkipped, PartitionUnread, RecordsTrimmed, Signal
from pushrail_stream.core.skips import Skip
from pushrail_stream.errors import OperatorError
from pushrail_stream.pipeline.read_progress import ReadPosition, ReadProgress
from pushrail_stream.pipeline.stats import PartitionStats
from pushrail_stream.pipeline.unread_partitions import UnreadPartitions
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.records import P0, record, records
from tests.support.virtual_time import in_virtual_time


class Reader:
    """A partition that is read from offset 10 on, and what was said of it."""

    def __init__(self, committed: int | None = 10) -> None:
        self.told: list[Signal] = []
        self.readings = ReadProgress(self.told.append)
        self.tracker = OffsetTracker(None if committed is None else Committable(committed, ""))

    def read(self, *offsets: int) -> None:
        for offset in offsets:
            pending = self.tracker.track(offset, 1, 1)
            assert pending is not None
            pending.settle()

    def note(
        self, position: int | None, first: int | None = 0, now: float = 0.0, *, is_wanted: bool = True, ahead: int = 0
    ) -> int | None:
        """The offset that can be committed afterwards."""
        reading = ReadPosition(position, first)
        self.readings.note(P0, reading, self.tracker, now, is_wanted=is_wanted, ahead=ahead)
        released = self.tracker.committable()
        return None if released is None else released.offset


def test_markers_are_committed_past() -> None:
    reader = Reader()
    reader.read(10, 11)
    assert reader.note(13, first=10) == 13, "a marker behind the last record"
    reader.read(20, 22)
    assert reader.note(23, first=12) == 23, "aborted records in between"
    assert reader.note(23, first=23, now=99.0) == 23, "and all of it is removed after it was read"
    assert reader.told == []


def test_removed_records_are_reported() -> None:
    reader = Reader()
    reader.read(10, 11)
    reader.read(400, 401)
    assert reader.note(402, first=400) == 402
    assert reader.told == [RecordsTrimmed(P0, 12, 400)]
    assert reader.note(402, first=400, now=99.0) == 402
    assert len(reader.told) == 1, "once"


def test_only_offsets_below_the_first_were_removed() -> None:
    reader = Reader()
    reader.read(30)
    reader.note(31, first=20)
    reader.read(40)
    reader.note(41, first=20)
    reader.read(50)
    reader.note(51, first=None)
    assert reader.told == [RecordsTrimmed(P0, 10, 20)], "the other gaps are markers, or what compaction left"


def test_a_removal_at_the_end_is_reported() -> None:
    reader = Reader()
    reader.read(10)
    assert reader.note(11, first=400, now=0.0) == 11
    assert reader.note(11, first=400, now=9.0) == 11
    assert reader.told == [], "they may have been fetched before"
    assert reader.note(11, first=400, now=10.0) == 400
    assert reader.note(11, first=400, now=20.0) == 400
    assert reader.told == [RecordsTrimmed(P0, 11, 400)]
    assert reader.readings.of(P0, 20.0) == (400, 0.0)


def test_a_paused_partition_reports_no_removal() -> None:
    reader = Reader()
    for now in (0.0, 20.0, 29.0):
        assert reader.note(None, first=400, now=now, is_wanted=False) == 10
    assert reader.note(15, first=400, now=30.0, ahead=3) == 10, "records that were read and not begun are not passed"
    assert reader.told == []


def test_an_unknown_position_passes_nothing() -> None:
    reader = Reader(committed=None)
    assert reader.note(None, first=7, now=0.0) is None
    assert reader.note(None, first=7, now=99.0) is None
    assert reader.told == []
    reader.readings.forget(P0)
    assert reader.readings.of(P0, 99.0) == (None, 0.0)


@in_virtual_time
async def test_trailing_offsets_are_committed() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(*records(range(3)))
        worker.event_consumer.note_positions({P0: ReadPosition(5, 0), P0._replace(number=99): ReadPosition(1, 0)})
        await worker.at(20)
        assert worker.commit() == {P0: 5}
        [view] = worker.event_consumer.partition_stats()
        assert (view.position, view.still_secs) == (5, 20.0)
        worker.feed(record(5))
        worker.event_consumer.note_positions({P0: ReadPosition(6, 0)})
        [view] = worker.event_consumer.partition_stats()
        assert (view.position, view.still_secs) == (6, 0.0)


class Orders:
    """Operators' orders, by position; and what was asked for."""

    def __init__(self) -> None:
        self.known: dict[int, Skip | OperatorError] = {}
        self.asked: list[int] = []

    async def find(self, partition: Partition, position: int) -> Skip | None:
        assert partition == P0
        self.asked.append(position)
        found = self.known.get(position)
        if isinstance(found, OperatorError):
            raise found
        return found


class Watched:
    """A worker with one partition, and what is said of it."""

    def __init__(self) -> None:
        self.view = PartitionStats(P0, 0, 0, None, 10, 0.0, 10, 0.0)
        self.end: int | None = 10
        self.told: list[Signal] = []
        self.orders = Orders()
        self.gone_on: list[tuple[Partition, int]] = []
        self.unread = UnreadPartitions(
            lambda: {"events": [self.view]},
            self.lag,
            lambda partition, offset: self.gone_on.append((partition, offset)),
            self.orders.find,
            self.told.append,
        )

    def lag(self, _partition: object, start: int | None) -> int | None:
        return None if self.end is None else self.end - (start or 0)

    def at(self, now: float) -> float:
        self.unread.check(now)
        return self.unread.secs[P0]


def test_an_unread_partition_is_reported() -> None:
    watched = Watched()
    watched.view = watched.view._replace(still_secs=3600.0)
    assert watched.at(0) == 0.0
    watched.end = 12
    assert watched.at(5) == 0.0, "its records have come just now"
    assert watched.at(65) == 60.0
    assert watched.told == [PartitionUnread(P0, 10, 60.0)]
    watched.view = watched.view._replace(position=11, still_secs=0.0)
    assert watched.at(70) == 0.0, "it was read"
    watched.view = watched.view._replace(still_secs=5.0)
    assert watched.at(100) == 5.0, "reading was held back meanwhile"
    watched.end = None
    assert watched.at(105) == 0.0, "where it ends is not known"


def test_an_unread_partition_counts_from_its_commit() -> None:
    watched = Watched()
    watched.end = 11
    watched.view = watched.view._replace(position=None, still_secs=100.0)
    assert (watched.at(0), watched.at(30)) == (0.0, 30.0)
    watched.view = watched.view._replace(committed=11)
    assert watched.at(60) == 0.0


@in_virtual_time
async def test_partitions_are_checked_regularly() -> None:
    watched = Watched()
    watched.end = 11
    watched.view = watched.view._replace(still_secs=1_000.0)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(watched.unread.keep())
        await asyncio.sleep(120)
        looking.cancel()
    assert len(watched.told) == 12


@in_virtual_time
async def test_an_order_to_skip_is_carried_out() -> None:
    watched = Watched()
    watched.end = 20
    watched.view = watched.view._replace(still_secs=1_000.0)
    watched.orders.known[10] = OperatorError("Kafka is away")
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watched.unread.keep())
        await asyncio.sleep(12)
        assert watched.orders.asked == [], "it may come by itself"
        await asyncio.sleep(5)
        assert watched.told == [KafkaTrouble("Kafka is away")]
        watched.orders.known[10] = Skip(P0, 10, 15, "too large", at_ms=0)
        await asyncio.sleep(5)
        watching.cancel()
    assert watched.gone_on == [(P0, 15)]
    assert watched.told[-1] == OffsetsSkipped(P0, 10, 15, "too large")


@in_virtual_time
async def test_an_unknown_offset_has_no_order() -> None:
    watched = Watched()
    watched.end = 20
    watched.view = watched.view._replace(position=None, committed=None, still_secs=1_000.0)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watched.unread.keep())
        await asyncio.sleep(30)
        watching.cancel()
    assert watched.orders.asked == []


@in_virtual_time
async def test_a_skipped_batch_is_committed_past() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(*records(range(3)))
        await worker.at(1)
        worker.engine.step_over(P0, 40)
        worker.engine.step_over(P0._replace(number=99), 7)
        assert worker.event_consumer.flow_control().seeks == {P0: 40}
        assert worker.event_consumer.flow_control().seeks == {}
        assert worker.commit() == {P0: 40}
        worker.feed(record(40))
        await worker.at(2)
        assert worker.commit() == {P0: 41}
