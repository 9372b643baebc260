"""The checks of PutEvents: of the whole call, then of each entry."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import (
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
