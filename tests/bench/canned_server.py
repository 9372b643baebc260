"""A TLS server for benchmarks, in a process of its own: it answers PutEvents and AssumeRole at once and checks nothing.

Run as ``python -m tests.bench.canned_server CERTIFICATE ENTRIES``; it prints its port and serves until killed.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Final, cast

import orjson
import uvloop

from tests.support.http_requests import take_requests

_TOKEN: Final = "t0KeN/" * 140
"""A session token as long as AWS's usually are: its length costs the client something."""
_SESSION: Final = (
    '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
    f"<AccessKeyId>ASIABENCH</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>{_TOKEN}</SessionToken>"
    "<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
)


class Canned(asyncio.Protocol):
    """One connection: whole requests in, the same reply out."""

    def __init__(self, put_events: bytes, assume_role: bytes) -> None:
        self._put_events = put_events
        self._assume_role = assume_role
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        for head in take_requests(self._received):
            self._transport.write(self._put_events if b"x-amz-target" in head else self._assume_role)


def _http(kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nx-amzn-RequestId: 0f0e0d0c-0000-4000-8000-000000000000\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\n\r\n"
    )
    return head.encode() + body


async def _serve(certificate: str, entries: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    results = [{"EventId": f"00000000-0000-4000-8000-{index:012}"} for index in range(entries)]
    put_events = _http("application/x-amz-json-1.1", orjson.dumps({"FailedEntryCount": 0, "Entries": results}))
    assume_role = _http("text/xml", _SESSION.encode())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Canned(put_events, assume_role), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
