"""A server that does what a test's coroutine does, with TLS or without."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import trustme

from pushrail_stream.eventbridge.http1.connection import Limits
from pushrail_stream.eventbridge.http1.connections import Connections
from pushrail_stream.eventbridge.http1.server import Server
from tests.support.patience import PATIENCE_SECS

PATIENT = Limits(PATIENCE_SECS, PATIENCE_SECS, PATIENCE_SECS, idle_secs=PATIENCE_SECS, reply_bytes=100_000)
"""Limits that no request of a test reaches in time."""


@cache
def authority() -> trustme.CA:
    """The authority that signs the servers' certificates."""
    return trustme.CA()


@cache
def trusting() -> ssl.SSLContext:
    """A client's context that trusts the servers."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@dataclass
class Client:
    """One connection, as the server has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Head and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def send(self, *parts: bytes) -> None:
        """Send each part by itself."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    def stop_reading(self) -> None:
        """Leave in the kernel's buffers what the client sends from now on."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def reset(self) -> None:
        """End the connection by RST."""
        end = self.writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Talk = Callable[[Client], Awaitable[None]]


@dataclass
class Peer:
    """A running server."""

    server: Server
    clients: list[Client] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def serve(cls, talk: Talk, *, tls: bool = True) -> AsyncIterator[Peer]:
        """``talk`` serves a connection. The connection is closed when it returns."""
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
        clients: list[Client] = []
        talking: list[asyncio.Task[None] | None] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = Client(reader, writer)
            clients.append(client)
            talking.append(asyncio.current_task())
            try:
                await talk(client)
            except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                pass  # the client has gone, or the test is over
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        scheme = "https" if tls else "http"
        try:
            yield cls(Server.of(f"{scheme}://127.0.0.1:{port}/"), clients)
        finally:
            server.close()
            for task in talking:
                if task is not None:
                    task.cancel()
            for client in clients:
                client.writer.transport.abort()
            await server.wait_closed()
            await asyncio.sleep(0)

    @asynccontextmanager
    async def connections(self, limits: Limits = PATIENT) -> AsyncIterator[Connections]:
        """A client's connections to this server. All have ended when the block ends."""
        connections = Connections(self.server, limits, trusting() if self.server.is_tls else None)
        try:
            yield connections
        finally:
            await connections.close()
            assert len(connections) == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE_SECS):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
