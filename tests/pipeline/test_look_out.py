"""A bus that is gone takes everything and keeps nothing: it is found out, and its events become dead letters."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pushrail_stream.core.destination import AssumeRole, Destination
from pushrail_stream.core.outcome import Presence
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
async def test_who_may_not_ask_is_delivered_to() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "denied"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(601)
        worker.feed(record(1))
        await worker.at(602)
        assert world.bus.arrived["dst_acme"] == ["0", "1"]
        assert not worker.told(BusGone)
        assert not worker.told(BusBack)


@in_virtual_time
async def test_a_bus_that_was_gone_and_may_not_be_asked_about_any_more_is_delivered_to() -> None:
    """It was made anew, with a role that may only put: nobody would ever say that it is back."""
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        world.bus.presence["dst_acme"] = "denied"
        await worker.at(40)
        worker.feed(record(1))
        await worker.at(41)
        assert len(worker.told(BusBack)) == 1
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.deliver.census().gone == 0


@in_virtual_time
async def test_a_bus_that_was_gone_is_not_taken_for_back_because_nobody_answers() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        world.bus.presence["dst_acme"] = "unknown"
        await worker.at(80)
        worker.feed(record(1))
        await worker.at(81)
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]
        assert looks(world) == [0.05, 30.1, 60.15], "and it is asked again no later for it"
        world.bus.presence["dst_acme"] = "there"
        await worker.at(100)
        assert len(worker.told(BusBack)) == 1


def moved(name: str) -> Destination:
    """The document, after its customer made another bus."""
    return dataclasses.replace(destination(), bus_arn=f"arn:aws:events:us-east-1:123456789012:event-bus/{name}")


@in_virtual_time
async def test_a_document_that_names_a_bus_that_does_not_exist_is_found_out_at_once() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(100)
        world.directory.put(moved("misspelt"))
        world.bus.presence["dst_acme"] = "gone"
        worker.feed(record(1))
        await worker.at(101)
        worker.feed(record(2))
        await worker.at(102)
        assert looks(world) == [0.05, 100.05]
        assert world.topics.dead() == [("1", "blocked"), ("2", "blocked")]


@in_virtual_time
async def test_a_document_that_changes_does_not_wait_for_all_those_that_have_just_become_active() -> None:
    many = [
        dataclasses.replace(destination(f"s{n}"), bus_arn=f"arn:aws:events:us-east-1:{n:012}:event-bus/x")
        for n in range(400)
    ]
    world = World(destination(), *many)
    async with world.worker() as worker:
        worker.feed(record(0), *(record(1 + number, f"s{number}") for number in range(400)))
        await worker.at(5)
        world.directory.put(moved("misspelt"))
        world.bus.presence["dst_acme"] = "gone"
        worker.feed(record(401))
        await worker.at(6)
        assert worker.look_out.is_gone("dst_acme")
        await worker.at(30)
        assert len(world.bus.looks) == 402, "and the others are asked about as before"


@in_virtual_time
async def test_a_document_that_names_another_bus_than_the_one_that_is_gone_is_delivered_to_at_once() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(100)
        world.directory.put(moved("made-anew"))
        world.bus.presence["dst_acme"] = "there"
        worker.feed(record(1))
        await worker.at(101)
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.deliver.census().gone == 0
        await worker.at(2000)
        assert looks(world)[-1] == 100.05, "nor is the old one asked about any more"


@in_virtual_time
async def test_other_credentials_for_a_bus_that_is_gone_are_tried_at_once_and_nothing_is_sent_before_the_answer() -> (
    None
):
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(100)
        changed = AssumeRole("arn:aws:iam::123456789012:role/Another", "ext")
        world.directory.put(dataclasses.replace(destination(), auth=changed))
        worker.feed(record(1))
        await worker.at(101)
        assert looks(world)[-1] == 100.05
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]
        world.directory.put(dataclasses.replace(destination(), auth=AssumeRole(changed.role_arn, "ext-2")))
        world.bus.presence["dst_acme"] = "there"
        worker.feed(record(2))
        await worker.at(102)
        assert world.topics.dead()[-1] == ("2", "blocked")
        worker.feed(record(3))
        await worker.at(103)
        assert world.bus.arrived["dst_acme"] == ["3"]


@in_virtual_time
async def test_an_edit_that_leaves_bus_and_credentials_as_they_are_asks_nothing() -> None:
    world = World(destination())
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(100)
        world.directory.put(dataclasses.replace(destination(), event_types=("order.*",)))
        worker.feed(record(1))
        await worker.at(101)
        assert len(looks(world)) == 1


@in_virtual_time
@pytest.mark.parametrize(("late", "now"), [("gone", "there"), ("there", "gone")])
async def test_an_answer_about_the_bus_of_the_old_document_says_nothing_of_the_new_one(
    late: Presence, now: Presence
) -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = late
    world.bus.look_secs = 5.0
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        world.directory.put(moved("another"))
        world.bus.presence["dst_acme"], world.bus.look_secs = now, 0.0
        worker.feed(record(1))
        await worker.at(10)
        assert worker.look_out.is_gone("dst_acme") == (now == "gone")
        assert len(worker.told(BusGone)) == (now == "gone")
        assert not worker.told(BusBack)


@in_virtual_time
async def test_a_document_that_changes_while_its_bus_waits_to_be_asked_about_is_asked_about_once() -> None:
    same = [destination(f"s{number}") for number in range(3)]
    world = World(*same)
    async with world.worker() as worker:
        worker.feed(*(record(number, f"s{number}") for number in range(3)))
        await worker.at(0.5)
        world.directory.put(dataclasses.replace(same[2], auth=AssumeRole("arn:aws:iam::123456789012:role/R", "x")))
        await worker.at(60)
        assert len(looks(world, "dst_s2")) == 1
        assert len(world.bus.looks) == 3


@in_virtual_time
async def test_a_destination_that_is_disabled_is_asked_about_no_more_and_at_once_when_it_is_enabled() -> None:
    world = World(destination())
    world.bus.presence["dst_acme"] = "gone"
    async with world.worker() as worker:
        worker.feed(record(0))
        await worker.at(1)
        world.directory.put(dataclasses.replace(destination(), enabled=False))
        await worker.at(2000)
        assert looks(world) == [0.05]
        assert worker.deliver.census().gone == 0
        world.directory.put(destination())
        worker.feed(record(1))
        await worker.at(2001)
        assert looks(world) == [0.05, 2000.05]
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]


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
