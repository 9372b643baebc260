"""Partitions from which nothing is read: they are reported, and skipped on an order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import KafkaTrouble, OffsetsSkipped, PartitionUnread, Signal
from pushrail_stream.core.skips import Skip
from pushrail_stream.errors import OperatorError
from pushrail_stream.pipeline.assignment import ReadingPlace
from pushrail_stream.pipeline.stats import PartitionStats
from pushrail_stream.pipeline.unread_partitions import UnreadPartitions
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.records import P0, record, records
from tests.support.virtual_time import in_virtual_time


class Orders:
    """Operators' orders by position, and the questions that were asked."""

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
    """A worker with one partition, and the signals about it."""

    def __init__(self) -> None:
        self.views = [PartitionStats(P0, 0, 0, None, 10, 0.0, 10, 0.0)]
        self.end: int | None = 10
        self.told: list[Signal] = []
        self.orders = Orders()
        self.gone_on: list[tuple[Partition, int]] = []
        self.noted: list[Collection[Partition]] = []
        self.unread = UnreadPartitions(
            lambda: {"events": self.views},
            self.lag,
            lambda partition, offset: self.gone_on.append((partition, offset)),
            self.noted.append,
            self.orders.find,
            self.told.append,
        )

    @property
    def view(self) -> PartitionStats:
        """The partition's statistics, which tests replace."""
        return self.views[0]

    @view.setter
    def view(self, view: PartitionStats) -> None:
        self.views[:] = [view]

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
    assert watched.noted == [set(), set(), {P0}, set()]
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
async def test_a_partition_may_leave_while_it_is_behind() -> None:
    watched = Watched()
    watched.end = 20
    watched.view = watched.view._replace(still_secs=1_000.0)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watched.unread.keep())
        await asyncio.sleep(12)
        view = watched.view
        watched.views.clear()
        await asyncio.sleep(60)
        assert watched.unread.secs == {}
        assert not watched.orders.asked
        assert not watched.told
        watched.view = view
        await asyncio.sleep(12)
        assert watched.orders.asked == [], "its wait begins again"
        watching.cancel()


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
        await worker.feed_until(1, *records(range(3)))
        worker.engine.step_over(P0, 40)
        worker.engine.step_over(P0._replace(number=99), 7)
        flow = worker.event_consumer.flow_control()
        assert flow.seeks == {P0: ReadingPlace(40)}
        worker.event_consumer.sought(flow.seeks)
        assert worker.event_consumer.flow_control().seeks == {}
        assert worker.commit() == {P0: 40}
        await worker.feed_until(2, record(40))
        assert worker.commit() == {P0: 41}


@in_virtual_time
async def test_the_consumer_is_told_of_unread_partitions_until_they_leave() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        worker.engine.note_unread({P0, P0._replace(number=99)})
        assert worker.event_consumer.flow_control().unread == {P0}
        worker.event_consumer.lost({P0})
        assert worker.event_consumer.flow_control().unread == set()


@in_virtual_time
async def test_reading_goes_on_in_the_leader_epoch_of_the_unreadable_batch() -> None:
    """The batch came from a later leader, and the marker of a transaction follows it."""
    world = World(destination())
    async with world.worker() as worker:
        old, new = ([one._replace(leader_epoch=epoch) for one in records(range(45))] for epoch in (1, 2))
        await worker.feed_until(1, *old[:5])
        worker.engine.step_over(P0, 40)
        worker.event_consumer.sought(worker.event_consumer.flow_control().seeks)
        tracker = worker.event_consumer.trackers[P0]
        assert (tracker.epoch, worker.commit()) == (None, {P0: 40})
        assert worker.event_consumer.accept(new[41:]).seeks == {}
        await worker.at(2)
        assert (tracker.epoch, worker.commit()) == (2, {P0: 45})
