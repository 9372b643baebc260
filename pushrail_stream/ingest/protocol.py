"""uvicorn's HTTP protocol, with limits for clients that have not shown an API key yet.

uvicorn takes heads of any length. It waits without a limit for a connection's first request, for the rest of a head,
for the rest of a body whose request was answered, and for a client that does not read its answer. It also closes
connections whose body it has not read: TCP resets them, and a client that is still sending never sees the answer.

An offer of another protocol (``Upgrade: h2c`` of Java's HttpClient, of Spring and of ``curl --http2``) is declined, and
the request is answered as HTTP/1.1 (RFC 9110, "Upgrade"). The parser stops at such a head and drops the body; here it
reads that head again, without the offer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast, final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from pushrail_stream.ingest.errors import PROBLEM_TYPE, HttpProblem

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in their order; names in lower case."""

_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
"""RFC 3986 ``host`` and ``port``, by their characters."""
_HEADER_BYTES: Final = 4
"""Bytes of a header besides name and value."""


class Bounds(NamedTuple):
    """Limits of one connection, and of their number."""

    head_bytes: int
    secs: float
    """Longest time for a head to arrive, for the rest of an unwanted body, and for an answer to be read."""
    connections: int


@final
class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *, bounds: Bounds, refused: Callable[[int, str], None], **uvicorn: Any) -> None:
        """``refused`` gets status and reason of each refusal that happens before there is a request."""
        super().__init__(**uvicorn)
        self._bounds = bounds
        self._refused = refused
        self._deadline: asyncio.TimerHandle | None = None
        """Timer for the arriving head, or the rest of a body; None while the application works."""
        self._writing: asyncio.TimerHandle | None = None
        """Timer for the client to read an answer."""
        self._is_between = True
        """Whether the last request is complete, and the head of the next one is not."""
        self._is_last = False
        """Whether the connection ends with the rest of this body."""
        self._is_over = False
        """Whether the connection ends after the answers in flight, because unreadable data followed their requests."""
        self._is_offer = False
        """Whether the last head offers another protocol."""
        self._loose_bytes = 0
        """Bytes since the last part of a body: heads, trailers and chunk framing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the timer for the first request, as for any other."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            self._refuse(503, "too many connections are open")
        else:
            self._wait_for_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._unset_keepalive_if_required()
        if self._is_between:
            self._arm(self._head_is_late)  # also for the empty lines that may come before a request
        self._loose_bytes += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._refuse(400, "this is not HTTP/1.1")
        else:
            if self._loose_bytes > self._bounds.head_bytes:
                self._refuse_head()

    def _parse(self, data: memoryview) -> None:
        """Feed the parser. Raises its error for data that is not HTTP."""
        while data and not self._is_deaf():
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
                self._decline()
            else:
                return

    def _decline(self) -> None:
        """Continue in HTTP/1.1: read the head again without its offer, with a new parser."""
        if not self._is_offer:
            return  # it was refused
        self._is_offer = False
        head = _without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.parser.feed_data(head)

    # Called by the parser, in the middle of `data_received`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm(self._head_is_late)

    def on_headers_complete(self) -> None:
        """A head is complete: from here on the application sets the pace."""
        if self._is_deaf():
            return
        if self._loose_bytes > self._bounds.head_bytes < self._head_bytes():
            self._refuse_head()
            return
        method, version = self.parser.get_method(), self.parser.get_http_version()
        try:
            _check_framing(method, version, self.headers)
        except HttpProblem as refusal:
            self._refuse(refusal.status, refusal.detail)
            return
        if self.parser.should_upgrade():
            self._is_offer = True
            return
        if version == "1.0":
            self.expect_100_continue = False  # a client that speaks 1.0 knows no interim answers
        super().on_headers_complete()  # raises when its target cannot be read
        self._disarm()
        self._is_between, self._loose_bytes = False, 0
        self.cycle.transport = cast("asyncio.Transport", _Ending(self.transport, self.cycle, self._end))

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        if not self._is_deaf():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_deaf() or self._is_offer:
            return
        self._disarm()
        self._is_between, self._loose_bytes = True, 0
        super().on_message_complete()
        if self._is_last:
            self.transport.close()
        elif self.cycle.response_complete:
            self._wait_for_next()

    # Called when an answer has been written.

    def on_response_complete(self) -> None:
        """Limit the wait for the rest of a body that is not wanted."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._arm(self.transport.abort)
        elif self._deadline is not None:
            # The next head had begun: it could not arrive while this request was being answered.
            self._disarm()
            self._arm(self._head_is_late)

    def pause_writing(self) -> None:
        """The client does not read the answer: start its timer."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._bounds.secs, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _end(self, cycle: RequestResponseCycle) -> None:
        """Close the connection, but only after the rest of a body, so that its client sees the answer."""
        if cycle.more_body:
            self._is_last = True
            self._arm(self.transport.abort)
        else:
            self.transport.close()

    def _wait_for_next(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _arm(self, late: Callable[[], None]) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._bounds.secs, late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        self._deadline = None
        if self._is_answering():
            self._arm(self._head_is_late)  # the request before it comes first
        else:
            self._refuse(408, f"the request's head did not come within {self._bounds.secs:g} s")

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _HEADER_BYTES for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, f"a request's head may have {self._bounds.head_bytes} bytes")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer data that is no valid request, and close the connection."""
        if self._is_deaf():
            return
        if self._is_between and self._is_answering():
            # The answers to the requests before it come first.
            self._is_over = True
            self.cycle.keep_alive = False
            self._disarm()
            self._refused(status, detail)
            return
        if self._may_answer():
            refusal = HttpProblem(status, detail)
            body = refusal.body()
            head = f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        if self._is_between:  # else the application has this request, and learns that its client has gone
            self._refused(status, detail)
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether the client would not mistake it for the answer to another request, or for a part of one."""
        return self._is_between or (not self.pipeline and not self.cycle.response_started)

    def _is_deaf(self) -> bool:
        return self._is_over or self.transport.is_closing()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first request
        return cycle is not None and not cycle.response_complete


@final
class _Ending:
    """The transport that an answer is written to. Closing it is left to the protocol."""

    def __init__(
        self, transport: asyncio.Transport, cycle: RequestResponseCycle, end: Callable[[RequestResponseCycle], None]
    ) -> None:
        self.is_closing = transport.is_closing
        self._transport = transport
        self._cycle = cycle
        self._end = end

    def write(self, data: bytes) -> None:
        # When a connection with several requests is lost, uvicorn tells only the last, and uvloop raises for a write.
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._end(self._cycle)


def _check_framing(method: bytes, version: str, fields: Fields) -> None:
    """Raise `HttpProblem` for a head that does not tell where its body ends, or which host it is for.

    The parser refuses two Content-Length fields, and one beside Transfer-Encoding, by itself.
    """
    if version not in {"1.0", "1.1"} or method == b"CONNECT":
        raise HttpProblem(400, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise HttpProblem(400, f"Host: is needed once, and came {len(hosts)} times")
    if not all(_HOST.fullmatch(host.strip()) for host in hosts):
        raise HttpProblem(400, "Host: is not a host")
    codings = [value.strip().lower() for name, value in fields if name == b"transfer-encoding"]
    if not codings:
        if method in _WITH_BODY and all(name != b"content-length" for name, _ in fields):
            raise HttpProblem(411, "Content-Length: is needed, or Transfer-Encoding: chunked")
    elif codings != [b"chunked"] or version == "1.0":
        raise HttpProblem(400, "Transfer-Encoding: may only be chunked, in HTTP/1.1")


def _without_upgrade(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """The same head without its offer of another protocol."""
    kept = (b"%s: %s\r\n" % field for field in fields if field[0] != b"upgrade")
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), b"".join(kept))
