"""The reasons for which a request got no reply. Operators know their names: they are those of aiohttp."""

from __future__ import annotations

import ssl


class HttpError(Exception):
    """No reply came, or none that can be read. The server may have carried out the request."""


class ServerDisconnectedError(HttpError):
    """The server closed the connection before a reply began."""


class ClientOSError(HttpError):
    """The connection broke."""


class ClientPayloadError(HttpError):
    """The reply ended too early, or is too long."""


class ClientResponseError(HttpError):
    """The reply is no HTTP."""


class SocketTimeoutError(HttpError):
    """No part of the reply came within the read time-out."""


class ConnectionTimeoutError(HttpError):
    """No connection was made within the connect time-out."""


class ClientConnectorError(HttpError):
    """No connection was made."""


class ClientConnectorDNSError(ClientConnectorError):
    """The server's name was not resolved."""


class ClientConnectorSSLError(ClientConnectorError):
    """TLS failed."""


class ClientConnectorCertificateError(ClientConnectorSSLError):
    """The server's certificate is not trusted."""


def connect_error(kind: type[ClientConnectorError], server: str, cause: OSError) -> ClientConnectorError:
    """The error of this kind. ``server``: host and port."""
    if isinstance(cause, ssl.SSLError):
        return kind(f"Cannot connect to host {server} ssl:True [{type(cause).__name__}: {cause.args}]")
    return kind(f"Cannot connect to host {server} ssl:default [{cause.strerror or cause}]")
