"""What one connection may take of ingest, as whoever opens it sees it: without a key, slowly, or too much."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.support.ingest_server import Door, answer, connection, ingest_door, members
from tests.support.patience import PATIENCE_SECS

HEAD = "POST /v1/events HTTP/1.1\r\nHost: x\r\n"
PROBLEM = b"content-type: application/problem+json"


async def end_of(reader: asyncio.StreamReader) -> None:
    """Return when the connection was closed, in whichever way."""
    with suppress(ConnectionResetError):
        while await reader.read(2**16):
            pass


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Write a little again and again, until the peer accepts no more."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)


async def test_a_missing_head_times_out(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, timeout_secs=0.3) as door:
        async with connection(door) as (reader, writer), asyncio.TaskGroup() as tasks:
            writer.write(HEAD.encode() + b"X-Slow: ")
            dripping = tasks.create_task(drip(writer, b"a"))
            status, head, body = await answer(reader)
            assert (status, json.loads(body)["type"]) == (408, "urn:pushrail:problem:too-slow")
            assert PROBLEM in head
            await end_of(reader)
            dripping.cancel()
        assert [seen.status for seen in door.answers] == [408]


async def test_empty_lines_are_no_request(tmp_path: Path) -> None:
    async with (
        ingest_door(tmp_path, timeout_secs=0.3) as door,
        connection(door) as (reader, writer),
        asyncio.TaskGroup() as tasks,
    ):
        dripping = tasks.create_task(drip(writer, b"\r\n"))
        assert (await answer(reader))[0] == 408
        await end_of(reader)
        dripping.cancel()


@pytest.mark.parametrize("ends", [b"", b": \r\n\r\n"])
async def test_a_too_large_head_is_refused(tmp_path: Path, ends: bytes) -> None:
    async with ingest_door(tmp_path) as door:
        async with connection(door) as (reader, writer):
            writer.write(HEAD.encode() + b"X-Large-" + b"a" * 17_000 + ends)
            status, _, body = await answer(reader)
            assert (status, json.loads(body)["detail"]) == (431, "a request's head may have 16384 bytes")
            await end_of(reader)
        assert [seen.status for seen in door.answers] == [431]
        assert (await door.post(members(), X_Large="a" * 12_000))[0] == 202


async def test_endless_trailers_are_refused(tmp_path: Path) -> None:
    async with (
        ingest_door(tmp_path, timeout_secs=5 * PATIENCE_SECS) as door,
        connection(door) as (reader, writer),
        asyncio.TaskGroup() as tasks,
    ):
        writer.write(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n".encode())
        assert (await answer(reader))[0] == 401
        dripping = tasks.create_task(drip(writer, b"X-More: a\r\n" * 100))
        await end_of(reader)
        dripping.cancel()


async def test_a_broken_body_is_one_problem(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        writer.write(f"{HEAD}Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n".encode())
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
        while not door.ingest.buffered_bytes:  # noqa: ASYNC110 - the application has begun to read it
            await asyncio.sleep(0.01)
        writer.write(b"nonsense\r\n")
        assert (await answer(reader))[0] == 400
        await end_of(reader)
        while door.ingest.buffered_bytes:  # noqa: ASYNC110 - and has heard of the end
            await asyncio.sleep(0.01)
        assert [seen.status for seen in door.answers] == [400]


async def test_a_refused_body_is_not_awaited(tmp_path: Path) -> None:
    async with (
        ingest_door(tmp_path, timeout_secs=0.3) as door,
        connection(door) as (reader, writer),
        asyncio.TaskGroup() as tasks,
    ):
        writer.write(f"{HEAD}Content-Length: 100000000000\r\n\r\n".encode())
        assert (await answer(reader))[0] == 401
        dripping = tasks.create_task(drip(writer, b"x" * 1_000))
        await end_of(reader)
        dripping.cancel()


async def test_a_too_large_body_ends_the_connection(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=1_000) as door, connection(door) as (reader, writer):
        writer.write(f"{HEAD}Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n".encode())
        writer.write(b"Content-Length: 100000\r\n\r\n")
        assert (await answer(reader))[0] == 413
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""


async def test_a_refused_body_precedes_the_next_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 100000\r\n\r\n".encode())
        assert (await answer(reader))[0] == 401
        writer.write(b"x" * 100_000 + b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader))[0] == 200


async def test_a_refused_body_keeps_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.ingest.server._KEEP_ALIVE_SECS", 0.5)
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 100000\r\n\r\n".encode())
        assert (await answer(reader))[0] == 401
        writer.write(b"x" * 100_000)
        await end_of(reader)


async def test_half_a_head_delays_no_answer(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, timeout_secs=0.3) as door, connection(door) as (reader, writer):
        door.producer.open.clear()
        body = json.dumps(members()).encode()
        post = f"{HEAD}Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n"
        writer.write(f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"GET /docs HT")
        await door.producer.entered.get()
        asyncio.get_running_loop().call_later(0.5, door.producer.open.set)  # later than a head may come
        assert [(await answer(reader))[0] for _ in range(2)] == [202, 408]
        await end_of(reader)


async def test_pipelined_requests_keep_their_order(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        body = json.dumps(members()).encode()
        post = f"{HEAD}Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n"
        writer.write(f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert [(await answer(reader))[0] for _ in range(2)] == [202, 404]
        assert await reader.read() == b""


def test_a_client_that_leaves_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def go_away() -> None:
        async with ingest_door(tmp_path) as door:
            door.producer.open.clear()
            async with connection(door) as (_, writer):
                writer.write(posted(door) * 3)
                await door.producer.entered.get()
                writer.transport.abort()
            while door.open_connections:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.01)
            door.producer.open.set()
            while not door.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the program runs
        runner.run(go_away())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
OFFERS = [H2C, "Connection: Upgrade\r\nUpgrade: foo\r\n", "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"]


def posted(
    door: Door, more: str = "", *, framing: str = "length", version: str = "1.1", host: str = "Host: x"
) -> bytes:
    """A good request to post an event, to the byte."""
    body = json.dumps(members()).encode()
    size, sent = f"Content-Length: {len(body)}\r\n", body
    if framing == "chunked":
        size, sent = (
            "Transfer-Encoding: chunked\r\n",
            b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:]),
        )
    key = f"Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n"
    lines = f"POST /v1/events HTTP/{version}\r\n{host}\r\n{key}".replace("\r\n\r\n", "\r\n")
    return f"{lines}{'' if framing == 'none' else size}{more}\r\n".encode() + (b"" if framing == "none" else sent)


async def dialogue(door: Door, sent: bytes, answers: int = 1, piece: int = 0) -> list[int]:
    """Statuses of the answers to these bytes; ``piece``: the number of bytes that are written at once."""
    async with connection(door) as (reader, writer):
        for start in range(0, len(sent), piece or len(sent)):
            writer.write(sent[start : start + (piece or len(sent))])
            if piece:
                await writer.drain()
                await asyncio.sleep(0)
        return [(await answer(reader))[0] for _ in range(answers)]


@pytest.mark.parametrize("piece", [0, 1, 100])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_upgrade_offer_is_declined(tmp_path: Path, offer: str, framing: str, piece: int) -> None:
    async with ingest_door(tmp_path) as door:
        assert await dialogue(door, posted(door, offer, framing=framing), piece=piece) == [202]
        assert [record.value for record in door.producer.taken] == [json.dumps(members()).encode()]


async def test_upgrade_offers_may_repeat(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        get = f"GET /docs HTTP/1.1\r\nHost: x\r\n{H2C}\r\n".encode()
        many = b"".join([posted(door, H2C), get, posted(door, H2C, framing="chunked"), posted(door)]) * 50
        assert await dialogue(door, many, 200) == [202, 200, 202, 202] * 50
        last = b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n"
        async with connection(door) as (reader, writer):
            writer.write(posted(door, H2C) + last)
            assert [(await answer(reader))[0] for _ in range(2)] == [202, 200]
            assert await reader.read() == b""


async def test_an_upgrade_offer_waits_for_100(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        head, _, body = posted(door, f"{H2C}Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer(reader))[0] == 202


async def test_an_upgrade_offer_changes_no_limit(tmp_path: Path) -> None:
    async with ingest_door(tmp_path, max_body_bytes=1_000) as door:
        assert await dialogue(door, posted(door, H2C + "X: " + "a" * 17_000 + "\r\n")) == [431]
        assert await dialogue(door, f"{HEAD}{H2C}Content-Length: 5\r\nContent-Length: 5\r\n\r\n".encode()) == [400]
        large = f"{HEAD}{H2C}Authorization: Bearer {door.key}\r\nContent-Type: application/json\r\n"
        assert await dialogue(door, f"{large}Content-Length: 1001\r\n\r\n".encode()) == [413]


@pytest.mark.parametrize(
    ("framing", "version", "host", "more", "status"),
    [
        ("none", "1.1", "Host: x", "", 411),
        ("none", "1.0", "", "", 411),
        ("none", "1.1", "Host: x", H2C, 411),
        ("length", "1.1", "", "", 400),
        ("length", "1.1", "Host: x\r\nHost: x", "", 400),
        ("length", "1.1", "Host: x\r\nHost: y", H2C, 400),
        ("length", "1.0", "Host: x\r\nHost: y", "", 400),
        ("length", "1.1", "Host: a b", "", 400),
        ("length", "1.1", "Host: http://x/", "", 400),
        ("length", "1.1", "Host: x", "Content-Length: 2\r\n", 400),
        ("length", "1.1", "Host: x", "Transfer-Encoding: chunked\r\n", 400),
        ("chunked", "1.1", "Host: x", "Content-Length: 2\r\n", 400),
        ("chunked", "1.1", "Host: x", "Transfer-Encoding: chunked\r\n", 400),
        ("chunked", "1.1", "Host: x\r\nTransfer-Encoding: gzip", "", 400),
        ("chunked", "1.1", "Host: x\r\nTransfer-Encoding: identity", H2C, 400),
        ("chunked", "1.0", "Host: x", "", 400),
        ("none", "1.1", "Host: x", "Transfer-Encoding: identity\r\n", 400),
        ("none", "1.1", "Host: x", "Transfer-Encoding: xchunked\r\n", 400),
        ("none", "1.1", "Host: x", "Transfer-Encoding: gzip, chunked\r\n", 400),
        ("none", "1.1", "Host: x", "Content-Length: 2, 2\r\n", 400),
        ("none", "1.1", "Host: x", "Content-Length: +2\r\n", 400),
        ("length", "2.0", "Host: x", "", 400),
        ("length", "0.9", "Host: x", "", 400),
        ("length", "1.1", "Host: x", "", 202),
        ("length", "1.1", "Host:", "", 202),
        ("length", "1.1", "Host: [::1]:8080 ", "", 202),
        ("length", "1.0", "", "", 202),
        ("length", "1.0", "Host: x", "Expect: 100-continue\r\n", 202),
        ("chunked", "1.1", "Host: x", "Expect: 100-continue\r\n", 100),
    ],
)
async def test_a_head_follows_the_rules_of_http(
    tmp_path: Path, framing: str, version: str, host: str, more: str, status: int
) -> None:
    async with ingest_door(tmp_path) as door:
        sent = posted(door, more, framing=framing, version=version, host=host)
        async with connection(door) as (reader, writer):
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split(b" ", 2)[1]) == status
            if status >= 400:
                assert PROBLEM in head.lower()
                assert b"connection: close" in head.lower()
                await end_of(reader)
                assert [seen.status for seen in door.answers] == [status]
                assert not door.producer.taken


async def test_an_unannounced_body_is_no_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        writer.write(posted(door, framing="none") + posted(door))
        status, _, body = await answer(reader)
        assert (status, json.loads(body)["type"]) == (411, "urn:pushrail:problem:length-required")
        assert await reader.read() == b""
        assert not door.producer.taken


@pytest.mark.parametrize("target", ["http://ingest.example/v1/events", "/v1/events?from=x", "/v1/events#x"])
async def test_any_form_of_target_is_accepted(tmp_path: Path, target: str) -> None:
    async with ingest_door(tmp_path) as door:
        assert await dialogue(door, posted(door).replace(b"/v1/events", target.encode(), 1)) == [202]


@pytest.mark.parametrize("path", ["/v1/events/", "/docs/", "/openapi.json/", "//v1/events", "/v1/", "//evil.example/"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_extra_slash_is_not_found(tmp_path: Path, path: str, method: str) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        head = f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Proto: https\r\n"
        writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
        status, told, _ = await answer(reader)
        assert status == 404
        assert b"location" not in told
        assert [seen.status for seen in door.answers] == [404]


async def test_no_redirect_names_a_scheme_or_a_host(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        status, told, _ = await answer(reader)
        assert status in {302, 307}
        assert b"\r\nlocation: /docs\r\n" in told


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\r\n\r\n", b"POST /v1/events HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"]
)
async def test_garbage_suppresses_no_earlier_answer(tmp_path: Path, nonsense: bytes) -> None:
    async with ingest_door(tmp_path) as door, connection(door) as (reader, writer):
        door.producer.open.clear()
        writer.write(posted(door) + posted(door) + nonsense)
        await door.producer.entered.get()
        writer.write(b"more" * 1_000)
        door.producer.open.set()
        assert [(await answer(reader))[0] for _ in range(2)] == [202, 202]
        await end_of(reader)
        assert sorted(seen.status for seen in door.answers) == [202, 202, 400]


@pytest.mark.parametrize("mib", [9, 30])
@pytest.mark.parametrize("more", [{}, {"Connection": "close"}, {"Transfer-Encoding": "chunked"}])
async def test_a_simple_client_sees_413(tmp_path: Path, mib: int, more: dict[str, str]) -> None:
    async with ingest_door(tmp_path, max_body_bytes=8 * 2**20, max_buffered_bytes=2**25) as door:

        def post() -> tuple[int, str | None]:
            client = http.client.HTTPConnection(door.url.removeprefix("http://"), timeout=30)
            parts: Any = b"x" * mib * 2**20
            if more.get("Transfer-Encoding"):
                parts = (b"x" * 2**20 for _ in range(mib))
            headers = {"Authorization": f"Bearer {door.key}", "Content-Type": "application/json"} | more
            client.request("POST", "/v1/events", parts, headers, encode_chunked="Transfer-Encoding" in more)
            reply = client.getresponse()
            client.close()
            return reply.status, reply.headers["Content-Type"]

        assert await asyncio.to_thread(post) == (413, "application/problem+json")
        assert door.ingest.buffered_bytes == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_other_protocols_get_a_counted_problem(tmp_path: Path, nonsense: bytes) -> None:
    async with ingest_door(tmp_path) as door:
        async with connection(door) as (reader, writer):
            writer.write(nonsense)
            status, head, body = await answer(reader)
            assert (status, json.loads(body)["status"]) == (400, 400)
            assert PROBLEM in head
            assert await reader.read() == b""
        assert [seen.status for seen in door.answers] == [400]


def pieces(key: str) -> list[bytes]:
    """Requests good and bad, to be put one behind the other and damaged."""
    body = json.dumps(members()).encode()
    post = f"{HEAD}Authorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()
    return [
        post + f"Content-Length: {len(body)}\r\n\r\n".encode() + body,
        post + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(body) + body + b"\r\n0\r\nX-More: a\r\n\r\n",
        post + b"Content-Length: 9000\r\n\r\n" + b"x" * 9_000,
        post + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n{}\n",
        post + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
        HEAD.encode() + b"Content-Length: 20000\r\n\r\n" + b"y" * 20_000,
        b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n",
        b"X-" + b"a" * 20_000,
    ]


async def send_damaged(door: Door, rnd: random.Random) -> None:
    """A few requests, some of their bytes changed, in pieces, by a client that may or may not wait for answers."""
    data = bytearray(b"".join(rnd.choices(pieces(door.key), k=rnd.randint(1, 5))))
    for _ in range(rnd.choice((0, 0, 1, 3))):
        data[rnd.randrange(len(data))] = rnd.randrange(256)
    async with connection(door) as (reader, writer):
        with suppress(OSError, TimeoutError):
            while data:
                length = rnd.choice((1, 7, 100, 4_000, len(data)))
                writer.write(data[:length])
                del data[:length]
                await writer.drain()
            async with asyncio.timeout(rnd.choice((0, 0.05))):
                await end_of(reader)
        if rnd.random() < 0.5:
            writer.transport.abort()


@pytest.mark.parametrize("seed", range(3))
async def test_any_bytes_leave_the_server_serving(tmp_path: Path, seed: int) -> None:
    rnd, failures = random.Random(seed), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    async with ingest_door(tmp_path, timeout_secs=1, max_body_bytes=5_000, max_buffered_bytes=100_000) as door:
        for _ in range(15):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(send_damaged(door, rnd))
        async with asyncio.timeout(PATIENCE_SECS):
            while door.open_connections or door.ingest.buffered_bytes:  # noqa: ASYNC110 - until all deadlines are over
                await asyncio.sleep(0.01)
        assert (await door.post(members()))[0] == 202
        assert {202, 400, 401, 404, 413, 422} <= {seen.status for seen in door.answers}
        assert not failures
