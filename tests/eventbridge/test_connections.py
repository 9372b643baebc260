"""All customers share the connections to AWS. No part of one reply may reach the calls after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch
from tests.support.builders import destination
from tests.support.eventbridge_world import GOOD_KEY
from tests.support.recording_server import Recorder, http


def taken(event_id: str) -> bytes:
    return http("200 OK", json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": event_id}]}).encode())


@asynccontextmanager
async def talkative(unasked: asyncio.Event) -> AsyncIterator[str]:
    """A server that answers each request, and sends one more answer without a request."""
    answered = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            answered += 1
            writer.write(taken(f"event-{answered}"))
            await unasked.wait()
            writer.write(taken("unasked"))

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_an_unrequested_reply_answers_no_call() -> None:
    unasked = asyncio.Event()
    async with talkative(unasked) as url, EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as us:
        for number in (1, 2, 3):
            unasked.clear()
            reply = await us.call(batch(destination(auth=GOOD_KEY)))
            assert isinstance(reply, Answered)
            assert [entry.event_id for entry in reply.entries] == [f"event-{number}"]
            unasked.set()
            await asyncio.sleep(0.05)


async def test_a_cookie_is_not_sent_back() -> None:
    reply = taken("event-1").replace(b"\r\n\r\n", b"\r\nSet-Cookie: " + b"a=" + b"x" * 3000 + b"; Path=/\r\n\r\n", 1)
    async with Recorder.serve(reply) as server:
        options = EventBridgeSettings(endpoint_url=server.url.replace("127.0.0.1", "localhost"))
        async with EventBridge.open(options, StsSettings()) as us:
            for _ in range(2):
                assert isinstance(await us.call(batch(destination(auth=GOOD_KEY))), Answered)
        assert [request.header("Cookie") for request in server.requests] == [None, None]
