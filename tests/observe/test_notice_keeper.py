"""A worker looks after its backlogs and dead letters, and tells when notices are lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import KafkaTrouble, NoticesLost
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.notice_keeper import LOOK_SECS, NoticeKeeper
from pushrail_stream.observe.notices import GROWING_SECS, Expiring, Notices
from pushrail_stream.pipeline.stats import BacklogStats, PartitionStats, WorkerStats
from tests.support.fake_ports import Seen
from tests.support.virtual_time import VirtualClock, in_virtual_time


class Room:
    """A keeper, and the state that it sees."""

    def __init__(self, *, partition: int = 0) -> None:
        self.clock = VirtualClock()
        self.seen = Seen()
        self.lost = 0
        self.backlog = 0
        self.asked = 0
        self.is_broken = False
        self.written: list[Any] = []
        self.partitions = [PartitionStats(Partition("events", partition), 0, 0, None, None, 0.0)]
        self.notices = Notices(self._append, "group", "w", self.clock.now_ms, lambda _id: None)

    def _append(self, key: bytes, *values: bytes) -> None:
        assert key
        self.written += [json.loads(value)["type"] for value in values]

    def stats(self, max_destinations: int = 0) -> WorkerStats:
        del max_destinations
        self.backlog += 10
        backlogs = [BacklogStats("dst", 1, 0, 0, self.backlog, 0, 0.0, None)]
        return WorkerStats(backlogs=backlogs, notices_lost=self.lost, partitions={"events": self.partitions})

    async def find_expiring(self) -> Expiring | None:
        self.asked += 1
        if self.is_broken:
            raise OperatorError("no broker")
        return Expiring("dlq", 3, 0)

    async def during(self, story: Callable[[], Awaitable[None]]) -> None:
        keeper = NoticeKeeper(self.notices, self.stats, "events", self.find_expiring, self.seen)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(keeper.keep())
            await story()
            task.cancel()


@in_virtual_time
async def test_backlogs_and_dead_letters_are_looked_at() -> None:
    room = Room()

    async def story() -> None:
        await asyncio.sleep(GROWING_SECS + 2.5 * LOOK_SECS)
        assert room.written == ["pushrail.deadletters.expiring", "pushrail.backlog.growing"]
        assert room.asked == 1
        await asyncio.sleep(3_600)
        assert room.asked == 2

    await room.during(story)


@in_virtual_time
async def test_one_worker_of_the_group_looks_at_the_dead_letters() -> None:
    room = Room(partition=1)

    async def story() -> None:
        await asyncio.sleep(7_200)
        assert room.asked == 0

    await room.during(story)


@in_virtual_time
async def test_lost_notices_are_told_when_their_number_grows() -> None:
    room = Room()

    async def story() -> None:
        await asyncio.sleep(10 * LOOK_SECS)
        assert NoticesLost not in map(type, room.seen)
        room.lost = 2
        await asyncio.sleep(10 * LOOK_SECS)
        room.lost = 5
        await asyncio.sleep(10 * LOOK_SECS)
        assert [signal for signal in room.seen if isinstance(signal, NoticesLost)] == [NoticesLost(2), NoticesLost(5)]

    await room.during(story)


@in_virtual_time
async def test_a_broker_that_does_not_tell_is_asked_again_in_an_hour() -> None:
    room = Room()
    room.is_broken = True

    async def story() -> None:
        await asyncio.sleep(3_000)
        [trouble] = [signal for signal in room.seen if isinstance(signal, KafkaTrouble)]
        assert trouble.problem == "no broker. The end of dead letters is looked for again in an hour"
        await asyncio.sleep(1_000)
        assert room.asked == 2

    await room.during(story)
