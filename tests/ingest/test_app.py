"""IngestApp as those who post see it, before a producer that is not Kafka's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.core.event import Event, decode
from pushrail_stream.eventbridge.entry import entry_size
from pushrail_stream.ingest.errors import HttpProblem
from pushrail_stream.ingest.request import filled, split
from pushrail_stream.ports.kafka import RecordTooLarge
from tests.support.builders import with_access_key
from tests.support.ingest_server import EVENT, Door, event, ingest_door

PROBLEM = "application/problem+json"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def vendor_and_trace(door: Door) -> list[tuple[bytes | None, bytes | None]]:
    return [(dict(r.headers)["pushrail-vendor"], dict(r.headers)["traceparent"]) for r in door.producer.taken]


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


@pytest.mark.parametrize("given_trace", ["", "00-0-0-00", "ff" + TRACEPARENT[2:]])
async def test_a_missing_trace_is_made_unsampled(tmp_path: Path, given_trace: str) -> None:
    async with ingest_door(tmp_path) as door:
        _, _, headers = await door.post(event(), traceparent=given_trace)
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])
        assert vendor_and_trace(door) == [(b"acme", headers["traceparent"].encode())]


async def test_a_later_trace_version_is_shortened(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        later = "cc" + TRACEPARENT[2:]
        _, _, headers = await door.post([event()] * 2, traceparent=f"{later}-{'x' * 5_000}")
        assert headers["traceparent"] == later
        assert vendor_and_trace(door) == [(b"acme", later.encode())] * 2


async def test_an_array_is_written_event_by_event(tmp_path: Path) -> None:
    values = [json.dumps(event(idempotencyKey=f"k{n}"), indent=n or None).encode() for n in range(4)]
    async with ingest_door(tmp_path) as door:
        status, answer, _ = await door.post(b" [" + b" ,\n".join(values) + b"\t]")
        assert status == 202
        assert [result["idempotencyKey"] for result in answer["results"]] == ["k0", "k1", "k2", "k3"]
        assert [record.value for record in door.producer.taken] == values


async def test_one_bad_event_refuses_the_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        bad = event(eventType=None, occurredAt="yesterday", payload=[])
        status, answer, headers = await door.post([event(), bad, 7])
        assert (status, headers["Content-Type"]) == (422, PROBLEM)
        assert answer["type"] == "urn:pushrail:problem:invalid-events"
        assert answer["status"] == 422
        assert answer["detail"].startswith("2 of 3 events break a rule; the first: eventType: is missing")
        found = [(error["index"], error["field"], error["pointer"]) for error in answer["errors"]]
        assert found == [
            (1, "eventType", "#/1/eventType"),
            (1, "payload", "#/1/payload"),
            (1, "occurredAt", "#/1/occurredAt"),
            (2, "value", "#/2"),
        ]
        assert not door.producer.taken
        assert (door.answers[0].rejected, door.answers[0].accepted) == (2, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "value"), (b"{", "value"), (b"[1,", "value"), (b"[]", "value"), (b"7", "value"), (b"null", "value"),
        (b"[" * 100_000, "value"), (b'{"a":' * 5_000, "value"), (b"\xff", "value"), (b'["\xff"]', "value"),
        (json.dumps([EVENT] * 501).encode(), "value"), (json.dumps([[EVENT]]).encode(), "value"),
        (json.dumps(event(payload=None)).encode(), "payload"), (json.dumps(event(eventType="")).encode(), "eventType"),
        (json.dumps(event(idempotencyKey="x" * 257)).encode(), "idempotencyKey"),
        (json.dumps(event(correlationId=7)).encode(), "correlationId"),
        (json.dumps(event(occurredAt="2026-05-26T14:21:08")).encode(), "occurredAt"),
    ],
)  # fmt: skip
async def test_a_bad_body_is_refused_by_field(tmp_path: Path, body: bytes, field: str) -> None:
    async with ingest_door(tmp_path) as door:
        status, answer, _ = await door.post(body)
        assert (status, answer["errors"][0]["field"]) == (422, field)
        assert not door.producer.taken


async def test_an_oversized_event_refuses_the_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        body = json.dumps(event()).encode()
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
        status, answer, _ = await door.post([event(), event()])
        assert (status, answer["accepted"], answer["results"][0]["status"]) == (413, 1, "accepted")


async def test_an_accepted_event_fits_any_destination(tmp_path: Path) -> None:
    limit, longest = 1_000, with_access_key(0, source="s" * 256)
    async with ingest_door(tmp_path, max_entry_bytes=limit) as door:
        for length in range(0, 1_000, 10):
            status, answer, _ = await door.post(event(payload={"x": "y" * length}))
            if status == 422:
                assert re.search(r"an EventBridge entry of 1\d{3} bytes; 1000 fit", answer["errors"][0]["detail"])
        decoded = [decode(record.value, record.headers, None) for record in door.producer.taken]
        sizes = [entry_size(one, longest) for one in decoded if isinstance(one, Event)]
        assert len(decoded) == len(sizes) < 100
        assert limit - 10 < max(sizes) <= limit


async def test_the_header_gives_the_idempotency_key(tmp_path: Path) -> None:
    bare = json.dumps(event(idempotencyKey=None)).encode()
    async with ingest_door(tmp_path) as door:
        await door.post(bare, Idempotency_Key="order-7")
        await door.post(event(), Idempotency_Key="order-7")
        await door.post(b"[" + bare + b"," + bare + b"]", Idempotency_Key='"in quotes"')
        keys = [json.loads(record.value)["idempotencyKey"] for record in door.producer.taken]
        assert keys == ["order-7", EVENT["idempotencyKey"], "in quotes-0", "in quotes-1"]
        assert door.producer.taken[0].value == bare[:-1] + b',"idempotencyKey":"order-7"}'
        for wrong in ("x" * 253, "ü", '""'):
            status, answer, _ = await door.post(bare, Idempotency_Key=wrong)
            assert (status, answer["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_a_long_key_fits_the_longest_array(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post([event(idempotencyKey=None)] * 500, Idempotency_Key="k" * 252))[0] == 202
        assert json.loads(door.producer.taken[-1].value)["idempotencyKey"] == "k" * 252 + "-499"


async def test_a_request_without_a_key_is_401(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        for authorization in ("", "Bearer", "Bearer nonsense", "Basic eDp5", f"Bearer {door.key}x"):
            status, answer, headers = await door.post(event(), Authorization=authorization)
            assert (status, answer["type"]) == (401, "urn:pushrail:problem:unauthorized")
            assert headers["WWW-Authenticate"].startswith('Bearer realm="pushrail"')
        assert (await door.post(event(), Authorization=f"bearer  {door.key}"))[0] == 202


async def test_a_key_serves_its_own_vendor(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post(event(), pushrail_vendor="other"))[0] == 403
        assert (await door.post(event(), pushrail_vendor="acme"))[0] == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": ""}, 415), ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/json; charset=latin-1"}, 415), ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Type": "application/json; charset=UTF-8"}, 202), ({"Content_Type": "Application/JSON"}, 202),
        ({"Content_Encoding": "identity"}, 202),
    ],
)  # fmt: skip
async def test_only_json_is_taken(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post(event(), **headers))[0] == status


async def test_a_too_large_body_is_not_read(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=10_000) as door:
        assert (await door.post(event(payload={"x": "y" * 10_000})))[0] == 413

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
        async with asyncio.timeout(20):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_limited_key_is_told_when_to_return(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_events_per_second=1) as door:
        statuses, retry_after = list[int](), ""
        for _ in range(3):
            status, _, headers = await door.post([event()] * 200)
            statuses.append(status)
            retry_after = headers.get("Retry-After", "")
        assert statuses == [202, 202, 429]
        assert 90 <= int(retry_after) <= 101
        assert len(door.producer.taken) == 400
        assert (await door.post(event(), door.other_key))[0] == 202


async def test_an_invalid_event_counts_for_the_rate(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_events_per_second=1) as door:
        statuses = [(await door.post(b"[1,"))[0] for _ in range(600)]
        assert statuses[:500] == [422] * 500
        assert 429 in statuses[500:]


async def test_a_full_buffer_refuses_at_once(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=1_024, max_buffered_bytes=2 * 3 * 17 * 2**10) as door:
        door.producer.open.clear()
        async with asyncio.TaskGroup() as tasks:
            async with asyncio.timeout(20):
                waiting = [tasks.create_task(door.post(event())) for _ in range(3)]
                for _ in range(3):
                    await door.producer.entered.get()
                status, answer, headers = await door.post(event())
                assert (status, headers["Retry-After"]) == (503, "1")
                assert answer["detail"] == "more of this API key is waiting for Kafka than may wait"
                # The other half is for others, until that is full as well.
                waiting += [tasks.create_task(door.post(event(), door.other_key)) for _ in range(3)]
                for _ in range(3):
                    await door.producer.entered.get()
            status, answer, headers = await door.post(event(), door.other_key)
            assert (status, headers["Retry-After"], answer["type"]) == (503, "1", "urn:pushrail:problem:unavailable")
            door.producer.open.set()
        assert [task.result()[0] for task in waiting] == [202] * 6
        assert door.ingest.buffered_bytes == 0


async def test_waiting_bodies_take_room(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=2**20, max_buffered_bytes=2**21) as door:
        door.producer.open.clear()
        big = event(payload={"x": "y" * 600_000})
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
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
        async with asyncio.timeout(20), contextlib.AsyncExitStack() as connections:
            for size in (*["Transfer-Encoding: chunked"] * 20, *["Content-Length: 1000000"] * 20):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                connections.callback(writer.close)
                writer.write(f"{head}{size}\r\n\r\n".encode())
            while door.ingest.buffered_bytes < 40 * 2**14:  # noqa: ASYNC110 - until the last has come in
                await asyncio.sleep(0.01)
            big = event(payload={"x": "y" * 300_000})
            assert (await door.post(big))[0] == 202
            assert (await door.post(big, door.other_key))[0] == 202


@pytest.mark.parametrize(("announced", "status"), [("0" * 30 + "{}", 202), ("0" * 30 + "9" * 18, 413)])
async def test_a_length_may_have_leading_zeros(tmp_path: Path, announced: str, status: int) -> None:
    async with ingest_door(tmp_path) as door:
        body = json.dumps(event()).encode()
        port = int(door.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n".encode())
        writer.write(
            f"Content-Type: application/json\r\nContent-Length: {announced}\r\n\r\n".format(len(body)).encode()
        )
        writer.write(body)
        async with asyncio.timeout(20):
            assert f" {status} ".encode() in await reader.readline()
        writer.close()


async def test_unacknowledged_events_are_named(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        door.producer.failures = {1: "Local: Message timed out"}
        status, answer, headers = await door.post([event(), event(idempotencyKey="second")])
        assert (status, headers["Retry-After"], answer["accepted"]) == (503, "5", 1)
        assert [result["status"] for result in answer["results"]] == ["accepted", "failed"]
        assert answer["results"][1]["detail"] == "Local: Message timed out"
        assert (door.answers[0].accepted, door.answers[0].failed) == (1, 1)


async def test_a_stop_answers_open_requests(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        door.producer.open.clear()
        async with asyncio.TaskGroup() as tasks:
            in_flight = tasks.create_task(door.post(event()))
            async with asyncio.timeout(20):
                await door.producer.entered.get()
            door.server.stop()
            async with asyncio.timeout(20):
                while True:
                    try:
                        async with aiohttp.ClientSession() as late:
                            await late.get(f"{door.url}/openapi.json")
                    except aiohttp.ClientConnectorError:
                        break
                    await asyncio.sleep(0.01)
            door.producer.open.set()
        assert in_flight.result()[0] == 202


async def test_framework_errors_are_problems_too(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        for method, path, status in (("GET", "/nothing", 404), ("PUT", "/v1/events", 405)):
            async with door.session.request(method, door.url + path) as reply:
                assert (reply.status, reply.content_type) == (status, PROBLEM)
                assert (await reply.json(content_type=None))["status"] == status
                assert "uvicorn" not in str(reply.headers)
        assert [answer.status for answer in door.answers] == [404, 405]


async def test_a_bug_is_a_500_without_details(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:

        async def broken(_records: Any) -> Any:
            raise RuntimeError("secret detail")

        door.producer.publish_all = broken  # type: ignore[method-assign, assignment]
        status, answer, _ = await door.post(event())
        assert status == 500
        assert "secret" not in str(answer)
        assert door.answers[0].status == 500
        assert door.ingest.buffered_bytes == 0


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ \n\t0aé', max_size=60).map(str.encode))
def test_any_body_is_split_or_refused(body: bytes) -> None:
    with contextlib.suppress(HttpProblem):
        values, is_array = split(body)
        assert is_array or values == [body]


SPACE = st.text(alphabet=" \t\n\r", max_size=3).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(JSON, st.booleans(), SPACE, SPACE), min_size=1, max_size=6), SPACE, SPACE)
def test_an_array_splits_byte_for_byte(
    elements: list[tuple[Any, bool, bytes, bytes]], before: bytes, after: bytes
) -> None:
    written = [
        (json.dumps(value, ensure_ascii=ascii_only, indent=1 if ascii_only else None).encode("utf-8"), left, right)
        for value, ascii_only, left, right in elements
    ]
    body = before + b"[" + b",".join(left + value + right for value, left, right in written) + b"]" + after
    assert split(body) == ([value for value, _, _ in written], True)


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers(), max_size=4),
    st.text(min_size=1, max_size=20),
)
def test_filling_a_key_adds_one_member(data: dict[str, Any], key: str) -> None:
    posted = json.dumps(data, indent=1).encode()
    after = filled(posted, key)
    expected = data | ({} if "idempotencyKey" in data else {"idempotencyKey": key})
    assert json.loads(after) == expected
    assert after.startswith(posted.rstrip()[:-1].rstrip())
