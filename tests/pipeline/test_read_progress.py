"""Positions: removed records, markers, and batches that cannot be read."""

from __future__ import annotations

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.signals import RecordsTrimmed, Signal
from pushrail_stream.pipeline.read_progress import ReadPosition, ReadProgress
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.records import P0, record, records
from tests.support.virtual_time import in_virtual_time


class Reader:
    """A partition that is read from offset 10 on, and the signals about it."""

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
        self,
        position: int | None,
        first: int | None = 0,
        now: float = 0.0,
        *,
        is_wanted: bool = True,
        ahead: int = 0,
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
