"""CPU time of PutEvents: the stock client against ours, over TLS to a server in another process.

``python -m tests.bench.put_events`` prints one line of JSON. Time is that of this process alone, per event
of ~0.75 KB, with an assumed role's session token, 32 calls in flight, uvloop; medians of interleaved runs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import trustme
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from pushrail_stream.core.batch import Batch
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.settings.eventbridge import AssumeRole
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch_of, render_batch, value
from tests.support.builders import destination

IN_FLIGHT: Final = 32
RUNS: Final = 5
_PADDING: Final = 530
"""Makes an event 0.75 KB long."""
_TOKEN: Final = "t0KeN/" * 140

Call = Callable[[], Awaitable[None]]


def measure(calls: int = 2000, entries_per_call: int = 10) -> dict[str, float]:
    """Microseconds of CPU per event: ours, stock, and how many times cheaper ours is. Not from inside a loop."""
    with canned_server(entries_per_call) as endpoint_url:
        ours, stock = uvloop.run(_measure(endpoint_url, calls, entries_per_call))
    return {
        "put_events_cpu_us_per_event": round(ours, 2),
        "stock_put_events_cpu_us_per_event": round(stock, 2),
        "ratio": round(stock / ours, 2),
    }


async def _measure(endpoint_url: str, calls: int, entries: int) -> tuple[float, float]:
    role = AssumeRole("arn:aws:iam::123456789012:role/PushrailEventBridgeWriter", "acme-ext-7Pq2")
    target = destination(auth=role)
    batch = batch_of(target, [value(number, padding=_PADDING) for number in range(entries)])
    options = EventBridgeSettings(endpoint_url=endpoint_url)
    config = AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=IN_FLIGHT)
    async with (
        EventBridge.open(options, StsSettings(endpoint_url=endpoint_url)) as bus,
        get_session().create_client(
            "events",
            region_name="us-east-1",
            endpoint_url=endpoint_url,
            config=config,
            aws_access_key_id="ASIABENCH",
            aws_secret_access_key="secret",
            aws_session_token=_TOKEN,
        ) as client,
    ):
        ways = (_ours(bus, batch), _stock(client, batch))
        for way in ways:
            await _run(way, IN_FLIGHT * 4)
        runs: list[list[float]] = [[], []]
        for _ in range(RUNS):
            for way, times in zip(ways, runs, strict=True):
                times.append(await _run(way, calls) / (calls * entries) * 1e6)
    return statistics.median(runs[0]), statistics.median(runs[1])


def _ours(bus: EventBridge, batch: Batch) -> Call:
    async def call() -> None:
        reply = await bus.put(batch, refreshed=False)
        assert reply.result == "answered", reply

    return call


def _stock(client: Any, batch: Batch) -> Call:
    async def call() -> None:
        # A datetime, as the stock client's users give it; an epoch number would first be made one.
        entries = [{**entry, "Time": datetime.fromtimestamp(entry["Time"], UTC)} for entry in render_batch(batch)]
        reply = await client.put_events(Entries=entries)
        assert reply["FailedEntryCount"] == 0

    return call


async def _run(call: Call, calls: int) -> float:
    """CPU seconds of this process for this number of calls."""

    async def lane(number: int) -> None:
        for _ in range(number, calls, IN_FLIGHT):
            await call()

    started = time.process_time()
    async with asyncio.TaskGroup() as lanes:
        for number in range(IN_FLIGHT):
            lanes.create_task(lane(number))
    return time.process_time() - started


@contextmanager
def canned_server(entries: int) -> Iterator[str]:
    """A canned server's URL; this process trusts it, and has base credentials, until the block ends."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca, certificate = Path(folder) / "ca.pem", Path(folder) / "server.pem"
        authority.cert_pem.write_to_path(str(ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        command = [sys.executable, "-m", "tests.bench.canned_server", str(certificate), str(entries)]
        before = dict(os.environ)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            os.environ |= {"AWS_CA_BUNDLE": str(ca), "AWS_ACCESS_KEY_ID": "AKIABASE", "AWS_SECRET_ACCESS_KEY": "base"}
            try:
                assert process.stdout is not None
                yield f"https://127.0.0.1:{process.stdout.readline().strip()}"
            finally:
                os.environ.clear()
                os.environ.update(before)
                process.kill()


if __name__ == "__main__":
    print(orjson.dumps(measure()).decode())
