"""A destination that falls behind reads from its own place in the log, through stops, kills and rebalances."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pushrail_stream.core.commit import has_cursors
from pushrail_stream.core.signals import CursorOpened
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.sandbox.bus.faults import Hang, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.worker_process import worker as worker_process
from tests.support.worker_process import write_world
from tests.support.workers import committed, ends, outside, produce, running, until

pytestmark = pytest.mark.kafka
CUSTOMERS = 4
DESTINATIONS = [with_access_key(number) for number in range(CUSTOMERS)]
BEHIND = 0
"""The customer whose bus hangs."""
COUNT = 6_000
IN_FLIGHT = 64 * 10
"""Most events in calls to one bus: the calls of a grown window, ten events each."""
both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def records(first: int, last: int) -> list[tuple[str, bytes | None]]:
    """Every second event is of the customer that is behind."""
    customers = [number // 2 % (CUSTOMERS - 1) + 1 if number % 2 else BEHIND for number in range(first, last)]
    return [(f"acct_{c}", event(c, number)) for c, number in zip(customers, range(first, last), strict=True)]


def values(first: int, last: int) -> set[str]:
    return {(value or b"").decode() for _, value in records(first, last)}


def hang(bus: FaultBus) -> None:
    bus.set_plan([Rule(Hang(), Match(operation="PutEvents", bus=bus_arn(BEHIND)))])


def repeats(bus: FaultBus) -> int:
    return len(bus.arrivals) - len({arrival.detail for arrival in bus.arrivals})


async def until_arrived(bus: FaultBus, wanted: set[str]) -> None:
    await until(lambda: wanted <= {arrival.detail for arrival in bus.arrivals})


def commits_with_cursors(settings: Settings) -> int:
    found = committed_by(checked_kafka(settings), settings.kafka.group_id, settings.topics.events)
    return sum(has_cursors(commit) for commit in found.values())


async def until_behind(bus: FaultBus, settings: Settings, first: int, last: int) -> None:
    """Until the neighbours' events have arrived, no lag is left, and cursors of one customer alone are committed.

    A worker that gets little CPU time sends to the neighbours so slowly that they fall behind for a while, too.
    """
    others = {(value or b"").decode() for key, value in records(first, last) if key != f"acct_{BEHIND}"}
    await until_arrived(bus, others)
    await until(lambda: committed(settings) == ends(settings, settings.topics.events))
    await until(lambda: commits_with_cursors(settings) == 1)


async def until_caught_up(bus: FaultBus, settings: Settings, wanted: set[str]) -> None:
    await until_arrived(bus, wanted)
    await until(lambda: commits_with_cursors(settings) == 0)
    await until(lambda: committed(settings) == ends(settings, settings.topics.events))


def copies(settings: Settings) -> int:
    return sum(sum(ends(settings, topic).values()) for topic in (*settings.topics.retry, settings.topics.dlq))


@asynccontextmanager
async def one_behind(kafka: str, protocol: str = "classic") -> AsyncIterator[tuple[FaultBus, Settings]]:
    """A bus that hangs for one of its customers."""
    async with outside(kafka, CUSTOMERS, delivery={"hold_secs": 5}) as (bus, settings):
        endpoint = settings.eventbridge.model_copy(update={"read_timeout_secs": 1.0})
        group = settings.kafka.model_copy(update={"group_protocol": protocol})
        hang(bus)
        yield bus, settings.model_copy(update={"eventbridge": endpoint, "kafka": group})


@both_protocols
async def test_a_bus_that_hangs_costs_a_place_and_no_copies(real_kafka: str, protocol: str) -> None:
    async with one_behind(real_kafka, protocol) as (bus, settings), running(settings, DESTINATIONS) as worker:
        await produce(settings, records(0, COUNT))
        await until_behind(bus, settings, 0, COUNT)
        assert "dst_0" in {s.destination_id for s in worker.signals if isinstance(s, CursorOpened)}
        assert copies(settings) == 0
        bus.set_plan([])
        await until_caught_up(bus, settings, values(0, COUNT))
        assert copies(settings) == 0
        assert worker.worker.ledger.in_flight == 0


@both_protocols
async def test_a_worker_that_stops_leaves_its_cursors(real_kafka: str, protocol: str) -> None:
    async with one_behind(real_kafka, protocol) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        before = len(bus.arrivals)
        bus.set_plan([])
        async with running(settings, DESTINATIONS):
            await until_caught_up(bus, settings, values(0, COUNT))
        assert before < len(bus.arrivals)
        assert repeats(bus) <= IN_FLIGHT


@both_protocols
async def test_a_worker_that_is_killed_leaves_its_cursors(real_kafka: str, protocol: str, tmp_path: Path) -> None:
    async with one_behind(real_kafka, protocol) as (bus, settings):
        path = write_world(tmp_path, settings, CUSTOMERS)
        async with worker_process(path) as process:
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
            process.kill()
            await process.wait()
        await produce(settings, records(COUNT, COUNT + 300))
        async with worker_process(path) as process:
            bus.set_plan([])
            await until_arrived(bus, values(0, COUNT // 2))
            process.kill()  # while it catches up
            await process.wait()
        async with running(settings, DESTINATIONS):
            await until_caught_up(bus, settings, values(0, COUNT + 300))
        assert repeats(bus) <= COUNT, "a second's deliveries, since the last commit, at each kill"


@both_protocols
async def test_cursors_move_with_their_partitions(real_kafka: str, protocol: str) -> None:
    async with one_behind(real_kafka, protocol) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
            async with running(settings, DESTINATIONS):
                await produce(settings, records(COUNT, COUNT + 300))
                await until_behind(bus, settings, COUNT, COUNT + 300)
                bus.set_plan([])
                await produce(settings, records(COUNT + 300, COUNT + 600))
                await until_arrived(bus, values(0, COUNT // 2))
            await until_caught_up(bus, settings, values(0, COUNT + 600))
        assert repeats(bus) <= 2 * IN_FLIGHT
