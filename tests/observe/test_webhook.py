"""Notices are posted one at a time, signed as Standard Webhooks says; a receiver that takes none delays nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.observe import webhook
from pushrail_stream.observe.webhook import Webhook
from pushrail_stream.settings.model import NoticesSettings
from tests.support.patience import PATIENCE_SECS
from tests.support.ports import free_port
from tests.support.recording_server import CLOSE, Recorder, http

SECRET = bytes(range(32))
SPELLED = "whsec_" + base64.b64encode(SECRET).decode()
NOW_MS = 1_780_000_000_123
TAKEN = http("204 No Content")


def notice(number: int) -> bytes:
    return json.dumps({"id": f"w-{number}", "type": "pushrail.bus.missing"}).encode()


def posting_to(url: str | None) -> Webhook:
    settings = NoticesSettings(webhook_url=url, webhook_secret="env:HOOK")
    return Webhook.of(settings, {"HOOK": SPELLED}, lambda: NOW_MS)


@asynccontextmanager
async def kept(hook: Webhook) -> AsyncIterator[Webhook]:
    """A webhook that posts for the length of the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(hook.keep())
        yield hook
        task.cancel()


async def until_there_are(recorder: Recorder, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECS):
        while len(recorder.requests) < count:  # noqa: ASYNC110 - the server is a test's
            await asyncio.sleep(0.01)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_PAUSES_SECS", (0.01, 0.02))


async def test_a_notice_is_posted_with_a_signature_that_its_receiver_can_check() -> None:
    async with Recorder.serve(TAKEN) as server, kept(posting_to(f"{server.url}/hook?a=1")) as hook:
        hook.append(b"dst", notice(1), notice(2))
        await until_there_are(server, 2)
        first, second = server.requests
    assert first.start == "POST /hook?a=1 HTTP/1.1"
    assert first.body == notice(1)
    assert first.header("content-type") == "application/cloudevents+json; charset=UTF-8"
    assert (first.header("webhook-id"), second.header("webhook-id")) == ("w-1", "w-2")
    assert first.header("webhook-timestamp") == "1780000000"
    signed = b"w-1.1780000000." + notice(1)
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert first.header("webhook-signature") == f"v1,{expected}"
    assert hook.lost == 0


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("reply", [http("500 No"), http("302 Found", b"", "Location: http://127.0.0.1:1/"), CLOSE])
async def test_a_receiver_that_fails_gets_the_notice_again_with_the_same_id(reply: bytes) -> None:
    async with Recorder.serve(reply) as server, kept(posting_to(server.url)) as hook:
        hook.append(b"dst", notice(1))
        await until_there_are(server, 2)
        server.reply = TAKEN
        hook.append(b"dst", notice(2))
        async with asyncio.timeout(PATIENCE_SECS):
            while server.requests[-1].header("webhook-id") != "w-2":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
    assert {one.header("webhook-id") for one in server.requests[:-1]} == {"w-1"}
    assert hook.lost == 0


@pytest.mark.usefixtures("hurried")
async def test_a_notice_that_no_attempt_brings_is_counted_as_lost() -> None:
    async with kept(posting_to(f"http://127.0.0.1:{free_port()}/")) as hook:
        hook.append(b"dst", notice(1), notice(2))
        async with asyncio.timeout(PATIENCE_SECS):
            while hook.lost < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("url", "proxy"), [("https://a..b/hook", ""), ("http://127.0.0.1:9/hook", "http://127.0.0.1:x")]
)
async def test_an_address_that_is_none_ends_nothing(url: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    async with kept(posting_to(url)) as hook, asyncio.timeout(PATIENCE_SECS):
        hook.append(b"dst", notice(1))
        while not hook.lost:  # noqa: ASYNC110 - no part of the product waits for it
            await asyncio.sleep(0.01)


async def test_notices_without_room_are_dropped_and_counted() -> None:
    hook = posting_to("http://127.0.0.1:1/")
    for number in range(1_005):
        hook.append(b"dst", notice(number))
    assert hook.lost == 5


async def test_without_an_address_nothing_is_kept() -> None:
    hook = posting_to(None)
    hook.append(b"dst", notice(1))
    await hook.keep()
    assert hook.lost == 0


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "environment variable HOOK is not set"),
        ({"HOOK": "whsec_" + base64.b64encode(b"short").decode()}, "must hold whsec_ and 24 to 64 bytes in base64"),
        ({"HOOK": "whsec_???"}, "must hold whsec_ and 24 to 64 bytes in base64"),
    ],
)
def test_a_secret_that_is_none_is_refused_unquoted(environ: dict[str, str], problem: str) -> None:
    settings = NoticesSettings(webhook_url="https://hooks.example.com", webhook_secret="env:HOOK")
    with pytest.raises(UsageError, match=problem) as refused:
        Webhook.of(settings, environ, lambda: NOW_MS)
    assert "short" not in str(refused.value)
    assert "???" not in str(refused.value)
