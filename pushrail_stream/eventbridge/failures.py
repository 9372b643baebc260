"""What the network did, as `CallFailed`: no reply came, so the outcome is unknown and ``http_status`` is None.

Codes: ConnectTimeout, ReadTimeout, ConnectionClosed (the call may have been carried out), ConnectionFailed, DnsFailed,
TlsFailed, ProxyFailed; anything else has the name of the exception.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from botocore.exceptions import BotoCoreError

from pushrail_stream.core.outcome import CallFailed, Operation
from pushrail_stream.core.text import safe_message

# The first class that fits decides: the more special come first.
_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ConnectionTimeoutError, "ConnectTimeout"),
    (aiohttp.ClientProxyConnectionError, "ProxyFailed"),
    (aiohttp.ClientHttpProxyError, "ProxyFailed"),
    (aiohttp.ClientConnectorDNSError, "DnsFailed"),
    (aiohttp.ClientSSLError, "TlsFailed"),
    (aiohttp.ClientConnectorError, "ConnectionFailed"),
    (TimeoutError, "ReadTimeout"),
    (aiohttp.ClientError, "ConnectionClosed"),
    (aiohttp.http.HttpProcessingError, "ConnectionClosed"),
    (OSError, "ConnectionFailed"),
)


def no_reply(operation: Operation, error: Exception) -> CallFailed:
    """The failure of a call that ``error`` ended before a reply was there."""
    # The stock client wraps what aiohttp raised, and calls a reset connection one that was never made.
    cause = error.kwargs.get("error", error) if isinstance(error, BotoCoreError) else error
    code = next((code for kind, code in _CODES if isinstance(cause, kind)), type(cause).__name__)
    # A proxy's URL may hold its password, and its errors repeat the URL.
    text = type(cause).__name__ if code == "ProxyFailed" else f"{type(cause).__name__}: {cause}"
    return CallFailed(operation, code, safe_message(text))
