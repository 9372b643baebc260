"""Ingest as a producer sees it, with a fake producer behind it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

from pushrail_stream.core.event import Event, decode
from pushrail_stream.eventbridge.entry import entry_size
from pushrail_stream.ports.kafka import RecordTooLarge
from tests.support.builders import with_access_key
from tests.support.ingest_server import EVENT, TRACEPARENT, ingest_door, members, vendor_and_trace
from tests.support.patience import PATIENCE_SECS

PROBLEM = "application/problem+json"


async def test_an_event_is_written_byte_for_byte(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        body = b'  {"zero":1.50e1,"eventType" : "a", ' + json.dumps(EVENT).encode()[1:] + b"\n"
        status, answer, headers = await door.post(body, traceparent=TRACEPARENT)
        assert (status, answer["accepted"]) == (202, 1)
        assert answer["results"] == [
            {"index": 0, "idempotencyKey": EVENT["idempotencyKey"], "status": "accepted", "partition": 0, "offset": 0}
        ]
        assert headers["traceparent"] == TRACEPARENT
        assert [(r.key, r.value) for r in door.producer.taken] == [(b"acct_8K2zRq", body)]
        assert vendor_and_trace(door) == [(b"acme", TRACEPARENT.encode())]
        answered = door.answers[0]
        assert (answered.status, answered.accepted, answered.vendor, answered.size) == (202, 1, "acme", len(body))
        assert answered.trace_id == TRACEPARENT.split("-")[1]


async def test_an_array_is_written_event_by_event(tmp_path: Path) -> None:
    values = [json.dumps(members(idempotencyKey=f"k{n}"), indent=n or None).encode() for n in range(4)]
    async with ingest_door(tmp_path) as door:
        status, answer, _ = await door.post(b" [" + b" ,\n".join(values) + b"\t]")
        assert status == 202
        assert [result["idempotencyKey"] for result in answer["results"]] == ["k0", "k1", "k2", "k3"]
        assert [record.value for record in door.producer.taken] == values


async def test_an_oversized_event_refuses_the_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        body = json.dumps(members()).encode()
        detail = f"has {len(body)} bytes and is, even compressed, larger than the Kafka topic's max.message.bytes, 100"
        door.producer.failures = {0: "was not written", 1: RecordTooLarge(100), 2: "was not written"}
        status, answer, headers = await door.post(b"[" + b",".join([body] * 3) + b"]")
        assert (status, answer["type"]) == (413, "urn:pushrail:problem:too-large")
        assert answer["detail"] == f"event 1: {detail}"
        assert answer["errors"] == [{"index": 1, "field": "value", "pointer": "#/1", "detail": detail}]
        assert (answer["accepted"], [result["status"] for result in answer["results"]]) == (0, ["failed"] * 3)
        assert "Retry-After" not in headers
        assert (door.answers[0].accepted, door.answers[0].rejected, door.answers[0].failed) == (0, 1, 2)
        door.producer.failures = {0: RecordTooLarge(100)}
        status, answer, _ = await door.post(body)
        assert (status, answer["errors"]) == (413, [{"field": "value", "pointer": "#", "detail": detail}])
        door.producer.failures = {1: RecordTooLarge(100)}
        status, answer, _ = await door.post([members(), members()])
        assert (status, answer["accepted"], answer["results"][0]["status"]) == (413, 1, "accepted")


async def test_an_accepted_event_fits_any_destination(tmp_path: Path) -> None:
    limit, longest = 1_000, with_access_key(0, source="s" * 256)
    async with ingest_door(tmp_path, max_entry_bytes=limit) as door:
        for length in range(0, 1_000, 10):
            status, answer, _ = await door.post(members(payload={"x": "y" * length}))
            if status == 422:
                assert re.search(r"an EventBridge entry of 1\d{3} bytes; 1000 fit", answer["errors"][0]["detail"])
        decoded = [decode(record.value, record.headers, None) for record in door.producer.taken]
        sizes = [entry_size(one, longest) for one in decoded if isinstance(one, Event)]
        assert len(decoded) == len(sizes) < 100
        assert limit - 10 < max(sizes) <= limit


async def test_a_request_without_a_key_is_401(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        for authorization in ("", "Bearer", "Bearer nonsense", "Basic eDp5", f"Bearer {door.key}x"):
            status, answer, headers = await door.post(members(), Authorization=authorization)
            assert (status, answer["type"]) == (401, "urn:pushrail:problem:unauthorized")
            assert headers["WWW-Authenticate"].startswith('Bearer realm="pushrail"')
        assert (await door.post(members(), Authorization=f"bearer  {door.key}"))[0] == 202


async def test_a_key_serves_its_own_vendor(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post(members(), pushrail_vendor="other"))[0] == 403
        assert (await door.post(members(), pushrail_vendor="acme"))[0] == 202


async def test_a_too_large_body_is_not_read(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=10_000) as door:
        assert (await door.post(members(payload={"x": "y" * 10_000})))[0] == 413

        async def drip() -> Any:
            for _ in range(20):
                yield b" " * 1_000

        headers = {"Authorization": f"Bearer {door.key}", "Content-Type": "application/json"}
        async with door.session.post(f"{door.url}/v1/events", data=drip(), headers=headers) as reply:
            assert (reply.status, reply.content_type) == (413, PROBLEM)


async def test_a_missing_body_times_out(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, timeout_secs=0.2) as door:
        port = int(door.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_SECS):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"), "run", f"{door.url}/openapi.json",
            "-H", f"Authorization: Bearer {door.key}", "--checks", "all", "--max-examples", "50", "--seed", "20261124",
            "--no-color", cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 200)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode == 0, out.decode()
        statuses = {answer.status for answer in door.answers}
        assert {202, 401, 403, 422} <= statuses, "good, bad, unauthorized and misdirected requests were made"
        for record in door.producer.taken:
            assert isinstance(decode(record.value, record.headers, None), Event), "what is taken can be delivered"
