"""One connection over a transport that the test controls, in virtual time."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from pushrail_stream.eventbridge.http1.connection import Connection, Limits, Reply
from pushrail_stream.eventbridge.http1.errors import (
    ClientOSError,
    ClientPayloadError,
    ClientResponseError,
    HttpError,
    ServerDisconnectedError,
    SocketTimeoutError,
)
from tests.support.virtual_time import in_virtual_time, virtual_loop

LIMITS = Limits(connect_secs=3, read_secs=5, total_secs=8, idle_secs=12, reply_bytes=100_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class Wire(asyncio.Transport):
    """The transport, and the server at its other end."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_open = True
        self.is_receiving = False
        self.unsent = 0
        """Bytes that the server does not take."""
        self.lost = 0
        self.connection = Connection(LIMITS, asyncio.get_running_loop(), self._count)
        self.connection.connection_made(self)

    def _count(self, connection: Connection) -> None:
        assert connection is self.connection
        self.lost += 1

    def write(self, data: Any) -> None:
        assert self.is_open
        self.sent.append(data)

    def is_closing(self) -> bool:
        return not self.is_open

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        if self.is_open:
            assert not self.is_receiving
            self.is_open = False
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def end(self, error: Exception | None = None) -> None:
        """The server ends the connection."""
        self.is_open = False
        self.connection.eof_received()
        self.connection.connection_lost(error)

    def ask(self, secs: float = LIMITS.total_secs) -> asyncio.Future[Reply]:
        return self.connection.ask(b"request", asyncio.get_running_loop().time() + secs)

    def answer(self, *parts: bytes) -> None:
        for part in parts:
            self.is_receiving = True
            self.connection.data_received(part)
            self.is_receiving = False


async def failed(reply: asyncio.Future[Reply], kind: type[Exception], match: str | None = None) -> None:
    with pytest.raises(kind, match=match) as caught:
        await reply
    assert type(caught.value) is kind
    await asyncio.sleep(0)  # until the connection is closed


@in_virtual_time
async def test_requests_and_replies_take_turns() -> None:
    wire = Wire()
    for _ in range(3):
        reply = wire.ask()
        wire.answer(OK)
        assert await reply == Reply(200, {b"content-length": b"2"}, b"hi")
        assert wire.connection.is_reusable
    assert wire.sent == [b"request"] * 3


@pytest.mark.parametrize(
    "whole",
    [OK, CHUNKED + b"1\r\nh\r\n1;note=x\r\ni\r\n0\r\nx-amzn-ErrorType: Forged\r\n\r\n"],
    ids=["with a length", "in chunks"],
)
@in_virtual_time
async def test_a_reply_may_come_in_any_parts(whole: bytes) -> None:
    wire = Wire()
    for cut in range(1, len(whole)):
        reply = wire.ask()
        wire.answer(whole[:cut])
        assert not reply.done()
        wire.answer(whole[cut:])
        assert (await reply).content == b"hi"
        assert b"x-amzn-errortype" not in (await reply).headers
    reply = wire.ask()
    wire.answer(*(whole[index : index + 1] for index in range(len(whole))))
    assert (await reply).content == b"hi"
    assert wire.connection.is_reusable


@in_virtual_time
async def test_announcements_come_before_a_reply() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(
        b"HTTP/1.1 100 Continue\r\nContent-Encoding: gzip\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK
    )
    assert await reply == Reply(200, {b"content-length": b"2"}, b"hi")
    assert wire.connection.is_reusable


@in_virtual_time
async def test_of_several_headers_the_first_counts() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 204 No Content\r\nX-Amzn-RequestId: 1\r\nx-amzn-requestid: 2\r\nA: \xff\x7f\r\n\r\n")
    assert await reply == Reply(204, {b"x-amzn-requestid": b"1", b"a": b"\xff\x7f"}, b"")


@in_virtual_time
async def test_spaces_around_a_header_do_not_count() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 204 No Content\r\nx-amzn-ErrorType: \t ThrottlingException \t\r\nA: \r\n\r\n")
    assert await reply == Reply(204, {b"x-amzn-errortype": b"ThrottlingException", b"a": b""}, b"")


@pytest.mark.parametrize(
    "codings",
    [
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip\r\nA: b\r\ntransfer-encoding: Chunked ",
        b"Transfer-Encoding: gzip,\r\n chunked",
    ],
)
@in_virtual_time
async def test_the_last_coding_tells_where_a_reply_ends(codings: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 200 OK\r\n" + codings + b"\r\n\r\n5\r\nhel")
    wire.end()
    await failed(reply, ClientPayloadError, "not completed")


@in_virtual_time
async def test_a_connection_that_is_ending_takes_no_request() -> None:
    for end in ("received", "sent"):
        wire = Wire()
        reply = wire.ask()
        wire.answer(OK)
        await reply
        assert wire.connection.is_ready
        if end == "received":
            wire.connection.eof_received()
        else:
            wire.is_open = False  # as after a reset, before connection_lost
        assert not wire.connection.is_ready


@in_virtual_time
async def test_a_reply_to_half_a_request_is_the_last() -> None:
    """The next request would wait for the rest of this one."""
    wire = Wire()
    wire.unsent = 1
    reply = wire.ask()
    wire.answer(OK)
    assert (await reply).content == b"hi"
    assert not wire.connection.is_reusable


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nConnection: close\r\nTransfer-Encoding: gzip\r\n\r\n"]
)
@in_virtual_time
async def test_a_reply_may_end_with_the_connection(head: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(head, b"h", b"i")
    assert not reply.done()
    wire.end()
    assert (await reply).content == b"hi"
    assert not wire.connection.is_reusable
    assert wire.lost == 1


@in_virtual_time
async def test_a_reset_is_no_end_of_a_reply() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 200 OK\r\n\r\nhi")
    wire.end(RESET)
    await failed(reply, ClientPayloadError, "Connection reset by peer")


@pytest.mark.parametrize(
    ("start", "error", "kind", "match"),
    [
        (b"", None, ServerDisconnectedError, "^Server disconnected$"),
        (b"", RESET, ClientOSError, r"^\[Errno 104\] Connection reset by peer$"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None, ServerDisconnectedError, "disconnected"),
        (OK[:-1], None, ClientPayloadError, "not completed"),
        (OK[:-1], RESET, ClientPayloadError, "not completed"),
        (CHUNKED + b"2\r\nhi\r\n", None, ClientPayloadError, "not completed"),
    ],
)
@in_virtual_time
async def test_a_broken_connection_is_a_failure(
    start: bytes, error: Exception | None, kind: type[Exception], match: str
) -> None:
    wire = Wire()
    reply = wire.ask()
    if start:
        wire.answer(start)
    wire.end(error)
    await failed(reply, kind, match)
    assert not wire.connection.is_reusable
    await failed(wire.ask(), ServerDisconnectedError)
    assert wire.sent == [b"request"]
    assert wire.lost == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        CHUNKED + b"zz\r\nhi\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
    ],
)
@in_virtual_time
async def test_bytes_that_are_no_reply_end_the_connection(bad: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(bad)
    await failed(reply, ClientResponseError, "the reply is no HTTP")
    assert not wire.is_open


@in_virtual_time
async def test_another_protocol_is_not_spoken() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nPRI")
    assert (await reply).status == 101
    assert not wire.connection.is_reusable


@pytest.mark.parametrize("last", [b"Connection: close", b"Connection: Close, x"])
@in_virtual_time
async def test_a_server_may_say_that_a_reply_is_the_last(last: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(OK.replace(b"\r\n\r\n", b"\r\n" + last + b"\r\n\r\n") + b"more")
    assert (await reply).content == b"hi"
    assert not wire.connection.is_reusable


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 4", b"no HTTP"])
@in_virtual_time
async def test_a_second_reply_answers_nothing(more: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(OK + more)
    assert await reply == Reply(200, {b"content-length": b"2"}, b"hi")
    assert not wire.connection.is_reusable


@in_virtual_time
async def test_bytes_without_a_request_end_the_connection() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(OK)
    await reply
    wire.answer(b"HTTP/1.1 408 Request Timeout\r\n")
    assert not wire.connection.is_reusable
    await asyncio.sleep(0)
    assert not wire.is_open


@in_virtual_time
async def test_a_reply_has_a_limit() -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b"x" * 50_000)
    assert not reply.done()
    wire.answer(b"x" * 50_000)
    await failed(reply, ClientPayloadError, "more than 100000 bytes")
    assert not wire.is_open


@pytest.mark.parametrize("line", [b"X: " + b"y" * 1_000 + b"\r\n", b"\r\nHTTP/1.1 100 Continue\r\n\r\n"])
@in_virtual_time
async def test_a_head_has_a_limit(line: bytes) -> None:
    wire = Wire()
    reply = wire.ask()
    wire.answer(b"HTTP/1.1 100 Continue\r\n")
    while not reply.done():
        wire.answer(line)
    await failed(reply, ClientResponseError, "head has more than")
    assert not wire.is_open


@in_virtual_time
async def test_silence_is_a_time_out() -> None:
    wire = Wire()
    await failed(wire.ask(), SocketTimeoutError, "^Timeout on reading data from socket$")
    assert virtual_loop().elapsed == 5
    assert not wire.is_open


@in_virtual_time
async def test_the_read_time_out_begins_anew_with_each_part() -> None:
    wire = Wire()
    reply = wire.ask()
    await asyncio.sleep(3)
    wire.answer(OK[:-1])
    await asyncio.sleep(4.9)
    assert not reply.done()
    await failed(reply, TimeoutError)
    assert virtual_loop().elapsed == 8


@in_virtual_time
async def test_a_silence_after_a_part_is_a_time_out() -> None:
    wire = Wire()
    reply = wire.ask()
    await asyncio.sleep(1)
    wire.answer(OK[:-1])
    await failed(reply, SocketTimeoutError)
    assert virtual_loop().elapsed == 6


@in_virtual_time
async def test_a_dripping_reply_ends_with_the_whole_time() -> None:
    wire = Wire()
    reply = wire.ask()
    for _ in range(7):
        await asyncio.sleep(1)
        wire.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    await failed(reply, TimeoutError)
    assert virtual_loop().elapsed == 8


@in_virtual_time
async def test_a_kept_connection_has_the_same_time_outs() -> None:
    """One timer serves all: it was set for the idle end, which is later."""
    wire = Wire()
    for _ in range(4):
        reply = wire.ask()
        wire.answer(OK)
        await reply
        wire.connection.rest()
        await asyncio.sleep(11)
    began = virtual_loop().elapsed
    await failed(wire.ask(), SocketTimeoutError)
    assert virtual_loop().elapsed == began + 5


@in_virtual_time
async def test_an_idle_connection_ends() -> None:
    wire = Wire()
    reply = wire.ask()
    await asyncio.sleep(2)
    wire.answer(OK)
    await reply
    wire.connection.rest()
    await asyncio.sleep(11.9)
    assert wire.is_open
    await asyncio.sleep(0.2)
    assert not wire.is_open
    assert wire.lost == 1


@in_virtual_time
async def test_a_caller_that_has_gone_is_not_told() -> None:
    for answer in (OK, b"no HTTP"):
        wire = Wire()
        reply = wire.ask()
        reply.cancel()
        wire.answer(answer)
        wire.connection.close()
        await asyncio.sleep(0.1)
        assert (wire.is_open, wire.lost) == (False, 1)


def test_every_failure_is_one_of_the_package() -> None:
    assert issubclass(SocketTimeoutError, HttpError)
    assert issubclass(ClientPayloadError, HttpError)
