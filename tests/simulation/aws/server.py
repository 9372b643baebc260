"""The server's side of a connection: it parses HTTP/1.1, lets the cloud react, and sends the reaction's bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import httptools

from pushrail_stream.sandbox.bus.wire import Request
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.records import Call

_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Client(Protocol):
    """The client's side of a connection."""

    @property
    def host_name(self) -> str:
        """The name of its host; empty when it has none."""

    def arrive(self, data: bytes, call: Call | None) -> None:
        """Bytes reach the client's host."""

    def end(self, reset: bool) -> None:  # noqa: FBT001 - called by the scheduler, by position
        """The end of the connection reaches the client's host."""


class Way:
    """One direction of a connection. Bytes arrive in the order in which they left."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._last_at = 0.0

    def send(self, delay_secs: float, function: Callable[..., None], *args: Any) -> None:
        """Call ``function`` at the other end, ``delay_secs`` and the way's latency from now."""
        scheduler = self._cloud.state.scheduler
        self._last_at = max(self._last_at, scheduler.now + delay_secs + self._cloud.latency())
        scheduler.call_later(self._last_at - scheduler.now, function, *args)


class ServerSide:
    """One connection, as the server has it."""

    def __init__(self, cloud: Cloud, name: str, client: Client) -> None:
        self._cloud = cloud
        self._name = name
        self._client = client
        self._to_server = Way(cloud)
        self._to_client = Way(cloud)
        self._is_open = True
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._waiting: deque[Request] = deque()
        self._is_silent = False
        """Whether a request has got no answer, so that later ones get none either."""

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self._cloud.state.scheduler.now

    def send(self, data: bytes) -> None:
        """The client sends bytes."""
        self._to_server.send(0.0, self._receive, data)

    def client_gone(self) -> None:
        """The client closes, or its host is killed. Requests that are on their way still arrive."""
        self._to_server.send(0.0, self._close)

    @property
    def _answers(self) -> bool:
        return self._is_open and not self._is_silent

    def _close(self) -> None:
        self._is_open = False

    def _receive(self, data: bytes) -> None:
        if not self._is_open:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_open = False
            self._to_client.send(0.0, self._client.arrive, _BAD_REQUEST, None)
            self._to_client.send(0.0, self._client.end, False)
            return
        while self._waiting and self._answers:
            self._react(self._waiting.popleft())

    def _react(self, request: Request) -> None:
        reaction = self._cloud.handle(request, self._name)
        if reaction.call is not None:
            reaction.call.host = self._client.host_name
        self._is_silent = not reaction.pieces
        delay_secs = 0.0
        for place, (pause_secs, data) in enumerate(reaction.pieces):
            delay_secs += pause_secs
            is_last = place == len(reaction.pieces) - 1
            call = reaction.call if is_last and reaction.is_whole else None
            self._to_client.send(delay_secs, self._client.arrive, data, call)
        if reaction.end != "keep" or not request.keep_alive:
            self._is_open = False
            self._to_client.send(delay_secs, self._client.end, reaction.end == "reset")

    def on_message_begin(self) -> None:
        """Parser's callback."""
        self._url = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        """Parser's callback; a long URL comes in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser's callback."""
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b"," + value

    def on_body(self, body: bytes) -> None:
        """Parser's callback, for bodies of a stated length and for chunked ones."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Parser's callback."""
        url, _, query = self._url.decode("latin-1").partition("?")
        method, keep_alive = self._parser.get_method(), self._parser.should_keep_alive()
        self._waiting.append(Request(method, url, query, self._headers, b"".join(self._body), keep_alive))
