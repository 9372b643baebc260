"""The connections to one server: made when needed, kept for the next request, closed when idle."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Final, final

import aiohappyeyeballs

from pushrail_stream.eventbridge.http1.connection import Connection, Limits, Reply
from pushrail_stream.eventbridge.http1.errors import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ConnectionTimeoutError,
    connect_error,
)
from pushrail_stream.eventbridge.http1.request import NONE_SHARED, SharedHeaders, request_bytes
from pushrail_stream.eventbridge.http1.server import AddressBook, Addresses, Server

_NEXT_ADDRESS_SECS: Final = 0.25
"""Seconds after which the next address is tried beside one that has not answered (RFC 8305 recommends 250 ms)."""
MAX_CONNECTING: Final = 64
"""Most connections that are being made at one time. Each takes 1 ms of CPU, 40 KB and a few round trips. Without this
bound, 1,000 calls that begin together make 1,000 connections, although the first 100 are free again before the last one
is made."""


@final
class Connections:
    """The connections to one server. Their number is not limited: the callers have a limit.

    A caller makes a connection when none is free. While `MAX_CONNECTING` are being made, it waits for a free connection
    or for its turn to make one, whichever comes first.

    A request is sent once. One that broke is never repeated, not even on a kept connection that the server may have
    closed before the request arrived: the server may have carried it out.
    """

    def __init__(self, server: Server, limits: Limits, tls: ssl.SSLContext | None) -> None:
        """``tls`` is None for a server without TLS."""
        self._server = server
        self._limits = limits
        self._tls = tls
        self._addresses = AddressBook(server)
        self._open: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        """The last one used is used first, so that the others may end."""
        self._connecting = 0
        """Connections that are being made."""
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        """The callers that wait, the first one first."""
        self._all_lost: asyncio.Future[None] | None = None
        """Set when the connections are being closed."""

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def post(self, headers: Mapping[str, str], body: bytes, shared: SharedHeaders = NONE_SHARED) -> Reply:
        """The reply of any status. Raises `HttpError`, or ``TimeoutError`` when the whole time is over."""
        loop = asyncio.get_running_loop()
        if "Host" not in shared.by_name and "Host" not in headers:
            headers = {"Host": self._server.authority, **headers}
        request = request_bytes(self._server.path, headers, body, shared)
        ends_at = loop.time() + self._limits.total_secs
        connection = self._take() or await self._obtain(ends_at)
        try:
            reply = await connection.ask(request, ends_at)
        except BaseException:  # a caller that is cancelled waits no longer
            connection.close()
            raise
        if connection.is_ready and self._all_lost is None:
            connection.rest()
            self._give(connection)
        else:
            connection.close()
        return reply

    async def close(self) -> None:
        """Close all connections, those of requests in progress too, and wait for their end."""
        self._all_lost = asyncio.get_running_loop().create_future()
        for connection in tuple(self._open):
            connection.close()
        if self._open:
            await self._all_lost

    def _take(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_ready:
                return connection
        return None

    def _give(self, connection: Connection | None) -> None:
        """Give the first caller that waits a free connection or, with None, its turn to make one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is not None:
            self._idle[connection] = None

    async def _obtain(self, ends_at: float) -> Connection:
        connection = await self._wait(ends_at) if self._connecting >= MAX_CONNECTING else None
        if connection is not None and connection.is_ready:
            return connection
        self._connecting += 1
        try:
            return await self._connect(ends_at)
        finally:
            self._connecting -= 1
            if self._connecting < MAX_CONNECTING:
                self._give(None)

    async def _wait(self, ends_at: float) -> Connection | None:
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(ends_at):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # this caller cannot use it any more
                self._give(turn.result())
            if isinstance(error, TimeoutError):
                raise self._connection_timeout() from None
            raise

    def _connection_timeout(self) -> ConnectionTimeoutError:
        return ConnectionTimeoutError(f"Connection timeout to host {self._server.url}")

    async def _connect(self, ends_at: float) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(ends_at):
            addresses = await self._addresses.find()
            connect_until = loop.time() + self._limits.connect_secs
            try:
                async with asyncio.timeout_at(connect_until) as deadline:
                    connection = await self._connect_to(addresses)
            except ssl.SSLCertVerificationError as error:
                raise connect_error(ClientConnectorCertificateError, self._server.name, error) from error
            except ssl.SSLError as error:
                raise connect_error(ClientConnectorSSLError, self._server.name, error) from error
            except OSError as error:
                if deadline.expired():
                    raise self._connection_timeout() from None
                raise connect_error(ClientConnectorError, self._server.name, error) from error
        if self._all_lost is not None:
            connection.close()
        elif connection.is_reusable:
            self._open[connection] = None
        return connection

    async def _connect_to(self, addresses: Addresses) -> Connection:
        while True:
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECS)
            try:
                return await self._begin(connected)
            except OSError:
                addresses = addresses[1:]
                if not addresses:
                    raise

    async def _begin(self, connected: socket.socket) -> Connection:
        """Speak TLS on a connected socket, if the server does. No part of a request is sent."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._limits, loop, self._lost),
            sock=connected,
            ssl=self._tls,
            # A certificate names a host without the dot that ends an absolute name.
            server_hostname=self._server.host.rstrip(".") if self._tls else None,
            # Our own time-out comes first. uvloop keeps a handshake that was given up until this one, by default 60 s.
            ssl_handshake_timeout=2 * self._limits.connect_secs if self._tls else None,
        )
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._idle.pop(connection, None)
        if self._all_lost is not None and not self._open and not self._all_lost.done():
            self._all_lost.set_result(None)
