"""Calls through a proxy: AWS's library's own aiohttp session carries them, and leaves nothing behind either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from pushrail_stream.eventbridge.http1.connection import Limits
from pushrail_stream.eventbridge.proxied import ProxiedSession
from tests.support.recording_server import NEVER, Recorder, http

LIMITS = Limits(connect_secs=5, read_secs=5, total_secs=10, idle_secs=12, reply_bytes=10_000)


@asynccontextmanager
async def proxied(
    proxy: Recorder, limits: Limits = LIMITS
) -> AsyncIterator[tuple[ProxiedSession, aiohttp.TCPConnector]]:
    connector = aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as session:
        yield ProxiedSession("http://bus.invalid/path", session, (proxy.url, {}), limits), connector


async def test_a_reply_comes_through_a_proxy() -> None:
    reply = http("200 OK", b"hi", "X-Amzn-RequestId: 1", "x-amzn-requestid: 2")
    async with Recorder.serve(reply) as proxy, proxied(proxy) as (session, _):
        for _ in range(2):
            got = await session.post({"X-One": "1"}, b"body")
            assert (got.status, got.content) == (200, b"hi")
            assert got.headers == {b"content-length": b"2", b"x-amzn-requestid": b"1"}
    assert proxy.connections == 1
    assert [request.start for request in proxy.requests] == ["POST http://bus.invalid/path HTTP/1.1"] * 2
    assert [(request.body, request.header("X-One")) for request in proxy.requests] == [(b"body", "1")] * 2


async def test_a_long_request_comes_through_a_proxy() -> None:
    async with Recorder.serve(http("200 OK")) as proxy, proxied(proxy) as (session, _):
        await session.post({}, b"x" * 2_000_000)
    assert len(proxy.requests[0].body) == 2_000_000


async def test_a_cookie_is_not_sent_back() -> None:
    reply = http("200 OK", b"", "Set-Cookie: a=b; Path=/")
    async with Recorder.serve(reply) as proxy, proxied(proxy) as (session, _):
        for _ in range(2):
            await session.post({}, b"")
    assert [request.header("Cookie") for request in proxy.requests] == [None, None]


async def test_a_reply_has_a_limit() -> None:
    async with Recorder.serve(http("200 OK", b"x" * 10_001)) as proxy, proxied(proxy) as (session, _):
        with pytest.raises(aiohttp.ClientPayloadError, match="more than 10000 bytes"):
            await session.post({}, b"")


@pytest.mark.parametrize("reply", [NEVER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"])
async def test_a_reply_that_stops_leaves_no_open_connection(reply: bytes | None) -> None:
    async with (
        Recorder.serve(reply) as proxy,
        proxied(proxy, LIMITS._replace(read_secs=0.05)) as (session, connector),
    ):
        with pytest.raises(aiohttp.SocketTimeoutError):
            await session.post({}, b"")
        assert not connector._acquired
