"""HTTP/1.1 as the bus speaks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from pushrail_stream.sandbox.bus.faults import Latency, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import (
    connection,
    declare,
    head,
    read_reply,
    send,
    whole,
)

if TYPE_CHECKING:
    pass
from tests.support.bus_clients import put


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Latency(0.02), when=Times(1))])
        async with connection(bus) as (reader, writer):
            writer.write(b"".join(whole(*put(bus, name)) for name in "abc"))
            replies = [await read_reply(reader) for _ in "abc"]
        answered = [reply["Entries"][0]["EventId"] for _, _, reply in replies]
        assert answered == [arrival.event_id for arrival in bus.arrivals]
        assert [orjson.loads(arrival.detail)["name"] for arrival in bus.arrivals] == ["a", "b", "c"]
        assert bus.counts()["connections"] == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with connection(bus) as (reader, writer):
            for byte in whole(*put(bus, "a")):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await read_reply(reader))[0] == 200


async def test_a_chunked_body_is_put_together() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
        status, _, _ = await send(bus, head({**headers, "Transfer-Encoding": "chunked"}) + chunks)
        assert (status, len(bus.arrivals)) == (200, 1)


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        async with connection(bus) as (reader, writer):
            writer.write(head({**headers, "Content-Length": str(len(body)), "Expect": "100-continue"}))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await read_reply(reader))[0] == 200


async def test_connection_close_is_honoured() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        async with connection(bus) as (reader, writer):
            writer.write(whole({**headers, "Connection": "close"}, body))
            assert (await read_reply(reader))[1]["connection"] == "close"
            assert await reader.read() == b""
        assert (await send(bus, b"NONSENSE\r\n\r\n"))[0] == 400
        assert (await send(bus, head({"Host": "bus"}, "GET / HTTP/1.1")))[0] == 404


async def test_a_body_without_end_is_refused() -> None:
    async with FaultBus.serve() as bus, connection(bus) as (reader, writer):
        writer.write(head({"Host": "bus", "Content-Length": str(2**30)}))
        writer.write(b"x" * (16 * 1024 * 1024 + 1))
        assert (await read_reply(reader))[0] == 413
