"""The connection between the product's HTTP client and the cloud: names, a transport, and HTTP/1.1 as bytes.

The client asks the event loop for a name's addresses, connects a socket with aiohappyeyeballs, and hands the socket to
the loop. The loop calls `Network.resolve` and `Network.open`; `install` sets the first, and replaces the second step.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

from tests.simulation.aws.blocking_http import install_blocking
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.models import kept_models
from tests.simulation.aws.records import Call
from tests.simulation.aws.server import ServerSide
from tests.simulation.event_loop import SimLoop
from tests.simulation.scheduler import Host

_GIVE_UP_SECS: Final = 127.0
"""Seconds after which a kernel gives up connecting (Linux, six repetitions)."""


class SimSocket:
    """A connected socket, of which the event loop reads the address alone."""

    def __init__(self, name: str, port: int) -> None:
        self._peer = (name, port)

    def getpeername(self) -> tuple[str, int]:
        """The server's name and port."""
        return self._peer


class SimTransport(asyncio.Transport):
    """The client's side of a connection."""

    def __init__(self, cloud: Cloud, name: str, host: Host, loop: asyncio.AbstractEventLoop, protocol: Any) -> None:
        """``name``: the server's. ``host``: the client's."""
        super().__init__({"peername": (name, 0), "socket": None})
        self._loop = loop
        self._protocol = protocol
        self._is_closing = False
        self._host = host
        self._server = ServerSide(cloud, name, self)
        self._is_paused = False
        self._held: list[tuple[bytes, Call | None]] = []
        """The bytes that arrived while reading was paused."""
        host.on_end.append(self._server.client_gone)

    @property
    def host_name(self) -> str:
        """The name of the client's host."""
        return self._host.name

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if not self._is_closing:
            self._server.send(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send bytes."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """No bytes wait: the network takes any number at once."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Whether arriving bytes are handed on."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Hold back what arrives."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Hand on what has arrived meanwhile."""
        self._is_paused = False
        held, self._held = self._held, []
        for data, call in held:
            self._loop.call_soon(self._receive, data, call)

    def close(self) -> None:
        """Close the client's side. What was sent goes on to the server."""
        if not self._is_closing:
            self._is_closing = True
            self._forget_host()
            self._server.client_gone()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Close the client's side."""
        self.close()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that gets the bytes."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change the protocol that gets the bytes."""
        self._protocol = protocol

    def arrive(self, data: bytes, call: Call | None) -> None:
        """Bytes reach the host. ``call``: its answer is complete with them."""
        self._on_loop(self._receive, data, call)

    def end(self, reset: bool) -> None:  # noqa: FBT001 - called by the scheduler, by position
        """The server's end of the connection reaches the host."""
        self._on_loop(self._lose, reset)

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call from the host's event loop, unless the host or its loop is gone."""
        if self._host.is_alive and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _receive(self, data: bytes, call: Call | None) -> None:
        if self._is_closing:
            return
        if self._is_paused:
            self._held.append((data, call))
            return
        if call is not None:
            call.answered_at = self._server.now
        self._protocol.data_received(data)

    def _lose(self, reset: bool) -> None:  # noqa: FBT001 - as `end`
        if self._is_closing:
            return
        self._is_closing = True
        self._forget_host()
        if reset:
            self._protocol.connection_lost(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            return
        self._protocol.eof_received()
        self._protocol.connection_lost(None)

    def _forget_host(self) -> None:
        if self._server.client_gone in self._host.on_end:
            self._host.on_end.remove(self._server.client_gone)


class Network:
    """Names and connections, for every host that reaches this cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._names: dict[str, str] = {}
        """Names by address."""

    async def resolve(self, name: str, port: int) -> list[Any]:
        """The address of a name. Raises ``OSError`` when the name is unknown or the name service fails."""
        await asyncio.sleep(self.cloud.latency())
        if self.cloud.connect_fault("resolve", name):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        known = [address for address, known_name in self._names.items() if known_name == name]
        address = known[0] if known else f"10.0.0.{len(self._names) + 1}"
        self._names[address] = name
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

    async def connect(self, addr_infos: Sequence[Any], **_: Any) -> SimSocket:
        """A connected socket, in the place of ``aiohappyeyeballs.start_connection``. Raises ``OSError``."""
        address, port = addr_infos[0][4][:2]
        fault = self.cloud.connect_fault("connect", self._names[address])
        if fault == "connect_timeout":
            await asyncio.sleep(_GIVE_UP_SECS)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        await asyncio.sleep(2 * self.cloud.latency())
        if fault == "connection_refused":
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return SimSocket(self._names[address], port)

    def open(
        self, host: Host, protocol_factory: Callable[[], asyncio.BaseProtocol], name: str, port: int
    ) -> tuple[SimTransport, asyncio.BaseProtocol]:
        """A transport with its protocol, for the running loop's ``create_connection`` to return."""
        del port
        protocol = protocol_factory()
        transport = SimTransport(self.cloud, name, host, asyncio.get_running_loop(), protocol)
        protocol.connection_made(transport)
        return transport, protocol


@contextmanager
def install(network: Network) -> Iterator[None]:
    """Let every connection of AWS's library end in this network's cloud, until the block ends."""
    with (
        kept_models(),
        install_blocking(network.cloud),
        mock.patch("aiohappyeyeballs.start_connection", network.connect),
        mock.patch.object(SimLoop, "resolve", staticmethod(network.resolve), create=True),
    ):
        yield
