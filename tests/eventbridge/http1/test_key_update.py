"""A server of OpenSSL's own changes the keys of TLS 1.3 amid the requests of one connection."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from pushrail_stream.eventbridge.http1.connections import Connections
from pushrail_stream.eventbridge.http1.server import Server
from tests.support.http_peer import PATIENT, authority, trusting
from tests.support.loops import on_every_loop
from tests.support.patience import PATIENCE_SECS


@pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("stdbuf")), reason="needs the commands openssl and stdbuf"
)
@on_every_loop
async def test_keys_may_change_between_two_requests(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    authority().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    arguments = ["-accept", "127.0.0.1:0", "-cert", str(certificate), "-crlf", "-tls1_3", "-msg"]
    server = await asyncio.create_subprocess_exec(
        "stdbuf", "-o0", "openssl", "s_server", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_SECS):
            await _talk(server)
    finally:
        server.kill()
        await server.wait()


async def _talk(server: asyncio.subprocess.Process) -> None:
    assert server.stdout is not None
    assert server.stdin is not None
    port = int((await _read_until(server.stdout, b"ACCEPT", b"\n")).strip().rpartition(b":")[2])
    connections = Connections(Server.of(f"https://127.0.0.1:{port}/"), PATIENT, trusting())
    for number in range(3):
        async with asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(connections.post({}, b"request %d" % number))
            seen = await _read_until(server.stdout, b"request %d" % number)
            # Ours follow the server's: it asks for them.
            assert (b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in seen) == (number > 0)
            server.stdin.write(b"K\n")
            await server.stdin.drain()
            await _read_until(server.stdout, b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            server.stdin.write(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi")
            await server.stdin.drain()
        assert reply.result().content == b"hi"
        assert len(connections) == 1
    await connections.close()


async def _read_until(output: asyncio.StreamReader, *marks: bytes) -> bytes:
    """Read on until all marks have come, each after the one before."""
    seen = b""
    rest = 0
    for mark in marks:
        while (found := seen.find(mark, rest)) < 0:
            more = await output.read(65_536)
            assert more, "the server has ended"
            seen += more
        rest = found + len(mark)
    return seen
