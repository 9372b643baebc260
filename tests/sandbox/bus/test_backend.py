"""The replies that faults put in the place of the service's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    Garbage,
    Hang,
    Latency,
    Match,
    ResetAfter,
    ResetBefore,
    Rule,
    Times,
)
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import BUS, client, declare, entry, outcomes, refusal

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.faults import Effect


@pytest.mark.parametrize(
    ("effect", "wanted"),
    [
        (CallError(400, "ThrottlingException", "Rate exceeded"), (400, "ThrottlingException", "Rate exceeded")),
        (CallError(503, "ServiceUnavailable", "later"), (503, "ServiceUnavailable", "later")),
        (CallError(403, body="empty"), (403, "403", "Forbidden")),
        (CallError(429, body="html"), (429, "429", "")),
    ],
)
async def test_a_call_error_takes_no_entry(effect: Effect, wanted: tuple[int, str, str]) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect)])
        async with client("events", bus) as events:
            status, code, message = await refusal(events.put_events(Entries=[entry()]))
        assert (status, code) == wanted[:2]
        if isinstance(effect, CallError) and effect.body == "aws":
            assert message == wanted[2]
        assert bus.arrivals == []
        assert [(call.status, call.entries, call.fault) for call in bus.calls] == [(status, 1, "callError")]


@pytest.mark.parametrize(
    ("effect", "error", "taken", "status"),
    [
        (Hang(), ReadTimeoutError, 0, 0),
        (Latency(30.0), ReadTimeoutError, 1, 200),
        (ResetBefore(), EndpointConnectionError, 0, 0),
        (ResetAfter(), EndpointConnectionError, 1, 0),
    ],
)
async def test_an_unanswered_call(effect: Effect, error: type[Exception], taken: int, status: int) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect, when=Times(1))])
        async with client("events", bus) as events:
            with pytest.raises(error):
                await events.put_events(Entries=[entry()])
            await bus.wait_for_calls(1)
            assert len(bus.arrivals) == taken
            assert (bus.calls[0].status, bus.calls[0].fault) == (status, effect.kind)
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0


async def test_latency_adds_to_other_faults() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan(
            [Rule(Latency(0.01)), Rule(Latency(0.02), name="slow"), Rule(CallError(500, "Broken"), when=Times(1))]
        )
        async with client("events", bus) as events:
            assert await outcomes(events, 2) == ["Broken", ""]
        assert [call.fault for call in bus.calls] == ["latency+slow+callError", "latency+slow"]


@pytest.mark.parametrize("body", ["empty", "html", "object"])
async def test_a_garbage_200_confirms_and_takes_nothing(body: Any) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Garbage(body))])
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=[entry()])
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert "Entries" not in reply
        assert bus.arrivals == []


async def test_a_short_200_leaves_out_the_last_entry() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Garbage("short"))])
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=[entry(), entry()])
        assert [one["EventId"] for one in reply["Entries"]] == [arrival.event_id for arrival in bus.arrivals]
        assert len(bus.arrivals) == 1


async def test_every_operation_follows_the_plan() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events, client("sts", bus) as sts:
            bus.set_plan([Rule(CallError(400, "AccessDeniedException"), Match(operation="DescribeEventBus", bus=BUS))])
            assert (await refusal(events.describe_event_bus(Name=BUS)))[1] == "AccessDeniedException"
            await events.describe_event_bus(Name="default")
            bus.set_plan([Rule(CallError(500, "InternalFailure"), Match(operation="GetCallerIdentity"))])
            assert (await refusal(sts.get_caller_identity()))[:2] == (500, "InternalFailure")
            bus.set_plan([Rule(ResetAfter())])
            with pytest.raises(EndpointConnectionError):
                await events.describe_event_bus(Name=BUS)
            with pytest.raises(EndpointConnectionError):
                await sts.get_caller_identity()
