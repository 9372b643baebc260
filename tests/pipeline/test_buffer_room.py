"""The room in memory is measured, and deliveries that block the others make room."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord, RecordOwner
from pushrail_stream.core.signals import Backpressure, Signal
from pushrail_stream.pipeline.buffer_room import BufferRoom
from pushrail_stream.pipeline.early_records import EarlyRecords
from tests.support.policy import buffer_limits
from tests.support.records import P0, P1


class Dispatcher:
    """Counts requests to shed load, and keeps the deliveries that were put out."""

    def __init__(self) -> None:
        self.shed = 0
        self.evicted: list[PendingRecord] = []
        self.waiting: list[PendingRecord] = []
        self.shed_of: list[Collection[RecordOwner]] = []

    def shed_late(self, owners: Collection[RecordOwner]) -> None:
        self.shed_of.append(owners)

    def shed_load(self) -> None:
        self.shed += 1

    def evict(self, is_wanted: Callable[[Any], bool]) -> None:
        self.evicted += [one for one in self.waiting if is_wanted(SimpleNamespace(pending=one))]


class Measured:
    """A room, and one tracker with open records."""

    def __init__(self, **limits: Any) -> None:
        self.dispatcher = Dispatcher()
        self.told: list[Signal] = []
        dispatcher: Any = self.dispatcher
        early = EarlyRecords(lambda _early: None)
        self.room = BufferRoom(buffer_limits(**limits), dispatcher, early, self.told.append)
        self.tracker = OffsetTracker()
        self.next = 0

    def open(self, count: int) -> list[PendingRecord]:
        begun = [self.tracker.track(self.next + number, 1, 1) for number in range(count)]
        self.next += count
        return [pending for pending in begun if pending is not None]

    def measure(self, now: float = 0.0, *replaced: OffsetTracker) -> None:
        self.room.measure({P0: self.tracker}, replaced, now)


def test_a_full_worker_takes_records_again_when_there_is_some_room() -> None:
    measured = Measured(max_events=10, resume_share=0.5)
    records = measured.open(10)
    measured.measure()
    assert measured.room.is_full
    for count, is_full in ((4, True), (6, False)):
        for pending in records[:count]:
            if pending.is_open:
                pending.settle()
        measured.measure()
        assert measured.room.is_full == is_full
    assert measured.told == [Backpressure(True, 10, 10), Backpressure(False, 4, 4)]


def test_the_records_of_an_earlier_tracker_count() -> None:
    measured, earlier = Measured(max_events=10), Measured()
    earlier.open(6)
    measured.open(4)
    measured.measure(0.0, earlier.tracker)
    assert measured.room.is_full


def test_load_is_shed_twice_a_second() -> None:
    measured = Measured(max_events=10)
    measured.open(6)
    for now, shed in ((0.0, 1), (0.4, 1), (0.5, 2)):
        measured.measure(now)
        assert measured.dispatcher.shed == shed


@pytest.mark.parametrize("open_records", [1, 5])
def test_a_few_open_records_before_settled_ones_leave_a_full_partition(open_records: int) -> None:
    measured = Measured(partition_max_offsets=20)
    records = measured.dispatcher.waiting = measured.open(20)
    for pending in records[open_records:]:
        pending.settle()
    measured.measure()
    assert measured.room.full_partitions == {P0}
    assert measured.dispatcher.evicted == (records[:1] if open_records == 1 else [])
    records[0].settle()
    measured.measure(1.0)
    assert measured.room.full_partitions == ({P0} if open_records == 5 else set())


def test_only_what_waits_in_a_full_partition_leaves_unless_the_worker_is_full() -> None:
    measured, other = Measured(max_events=10, partition_max_offsets=3), OffsetTracker()
    trackers = {P0: measured.tracker, P1: other}
    measured.open(3)
    measured.room.measure(trackers, (), 0.0)
    other.track(0, 1, 1)
    other.track(1, 1, 1)
    measured.room.measure(trackers, (), 1.0)
    assert measured.dispatcher.shed_of == [{measured.tracker}, {measured.tracker, other}]
