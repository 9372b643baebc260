"""Replies of proxies and meshes, and malformed ones: each is read, or fails only its own call.

A reply means the same on connections of our own and through a proxy, which aiohttp speaks to.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Awaitable, Callable

import pytest

from pushrail_stream.eventbridge import endpoint
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, Answered, CallFailed, CallReply
from pushrail_stream.eventbridge.http import MAX_REPLY_BYTES
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch
from tests.support.builders import destination
from tests.support.eventbridge_world import GOOD_KEY
from tests.support.recording_server import Recorder, http

TAKEN = json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": "event-1"}]}).encode()
DENIED = json.dumps({"__type": "AccessDeniedException", "Message": "no"}).encode()


Way = Callable[[bytes], Awaitable[CallReply]]


@pytest.fixture(params=["directly", "by a proxy"])
def reply_to(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Makes a call that gets these bytes in reply."""

    async def reply_to(raw: bytes) -> CallReply:
        async with Recorder.serve(raw, closes=True) as server:
            url = server.url
            if request.param == "by a proxy":
                monkeypatch.setenv("HTTP_PROXY", server.url)
                url = "http://bus.invalid"
            async with EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as us:
                return await us.call(batch(destination(auth=GOOD_KEY)))

    return reply_to


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate"])
async def test_a_compressed_reply_is_read(reply_to: Way, coding: str) -> None:
    compress = zlib.compress if coding == "deflate" else gzip.compress
    reply = await reply_to(http("200 OK", compress(TAKEN), f"Content-Encoding: {coding}"))
    assert isinstance(reply, Answered)
    assert [entry.event_id for entry in reply.entries] == ["event-1"]
    reply = await reply_to(http("400 Bad Request", compress(DENIED), f"Content-Encoding: {coding}"))
    assert isinstance(reply, CallFailed)
    assert reply.code == "AccessDeniedException"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "no such coding"])
async def test_an_undecompressible_reply_is_a_failure(reply_to: Way, coding: str) -> None:
    reply = await reply_to(http("200 OK", b"\x1f\x8bnot compressed", f"Content-Encoding: {coding}"))
    assert isinstance(reply, CallFailed)
    assert (reply.code, reply.http_status) == (UNKNOWN_RESULT, 200)


async def test_an_endless_reply_is_cut_off(reply_to: Way) -> None:
    bomb = gzip.compress(TAKEN[:-1] + b" " * (4 * MAX_REPLY_BYTES) + b"}")
    reply = await reply_to(http("200 OK", bomb, "Content-Encoding: gzip"))
    assert isinstance(reply, CallFailed)
    assert (reply.code, reply.http_status) == (UNKNOWN_RESULT, 200)
    reply = await reply_to(http("200 OK", b" " * (2 * MAX_REPLY_BYTES)))
    assert isinstance(reply, CallFailed)
    assert (reply.code, reply.http_status) == ("ConnectionClosed", None)


async def test_a_reply_is_read_up_to_the_limit(reply_to: Way) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert isinstance(await reply_to(head + TAKEN), Answered)
    reply = await reply_to(head + TAKEN + b" " * MAX_REPLY_BYTES)
    assert isinstance(reply, CallFailed)
    assert reply.code == "ConnectionClosed"


@pytest.mark.parametrize("code", ["x" * 500, "line\nend", "\ud800", "Zugriff verweigert", "", None, 7.5, ["a"], {}])
async def test_without_a_code_the_status_is_the_code(reply_to: Way, code: object) -> None:
    body = json.dumps({"__type": code, "Message": "no"}).encode()
    reply = await reply_to(http("418 I'm a teapot", body))
    assert isinstance(reply, CallFailed)
    assert (reply.code, reply.http_status) in {("418", 418), ("7.5", 418)}


@pytest.mark.parametrize("name", [b"\xff\xfe", "ü".encode(), b"a\x7fb", b"x" * 1000])
async def test_an_unprintable_request_id_is_dropped(reply_to: Way, name: bytes) -> None:
    raw = http("200 OK", TAKEN, "x-amzn-RequestId: ID").replace(b": ID", b": " + name)
    reply = await reply_to(raw)
    assert isinstance(reply, Answered)
    assert reply.request_id is None


async def test_more_results_than_entries_is_a_failure(reply_to: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is read: to read this number would take seconds in which nothing else is delivered."""
    read = list[object]()
    monkeypatch.setattr(endpoint, "_entry_result", read.append)
    reply = await reply_to(http("200 OK", b'{"Entries":[' + b"{}," * 1_300_000 + b"{}]}"))
    assert isinstance(reply, CallFailed)
    assert (reply.code, reply.http_status) == (UNKNOWN_RESULT, 200)
    assert read == []
