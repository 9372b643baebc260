"""Membership of the group on a real Kafka, by either protocol: hand-over, static members, a name that is taken."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pushrail_stream.app import Worker, run_worker
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionsAssigned, PartitionsRevoked, Signal
from pushrail_stream.observe.logging import open_log
from pushrail_stream.ports import Failed
from pushrail_stream.registry import FileDirectory
from pushrail_stream.sandbox.bus import FaultBus
from pushrail_stream.settings import Settings
from tests.e2e.world import (
    PARTITIONS,
    Watched,
    committed,
    destination,
    ends,
    event,
    make_topics,
    open_bus,
    produce,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka
DESTINATIONS = [destination(number) for number in range(6)]
EVERYTHING = 2 * PARTITIONS
"""Partitions of the events topic and of the one retry topic."""
both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def world(bootstrap: str, bus: FaultBus, protocol: str) -> Settings:
    settings = member(settings_for(bootstrap, bus.url), group_protocol=protocol)
    make_topics(settings)
    open_bus(bus, range(6))
    return settings


def member(settings: Settings, **kafka: str) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=kafka)})


def records(first: int, last: int) -> list[tuple[str, bytes | None]]:
    return [(f"acct_{number % 6}", event(number % 6, number)) for number in range(first, last)]


def owned(watched: Watched) -> set[Partition]:
    """What a worker has been given and not given back."""
    mine: set[Partition] = set()
    for signal in watched.signals:
        if isinstance(signal, PartitionsAssigned):
            mine |= {partition for partition, _ in signal.partitions}
        elif isinstance(signal, PartitionsRevoked):
            mine -= set(signal.partitions)
    return mine


def share(one: Watched, other: Watched) -> bool:
    """Whether each has its part of the events and of the retries, and together they have all."""
    mine, theirs = owned(one), owned(other)
    topics = {partition.topic for partition in mine}
    both_have_both = len(topics) == 2 and topics == {partition.topic for partition in theirs}
    return both_have_both and not mine & theirs and len(mine | theirs) == EVERYTHING


async def until_shared(one: Watched, other: Watched) -> None:
    """Either's signal may be the last one, so a look at both is taken every tenth of a second as well."""
    async with asyncio.timeout(60):
        while not share(one, other):
            with contextlib.suppress(TimeoutError):
                await one.until(lambda: share(one, other), 0.1)


@both_protocols
async def test_a_static_member_comes_back_to_its_partitions_and_nobody_else_notices(
    real_kafka: str, protocol: str
) -> None:
    async with FaultBus.serve() as bus:
        settings = world(real_kafka, bus, protocol)
        stays, restarts = (member(settings, group_instance_id=name) for name in ("pod-1", "pod-2"))
        async with running(stays, DESTINATIONS) as other:
            async with running(restarts, DESTINATIONS) as before:
                await until_shared(before, other)
                part, told = owned(before), len(other.signals)
            produced = records(0, 120)
            await produce(settings, produced)
            async with running(restarts, DESTINATIONS) as after, asyncio.timeout(60):
                await after.until(lambda: owned(after) == part)
                await bus.wait_for_arrivals(len(produced))
                # A rebalance's last round may still come in late, with nothing in it.
                moved = [s for s in other.signals[told:] if isinstance(s, PartitionsAssigned | PartitionsRevoked)]
        assert not any(signal.partitions for signal in moved)
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted(value or b"" for _, value in produced)
        assert committed(settings) == ends(settings, settings.topics.events)


async def test_the_new_protocol_hands_partitions_over_and_loses_nothing(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = world(real_kafka, bus, "consumer")
        async with running(settings, DESTINATIONS) as stays:
            await produce(settings, records(0, 300))
            async with running(settings, DESTINATIONS) as passes:
                await produce(settings, records(300, 600))  # while the newcomer gets its part
                await until_shared(stays, passes)
            await produce(settings, records(600, 900))  # while it comes back
            await stays.until(lambda: len(owned(stays)) == EVERYTHING)
            async with asyncio.timeout(60):
                await bus.wait_for_arrivals(900)
        assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in records(0, 900)}
        assert committed(settings) == ends(settings, settings.topics.events)


@both_protocols
async def test_of_two_workers_with_one_name_one_ends_and_says_so(real_kafka: str, protocol: str) -> None:
    async with FaultBus.serve() as bus, asyncio.timeout(60):
        settings = member(world(real_kafka, bus, protocol), group_instance_id="pod-1")
        directory = FileDirectory((f"{one.id}.json", one) for one in DESTINATIONS)
        workers: list[Worker] = []
        joined = asyncio.Event()

        def observe(signal: Signal) -> None:
            if isinstance(signal, PartitionsAssigned) and signal.partitions:
                joined.set()

        async def work() -> str:
            """Why the worker ended; nothing when it was told to."""
            try:
                await run_worker(settings, directory, open_log("error"), observers=[observe], started=workers.append)
            except Failed as failed:
                return str(failed)
            return ""

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(work())
            await joined.wait()
            second = tasks.create_task(work())
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                worker.stop()
        [reason] = {first.result(), second.result()} - {""}
        assert "instance" in reason.lower()
