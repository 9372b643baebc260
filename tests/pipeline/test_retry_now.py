"""The retries of a destination that is back begin at once; others' keep their time, and nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest

from pushrail_stream.core.outcome import BusStatus
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.errors import OperatorError
from pushrail_stream.pipeline.retry_now import RetryRun
from tests.support.builders import destination, modified
from tests.support.pipeline_world import Worker, World
from tests.support.policy import TIERS
from tests.support.records import always, failed, retry_record, take_all, without
from tests.support.virtual_time import in_virtual_time

SLOW = Partition(TIERS[-1].topic, 0)
OTHER_PARTITION = Partition(TIERS[-1].topic, 1)
DOWN = failed("InternalFailure", 503)
DENIED = failed("AccessDeniedException", 400)


def waiting(offset: int, customer: str = "acme", partition: Partition = SLOW) -> Record:
    return retry_record(offset, customer, due=1_000 + offset, event=offset, partition=partition)


class Backlog:
    """Copies on a retry topic. It is read from the beginning of the story's records to their end."""

    def __init__(self, *records: Record) -> None:
        self.records = records

    async def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Record]]:
        assert all(record.topic == topic for record in self.records)
        yield [record for record in self.records if record.offset >= starts[record.partition]]

    async def retry_now(self, worker: Worker, name: str = "dst_acme") -> RetryRun:
        run = RetryRun(name)
        await worker.engine.begin_retries(run, self.read)
        worker.retry_consumer.flow_control()
        return run


@in_virtual_time
async def test_others_keep_their_time() -> None:
    world = World(destination(), destination("other"))
    backlog = Backlog(*(waiting(n, "acme" if n % 2 else "other") for n in range(40)))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        run = await backlog.retry_now(worker)
        assert (run.begun, run.kept, run.problem) == (20, 0, "")
        again = await backlog.retry_now(worker)
        assert (again.begun, again.problem) == (0, "")
        await worker.at(10)
        assert world.bus.arrived == {"dst_acme": [str(n) for n in range(1, 40, 2)]}
        assert worker.commit() == {SLOW: 0}, "the first copy still waits"
        assert worker.ledger.in_flight == 0
        await worker.at(1_100)
        worker.retry_consumer.flow_control()
        await worker.at(1_101)
        assert world.bus.arrived["dst_other"] == [str(n) for n in range(0, 40, 2)]
        assert len(world.bus.arrived["dst_acme"]) == 20, "nothing is sent twice"
        assert worker.commit() == {SLOW: 40}


@in_virtual_time
async def test_a_successor_repeats_nothing() -> None:
    world = World(destination(), destination("other"))
    backlog = Backlog(*(waiting(n, "acme" if n % 3 else "other") for n in range(30)))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        await backlog.retry_now(worker)
        await worker.at(10)
        await worker.give_back(SLOW)
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        assert (await backlog.retry_now(worker)).begun == 0
        await worker.at(1_200)
        worker.retry_consumer.flow_control()
        await worker.at(1_201)
        assert len(world.bus.arrived["dst_acme"]) == 20
        assert len(world.bus.arrived["dst_other"]) == 10
        assert worker.commit() == {SLOW: 30}


@in_virtual_time
async def test_a_backlog_begins_as_fast_as_it_is_taken() -> None:
    world = World(destination(), latency=0.5)
    backlog = Backlog(*(waiting(n) for n in range(490)))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        task = asyncio.get_running_loop().create_task(backlog.retry_now(worker))
        while not task.done():
            await asyncio.sleep(0.01)
            assert all(len(lane) <= 200 for lane in worker.dispatcher.lanes.values())
        assert task.result().begun == 490
        await worker.at(100)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(490))
        assert worker.commit() == {SLOW: 490}
        assert world.topics.moved() == [], "none had to wait again"


@in_virtual_time
async def test_a_bus_that_is_still_down_gets_one() -> None:
    world = World(destination(), answer=always(DOWN))
    backlog = Backlog(*(waiting(n) for n in range(20)))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        run = await backlog.retry_now(worker)
        await worker.at(30)
        assert run.begun == 1
        assert "no delivery" in run.problem
        assert world.bus.arrived["dst_acme"] == []
        worker.retry_consumer.flow_control()
        assert worker.ledger.begun == 1, "the others keep their time"


@in_virtual_time
async def test_a_suspended_destination_is_probed_at_once() -> None:
    world = World(destination(), answer=always(DENIED))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*(retry_record(n, event=n, partition=SLOW) for n in range(60)))
        await worker.at(5)
        assert worker.engine.stats().dispatcher.suspended == 1
        dead = len(world.topics.dead())
        backlog = Backlog(*(waiting(n) for n in range(100, 120)))
        worker.feed_retries(*backlog.records)
        run = await backlog.retry_now(worker)
        assert run.begun == 1
        assert "no delivery" in run.problem
        assert len(world.topics.dead()) == dead + 1, "the probe alone"
        world.bus.answer(take_all)
        run = await backlog.retry_now(worker)
        assert run.begun == 19
        await worker.at(60)
        assert len(world.bus.arrived["dst_acme"]) == 19


@pytest.mark.parametrize(("bus_status", "begun"), [("there", 20), ("gone", 0), ("unknown", 0)])
@in_virtual_time
async def test_a_missing_bus_is_checked_first(bus_status: BusStatus, begun: int) -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(retry_record(0, partition=SLOW))
        await worker.at(1)
        backlog = Backlog(*(waiting(n) for n in range(100, 120)))
        worker.feed_retries(*backlog.records)
        world.bus.bus_status["dst_acme"] = bus_status
        world.bus.check_secs = 1.0
        run = await backlog.retry_now(worker)
        await worker.at(10)
        assert run.begun == begun
        assert ("its bus does not exist" in run.problem) == (begun == 0)
        assert len(world.bus.arrived["dst_acme"]) == begun
        assert len(world.topics.dead()) == 1, "no copy is given up for it"


@in_virtual_time
async def test_retries_in_memory_do_not_wait() -> None:
    world = World(destination(), answer=always(DOWN))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(retry_record(0, partition=SLOW))
        await worker.at(2)
        world.bus.answer(take_all)
        [lane] = worker.dispatcher.lanes.values()
        assert lane.send_at() > 1_002.05
        await Backlog().retry_now(worker)
        await worker.at(2.05)
        assert world.bus.arrived["dst_acme"] == ["0"]


@in_virtual_time
async def test_a_disabled_destination_ends_it() -> None:
    world = World(destination())
    backlog = Backlog(waiting(0), waiting(1))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        world.directory.put(modified(destination(), enabled=False))
        run = await backlog.retry_now(worker)
        assert (run.begun, worker.ledger.begun) == (0, 0), "it is not skipped either"
        assert "disabled, paused or deleted" in run.problem


@in_virtual_time
async def test_foreign_records_are_left_alone() -> None:
    world = World(destination())
    own = waiting(3)
    backlog = Backlog(
        without(waiting(0), "pushrail-destination"), without(waiting(1), "pushrail-origin"),
        waiting(2)._replace(value=b"{"), own, waiting(0, partition=OTHER_PARTITION),
    )  # fmt: skip
    async with world.worker(owns=[SLOW, OTHER_PARTITION]) as worker:
        worker.feed_retries(*backlog.records[:4])
        starts = worker.retry_consumer.not_begun()
        assert starts == {SLOW: 0}, "nothing was read of the other partition"

        async def read(_topic: str, _starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Record]]:
            yield [*backlog.records[:4], own._replace(partition=7)]

        run = RetryRun("dst_acme")
        await worker.engine.begin_retries(run, read)
        assert (run.begun, run.kept, run.problem) == (1, 0, "")
        assert world.topics.dead() == []
        assert worker.retry_consumer.tracker_of(Partition(SLOW.topic, 7)) is None


@in_virtual_time
async def test_copies_out_of_reach_keep_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.core.offsets.MAX_AHEAD", 10)
    world = World(destination(), destination("other"))
    backlog = Backlog(waiting(0, "other"), *(waiting(n) for n in range(1, 30)))
    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(*backlog.records)
        run = await backlog.retry_now(worker)
        assert (run.begun, run.kept, run.problem) == (9, 20, "")
        assert worker.commit() == {SLOW: 0}
        alone = Backlog(*(waiting(n, partition=SLOW) for n in range(1, 30)))
        await worker.at(1_001)
        task = asyncio.get_running_loop().create_task(alone.retry_now(worker))
        while not task.done():
            worker.retry_consumer.flow_control()  # the consumer asks several times a second
            await asyncio.sleep(0.1)
        assert task.result().kept == 0, "the partition moves on as its first copies are delivered"
        await worker.at(1_100)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(1, 30))


@in_virtual_time
async def test_an_unreadable_topic_is_told() -> None:
    world = World(destination())

    async def read(_topic: str, _starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Record]]:
        raise OperatorError("it cannot be read")
        yield []

    async with world.worker(owns=[SLOW]) as worker:
        worker.feed_retries(waiting(0))
        run = RetryRun("dst_acme")
        await worker.engine.begin_retries(run, read)
        assert run.problem == "it cannot be read"
