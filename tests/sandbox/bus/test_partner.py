"""The bus answers a partner's operations as the service model says, to the stock client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushrail_stream.sandbox.bus.entries import Refusal
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Match, Rule
from pushrail_stream.sandbox.bus.partner import partner_limit_refusal, read_source
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.builders import partner_bus_arn
from tests.support.bus_clients import KEY, SECRET, client, refusal

BUS = partner_bus_arn("acme")
SOURCE = BUS.partition(":event-bus/")[2]


@asynccontextmanager
async def opened(*, key: str = KEY, secret: str = SECRET) -> AsyncIterator[Any]:
    """A bus that knows one event source with its bus, and a stock client."""
    async with FaultBus.serve() as bus:
        bus.add_bus(BUS)
        bus.add_key(KEY, SECRET)
        bus.add_key("AKIANARROW", "s", buses=[BUS])
        async with client("events", bus, key=key, secret=secret) as events:
            yield bus, events


def entry(**changes: Any) -> dict[str, Any]:
    return {"Source": SOURCE, "DetailType": "order.completed", "Detail": '{"a": 1}', **changes}


async def test_an_entry_arrives_at_the_bus_of_its_source() -> None:
    async with opened() as (bus, events):
        reply = await events.put_partner_events(Entries=[entry(Resources=["acct_1"])] * 20)
        assert reply["FailedEntryCount"] == 0
        assert [one["EventId"] for one in reply["Entries"]] == [arrival.event_id for arrival in bus.arrivals]
        assert {arrival[:5] for arrival in bus.arrivals} == {
            (BUS, SOURCE, "order.completed", '{"a": 1}', ("acct_1",)),
        }
        assert bus.calls[0].entries == 20


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        ([entry()] * 21, "entries"),
        ([entry(Source="aws.partner/short")], "entries.1.member.source"),
        ([entry(), entry(Source="pushrail.acme")], "entries.2.member.source"),
        ([entry(Source=f"aws.partner/a/{'x' * 256}")], "entries.1.member.source"),
        ([entry(Resources=["x" * 2049])], "entries.1.member.resources"),
    ],
)
async def test_a_call_beyond_the_limits_is_refused(entries: list[dict[str, Any]], where: str) -> None:
    async with opened() as (bus, events):
        status, code, message = await refusal(events.put_partner_events(Entries=entries))
        assert (status, code) == (400, "ValidationException")
        assert f"'{where}' failed to satisfy constraint" in message
        assert bus.arrivals == []


def test_a_call_that_is_too_large_is_refused() -> None:
    big = [entry(Detail=f'{{"a": "{"x" * 600_000}"}}')] * 2
    found = partner_limit_refusal(big, 1_300_000)
    assert found is not None
    assert "Total size" in found.message
    assert partner_limit_refusal(big[:1], 650_000) is None


@pytest.mark.parametrize("body", [b"x", b"[]", b"{}", b'{"EventSourceName": 7}'])
def test_a_question_without_a_source_is_refused(body: bytes) -> None:
    found = read_source(body)
    assert isinstance(found, Refusal)
    assert "eventSourceName" in found.message


async def test_an_entry_fails_alone() -> None:
    async with opened() as (bus, events):
        bus.set_plan([Rule(EntryError("InternalFailure"), Match(detail_contains=("fail",)))])
        entries = [entry(Detail="[1]"), entry(Detail='{"fail": 1}'), entry()]
        reply = await events.put_partner_events(Entries=entries)
        assert [one.get("ErrorCode") for one in reply["Entries"]] == ["MalformedDetail", "InternalFailure", None]
        assert len(bus.arrivals) == 1


async def test_put_events_takes_no_source_of_a_partner() -> None:
    async with opened() as (_, events):
        reply = await events.put_events(Entries=[entry()])
        assert reply["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"


async def test_a_caller_needs_the_right() -> None:
    async with opened(key="AKIANARROW", secret="s") as (_, events):
        for call, action in (
            (events.put_partner_events(Entries=[entry()]), "PutPartnerEvents"),
            (events.list_partner_event_source_accounts(EventSourceName=SOURCE), "ListPartnerEventSourceAccounts"),
        ):
            status, code, message = await refusal(call)
            assert (status, code) == (400, "AccessDeniedException")
            assert f"events:{action} on resource: arn:aws:events:us-east-1::event-source/{SOURCE}" in message


async def test_the_account_of_a_source_has_made_its_bus_or_not() -> None:
    async with opened() as (bus, events):

        async def accounts() -> list[dict[str, str]]:
            reply = await events.list_partner_event_source_accounts(EventSourceName=SOURCE)
            found: list[dict[str, str]] = reply["PartnerEventSourceAccounts"]
            return found

        assert await accounts() == [{"Account": "123456789012", "State": "ACTIVE"}]
        bus.directory.buses.clear()
        missing = await refusal(events.list_partner_event_source_accounts(EventSourceName=SOURCE))
        assert missing[:2] == (400, "ResourceNotFoundException")
        bus.offer_source(BUS)
        assert await accounts() == [{"Account": "123456789012", "State": "PENDING"}]
        await events.put_partner_events(Entries=[entry()])
        assert (bus.counts()["discarded"], bus.arrivals) == (1, [])
        bus.add_bus(BUS)
        assert (await accounts())[0]["State"] == "ACTIVE"


async def test_a_question_may_fail() -> None:
    async with opened() as (bus, events):
        bus.set_plan([Rule(CallError(400, "ThrottlingException"), Match(operation="ListPartnerEventSourceAccounts"))])
        found = await refusal(events.list_partner_event_source_accounts(EventSourceName=SOURCE))
        assert found[1] == "ThrottlingException"
        assert bus.counts()["faults"] == 1
        bus.set_plan([])
        found = await refusal(events.list_partner_event_source_accounts(EventSourceName="aws.partner/short"))
        assert found[1] == "ValidationException"
        async with client("events", bus, key="AKIAUNKNOWN") as unknown:
            found = await refusal(unknown.list_partner_event_source_accounts(EventSourceName=SOURCE))
            assert found[1] == "UnrecognizedClientException"


async def test_an_open_bus_has_every_source() -> None:
    async with FaultBus.serve(BusConfig(open=True)) as bus, client("events", bus) as events:
        await events.put_partner_events(Entries=[entry()])
        assert bus.arrivals[0].bus_arn == f"arn:aws:events:us-east-1:123456789012:event-bus/{SOURCE}"
