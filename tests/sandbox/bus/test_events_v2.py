"""The bus answers eventbridgev2's PutEvents and DescribeEventBus as its service model says, to the stock client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Garbage, Match, ResetAfter, Rule, Times
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.builders import v2_bus_arn
from tests.support.bus_clients import KEY, SECRET, client, refusal
from tests.support.bus_clients import entry_v2 as entry

BUS, OTHER_BUS = v2_bus_arn("acme"), v2_bus_arn("other")
NOW = 1_790_000_000.25


class Clock:
    """It stands still until moved."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(*, key: str = KEY, secret: str = SECRET, clock: Clock | None = None) -> AsyncIterator[Any]:
    """A bus that knows one bus of eventbridgev2, and a stock client."""
    config = BusConfig() if clock is None else BusConfig(clock=clock, check_signatures=False)
    async with FaultBus.serve(config) as bus:
        bus.add_bus(BUS)
        bus.add_key(KEY, SECRET)
        bus.add_key("AKIANARROW", "s", buses=[BUS])
        async with client("eventbridgev2", bus, key=key, secret=secret) as events:
            yield bus, events


async def put(events: Any, *entries: dict[str, Any], bus: str = BUS) -> list[dict[str, str]]:
    reply: list[dict[str, str]] = (await events.put_events(EventBusArn=bus, Entries=list(entries)))["Entries"]
    return reply


async def test_an_entry_arrives_as_it_was_sent() -> None:
    detail = '{ "b":1.0,"a":"\\u00e9", "z": [1e3] }'
    async with opened(clock=Clock()) as (bus, events):
        time = datetime.fromtimestamp(1_780_000_000, UTC)
        first, second = await put(events, entry(Detail=detail, Resources=["acct_1", "key"], Time=time), entry())
        assert {first["SuccessCode"], second["SuccessCode"]} == {"PUBLISHED"}
        assert first["SequenceNumber"] < second["SequenceNumber"]
        one, other = bus.arrivals
        sent = BUS, "pushrail.acme", "order.completed", detail, ("acct_1", "key"), 1_780_000_000, None
        assert one == (*sent, first["EventId"], NOW, KEY, 1, 0)
        assert (other.event_id, other.time, other.resources) == (second["EventId"], None, ())
        assert bus.calls[0][:9] == (1, NOW, 200, "", KEY, (BUS,), 2, 0, None)


async def test_an_entry_that_comes_again_is_kept_once() -> None:
    clock = Clock()
    async with opened(clock=clock) as (bus, events):
        bus.add_bus(OTHER_BUS)
        first, twin, plain = await put(events, entry("k"), entry("k"), entry())
        assert twin == {"EventId": first["EventId"], "SuccessCode": "DEDUPLICATED"}
        assert plain["SuccessCode"] == "PUBLISHED"
        assert (await put(events, entry("k"), bus=OTHER_BUS))[0]["SuccessCode"] == "PUBLISHED", "each bus by itself"
        clock.now += 299
        assert (await put(events, entry("k")))[0]["SuccessCode"] == "DEDUPLICATED"
        clock.now += 1
        assert (await put(events, entry("k")))[0]["SuccessCode"] == "PUBLISHED", "300 s after the first"
        assert (bus.counts()["arrivals"], bus.counts()["deduplicated"]) == (4, 2)


async def test_a_call_without_an_answer_is_kept_once() -> None:
    async with opened() as (bus, events):
        bus.set_plan([Rule(ResetAfter(), when=Times(1))])
        with pytest.raises(EndpointConnectionError):
            await put(events, entry("k"))
        assert (await put(events, entry("k")))[0]["SuccessCode"] == "DEDUPLICATED"
        assert bus.counts()["arrivals"] == 1


async def test_a_missing_bus_is_told() -> None:
    async with opened() as (bus, events):
        told = (404, "ResourceNotFoundException", f"Event bus {OTHER_BUS} does not exist.")
        assert await refusal(put(events, entry(), bus=OTHER_BUS)) == told
        assert await refusal(events.describe_event_bus(EventBusArn=OTHER_BUS)) == told
        known = await events.describe_event_bus(EventBusArn=BUS)
        assert (known["EventBusArn"], known["Name"], known["State"]) == (BUS, "bus-acme", "ACTIVE")
        assert bus.counts()["describeEventBus"] == 2


async def test_a_forbidden_bus_fails_the_call() -> None:
    async with opened(key="AKIANARROW", secret="s") as (bus, events):
        bus.add_bus(OTHER_BUS)
        status, code, message = await refusal(put(events, entry(), bus=OTHER_BUS))
        assert (status, code) == (403, "AccessDeniedException")
        assert f"is not authorized to perform: events:PutEvents on resource: {OTHER_BUS}" in message
        assert (await refusal(events.describe_event_bus(EventBusArn=OTHER_BUS)))[:2] == (403, "AccessDeniedException")
        assert len(await put(events, entry())) == 1


async def test_a_hundred_entries_are_taken() -> None:
    async with opened() as (_, events):
        assert len(await put(events, *[entry()] * 100)) == 100
        assert (await refusal(put(events, *[entry()] * 101)))[:2] == (400, "InvalidInputException")


async def test_a_bad_entry_fails_alone() -> None:
    async with opened() as (bus, events):
        good, malformed, foreign = await put(events, entry(), entry(Detail="[1]"), entry(Source="aws.ec2"))
        assert good["SuccessCode"] == "PUBLISHED"
        assert malformed["ErrorCode"] == "MalformedDetail"
        assert foreign["ErrorCode"] == "NotAuthorizedForSourceException"
        assert (bus.calls[0].failed, len(bus.arrivals)) == (2, 1)


async def test_faults_are_those_of_the_plan() -> None:
    key_denied = "KMS_ACCESS_DENIED: the key of the bus cannot be used"
    async with opened() as (bus, events):
        bus.set_plan(
            [
                Rule(CallError(403, "AccessDeniedException", key_denied), when=Times(1)),
                Rule(CallError(409, "InvalidStateException", "being created"), when=Times(1)),
                Rule(EntryError("ThrottlingException"), Match(detail_contains=("slow",)), name="slow"),
                Rule(EntryError("InternalException", "oops"), Match(detail_contains=("oops",)), name="oops"),
            ]
        )
        assert await refusal(put(events, entry())) == (403, "AccessDeniedException", key_denied)
        assert await refusal(put(events, entry())) == (409, "InvalidStateException", "being created")
        said = await put(events, entry(), entry("k", Detail='{"a":"slow"}'), entry(Detail='{"a":"oops"}'))
        assert said[1:] == [
            {"ErrorCode": "ThrottlingException"},
            {"ErrorCode": "InternalException", "ErrorMessage": "oops"},
        ]
        assert bus.calls[-1].fault == "slow+oops"
        bus.set_plan([Rule(CallError(429, "ThrottlingException", "Rate exceeded"), when=Times(1))])
        assert (await refusal(put(events, entry())))[:2] == (429, "ThrottlingException")
        assert (await put(events, entry("k")))[0]["SuccessCode"] == "PUBLISHED", "an entry that failed was not kept"
        bus.set_plan([Rule(Garbage("short")), Rule(CallError(500, "InternalException"), Match(operation="AssumeRole"))])
        assert len(await put(events, entry(), entry())) == 1
        bus.set_plan([Rule(CallError(500, "InternalException", "oops"), Match(operation="DescribeEventBus"))])
        assert (await refusal(events.describe_event_bus(EventBusArn=BUS)))[:2] == (500, "InternalException")


async def test_unknown_keys_and_operations_are_refused() -> None:
    async with opened(key="AKIAUNKNOWN") as (_, events):
        assert (await refusal(put(events, entry())))[:2] == (403, "UnrecognizedClientException")
        described = await refusal(events.describe_event_bus(EventBusArn=BUS))
        assert described[:2] == (403, "UnrecognizedClientException")
        assert (await refusal(events.list_event_buses()))[:2] == (404, "UnknownOperationException")
