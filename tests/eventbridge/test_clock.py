"""AWS's time comes from an answer of STS, without credentials."""

from __future__ import annotations

from datetime import UTC, datetime

from pushrail_stream.eventbridge.clock import aws_time
from pushrail_stream.eventbridge.error_codes import CallFailed
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.ports import free_port
from tests.support.recording_server import Recorder, http


async def test_the_time_is_that_of_the_answer() -> None:
    async with Recorder.serve(http("403 Forbidden", b"", "Date: Sat, 28 Nov 2026 08:00:01 GMT")) as peer:
        theirs = await aws_time(StsSettings(endpoint_url=peer.url), EventBridgeSettings())
    assert theirs == datetime(2026, 11, 28, 8, 0, 1, tzinfo=UTC)
    [request] = peer.requests
    assert request.header("Authorization") is None


async def test_an_answer_without_a_time_tells_none() -> None:
    async with Recorder.serve(http("403 Forbidden")) as peer:
        assert await aws_time(StsSettings(endpoint_url=peer.url), EventBridgeSettings()) is None


async def test_an_sts_that_cannot_be_called_is_a_failure() -> None:
    away = StsSettings(endpoint_url=f"http://127.0.0.1:{free_port()}")
    assert isinstance(await aws_time(away, EventBridgeSettings()), CallFailed)
