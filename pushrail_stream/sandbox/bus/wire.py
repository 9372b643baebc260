"""HTTP/1.1 over an asyncio transport. Replies come in order; a reply can be late, missing, or a connection reset.

One connection answers one request at a time; pipelined requests wait. A handler is a plain function from request to
reply, so that nothing runs between the two and no task is left over.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from email.utils import formatdate
from http.client import responses
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY_BYTES = 16 * 1024 * 1024
"""More than any request of a test; a larger body gets a 413."""
JSON_1_1 = "application/x-amz-json-1.1"


class Request(NamedTuple):
    """One request: header names in lower case, repeated headers joined by commas, ``path`` as received."""

    method: bytes
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool = True


class Reply(NamedTuple):
    """The reaction to a request: an answer after ``delay_secs``, no answer ever, or an abort of the connection."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_1_1
    request_id: str = ""
    error_type: str = ""
    delay_secs: float = 0.0
    action: Literal["answer", "hang", "abort"] = "answer"


def _encode(reply: Reply, *, keep_alive: bool) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} {responses.get(reply.status, 'Status')}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        f"x-amzn-RequestId: {reply.request_id}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
    )
    if reply.error_type and reply.content_type == JSON_1_1:
        head += f"x-amzn-ErrorType: {reply.error_type}\r\n"
    if not keep_alive:
        head += "Connection: close\r\n"
    return b"%b\r\n%b" % (head.encode("latin-1"), reply.body)


class Connection(asyncio.Protocol):
    """One client's connection. ``open_connections`` holds exactly those whose transport is open."""

    def __init__(self, handle: Callable[[Request], Reply], open_connections: set[Connection]) -> None:
        self._handle = handle
        self._open = open_connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._is_busy = False
        self._late: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback; a late reply is dropped."""
        del exc
        self._transport = None
        self._waiting.clear()
        if self._late is not None:
            self._late.cancel()
        self._open.discard(self)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _reset(self, transport: asyncio.Transport) -> None:
        # Without lingering the kernel sends a reset; an abort alone looks like an orderly end.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400)
            return
        self._answer_waiting()

    def on_message_begin(self) -> None:
        """Parser's callback."""
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Parser's callback; a long URL comes in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser's callback."""
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b"," + value

    def on_headers_complete(self) -> None:
        """Parser's callback."""
        expects = self._headers.get(b"expect", b"").lower() == b"100-continue"
        # Behind an unanswered request the client would take the interim reply for that request's answer.
        if expects and not self._is_busy and not self._waiting and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Parser's callback, for Content-Length and chunked bodies alike."""
        self._body_bytes += len(body)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(body)
        else:
            self._body.clear()
            self._refuse(413)

    def on_message_complete(self) -> None:
        """Parser's callback."""
        url, _, query = self._url.decode("latin-1").partition("?")
        keep_alive = self._parser.should_keep_alive()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._waiting.append(Request(self._parser.get_method(), url, query, self._headers, body, keep_alive))

    def _refuse(self, status: int) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_encode(Reply(status), keep_alive=False))
            self._transport.close()

    def _answer_waiting(self) -> None:
        while self._waiting and not self._is_busy and self._transport is not None:
            if self._transport.is_closing():
                return
            request = self._waiting.popleft()
            reply = self._handle(request)
            if reply.action == "abort":
                self._reset(self._transport)
            elif reply.action == "hang":
                self._is_busy = True
            elif reply.delay_secs > 0:
                self._is_busy = True
                later = asyncio.get_running_loop().call_later
                self._late = later(reply.delay_secs, self._answer_late, request, reply)
            else:
                self._write(request, reply)

    def _answer_late(self, request: Request, reply: Reply) -> None:
        self._is_busy = False
        self._late = None
        self._write(request, reply)
        self._answer_waiting()

    def _write(self, request: Request, reply: Reply) -> None:
        if self._transport is None:
            return
        self._transport.write(_encode(reply, keep_alive=request.keep_alive))
        if not request.keep_alive:
            self._transport.close()
