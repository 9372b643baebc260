"""HTTP to AWS: one POST, one reply. Every failure of the network or the peer is a value, never an exception.

Connections of our own carry the request, with the stock client's TLS context and CA bundle. Through a proxy, the stock
client's aiohttp session does. Redirects are not followed: they would hand session tokens, external IDs and events to
another host. Cookies are not kept: all customers share the connections.

Private names: ``client._endpoint.http_session`` with ``_build_ssl_contexts``, ``_get_session`` and ``_proxy_config``
(aiobotocore 3.10).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import BotoCoreError

from pushrail_stream.core.outcome import CONNECT_TIMEOUT, READ_TIMEOUT
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, CallFailed, Operation
from pushrail_stream.eventbridge.http1 import errors
from pushrail_stream.eventbridge.http1.connection import Limits, Reply
from pushrail_stream.eventbridge.http1.connections import Connections
from pushrail_stream.eventbridge.http1.request import NONE_SHARED, SharedHeaders
from pushrail_stream.eventbridge.http1.server import Server
from pushrail_stream.eventbridge.proxied import ProxiedSession
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.settings.model import EventBridgeSettings

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient


_PRODUCT: Final = "pushrail-stream"
"""Our name in the User-Agent, for a customer who reads CloudTrail."""
MAX_REPLY_BYTES: Final = 4 << 20
"""Bytes of a reply that are read, and as many that are decompressed. AWS's replies stay below 16 KiB, except that a
refusal may quote the request: up to 1 MiB, in which every quotation mark is escaped twice."""
_IDLE_SECS: Final = 12.0
"""Seconds for which an unused connection is kept: as long as AWS's library keeps one."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
"""zlib's value for detecting the format by the header."""
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_MAX_ID_LENGTH: Final = 128
"""Characters of a request id. AWS's have 36."""


class HttpReply(NamedTuple):
    """A reply of any status."""

    status: int
    headers: Mapping[bytes, bytes]
    """By name in lower case."""
    content: bytes
    """Decompressed. A body that cannot be decompressed stays as it came."""

    def header(self, name: bytes) -> str | None:
        """The value of the header with this name in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def request_id(self) -> str | None:
        """AWS's id of the request; None when it is missing or not printable."""
        return safe_id(self.header(b"x-amzn-requestid"))

    def failed(self, operation: Operation, code: str, message: str) -> CallFailed:
        """The failure that this reply means."""
        return CallFailed(operation, code, message, self.status, self.request_id)

    def unreadable(self, operation: Operation, what: str) -> CallFailed:
        """The failure of a reply that no AWS service sends."""
        return self.failed(operation, UNKNOWN_RESULT, f"HTTP {self.status} {what}, {len(self.content)} bytes")

    def for_parser(self) -> dict[str, Any]:
        """The reply as botocore's parsers take it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}
        return {"headers": headers, "status_code": self.status, "body": self.content}


@final
class StockClients:
    """Opens AWS's stock clients, whose endpoints, TLS contexts and proxies we use. They end with ``stack``."""

    def __init__(self, stack: AsyncExitStack, settings: EventBridgeSettings) -> None:
        self.stack = stack
        self._session = get_session()
        # The global endpoint's sessions are not valid in regions that an account has to enable.
        self._session.set_config_variable("sts_regional_endpoints", "regional")
        self.settings = settings
        self.user_agent = f"{self._session.user_agent()} {_PRODUCT}"
        self._tls: dict[Any, SingleFlight[SSLContext]] = {}
        self._options: dict[str, Any] = {
            "connect_timeout": settings.connect_timeout_secs,
            "read_timeout": settings.read_timeout_secs,
            # No limit of connections through a proxy: our callers have a limit, and a peer that hangs must not use up
            # the others' share.
            "max_pool_connections": 0,
            "user_agent_extra": _PRODUCT,
        }
        # Unsigned, so that no client looks for credentials: none of the process's may sign a customer's call.
        self._config = AioConfig(signature_version=UNSIGNED, **self._options)

    async def open(self, service: Literal["events", "sts"], region: str, endpoint_url: str | None) -> AioBaseClient:
        """A client of this service. No call is made. ``endpoint_url`` None: AWS's own endpoint of the region."""
        return await self.stack.enter_async_context(
            self._session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=self._config)
        )

    async def open_v2(self, region: str, endpoint_url: str | None) -> AioBaseClient:
        """A client of eventbridgev2 that makes no call: each answers with the ``url`` to which it would go.

        Only a signing client puts the account of the bus into that URL. Its keys are no keys, and sign nothing.
        """
        client: AioBaseClient = await self.stack.enter_async_context(
            self._session.create_client(
                "eventbridgev2",
                region_name=region,
                endpoint_url=endpoint_url,
                aws_access_key_id="none",
                aws_secret_access_key="none",  # noqa: S106 - see above
                config=AioConfig(**self._options),
            )
        )
        client.meta.events.register_first("before-call.eventbridgev2", _answer_with_url)  # type: ignore[arg-type]
        return client

    async def tls(self, session: Any) -> SSLContext:
        """The TLS context of a stock client's HTTP session. One serves all servers: it takes 20 ms and 1 MB to make."""

        async def make() -> SSLContext:
            made: tuple[SSLContext, Any] = await asyncio.to_thread(session._build_ssl_contexts, None)  # noqa: SLF001 - see the head
            return made[0]

        return await self._tls.setdefault(session, SingleFlight(keep=SSLContext)).run(make)


def _answer_with_url(params: Mapping[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
    """A handler of botocore's event ``before-call``, which answers in the place of AWS like botocore's `Stubber`."""
    url = params["url"]
    return AWSResponse(url, HTTPStatus.OK, HTTPHeaders(), None), {"url": url}


@final
class Http:
    """POSTs to one URL. It lives as long as the stock clients."""

    __slots__ = ("_post", "url")

    def __init__(self, url: str, post: Callable[[Mapping[str, str], bytes, SharedHeaders], Awaitable[Reply]]) -> None:
        """``post`` raises what the HTTP libraries raise."""
        self.url = url
        self._post = post

    @classmethod
    async def of(cls, client: AioBaseClient, url: str, clients: StockClients) -> Http:
        """For requests to ``url``, the client's endpoint."""
        stock: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - see the head
        settings = clients.settings
        limits = Limits(
            connect_secs=settings.connect_timeout_secs,
            read_secs=settings.read_timeout_secs,
            total_secs=settings.call_secs,
            idle_secs=_IDLE_SECS,
            reply_bytes=MAX_REPLY_BYTES,
        )
        proxies = stock._proxy_config  # noqa: SLF001 - see the head
        proxy_url = proxies.proxy_url_for(url)
        if proxy_url is not None:
            session = await stock._get_session(proxy_url)  # noqa: SLF001 - see the head
            return cls(url, ProxiedSession(url, session, (proxy_url, proxies.proxy_headers_for(url)), limits).post)
        server = Server.of(url)
        tls = await clients.tls(stock)
        connections = Connections(server, limits, tls if server.is_tls else None)
        clients.stack.push_async_callback(connections.close)
        return cls(url, connections.post)

    async def post(
        self, operation: Operation, headers: Mapping[str, str], body: bytes, shared: SharedHeaders = NONE_SHARED
    ) -> HttpReply | CallFailed:
        """The reply, of any status; a `CallFailed` when no readable one came."""
        try:
            status, received, content = await self._post(headers, body, shared)
        except Exception as error:  # noqa: BLE001 - a peer's bytes make HTTP libraries raise almost anything
            return network_failure(operation, error)
        coding = received.get(b"content-encoding")
        if coding is not None:
            content = decompressed(content, coding.decode("latin-1"))
        return HttpReply(status, received, content)


def safe_id(name: object) -> str | None:
    """A request id that is short and printable; None for anything else."""
    if isinstance(name, str) and name.isascii() and name.isprintable() and 0 < len(name) <= _MAX_ID_LENGTH:
        return name
    return None


def decompressed(content: bytes, coding: str) -> bytes:
    """The content, decompressed if possible: a proxy may compress in spite of ``Accept-Encoding: identity``."""
    if coding.strip().lower() not in _COMPRESSED:
        return content
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(content, MAX_REPLY_BYTES)
    except zlib.error:
        return content


# The first class that fits decides: the more special come first.
_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.ConnectionTimeoutError, CONNECT_TIMEOUT),
    (errors.SocketTimeoutError, READ_TIMEOUT),
    (errors.ClientConnectorDNSError, "DnsFailed"),
    (errors.ClientConnectorSSLError, "TlsFailed"),
    (errors.ClientConnectorError, "ConnectionFailed"),
    (errors.HttpError, "ConnectionClosed"),
    (aiohttp.ConnectionTimeoutError, CONNECT_TIMEOUT),
    (aiohttp.ClientProxyConnectionError, "ProxyFailed"),
    (aiohttp.ClientHttpProxyError, "ProxyFailed"),
    (aiohttp.ClientConnectorDNSError, "DnsFailed"),
    (aiohttp.ClientSSLError, "TlsFailed"),
    (aiohttp.ClientConnectorError, "ConnectionFailed"),
    (TimeoutError, READ_TIMEOUT),
    (aiohttp.ClientError, "ConnectionClosed"),
    (aiohttp.http.HttpProcessingError, "ConnectionClosed"),
    (OSError, "ConnectionFailed"),
)


def network_failure(operation: Operation, error: Exception) -> CallFailed:
    """The failure of a call that ``error`` ended before a reply was there."""
    # The stock client wraps what aiohttp raised, and calls a reset connection one that was never made.
    cause = error.kwargs.get("error", error) if isinstance(error, BotoCoreError) else error
    code = next((code for kind, code in _CODES if isinstance(cause, kind)), type(cause).__name__)
    # A proxy's URL may hold its password, and its errors repeat the URL.
    text = type(cause).__name__ if code == "ProxyFailed" else f"{type(cause).__name__}: {cause}"
    return CallFailed(operation, code, safe_message(text))
