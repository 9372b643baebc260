"""The bus answers PutEvents as AWS does."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import (
    ACCOUNT,
    BUS,
    KEY,
    OTHER_BUS,
    client,
    declare,
    entry,
    refusal,
    send,
    signed,
    whole,
)

OVER_LIMIT = "Total size of the entries in the request is over the limit."
REQUIRED = "Parameter {0} is not valid. Reason: {0} is a required argument."


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


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"Detail": "[1]"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '"text"'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "{"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":NaN}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' + "[" * 1000 + "]" * 1000 + "}"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' + "[" * 5000 + "]" * 5000 + "}"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":9223372036854775808}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":-9223372036854775809}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' + "9" * 5000 + "}"}, "MalformedDetail", "Detail is malformed."),
        ({"Source": None}, "InvalidArgument", REQUIRED.format("Source")),
        ({"Source": ""}, "InvalidArgument", REQUIRED.format("Source")),
        ({"DetailType": None}, "InvalidArgument", REQUIRED.format("DetailType")),
        ({"Detail": None}, "InvalidArgument", REQUIRED.format("Detail")),
        ({"Source": "aws.ec2"}, "NotAuthorizedForSourceException", "Not authorized for the source."),
    ],
)
async def test_a_bad_entry_fails_alone(changes: dict[str, Any], code: str, message: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=[entry(), entry(**changes), entry()])
        assert reply["FailedEntryCount"] == 1
        assert reply["Entries"][1] == {"ErrorCode": code, "ErrorMessage": message}
        assert [arrival.entry_index for arrival in bus.arrivals] == [0, 2]
        assert bus.calls[0].failed == 1


@pytest.mark.parametrize(
    "detail",
    [
        '{"a":9223372036854775807,"b":-9223372036854775808}',
        '{"a":' + "[" * 999 + "]" * 999 + "}",
        '{"a":"' + "[{" * 1000 + '"}',
        '{"a":"12345678901234567890123"}',
        '{"a":1234567890123456789012.5,"b":1e40}',
    ],
)
async def test_a_detail_at_the_limits_is_taken(detail: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            assert (await events.put_events(Entries=[entry(Detail=detail)]))["FailedEntryCount"] == 0
        assert bus.arrivals[0].detail == detail


async def test_the_number_of_entries_is_one_to_ten() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            assert (await events.put_events(Entries=[entry()] * 10))["FailedEntryCount"] == 0
            status, code, message = await refusal(events.put_events(Entries=[entry()] * 11))
        assert (status, code) == (400, "ValidationException")
        assert message.endswith(
            "at 'entries' failed to satisfy constraint: Member must have length less than or equal to 10"
        )
        status, headers, body = await send(bus, whole(*signed(bus, {"Entries": []})))
        assert (status, body["__type"], headers["x-amzn-errortype"]) == (
            400,
            "ValidationException",
            "ValidationException",
        )
        assert "Member must have length greater than or equal to 1" in body["message"]
        assert len(headers["x-amzn-requestid"]) == 36
        assert [(call.status, call.code) for call in bus.calls] == [(200, ""), *[(400, "ValidationException")] * 2]
        assert len(bus.arrivals) == 10


@pytest.mark.parametrize(("extra", "is_taken"), [(0, True), (1, False)])
async def test_the_total_size_counts_in_bytes(extra: int, is_taken: bool) -> None:  # noqa: FBT001 - a table
    async with FaultBus.serve() as bus:
        declare(bus)
        small = entry(Resources=["r\u00e9"], Time=1_780_000_000, TraceHeader="free" * 20)
        used = 14 + len("pushrail.acme") + len("order.completed") + len(small["Detail"]) + 3
        rest = 1_048_576 - used - len("pushrail.acme") - len("order.completed") - len('{"a":""}')
        # Two-byte characters: counting characters would let twice as much through.
        filler = "\u00e9" * (rest // 2) + "x" * (rest % 2 + extra)
        # Raw, since aiohttp warns of bodies this large.
        document = {"Entries": [small, entry(Detail=f'{{"a":"{filler}"}}')]}
        status, _, answer = await send(bus, whole(*signed(bus, document)))
        if is_taken:
            assert (status, answer["FailedEntryCount"]) == (200, 0)
        else:
            assert (status, answer) == (400, {"__type": "ValidationException", "message": OVER_LIMIT})
        assert len(bus.arrivals) == (2 if is_taken else 0)


async def test_long_detail_types_are_discarded() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            reply = await events.put_events(
                Entries=[entry(DetailType="x" * 129), entry(EventBusName=OTHER_BUS), entry(DetailType="x" * 128)]
            )
        assert reply["FailedEntryCount"] == 0
        assert all(one["EventId"] for one in reply["Entries"])
        assert [arrival.entry_index for arrival in bus.arrivals] == [2]
        assert bus.counts()["discarded"] == 2


async def test_a_bare_name_is_of_the_callers_account() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry(EventBusName="pushrail-events"), entry(EventBusName=None)])
        default = f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"
        assert [arrival.bus_arn for arrival in bus.arrivals] == [BUS, default]


@pytest.mark.parametrize(
    "name",
    ["no spaces", f"arn:aws:events:us-east-1:{ACCOUNT}:event-busv2/NAME/ID", "arn:aws:sqs:us-east-1:1:x", "n" * 1601],
)
async def test_an_invalid_bus_name_fails_the_call(name: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            status, code, message = await refusal(events.put_events(Entries=[entry(), entry(EventBusName=name)]))
        assert (status, code) == (400, "ValidationException")
        assert "'entries.2.member.eventBusName' failed to satisfy constraint" in message
        assert bus.arrivals == []


async def test_a_long_resource_fails_the_call() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            status, code, message = await refusal(events.put_events(Entries=[entry(Resources=["r" * 2049])]))
        assert (status, code) == (400, "ValidationException")
        assert "entries.1.member.resources" in message


@pytest.mark.parametrize(
    "document",
    [
        {"Entries": [entry(Time="2026-05-26T14:21:08Z")]},
        {"Entries": [entry(Time=True)]},
        {"Entries": [entry(Source=7)]},
        {"Entries": [entry(Detail={"a": 1})]},
        {"Entries": [entry(Resources="r")]},
        {"Entries": [entry(Resources=[1])]},
        {"Entries": ["x"]},
        {"Entries": {}},
        [],
        b"{nonsense",
    ],
)
async def test_a_wrong_type_is_a_serialization_error(document: Any) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        status, _, body = await send(bus, whole(*signed(bus, document)))
        assert (status, body["__type"]) == (400, "SerializationException")
        assert bus.arrivals == []


async def test_entries_are_required() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        status, _, body = await send(bus, whole(*signed(bus, {})))
        assert (status, body["__type"]) == (400, "ValidationException")


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
