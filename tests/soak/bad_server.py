"""A server with TLS that answers half of its requests badly, in a process of its own.

Run as ``python -m tests.soak.bad_server CERTIFICATE``; it prints its port and serves until killed.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from typing import Final, cast

import uvloop

from tests.support.http_requests import take_requests

_HEAD: Final = b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: 0f0e0d0c\r\n"
_BODY: Final = b'{"FailedEntryCount":0,"Entries":[' + b",".join([b'{"EventId":"e"}'] * 10) + b"]}"
GOOD: Final = _HEAD + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
_STALL_SECS: Final = 3.0
"""Longer than the client waits."""


class BadConnection(asyncio.Protocol):
    """One connection: whole requests in, replies of any kind out."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._later: Callable[..., asyncio.TimerHandle] = asyncio.get_running_loop().call_later

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._dice.random() < 0.02:
            self._reset()

    def data_received(self, data: bytes) -> None:
        self._received += data
        for _ in take_requests(self._received):
            if self._dice.random() < 0.5:
                self._transport.write(GOOD)
            else:
                self._dice.choice(_TROUBLES)(self)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _reset(self) -> None:
        if self._transport.is_closing():
            return
        end = self._transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _reset_amid_a_reply(self) -> None:
        self._transport.write(GOOD[:-10])
        self._later(0.01, self._reset)

    def _drip(self) -> None:
        for place in range(0, len(GOOD), 8):
            self._later(place * 0.000_5, self._send, GOOD[place : place + 8])

    def _stall(self) -> None:
        self._transport.write(GOOD[:-10])
        self._later(_STALL_SECS, self._send, GOOD[-10:])

    def _say_nothing(self) -> None:
        """The request stays without a reply."""

    def _end_without_a_length(self) -> None:
        self._transport.write(_HEAD + b"\r\n" + _BODY)
        self._transport.close()

    def _end_early(self) -> None:
        self._transport.write(GOOD[:-10])
        self._transport.close()

    def _say_more(self) -> None:
        self._transport.write(GOOD + GOOD)

    def _close_after_a_reply(self) -> None:
        self._transport.write(GOOD)
        self._later(0.001, self._transport.close)


_TROUBLES: Final[list[Callable[[BadConnection], None]]] = [
    BadConnection._reset,
    BadConnection._reset_amid_a_reply,
    BadConnection._drip,
    BadConnection._stall,
    BadConnection._say_nothing,
    BadConnection._end_without_a_length,
    BadConnection._end_early,
    BadConnection._say_more,
    BadConnection._close_after_a_reply,
]


async def _serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    dice = random.Random(1)
    server = await asyncio.get_running_loop().create_server(lambda: BadConnection(dice), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
