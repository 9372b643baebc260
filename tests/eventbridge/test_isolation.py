"""A bus, or an STS, that accepts calls and never answers delays no other customer.

The hanging calls stay open for as long as a test lasts; that the others end meanwhile is the proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered, CallReply
from pushrail_stream.sandbox.bus.faults import Hang, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import BUS, batch
from tests.support.builders import destination

SILENT, ROLE = "AKIASILENT0000000000", "arn:aws:iam::123456789012:role/writer"


@asynccontextmanager
async def world() -> AsyncIterator[tuple[EventBridge, FaultBus]]:
    async with FaultBus.serve() as server:
        server.add_bus(BUS)
        for key in (SILENT, *(f"AKIACUSTOMER{number:08}" for number in range(50))):
            server.add_key(key, "secret")
        options = EventBridgeSettings(endpoint_url=server.url, connect_timeout_secs=100, read_timeout_secs=100)
        async with EventBridge.open(options, StsSettings(endpoint_url=server.url)) as us:
            yield us, server


@asynccontextmanager
async def hanging(
    us: EventBridge, batches: list[Batch], are_there: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Calls that are in flight when the block begins and still are when it ends."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(us.call(one)) for one in batches]
        await are_there()
        yield
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()


async def deliver(us: EventBridge, batches: list[Batch]) -> list[CallReply]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(us.call(one)) for one in batches]
    return [task.result() for task in running]


def to_silent(name: str) -> Batch:
    return batch(destination(auth=AccessKey(SILENT, Secret("secret")), id=name))


def to_fifty_others() -> list[Batch]:
    keys = [AccessKey(f"AKIACUSTOMER{number:08}", Secret("secret")) for number in range(50)]
    return [batch(destination(auth=key, id=f"dst_{number}")) for number, key in enumerate(keys)]


async def test_a_silent_bus_delays_no_other() -> None:
    async with world() as (us, server):
        server.set_plan([Rule(Hang(), Match(access_key=SILENT))])
        async with hanging(us, [to_silent("dst_silent")] * 8, lambda: server.wait_for_calls(8)):
            assert all(isinstance(reply, Answered) for reply in await deliver(us, to_fifty_others()))


@pytest.mark.alone
async def test_many_silent_buses_delay_no_other() -> None:
    async with world() as (us, server):
        server.set_plan([Rule(Hang(), Match(access_key=SILENT))])
        silent = [to_silent(f"dst_silent_{number}") for number in range(300)] * 8
        async with hanging(us, silent, lambda: server.wait_for_calls(len(silent))):
            assert all(isinstance(reply, Answered) for reply in await deliver(us, to_fifty_others()))


async def test_hanging_sign_ins_delay_no_other(
    base_credentials: tuple[str, str],
) -> None:
    async with world() as (us, server):
        server.add_key(*base_credentials)
        server.add_role(ROLE)
        server.set_plan([Rule(Hang(), Match(operation="AssumeRole", role=f"{ROLE}-silent-*"))])
        roles = [AssumeRole(f"{ROLE}-silent-{n}", "ext") for n in range(100)]
        silent = [batch(destination(auth=role, id=f"dst_silent_{n}")) for n, role in enumerate(roles)]

        async def all_ask() -> None:
            while len(server.assumed) < len(silent):  # noqa: ASYNC110 - the server has no event to wait for
                await asyncio.sleep(0.01)

        async with hanging(us, silent, all_ask):
            assert isinstance(await us.call(batch(destination(auth=AssumeRole(ROLE, "ext")))), Answered)
