"""Requests of the world to a worker's ops server: HTTP/1.1 over a transport that keeps the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, final

from tests.simulation.event_loop import SimLoop


@final
class _ServerTransport(asyncio.Transport):
    """The server's side of a connection. It keeps what the server sends, and hands it on when the server closes."""

    def __init__(self, loop: SimLoop, protocol: Any, take: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("monitoring", 0), "socket": None})
        self._loop = loop
        self._protocol = protocol
        self._take = take
        self._sent = b""
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sent += bytes(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)
            self._take(self._sent)

    def abort(self) -> None:
        self.close()


def get_page(loop: SimLoop, path: str, take: Callable[[bytes], None]) -> None:
    """Get a page from the server on this loop, which is open. A loop without a server gets no request.

    ``take`` gets the answer with its head, unless the worker ends before.
    """

    def ask() -> None:
        for listener in loop.listeners:
            if listener.is_open:
                protocol: Any = listener.protocol_factory()
                protocol.connection_made(_ServerTransport(loop, protocol, take))
                protocol.data_received(f"GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode())
                return

    loop.call_soon_threadsafe(ask)
