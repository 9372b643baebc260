"""A server by its URL, and its addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import quote, urlsplit

import aiohappyeyeballs

from pushrail_stream.eventbridge.http1.errors import ClientConnectorDNSError, connect_error
from pushrail_stream.eventbridge.single_flight import SingleFlight

_PORTS: Final = {"http": 80, "https": 443}
_KEPT_IN_A_PATH: Final = "/%:@!$&'()*+,;=~"
"""Characters that a path may have without being quoted (RFC 3986, ``pchar``); ``%`` begins one that is quoted."""
_ADDRESSES_SECS: Final = 10.0
"""Seconds for which a server's addresses are used. AWS's names have a lifetime of 60 s, and a server that leaves the
name service must lose its new connections soon."""

Addresses = list[aiohappyeyeballs.AddrInfoType]


@dataclass(frozen=True, slots=True)
class Server:
    """The parts of a URL."""

    url: str
    is_tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Server:
        """The server of this URL. Raises ``ValueError`` if it has no host, or a scheme other than http and https."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{parts.scheme}://{parts.hostname} is no address of an HTTP server")
        path = quote(parts.path or "/", safe=_KEPT_IN_A_PATH) + (parts.query and f"?{parts.query}")
        port = parts.port or _PORTS[parts.scheme]
        return cls(url, parts.scheme == "https", parts.hostname, port, path)

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """The value of the header ``Host``: without a port that the scheme implies."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


@final
class AddressBook:
    """The addresses of one server. They are looked up anew when they are too old; callers share one look-up."""

    __slots__ = ("_found", "_found_at", "_looking_up", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._looking_up = SingleFlight[Addresses | OSError]()
        self._found: Addresses = []
        self._found_at = float("-inf")

    async def find(self) -> Addresses:
        """The addresses. Each caller gets another one first, so that new connections spread over all."""
        now = asyncio.get_running_loop().time()
        if now - self._found_at >= _ADDRESSES_SECS:
            found = await self._looking_up.run(self._look_up)
            if isinstance(found, OSError):
                raise connect_error(ClientConnectorDNSError, self._server.name, found) from found
        self._found = self._found[1:] + self._found[:1]
        return self._found

    async def _look_up(self) -> Addresses | OSError:
        loop = asyncio.get_running_loop()
        host, port = self._server.host, self._server.port
        # AI_ADDRCONFIG would refuse ::1 where no interface but the loopback has an address of IPv6.
        flags = socket.AI_NUMERICHOST if _is_address(host) else socket.AI_ADDRCONFIG
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        except OSError as error:
            return error
        self._found, self._found_at = list(found), loop.time()
        return self._found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
