"""The soak of the connections to AWS: a server resets, drips, stalls and ends early, and nothing may stay.

Requests go to a server in another process, some are cancelled. Between two rounds all connections become idle and end;
then sockets, tasks and memory are looked at.
"""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import trustme
import uvloop

from pushrail_stream.cli.process import return_free_pages
from pushrail_stream.eventbridge.http1.connection import Connection, Limits
from pushrail_stream.eventbridge.http1.connections import Connections
from pushrail_stream.eventbridge.http1.errors import HttpError
from pushrail_stream.eventbridge.http1.server import Server
from pushrail_stream.worker import _CLOSED
from tests.soak.growth import Sample, growth_per_replaced

_LIMITS: Final = Limits(connect_secs=2, read_secs=0.5, total_secs=1, idle_secs=0.5, reply_bytes=1 << 20)
_LANES: Final = 32
"""Requests at one time."""
_ROUND: Final = 2_000
"""Requests of a round."""
_CANCELLED: Final = 0.05
"""Part of the requests that are cancelled."""
REST_SECS: Final = 1.5
"""After a round, until all connections have ended."""
_LIMIT: Final = 200
"""Bytes for each ended connection. The smallest possible leak is larger: a connection without TLS takes 2 KB."""
_BODY: Final = b"x" * 8_000


def soak_transport(minutes: float, rest_secs: float = REST_SECS) -> dict[str, Any]:
    """The result: ``ok``, and the numbers behind it. A cancelled request counts as ``TimeoutError``."""
    with _server() as (server, context):
        return uvloop.run(_soak(server, context, minutes * 60, rest_secs))


async def _soak(server: Server, context: ssl.SSLContext, secs: float, rest_secs: float) -> dict[str, Any]:
    process, dice, outcomes = psutil.Process(), random.Random(1), Counter[str]()
    failures: list[str] = []

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = str(context.get("exception") or context["message"])
        if not error.endswith(_CLOSED):
            failures.append(error)

    asyncio.get_running_loop().set_exception_handler(handle)
    connections = Connections(server, _LIMITS, context)
    stock = connections._connect

    async def counted(ends_at: float) -> Connection:
        outcomes["connections"] += 1
        return await stock(ends_at)

    connections._connect = counted  # type: ignore[method-assign]
    samples: list[Sample] = []
    most = {"sockets": 0, "tasks": 0}
    ends_at = time.monotonic() + secs
    before = len(process.net_connections())
    while not samples or time.monotonic() < ends_at:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(_LANES):
                lanes.create_task(_lane(connections, outcomes, dice))
        await asyncio.sleep(rest_secs)
        gc.collect()
        return_free_pages()  # as a worker does: without it, memory follows the most connections that ever were open
        left = {"sockets": len(process.net_connections()) - before, "tasks": len(asyncio.all_tasks()) - 1}
        most = {name: max(most[name], left[name]) for name in left}
        samples.append(Sample(outcomes["connections"], process.memory_info().rss))
    await connections.close()
    growth = growth_per_replaced(samples)
    return {
        "requests": len(samples) * _ROUND,
        "outcomes": dict(outcomes),
        "failures_in_callbacks": failures[:10],
        "left_open": len(connections),
        "most_sockets_left": most["sockets"],
        "most_tasks_left": most["tasks"],
        "rss_mib": [round(one.rss / 2**20, 1) for one in (samples[0], samples[len(samples) // 2], samples[-1])],
        "bytes_per_ended_connection": None if growth is None else round(growth),
        "limit": _LIMIT,
        "ok": growth is not None and growth <= _LIMIT and not any((failures, *most.values(), len(connections))),
    }


async def _lane(connections: Connections, outcomes: Counter[str], dice: random.Random) -> None:
    for _ in range(_ROUND // _LANES):
        try:
            async with asyncio.timeout(dice.uniform(0, 0.01) if dice.random() < _CANCELLED else None):
                await connections.post({}, _BODY)
            outcomes["reply"] += 1
        except (HttpError, TimeoutError) as error:
            outcomes[type(error).__name__] += 1


@contextmanager
def _server() -> Iterator[tuple[Server, ssl.SSLContext]]:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        command = [sys.executable, "-m", "tests.soak.bad_server", str(certificate)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                yield Server.of(f"https://127.0.0.1:{process.stdout.readline().strip()}/"), context
            finally:
                process.kill()
