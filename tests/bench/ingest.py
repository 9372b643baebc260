"""Measure ingest on a real Kafka: requests a second, latency and CPU time per event. The last line is JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import uvloop
import yaml

from pushrail_stream.ingest.api_keys import with_new_key
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.settings.model import Settings
from tests.support.builders import event
from tests.support.kafka.local import LocalKafka
from tests.support.workers import settings_for

_CONNECTIONS = 32


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> int:
    """One request on a connection that is kept; its status. Written by hand: the client must cost little."""
    writer.write(payload)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def _drive(port: int, payloads: Sequence[bytes], rate: float, secs: float) -> tuple[list[float], list[int]]:
    """Requests at a rate, each at its time whether or not others are answered; latencies count from that time."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    loop, latencies, statuses = asyncio.get_running_loop(), list[float](), list[int]()

    async def one(due: float, payload: bytes) -> None:
        connection = await free.get()
        statuses.append(await _request(*connection, payload))
        latencies.append(loop.time() - due)
        free.put_nowait(connection)

    started = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * secs)):
            due = started + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            tasks.create_task(one(due, payloads[number % len(payloads)]))
    while not free.empty():
        free.get_nowait()[1].close()
    return latencies, statuses


def _payload(key: str, first: int, events: int) -> bytes:
    values = [event(number % 50, number, payload={"text": "x" * 600}) for number in range(first, first + events)]
    body = values[0] if events == 1 else b"[" + b",".join(values) + b"]"
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _measure(settings: Settings, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    new = with_new_key(None, "acme", datetime.now(UTC))
    settings.ingest.keys_file.write_bytes(new.content)
    config = home / "pushrail.yaml"
    values = settings.model_dump(mode="json")
    values["kafka"].pop("client")
    config.write_text(yaml.safe_dump(values))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pushrail_stream", "ingest", "--config", str(config), "--json"),
        stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while (line := json.loads(await process.stderr.readline()))["event"] != "listening":
            pass
        found: dict[str, Any] = {}
        for events, rate in ((1, options.rate), (100, options.rate_of_arrays)):
            payloads = [_payload(new.secret, first * events, events) for first in range(200)]
            await _drive(line["port"], payloads, min(rate, 100), 1)
            cpu, wall = psutil.Process(process.pid).cpu_times(), time.monotonic()
            latencies, statuses = await _drive(line["port"], payloads, rate, options.secs)
            wall, after = time.monotonic() - wall, psutil.Process(process.pid).cpu_times()
            cpu_secs = after.user + after.system - cpu.user - cpu.system
            latencies.sort()
            found[f"{events}_a_request"] = {
                "asked_requests_per_s": rate,
                "requests_per_s": round(len(latencies) / wall),
                "events_per_s": round(len(latencies) * events / wall),
                "p50_ms": round(latencies[len(latencies) // 2] * 1000, 1),
                "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 1),
                "cpu_us_per_request": round(cpu_secs * 1e6 / len(latencies), 1),
                "cpu_us_per_event": round(cpu_secs * 1e6 / len(latencies) / events, 1),
                "not_202": sum(status != 202 for status in statuses),
            }
            print(json.dumps(found[f"{events}_a_request"]), flush=True)
        return found
    finally:
        process.terminate()
        await process.communicate()


@contextmanager
def _kafka() -> Iterator[str]:
    given = os.environ.get("PUSHRAIL_TEST_KAFKA")
    if given:
        yield given
        return
    with LocalKafka() as kafka:
        yield kafka.bootstrap_servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second of one event")
    parser.add_argument("--rate-of-arrays", type=float, default=50, help="requests a second of 100 events")
    parser.add_argument("--secs", type=float, default=20)
    options = parser.parse_args()
    with _kafka() as bootstrap, tempfile.TemporaryDirectory() as home:
        door = {"port": 0, "keys_file": Path(home) / "keys.json", "max_events_per_second": 1_000_000}
        settings = settings_for(bootstrap, "http://127.0.0.1:1", ingest=door)
        create_topics(checked_kafka(settings), plan_topics(settings, 6), 1, dry_run=False)
        found = uvloop.run(_measure(settings, Path(home), options))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
