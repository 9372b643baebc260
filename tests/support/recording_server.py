"""A server that keeps every request byte for byte and sends a given reply."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

CLOSE = b""
"""The connection is closed once the request is in."""
RESET = b"RESET"
"""The connection is reset (RST) once the request is in."""
NEVER = None
"""The connection stays open, no reply comes."""


class Request(NamedTuple):
    """A request that arrived."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for known, value in self.headers if known.lower() == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None


def http(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A reply: status line, headers, body. ``length`` lies about the body's."""
    size = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]).encode() + body


@dataclass
class Recorder:
    """A running server; made by ``async with Recorder.serve(reply) as server``. ``reply`` may change."""

    reply: bytes | None
    drip_secs: float | None = None
    """Seconds between the bytes of the reply; None sends it whole."""
    closes: bool = False
    """Whether the connection is closed after the reply."""
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @classmethod
    @asynccontextmanager
    async def serve(
        cls, reply: bytes | None, *, drip_secs: float | None = None, closes: bool = False
    ) -> AsyncIterator[Recorder]:
        recorder = cls(reply, drip_secs, closes)
        open_now: set[asyncio.StreamWriter] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            recorder.connections += 1
            open_now.add(writer)
            try:
                await recorder._talk(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                open_now.discard(writer)
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        recorder.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield recorder
        finally:
            server.close()
            while open_now:
                for writer in open_now:
                    writer.transport.abort()
                await asyncio.sleep(0)
            await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = [(name, value) for name, _, value in (line.partition(": ") for line in head[1:-2])]
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            self.requests.append(Request(head[0], headers, await reader.readexactly(length)))
            if self.reply is NEVER:
                await reader.read()
            elif self.reply in (CLOSE, RESET):
                if self.reply is RESET:
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            elif self.drip_secs is None:
                writer.write(self.reply)
                await writer.drain()
            else:
                await self._drip(self.reply, self.drip_secs, writer)
            if self.closes:
                return

    @staticmethod
    async def _drip(reply: bytes, secs: float, writer: asyncio.StreamWriter) -> None:
        for index in range(len(reply)):
            writer.write(reply[index : index + 1])
            await writer.drain()
            await asyncio.sleep(secs)
