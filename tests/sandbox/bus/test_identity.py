"""The keys, sessions and buses that the bus knows."""

from __future__ import annotations

import pytest

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import (
    ACCOUNT,
    BUS,
    KEY,
    client,
    declare,
    entry,
    refusal,
    send,
    signed,
    whole,
)


async def test_unknown_keys_and_tokens_are_invalid() -> None:
    wanted = (400, "UnrecognizedClientException", "The security token included in the request is invalid.")
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus, key="AKIAUNKNOWN") as events:
            assert await refusal(events.put_events(Entries=[entry()])) == wanted
        async with client("events", bus, token="stray") as events:
            assert await refusal(events.put_events(Entries=[entry()])) == wanted


async def test_a_replaced_secret_is_valid_at_once() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry()])
            bus.add_key(KEY, "rotated")
            assert (await refusal(events.put_events(Entries=[entry()])))[1] == "InvalidSignatureException"
        async with client("events", bus, secret="rotated") as events:
            await events.put_events(Entries=[entry()])


async def test_unchecked_signatures_still_need_a_known_key() -> None:
    async with FaultBus.serve(BusConfig(check_signatures=False)) as bus:
        declare(bus)
        async with client("events", bus, secret="wrong") as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
        async with client("events", bus, key="AKIAUNKNOWN") as events:
            assert (await refusal(events.put_events(Entries=[entry()])))[1] == "UnrecognizedClientException"


async def test_an_open_bus_takes_any_key_and_every_bus() -> None:
    async with FaultBus.serve(BusConfig(open=True)) as bus:
        async with client("events", bus, key="AKIAANY", secret="any", token="any") as events:
            reply = await events.put_events(Entries=[entry(), entry(EventBusName="whatever")])
            assert (await events.describe_event_bus(Name="whatever"))["Name"] == "whatever"
        assert reply["FailedEntryCount"] == 0
        assert len(bus.arrivals) == 2
        headers, body = signed(bus, {"Entries": [entry()]})
        del headers["Authorization"]
        assert (await send(bus, whole(headers, body)))[0] == 400


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
