"""The HTTP server of ingest: its connections, and its end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.support.ingest_server import answer, connection, ingest_door, members
from tests.support.patience import PATIENCE_SECS


async def test_a_stop_answers_open_requests(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        door.producer.open.clear()
        async with asyncio.TaskGroup() as tasks:
            in_flight = tasks.create_task(door.post(members()))
            async with asyncio.timeout(PATIENCE_SECS):
                await door.producer.entered.get()
            door.server.stop()
            async with asyncio.timeout(PATIENCE_SECS):
                while True:
                    try:
                        async with aiohttp.ClientSession() as late:
                            await late.get(f"{door.url}/openapi.json")
                    except aiohttp.ClientConnectorError:
                        break
                    await asyncio.sleep(0.01)
            door.producer.open.set()
        assert in_flight.result()[0] == 202


async def test_a_silent_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.ingest.server._KEEP_ALIVE_SECS", 0.2)
    async with ingest_door(tmp_path) as door, connection(door) as (reader, _writer):
        assert await reader.read() == b""
        assert not door.answers


async def test_the_number_of_connections_is_bounded(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, connections=2) as door:
        async with connection(door), connection(door), connection(door) as (reader, _writer):
            status, _, body = await answer(reader)
            assert (status, json.loads(body)["detail"]) == (503, "too many connections are open")
            assert await reader.read() == b""
        async with asyncio.timeout(PATIENCE_SECS):
            while door.open_connections:  # noqa: ASYNC110 - the server hears of it by and by
                await asyncio.sleep(0.01)
        assert (await door.post(members()))[0] == 202


async def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, timeout_secs=0.3) as door, connection(door) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
        while not door.open_connections:  # noqa: ASYNC110 - nothing but reading would tell
            await asyncio.sleep(0.01)
        while door.open_connections:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
