"""Calls of AWS's blocking client, in the place of urllib3: the product's calls to KMS, and the chain of credentials.

A call blocks its simulated thread. It has a connection of its own, since nothing that is simulated depends on keeping
one. The errors are those that botocore makes of urllib3's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock
from urllib.parse import urlsplit

import httptools
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.records import Call
from tests.simulation.aws.server import ServerSide
from tests.simulation.scheduler import Condition, Host, Scheduler

_DEFAULT_TIMEOUT_SECS: Final = 60.0
"""botocore's default of both time-outs, in seconds."""


class _Whole:
    """A body that has arrived."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        """The whole body as one part."""
        yield self._content


class _Exchange:
    """One request and its answer."""

    def __init__(self, cloud: Cloud, name: str, host: Host) -> None:
        self.host_name = host.name
        self.server = ServerSide(cloud, name, self)
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.is_whole = False
        self.is_over = False
        """Whether nothing more will come."""
        self._arrived = Condition(host.scheduler)
        self._host = host
        self._parser = httptools.HttpResponseParser(self)

    def arrive(self, data: bytes, call: Call | None) -> None:
        """Bytes reach the host."""
        if self.is_over or not self._host.is_alive:
            return
        if call is not None:
            call.answered_at = self.server.now
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_over = True
        self._arrived.notify_all()

    def end(self, reset: bool) -> None:  # noqa: FBT001 - called by the scheduler, by position
        """The server ends the connection. An answer without a length ends with it."""
        del reset
        self.is_over = True
        self._arrived.notify_all()

    def wait(self, secs: float) -> bool:
        """Wait for the whole answer; False when nothing came for ``secs``."""
        while not self.is_over:
            if not self._arrived.wait(secs):
                return False
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser's callback."""
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Parser's callback."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Parser's callback."""
        self.body.append(body)

    def on_message_complete(self) -> None:
        """Parser's callback. An interim answer is none."""
        if self.status >= 200:
            self.is_whole = self.is_over = True
        self.headers = self.headers if self.is_whole else []


def _send(cloud: Cloud, session: Any, request: Any) -> AWSResponse:
    """In the place of ``URLLib3Session.send``. Raises what that raises."""
    scheduler = cloud.state.scheduler
    thread = scheduler.running
    if thread is None:
        raise RuntimeError("only a simulated thread can call")
    url = urlsplit(request.url)
    name = url.hostname or ""
    connect_secs, read_secs = _timeouts(session)
    _connect(cloud, scheduler, name, request.url, connect_secs)
    exchange = _Exchange(cloud, name, thread.host)
    thread.host.on_end.append(exchange.server.client_gone)
    try:
        exchange.server.send(_wire(request, url.netloc, url.path, url.query))
        if not exchange.wait(read_secs):
            raise ReadTimeoutError(endpoint_url=request.url, error="timed out")
    finally:
        thread.host.on_end.remove(exchange.server.client_gone)
        exchange.server.client_gone()
    has_length = any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in exchange.headers)
    if not exchange.status or (not exchange.is_whole and has_length):
        raise ConnectionClosedError(error="closed", request=request, endpoint_url=request.url)
    return AWSResponse(
        request.url, exchange.status, HTTPHeaders.from_pairs(exchange.headers), _Whole(b"".join(exchange.body))
    )


def _timeouts(session: Any) -> tuple[float, float]:
    """The time-outs of a botocore session, in seconds: to connect, and to read."""
    timeout = session._timeout  # a private name of botocore 1.43
    if isinstance(timeout, int | float):
        return timeout, timeout
    return timeout.connect_timeout or _DEFAULT_TIMEOUT_SECS, timeout.read_timeout or _DEFAULT_TIMEOUT_SECS


def _connect(cloud: Cloud, scheduler: Scheduler, name: str, url: str, longest_secs: float) -> None:
    """Let the time of a connection pass. Raises for one that does not come about."""
    pause = Condition(scheduler)  # nothing notifies it
    pause.wait(3 * cloud.latency())
    if cloud.connect_fault("resolve", name):
        raise EndpointConnectionError(endpoint_url=url, error="Name or service not known")
    fault = cloud.connect_fault("connect", name)
    if fault == "connect_timeout":
        pause.wait(longest_secs)
        raise ConnectTimeoutError(endpoint_url=url, error="timed out")
    if fault:
        raise EndpointConnectionError(endpoint_url=url, error="Connection refused")


def _wire(request: Any, netloc: str, path: str, query: str) -> bytes:
    """The bytes of a request, with the headers that urllib3 adds."""
    body = request.body or b""
    content = body.encode() if isinstance(body, str) else bytes(body)
    target = (path or "/") + (f"?{query}" if query else "")
    fields = {name.lower(): value for name, value in request.headers.items()}
    fields = {"host": netloc, **fields, "content-length": str(len(content))}
    lines = [f"{request.method} {target} HTTP/1.1"]
    for name, value in fields.items():
        lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


@contextmanager
def install_blocking(cloud: Cloud) -> Iterator[None]:
    """Let the blocking calls of AWS's library end in this cloud, until the block ends."""

    def send(session: Any, request: Any) -> AWSResponse:
        return _send(cloud, session, request)

    sender: Callable[[Any, Any], AWSResponse] = send
    with mock.patch("botocore.httpsession.URLLib3Session.send", sender):
        yield
