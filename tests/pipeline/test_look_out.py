"""A bus that is gone takes everything and keeps nothing: it is found out, and its events become dead letters."""

from __future__ import annotations

import dataclasses
from collections import Counter

from pushrail_stream.core.signals import BusBack, BusGone
from tests.pipeline.records import P0, destination, record, records
from tests.pipeline.world import Worker, World
from tests.virtual_time import in_virtual_time


def looks(world: World, name: str = "dst_acme") -> list[float]:
    return [round(at, 2) for at, looked_at in world.bus.looks if looked_at == name]


async def busy(worker: Worker, until: float, first: int, every: float = 10.0) -> int:
    """One event now and then; the next free offset."""
    number, at = first, every * (1 + first)
    while at < until:
        await worker.at(at)
        worker.feed(record(number))
        number, at = number + 1, at + every
    await worker.at(until)
    return number


@in_virtual_time
async def test_a_bus_that_is_gone_gets_no_more_calls_and_its_events_are_dead_letters() -> None:
    world = World(destination(), destination("other"))
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        assert len(worker.told(BusGone)) == 1
        worker.feed(*records(range(1, 21)), record(21, "other"))
        await worker.at(2)
        assert not world.bus.arrived["dst_acme"], "it was asked about before the first batch had waited for company"
        assert world.bus.arrived["dst_other"] == ["21"]
        assert Counter(reason for _, reason in world.topics.dead()) == {"blocked": 21}
        assert {written.said["pushrail-error-code"] for written in world.topics.written} == {"EventBusNotFound"}
        assert {written.said["pushrail-attempts"] for written in world.topics.written} == {"0"}
        assert worker.commit() == {P0: 22}


@in_virtual_time
async def test_a_bus_that_comes_back_is_delivered_to_again() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(200)
        assert looks(world) == [0.05, 30.1, 90.15], "at growing intervals, whether there are events or not"
        world.bus.presence["dst_acme"] = "there"
        await worker.at(220)
        [back] = worker.told(BusBack)
        assert isinstance(back, BusBack)
        assert round(back.gone_secs) == 210
        worker.feed(record(1))
        await worker.at(221)
        assert world.bus.arrived["dst_acme"] == ["1"]


@in_virtual_time
async def test_an_active_destination_is_asked_about_every_ten_minutes_and_an_idle_one_never() -> None:
    world = World(destination())
    async with world.worker() as worker:
        following = await busy(worker, 1500, 0)
        assert len(looks(world)) == 3
        assert [round(at) for at in looks(world)] == [10, 610, 1220]
        await worker.at(5000)
        assert len(looks(world)) == 3
        worker.feed(record(following))
        await worker.at(5001)
        assert len(looks(world)) == 4


@in_virtual_time
async def test_who_may_not_ask_is_delivered_to_and_a_gone_bus_stays_gone_until_somebody_says_otherwise() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "unknown"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(601)
        world.bus.presence["dst_acme"] = "gone"
        worker.feed(record(1))
        await worker.at(602)
        assert len(worker.told(BusGone)) == 1
        world.bus.presence["dst_acme"] = "unknown"
        await worker.at(700)
        worker.feed(record(2))
        await worker.at(701)
        assert not worker.told(BusBack)
        assert world.bus.arrived["dst_acme"] == ["0"]
        assert world.topics.dead() == [("1", "blocked"), ("2", "blocked")]


@in_virtual_time
async def test_one_accounts_buses_are_asked_about_one_a_second_and_others_meanwhile() -> None:
    elsewhere = "arn:aws:events:us-east-1:999999999999:event-bus/x"
    same = [destination(f"s{number}") for number in range(5)]
    world = World(*same, dataclasses.replace(destination("far"), bus_arn=elsewhere))
    async with world.worker() as worker:
        worker.feed(*(record(number, f"s{number}") for number in range(5)), record(5, "far"))
        await worker.at(10)
        times = sorted(round(at) for at, name in world.bus.looks if name != "dst_far")
        assert times == [0, 1, 2, 3, 4]
        assert looks(world, "dst_far")[0] < 1


@in_virtual_time
async def test_a_destination_that_is_deleted_is_asked_about_no_more() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        assert worker.deliver.census().gone == 1
        world.directory.remove("dst_acme")
        await worker.at(2000)
        assert worker.deliver.census().gone == 0
        assert looks(world) == [0.05]
        assert not worker.look_out.is_gone("dst_acme")
        assert len(worker.told(BusGone)) == 1
