"""Requests through a proxy: an aiohttp session of AWS's library carries them.

Private names: ``_cookie_jar`` and ``_get`` of aiohttp's session and connector.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final, final

import aiohttp

from pushrail_stream.eventbridge.http1.connection import Limits, Reply
from pushrail_stream.eventbridge.http1.request import NONE_SHARED, SharedHeaders

_BODY_IN_ONE_PIECE: Final = 1 << 20
"""Longest body in bytes that is handed to aiohttp as it is: it warns of longer ones, which block the event loop."""


@final
class ProxiedSession:
    """POSTs to one URL through a proxy."""

    __slots__ = ("_max_bytes", "_proxy", "_proxy_headers", "_session", "_timeout", "_url")

    def __init__(
        self, url: str, session: aiohttp.ClientSession, proxy: tuple[str, dict[str, str]], limits: Limits
    ) -> None:
        """``proxy``: its URL, and the headers for itself."""
        self._url = url
        self._session = session
        self._proxy, self._proxy_headers = proxy
        self._max_bytes = limits.reply_bytes
        self._timeout = aiohttp.ClientTimeout(
            total=limits.total_secs, sock_connect=limits.connect_secs, sock_read=limits.read_secs
        )
        session._cookie_jar = aiohttp.DummyCookieJar()  # noqa: SLF001 - see the head
        _reuse_only_silent(session.connector)

    async def post(self, headers: Mapping[str, str], body: bytes, shared: SharedHeaders = NONE_SHARED) -> Reply:
        """The reply of any status. Raises what aiohttp raises."""
        response = await self._session.request(
            "POST",
            self._url,
            headers={**shared.by_name, **headers},
            data=body if len(body) <= _BODY_IN_ONE_PIECE else io.BytesIO(body),
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers,
            timeout=self._timeout,
        )
        content = await self._read(response)
        # Backwards, since of several headers with one name the first counts.
        received = {name.lower(): value for name, value in reversed(response.raw_headers)}
        return Reply(response.status, received, content)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body; raises `aiohttp.ClientPayloadError` when it is too long."""
        length = response.content_length
        if length is not None and length <= self._max_bytes:
            return await response.read()
        content = bytearray()
        try:
            async for part in response.content.iter_any():
                content += part
                if len(content) > self._max_bytes:
                    break
        finally:
            response.close()  # otherwise a broken reply keeps its connection open until garbage collection
        if len(content) > self._max_bytes:
            raise aiohttp.ClientPayloadError(f"the reply has more than {self._max_bytes} bytes")
        return bytes(content)


def _reuse_only_silent(connector: Any) -> None:
    """Close a kept connection that received bytes while idle: they would be read as the next request's answer."""
    stock = connector._get  # noqa: SLF001 - see the head

    async def get(*request: Any) -> Any:
        while (connection := await stock(*request)) is not None and connection.protocol.should_close:
            connection.close()
        return connection

    connector._get = get  # noqa: SLF001 - see the head
