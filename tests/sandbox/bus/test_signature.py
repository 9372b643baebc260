"""The bus checks signatures as AWS does."""

from __future__ import annotations

import pytest

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus, wall_clock
from tests.support.bus_clients import client, declare, entry, refusal, send, signed, whole


async def test_a_wrong_secret_does_not_match() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus, secret="wrong") as events:
            status, code, message = await refusal(events.put_events(Entries=[entry()]))
        assert (status, code) == (400, "InvalidSignatureException")
        assert message.startswith("The request signature we calculated does not match")
        assert bus.arrivals == []
        assert [(call.status, call.code) for call in bus.calls] == [(400, "InvalidSignatureException")]


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("Authorization", None, 400, "MissingAuthenticationToken"),
        ("Authorization", "AWS4-HMAC-SHA256 nonsense", 403, "IncompleteSignature"),
        ("Authorization", "Bearer abc", 403, "IncompleteSignature"),
        ("X-Amz-Date", None, 403, "IncompleteSignature"),
        ("X-Amz-Date", "yesterday", 403, "IncompleteSignature"),
        ("X-Amz-Target", "AWSEvents.DescribeEventBus", 400, "InvalidSignatureException"),
        ("Host", "elsewhere", 400, "InvalidSignatureException"),
        ("X-Amz-Security-Token", "unsigned", 400, "UnrecognizedClientException"),
    ],
)
async def test_an_invalid_header_is_refused(header: str, value: str | None, status: int, code: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = signed(bus, {"Entries": [entry()]})
        headers.pop(header, None)
        if value is not None:
            headers[header] = value
        found, _, answer = await send(bus, whole(headers, body))
        assert (found, answer["__type"]) == (status, code)
        assert bus.arrivals == []


async def test_a_body_changed_in_transit_is_refused() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = signed(bus, {"Entries": [entry()]})
        status, _, answer = await send(bus, whole(headers, body.replace(b"order_1", b"order_2")))
        assert (status, answer["__type"]) == (400, "InvalidSignatureException")
        assert (await send(bus, whole(headers, body)))[0] == 200


async def test_an_unsigned_target_is_refused() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = signed(bus, {"Entries": [entry()]})
        headers["Authorization"] = headers["Authorization"].replace(";x-amz-target", "")
        status, _, answer = await send(bus, whole(headers, body))
        assert (status, answer["__type"]) == (400, "InvalidSignatureException")
        assert "must be a 'SignedHeader'" in answer["message"]


async def test_a_signature_for_another_service_is_refused() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        status, _, answer = await send(bus, whole(*signed(bus, {"Entries": [entry()]}, service="sts")))
        assert (status, answer["__type"]) == (400, "InvalidSignatureException")
        assert "correct service: 'events'" in answer["message"]


@pytest.mark.parametrize(("skew", "said"), [(400, "Signature expired: "), (-400, "Signature not yet current: ")])
async def test_a_clock_over_5_minutes_off_is_refused(skew: int, said: str) -> None:
    async with FaultBus.serve(BusConfig(clock=lambda: wall_clock() + skew)) as bus:
        declare(bus)
        async with client("events", bus) as events:
            status, code, message = await refusal(events.put_events(Entries=[entry()]))
        assert (status, code) == (400, "InvalidSignatureException")
        assert message.startswith(said)
        assert "5 min.)" in message


async def test_a_clock_under_5_minutes_off_is_fine() -> None:
    async with FaultBus.serve(BusConfig(clock=lambda: wall_clock() + 290)) as bus:
        declare(bus)
        async with client("events", bus) as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
