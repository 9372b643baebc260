"""Our client and a faulty bus of eventbridgev2: an entry that is sent again arrives once, and each fault is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pushrail_stream.core.outcome import BUS_NOT_FOUND, Blocked, Delivered, Outcome, Retryable, Throttled
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import BUS_KEY_DENIED
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Garbage, Match, ResetAfter, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.batches import batch_of, value
from tests.support.builders import destination, v2_bus_arn
from tests.support.eventbridge_world import ASSUME, world

ARN = v2_bus_arn("acme")
TARGET = destination(type="EVENTBRIDGE_V2", bus=ARN, auth=ASSUME)
KEY_DENIED = "KMS_ACCESS_DENIED: the key of the bus cannot be used"


@asynccontextmanager
async def opened(base: tuple[str, str]) -> AsyncIterator[tuple[EventBridge, FaultBus]]:
    async with world(base) as (us, server):
        server.add_bus(ARN)
        yield us, server


async def put(us: EventBridge, *numbers: int) -> tuple[Outcome, ...]:
    reply = await us.put(batch_of(TARGET, [value(number) for number in numbers]), refreshed=False)
    return reply.outcomes(len(numbers))


async def test_what_is_sent_again_arrives_once(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.set_plan([Rule(ResetAfter(), Match(operation="PutEvents"), Times(1))])
        assert all(isinstance(outcome, Retryable) for outcome in await put(us, 1, 2)), "the outcome is unknown"
        first, second, new = await put(us, 1, 2, 3)
        assert [isinstance(one, Delivered) and one.is_repeat for one in (first, second, new)] == [True, True, False]
        assert [arrival.detail.encode() for arrival in server.arrivals] == [value(1), value(2), value(3)]


async def test_an_entry_that_failed_is_taken_the_next_time(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.set_plan([Rule(EntryError("ThrottlingException"), Match(detail_contains=('"key-1"',)), Times(1))])
        failed, taken = await put(us, 1, 2)
        assert (isinstance(failed, Throttled), isinstance(taken, Delivered)) == (True, True)
        again = await put(us, 1, 2)
        assert [isinstance(one, Delivered) and one.is_repeat for one in again] == [False, True]
        server.set_plan([Rule(Garbage("short"), when=Times(1))])
        assert [type(outcome) for outcome in await put(us, 3, 4)] == [Delivered, Retryable]
        assert [type(outcome) for outcome in await put(us, 4)] == [Delivered]


async def test_a_missing_bus_and_a_denied_key_are_told(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.directory.buses.remove(ARN)
        assert {type(one) for one in await put(us, 1, 2)} == {Blocked}
        assert (await put(us, 1))[0].code == BUS_NOT_FOUND  # type: ignore[union-attr]
        server.add_bus(ARN)
        server.set_plan([Rule(CallError(403, "AccessDeniedException", KEY_DENIED), when=Times(1))])
        assert await put(us, 1) == (Blocked(BUS_KEY_DENIED, KEY_DENIED),)
        server.set_plan([Rule(CallError(409, "InvalidStateException", "being created"), when=Times(1))])
        assert await put(us, 1) == (Retryable("InvalidStateException", "being created"),)
        server.set_plan([Rule(EntryError("AccessDeniedException", KEY_DENIED), Match(detail_contains=('"key-1"',)))])
        denied, taken = await put(us, 1, 2)
        assert (denied, type(taken)) == (Blocked(BUS_KEY_DENIED, KEY_DENIED), Delivered)
