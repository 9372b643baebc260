"""What the network did, as `CallFailed`: no reply came, so the outcome is unknown and ``http_status`` is None.

Codes: ConnectTimeout, ReadTimeout, ConnectionClosed (the call may have been carried out), ConnectionFailed, DnsFailed,
TlsFailed, ProxyFailed.
"""

from __future__ import annotations

from typing import Final, Literal

import aiohttp
from botocore import exceptions as boto

from pushrail_stream.core.outcome import CallFailed
from pushrail_stream.core.text import safe_message

READ_TIMEOUT: Final = "ReadTimeout"
_PROXY_FAILED: Final = "ProxyFailed"

# The first class that fits decides: the more special come first.
_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    # aiohttp, as PutEvents raises
    (aiohttp.ConnectionTimeoutError, "ConnectTimeout"),
    (aiohttp.ClientProxyConnectionError, _PROXY_FAILED),
    (aiohttp.ClientHttpProxyError, _PROXY_FAILED),
    (aiohttp.ClientConnectorDNSError, "DnsFailed"),
    (aiohttp.ClientSSLError, "TlsFailed"),
    (aiohttp.ClientConnectorError, "ConnectionFailed"),
    (TimeoutError, READ_TIMEOUT),
    (aiohttp.ClientError, "ConnectionClosed"),
    # botocore, as the STS client raises
    (boto.ConnectTimeoutError, "ConnectTimeout"),
    (boto.ReadTimeoutError, READ_TIMEOUT),
    (boto.ConnectionClosedError, "ConnectionClosed"),
    (boto.ProxyConnectionError, _PROXY_FAILED),
    (boto.SSLError, "TlsFailed"),
)


def no_reply(operation: Literal["PutEvents", "AssumeRole"], error: Exception) -> CallFailed:
    """The failure of a call that ``error`` ended before a reply was there."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "ConnectionFailed")
    # A proxy's URL may hold its password, and its errors repeat the URL.
    text = type(error).__name__ if code == _PROXY_FAILED else f"{type(error).__name__}: {error}"
    return CallFailed(operation, code, safe_message(text))
