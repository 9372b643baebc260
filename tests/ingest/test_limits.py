"""The limits of ingest: events per second, and memory for open requests."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.support.ingest_server import ingest_door, members
from tests.support.patience import PATIENCE_SECS


async def test_a_limited_key_is_told_when_to_return(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_events_per_second=1) as door:
        statuses, retry_after = list[int](), ""
        for _ in range(3):
            status, _, headers = await door.post([members()] * 200)
            statuses.append(status)
            retry_after = headers.get("Retry-After", "")
        assert statuses == [202, 202, 429]
        assert 90 <= int(retry_after) <= 101
        assert len(door.producer.taken) == 400
        assert (await door.post(members(), door.other_key))[0] == 202


async def test_an_invalid_event_counts_for_the_rate(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_events_per_second=1) as door:
        statuses = [(await door.post(b"[1,"))[0] for _ in range(600)]
        assert statuses[:500] == [422] * 500
        assert 429 in statuses[500:]


async def test_a_full_buffer_refuses_at_once(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=1_024, max_buffered_bytes=2 * 3 * 17 * 2**10) as door:
        door.producer.open.clear()
        async with asyncio.TaskGroup() as tasks:
            async with asyncio.timeout(PATIENCE_SECS):
                waiting = [tasks.create_task(door.post(members())) for _ in range(3)]
                for _ in range(3):
                    await door.producer.entered.get()
                status, answer, headers = await door.post(members())
                assert (status, headers["Retry-After"]) == (503, "1")
                assert answer["detail"] == "more of this API key is waiting for Kafka than may wait"
                # The other half is for others, until that is full as well.
                waiting += [tasks.create_task(door.post(members(), door.other_key)) for _ in range(3)]
                for _ in range(3):
                    await door.producer.entered.get()
            status, answer, headers = await door.post(members(), door.other_key)
            assert (status, headers["Retry-After"], answer["type"]) == (503, "1", "urn:pushrail:problem:unavailable")
            door.producer.open.set()
        assert [task.result()[0] for task in waiting] == [202] * 6
        assert door.ingest.buffered_bytes == 0


async def test_waiting_bodies_take_room(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=2**20, max_buffered_bytes=2**21) as door:
        door.producer.open.clear()
        big = members(payload={"x": "y" * 600_000})
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE_SECS):
            waiting = tasks.create_task(door.post(big))
            await door.producer.entered.get()
            assert (await door.post(big))[0] == 503
            door.producer.open.set()
        assert waiting.result()[0] == 202
        assert (await door.post(big))[0] == 202


async def test_an_unsent_body_takes_no_room(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=2**20, max_buffered_bytes=2**21) as door:
        port = int(door.url.rpartition(":")[2])
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n"
        head += "Content-Type: application/json\r\n"
        async with asyncio.timeout(PATIENCE_SECS), contextlib.AsyncExitStack() as connections:
            for size in (*["Transfer-Encoding: chunked"] * 20, *["Content-Length: 1000000"] * 20):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                connections.callback(writer.close)
                writer.write(f"{head}{size}\r\n\r\n".encode())
            while door.ingest.buffered_bytes < 40 * 2**14:  # noqa: ASYNC110 - until the last has come in
                await asyncio.sleep(0.01)
            big = members(payload={"x": "y" * 300_000})
            assert (await door.post(big))[0] == 202
            assert (await door.post(big, door.other_key))[0] == 202
