"""One connection: a request goes out, a reply comes in, then the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast, final

import httptools

from pushrail_stream.eventbridge.http1.errors import (
    ClientOSError,
    ClientPayloadError,
    ClientResponseError,
    ServerDisconnectedError,
    SocketTimeoutError,
)

_MAX_HEAD_BYTES: Final = 64 << 10
"""Bytes of a reply that are read before its head must be complete. AWS's heads stay below 1 KiB; a proxy may add to
them."""
_EARLY_SECS: Final = 0.001
"""Seconds by which a timer may ring too early: uvloop's count milliseconds."""
_CODINGS: Final = b"transfer-encoding"
"""The header whose last coding tells whether the reply's end is marked (``chunked``)."""
_ANNOUNCEMENTS: Final = frozenset(range(100, 200)) - {101}
"""The statuses (1xx) after which another reply to the same request follows. 101 ends HTTP on the connection."""


class Reply(NamedTuple):
    """A reply of any status."""

    status: int
    headers: Mapping[bytes, bytes]
    """By name in lower case. Of several with one name, the first; of ``Transfer-Encoding``, all."""
    content: bytes


class Limits(NamedTuple):
    """The bounds of a request, in seconds and bytes."""

    connect_secs: float
    read_secs: float
    """From the request to the first part of its reply, and between two of its parts."""
    total_secs: float
    idle_secs: float
    """An unused connection is closed after this time."""
    reply_bytes: int
    """The reply's length, its head and the marks of its chunks included."""


@final
class Connection(asyncio.Protocol):
    """One connection. It closes itself when it breaks, when it is idle, and when bytes come that nobody asked for.

    One timer serves all of its time-outs: it rings no later than the next of them, and is set anew when it rings early.
    """

    __slots__ = (
        "_body", "_due", "_ends_at", "_head_is_complete", "_headers", "_limits", "_loop", "_on_lost",
        "_parser", "_received", "_reply", "_rings_at", "_timer", "_transport", "is_reusable",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], object]
    ) -> None:
        """``on_lost`` is called once, when the connection has ended."""
        self._limits = limits
        self._loop = loop
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        # As aiohttp reads replies: proxies send worse ones than AWS.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport
        self._reply: asyncio.Future[Reply] | None = None
        """The reply that is awaited."""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_is_complete = False
        self._received = 0
        """Bytes since the last request."""
        self._ends_at = self._due = self._rings_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_reusable = True
        """Whether another request may be sent after the last reply."""

    @property
    def is_ready(self) -> bool:
        """Whether a request may be sent now. The transport reports the end of a connection a little late."""
        return self.is_reusable and not self._transport.is_closing()

    def ask(self, request: bytes, ends_at: float) -> asyncio.Future[Reply]:
        """Send a request. The future raises `HttpError`, or ``TimeoutError`` at ``ends_at`` (the loop's time).

        A caller that no longer waits for it must call `close`.
        """
        self._reply = reply = self._loop.create_future()
        if not self.is_reusable:
            self._fail(ServerDisconnectedError("Server disconnected"))
            return reply
        self._headers, self._body, self._head_is_complete, self._received = {}, [], False, 0
        self._ends_at = ends_at
        self._transport.write(request)
        self._expect_bytes()
        return reply

    def close(self) -> None:
        """Close, and drop what was not sent yet.

        Not at once: uvloop's TLS uses its transport once more after a call of `data_received`.
        """
        self.is_reusable = False
        self._loop.call_soon(self._transport.abort)

    def rest(self) -> None:
        """Wait for the next request, for at most ``idle_secs``."""
        self._set_due(self._loop.time() + self._limits.idle_secs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport's call."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The transport's call."""
        if self._reply is None:
            self.close()  # they would be read as the next request's reply
            return
        self._received += len(data)
        if self._received > self._limits.reply_bytes:
            self._fail(ClientPayloadError(f"the reply has more than {self._limits.reply_bytes} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_reusable = False
        except httptools.HttpParserError as error:
            self._fail(ClientResponseError(f"the reply is no HTTP: {error}"))
        if self._reply is not None:
            if self._received > _MAX_HEAD_BYTES and not self._head_is_complete:
                self._fail(ClientResponseError(f"the reply's head has more than {_MAX_HEAD_BYTES} bytes"))
            else:
                self._expect_bytes()

    def eof_received(self) -> None:
        """The transport's call. It closes the connection a moment later."""
        self.is_reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport's call."""
        self.is_reusable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_lost(self)
        if exc is None and self._ends_with_connection():
            self._complete()
        elif self._head_is_complete:
            self._fail(ClientPayloadError(f"Response payload is not completed: {exc or 'the connection ended'}"))
        else:
            self._fail(ClientOSError(str(exc)) if exc else ServerDisconnectedError("Server disconnected"))
        del self._parser  # it refers to this object, and both would stay until the next garbage collection

    def on_message_begin(self) -> None:
        """The parser's call."""
        if self._reply is None:
            self.is_reusable = False  # a second reply follows the first at once

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's call. Those after the body are not read."""
        if self._head_is_complete:
            return
        name, value = name.lower(), value.rstrip()
        if name not in self._headers:
            self._headers[name] = value
        elif name == _CODINGS:
            self._headers[name] += b"," + value

    def on_headers_complete(self) -> None:
        """The parser's call."""
        self._head_is_complete = True

    def on_body(self, body: bytes) -> None:
        """The parser's call."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The parser's call."""
        if self._parser.get_status_code() in _ANNOUNCEMENTS:
            self._headers, self._body, self._head_is_complete = {}, [], False
            return
        if not self._parser.should_keep_alive() or self._transport.get_write_buffer_size():
            self.is_reusable = False  # the next request would wait for the rest of this one
        self._complete()

    def _complete(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Reply(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, error: Exception) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(error)
        self.close()

    def _ends_with_connection(self) -> bool:
        """Whether the end of the connection is the reply's end: its head does not tell where it ends."""
        is_chunked = self._headers.get(_CODINGS, b"").rpartition(b",")[2].strip().lower() == b"chunked"
        return self._head_is_complete and not is_chunked and b"content-length" not in self._headers

    def _expect_bytes(self) -> None:
        """Wait for the next part of the reply."""
        self._set_due(min(self._loop.time() + self._limits.read_secs, self._ends_at))

    def _set_due(self, due: float) -> None:
        self._due = due
        if self._timer is None or due < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = due
            self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._due - now > _EARLY_SECS:
            self._set_due(self._due)
        elif self._reply is None:
            self.close()
        elif self._due < self._ends_at:
            self._fail(SocketTimeoutError("Timeout on reading data from socket"))
        else:
            self._fail(TimeoutError())
