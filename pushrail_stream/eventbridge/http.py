"""HTTP to AWS: one POST, one reply. Every failure of the network or the peer is a value, never an exception.

The stock client's own aiohttp session carries the request, with its TLS context, proxies, CA bundle and time-outs.
Redirects are not followed: they would hand session tokens, external IDs and events to another host. Cookies are not
kept: all customers share the session.

Private names: ``client._endpoint.http_session`` with ``_get_session`` and ``_proxy_config`` (aiobotocore 3.10), and
``_cookie_jar`` and ``_get`` of aiohttp's session and connector.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import UNSIGNED
from botocore.exceptions import BotoCoreError

from pushrail_stream.core.outcome import CONNECT_TIMEOUT, READ_TIMEOUT
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, CallFailed, Operation
from pushrail_stream.settings.model import EventBridgeSettings

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient


_PRODUCT: Final = "pushrail-stream"
"""Our name in the User-Agent, for a customer who reads CloudTrail."""
MAX_REPLY_BYTES: Final = 4 << 20
"""Bytes of a reply that are read, and as many that are decompressed. AWS's replies stay below 16 KiB, except that a
refusal may quote the request: up to 1 MiB, in which every quotation mark is escaped twice."""
_BODY_IN_ONE_PIECE: Final = 1 << 20
"""Longest body in bytes that is handed to aiohttp as it is: it warns of longer ones, which block the event loop."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
"""zlib's value for detecting the format by the header."""
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_MAX_ID_LENGTH: Final = 128
"""Characters of a request id. AWS's have 36."""


class HttpReply(NamedTuple):
    """A reply of any status."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    """Decompressed. A body that cannot be decompressed stays as it came."""

    @property
    def request_id(self) -> str | None:
        """AWS's id of the request; None when it is missing or not printable."""
        return safe_id(self.headers.get("x-amzn-RequestId"))

    def failed(self, operation: Operation, code: str, message: str) -> CallFailed:
        """The failure that this reply means."""
        return CallFailed(operation, code, message, self.status, self.request_id)

    def unreadable(self, operation: Operation, what: str) -> CallFailed:
        """The failure of a reply that no AWS service sends."""
        return self.failed(operation, UNKNOWN_RESULT, f"HTTP {self.status} {what}, {len(self.content)} bytes")

    def for_parser(self) -> dict[str, Any]:
        """The reply as botocore's parsers take it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        return {"headers": headers, "status_code": self.status, "body": self.content}


@final
class StockClients:
    """Opens AWS's stock clients, whose connections we use. They stay open as long as ``stack``."""

    def __init__(self, stack: AsyncExitStack, settings: EventBridgeSettings) -> None:
        self._stack = stack
        self._session = get_session()
        # The global endpoint's sessions are not valid in regions that an account has to enable.
        self._session.set_config_variable("sts_regional_endpoints", "regional")
        self.settings = settings
        self.user_agent = f"{self._session.user_agent()} {_PRODUCT}"
        self._config = AioConfig(
            connect_timeout=settings.connect_timeout_secs,
            read_timeout=settings.read_timeout_secs,
            # Unsigned, so that no client looks for credentials: none of the process's may sign a customer's call.
            signature_version=UNSIGNED,
            # No limit of connections: our callers have one, and a peer that hangs must not use up the others' share.
            max_pool_connections=0,
            user_agent_extra=_PRODUCT,
        )

    async def open(self, service: Literal["events", "sts"], region: str, endpoint_url: str | None) -> AioBaseClient:
        """A client of this service. No call is made. ``endpoint_url`` None: AWS's own endpoint of the region."""
        return await self._stack.enter_async_context(
            self._session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=self._config)
        )


@final
class Http:
    """The connections a stock client would use. It lives as long as that client."""

    __slots__ = ("_proxy", "_proxy_headers", "_session", "_timeout", "url")

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        proxy: tuple[str | None, dict[str, str]],
        settings: EventBridgeSettings,
    ) -> None:
        self.url = url
        self._session = session
        self._proxy, self._proxy_headers = proxy
        self._timeout = aiohttp.ClientTimeout(
            total=settings.call_secs,
            sock_connect=settings.connect_timeout_secs,
            sock_read=settings.read_timeout_secs,
        )

    @classmethod
    async def of(cls, client: AioBaseClient, url: str, settings: EventBridgeSettings) -> Http:
        """For requests to ``url``, the client's endpoint."""
        stock: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - see the head
        proxies = stock._proxy_config  # noqa: SLF001 - see the head
        proxy_url = proxies.proxy_url_for(url)
        session = await stock._get_session(proxy_url)  # noqa: SLF001 - see the head
        session._cookie_jar = aiohttp.DummyCookieJar()  # noqa: SLF001 - see the head
        _reuse_only_silent(session.connector)
        return cls(url, session, proxy=(proxy_url, proxies.proxy_headers_for(url)), settings=settings)

    async def post(self, operation: Operation, headers: dict[str, str], body: bytes) -> HttpReply | CallFailed:
        """The reply, of any status; a `CallFailed` when no readable one came."""
        try:
            response = await self._session.request(
                "POST",
                self.url,
                headers=headers,
                data=body if len(body) <= _BODY_IN_ONE_PIECE else io.BytesIO(body),
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                timeout=self._timeout,
            )
            content = await _read(response)
        except Exception as error:  # noqa: BLE001 - a peer's bytes make HTTP libraries raise almost anything
            return network_failure(operation, error)
        coding = response.headers.get("Content-Encoding")
        if coding is not None:
            content = decompressed(content, coding)
        return HttpReply(response.status, response.headers, content)


def _reuse_only_silent(connector: Any) -> None:
    """Close a kept connection that received bytes while idle: they would be read as the next request's answer."""
    stock = connector._get  # noqa: SLF001 - see the head

    async def get(*request: Any) -> Any:
        while (connection := await stock(*request)) is not None and connection.protocol.should_close:
            connection.close()
        return connection

    connector._get = get  # noqa: SLF001 - see the head


def safe_id(name: object) -> str | None:
    """A request id that is short and printable; None for anything else."""
    if isinstance(name, str) and name.isascii() and name.isprintable() and 0 < len(name) <= _MAX_ID_LENGTH:
        return name
    return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body; raises `aiohttp.ClientPayloadError` when it is too long."""
    length = response.content_length
    if length is not None and length <= MAX_REPLY_BYTES:
        return await response.read()
    content = bytearray()
    try:
        async for part in response.content.iter_any():
            content += part
            if len(content) > MAX_REPLY_BYTES:
                break
    finally:
        response.close()  # otherwise a broken reply keeps its connection open until garbage collection
    if len(content) > MAX_REPLY_BYTES:
        raise aiohttp.ClientPayloadError(f"the reply has more than {MAX_REPLY_BYTES} bytes")
    return bytes(content)


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
