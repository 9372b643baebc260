"""A relay before a bus, which holds replies back until it is told to let them go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Passes everything on. Replies on connections that were made after `hold` wait for `evict`."""

    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self._there = (host, port)
        self._gate = asyncio.Event()
        self._gate.set()

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[Self]:
        """Ready until the block ends."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        relay = cls(parts.hostname, parts.port)
        server = await asyncio.start_server(relay._connected, "127.0.0.1", 0)
        async with server:
            relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield relay

    def hold(self) -> asyncio.Event:
        """Hold the replies of the connections to come; the event lets them go."""
        held = self._gate = asyncio.Event()
        return held

    def pass_on(self) -> None:
        """Hold nothing of the connections to come."""
        self._gate = asyncio.Event()
        self._gate.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = self._gate
        # A loop that ends cancels this task, and asyncio's streams report a cancelled task as an error of a callback.
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            bus_reader, bus_writer = await asyncio.open_connection(*self._there)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, bus_writer, None))
                tasks.create_task(_copy(bus_reader, writer, gate))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None) -> None:
    try:
        while data := await reader.read(65_536):
            if gate is not None:
                await gate.wait()
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
