"""The bus answers PutEvents and DescribeEventBus as AWS does."""

from __future__ import annotations

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import (
    BUS,
    KEY,
    OTHER_BUS,
    client,
    declare,
    entry,
    refusal,
)


async def test_an_entry_arrives_as_it_was_sent() -> None:
    detail = '{ "b":1.0,"a":"\\u00e9", "z": [1e3] }'
    now = 1_790_000_000.25
    async with FaultBus.serve(BusConfig(clock=lambda: now, check_signatures=False)) as bus:
        declare(bus)
        async with client("events", bus) as events:
            sent = entry(Detail=detail, Resources=["acct_1", "key"], Time=1_780_000_000, TraceHeader="Root=1-x")
            reply = await events.put_events(Entries=[sent, entry()])
        first, second = bus.arrivals
        assert reply["FailedEntryCount"] == 0
        assert [one["EventId"] for one in reply["Entries"]] == [first.event_id, second.event_id]
        assert first.event_id != second.event_id
        assert first[:8] == (
            *(BUS, "pushrail.acme", "order.completed", detail, ("acct_1", "key"), 1_780_000_000, "Root=1-x"),
            first.event_id,
        )
        assert first[8:] == (now, KEY, 1, 0)
        assert (second.entry_index, second.time, second.resources) == (1, None, ())
        (call,) = bus.calls
        assert call[:9] == (1, now, 200, "", KEY, (BUS,), 2, 0, None)
        assert call.request_id == reply["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]


async def test_a_forbidden_bus_fails_the_call() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.add_bus(OTHER_BUS)
        bus.add_key("AKIANARROW", "s", buses=[BUS])
        async with client("events", bus, key="AKIANARROW", secret="s") as events:
            status, code, message = await refusal(events.put_events(Entries=[entry(), entry(EventBusName=OTHER_BUS)]))
            assert (status, code) == (400, "AccessDeniedException")
            assert f"is not authorized to perform: events:PutEvents on resource: {OTHER_BUS}" in message
            assert bus.arrivals == []
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0


async def test_describe_event_bus_reports_a_missing_bus() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.add_key("AKIANARROW", "s", buses=[BUS])
        async with client("events", bus) as events:
            known = await events.describe_event_bus(Name=BUS)
            assert (known["Arn"], known["Name"]) == (BUS, "pushrail-events")
            assert (await events.describe_event_bus())["Name"] == "default"
            unknown = await refusal(events.describe_event_bus(Name=OTHER_BUS))
            assert unknown == (400, "ResourceNotFoundException", f"Event bus {OTHER_BUS} does not exist.")
            assert (await refusal(events.describe_event_bus(Name="no spaces")))[1] == "ValidationException"
            assert (await refusal(events.list_rules()))[1] == "UnknownOperationException"
        async with client("events", bus, key="AKIANARROW", secret="s") as events:
            assert (await refusal(events.describe_event_bus(Name=OTHER_BUS)))[1] == "AccessDeniedException"
        assert bus.counts()["describeEventBus"] == 5
        assert bus.calls == []
