"""The ops server: what it answers, and that nobody who asks can keep a worker from ending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.ops_server import Exposition, serve_ops
from pushrail_stream.settings.model import HttpSettings
from tests.support.stats import stats_of

HOST = "127.0.0.1"
LONG_SECS = 8
"""Below the 10 s, or the minute, for which aiohttp waits of itself."""


@asynccontextmanager
async def served(reasons: Sequence[str] = (), exposition: Exposition | None = None) -> AsyncIterator[int]:
    exposition = exposition or Metrics(stats_of()).exposition
    async with serve_ops(HttpSettings(port=0), exposition=exposition, unready=lambda: reasons) as port:
        yield port


async def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{HOST}:{port}{path}", headers=headers) as reply,
    ):
        return reply.status, reply.headers["Content-Type"], await reply.read()


async def test_readiness_is_a_status_with_its_reasons() -> None:
    reasons: list[str] = []
    async with served(reasons) as port:
        status, _, body = await ask(port, "/readyz")
        assert (status, body) == (200, b'{"ready": true, "reasons": []}')
        reasons += ["one", "two"]
        status, _, body = await ask(port, "/readyz")
        assert (status, body) == (503, b'{"ready": false, "reasons": ["one", "two"]}')
        assert (await ask(port, "/readyz", "HEAD"))[0] == 503
        assert (await ask(port, "/livez"))[::2] == (200, b'{"live": true}'), "not ready is alive"


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("application/vnd.google.protobuf", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4"),
        ("text/plain; version=x.y", "text/plain; version=0.0.4"),
        (";;;=,=", "text/plain; version=0.0.4"),
    ],
)
async def test_metrics_fall_back_to_plain_text(accept: str, answer: str) -> None:
    async with served() as port:
        status, content_type, body = await ask(port, "/metrics", Accept=accept)
    assert status == 200
    assert content_type.startswith(answer)
    assert b"# HELP pushrail_deliveries_begun" in body
    assert body.endswith(b"# EOF\n") == ("openmetrics" in answer)


async def test_other_paths_and_methods_are_refused() -> None:
    async with served() as port:
        assert (await ask(port, "/"))[0] == 404
        assert (await ask(port, "/readyz", "POST"))[0] == 405


async def test_answers_name_no_versions() -> None:
    async with served() as port, aiohttp.ClientSession() as session:
        for path in ("/livez", "/nothing"):
            async with session.get(f"http://{HOST}:{port}{path}") as reply:
                assert reply.headers["Server"] == "pushrail-stream"


async def test_hanging_clients_delay_no_end() -> None:
    much = b"x" * 2**20  # more than the system buffers for a client that does not read, and cheap to make
    async with asyncio.timeout(LONG_SECS):
        async with served(exposition=lambda _: (much, "text/plain")) as port:
            idle, half, posting, deaf = [await asyncio.open_connection(HOST, port, limit=2_048) for _ in range(4)]
            idle[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await idle[0].readuntil(b"}")
            half[1].write(b"GET /livez HTTP/1.1\r\nHo")
            posting[1].write(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab")
            await posting[0].readuntil(b"405")
            deaf[1].writelines([b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"] * 50)
            await deaf[0].readuntil(b"200")
        for _, writer in (idle, half, posting, deaf):
            writer.close()


async def test_a_taken_address_is_named() -> None:
    async with served() as port:
        with pytest.raises(OperatorError, match=rf"http\.port: {HOST}:{port} cannot be listened on: .*in use"):
            async with serve_ops(HttpSettings(port=port), exposition=Metrics(stats_of()).exposition, unready=list):
                pass
    with pytest.raises(OperatorError, match=r"http\.host, http\.port: no-such-host\.invalid:0 cannot be listened on"):
        async with serve_ops(
            HttpSettings(host="no-such-host.invalid", port=0), exposition=Metrics(stats_of()).exposition, unready=list
        ):
            pass
