"""Ingest on loopback, with a fake producer behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from pushrail_stream.core.signals import RequestAnswered, Signal
from pushrail_stream.ingest.api_keys import ApiKeys, with_new_key
from pushrail_stream.ingest.app import IngestApp
from pushrail_stream.ingest.limits import IngestLimits
from pushrail_stream.ingest.server import MAX_CONNECTIONS, IngestServer
from pushrail_stream.ports.kafka import ProducerRecord, RecordMetadata, RecordTooLarge
from pushrail_stream.settings.eventbridge import MAX_REQUEST_BYTES
from tests.support.patience import PATIENCE_SECS

NOW = datetime(2026, 11, 24, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "eventType": "order.completed",
    "occurredAt": "2026-05-26T14:21:08.493Z",
    "source": "billing-service",
    "customerExternalId": "acct_8K2zRq",
    "idempotencyKey": "order_38a91f-completed",
    "payload": {"amount": 12900, "who": "Zoë"},
}


def members(**changes: Any) -> dict[str, Any]:
    """The example with members changed; None leaves one out."""
    return {name: value for name, value in (EVENT | changes).items() if value is not None}


class FakeEventProducer:
    """Takes what comes. ``open`` clear: nothing is acknowledged until it is set."""

    def __init__(self) -> None:
        self.taken: list[ProducerRecord] = []
        self.failures: dict[int, str | RecordTooLarge] = {}
        """The failures of records, by their index in a request."""
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Queue[int]()
        """The number of records of each request, in order."""

    async def publish_all(self, records: Sequence[ProducerRecord]) -> Sequence[RecordMetadata | str | RecordTooLarge]:
        self.entered.put_nowait(len(records))
        await self.open.wait()
        first = len(self.taken)
        self.taken += records
        return [self.failures.get(index, RecordMetadata(0, first + index)) for index in range(len(records))]

    async def check(self, timeout_secs: float) -> str:
        del timeout_secs
        return ""


class Door:
    """A running ingest, and a client of it."""

    def __init__(
        self, port: int, producer: FakeEventProducer, ingest: IngestApp, key: str, session: aiohttp.ClientSession
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.producer = producer
        self.ingest = ingest
        self.key = key
        self.other_key = ""
        """Of another vendor."""
        self.session = session
        self.answers: list[RequestAnswered] = []
        self.server: IngestServer

    @property
    def open_connections(self) -> int:
        return len(self.server._server.server_state.connections)

    async def post(self, body: Any, key: str | None = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, decoded answer and headers. Header names are written with ``_`` for ``-``; "" leaves one out."""
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        named = {"Content-Type": "application/json", "Authorization": f"Bearer {key or self.key}"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in named.items() if value}
        skipped = ("Content-Type",)  # or the client adds one of its own
        async with self.session.post(
            f"{self.url}/v1/events", data=data, headers=sent, skip_auto_headers=skipped
        ) as reply:
            text = await reply.read()
            return reply.status, json.loads(text), reply.headers


@asynccontextmanager
async def ingest_door(
    home: Path, *, vendor: str = "acme", connections: int = MAX_CONNECTIONS, **limits: Any
) -> AsyncIterator[Door]:
    """Ingest with a key each of two vendors, for as long as the block lasts."""
    new = with_new_key(None, vendor, NOW)
    other = with_new_key(new.content, "other", NOW)
    file = home / "keys.json"
    file.write_bytes(other.content)
    producer, answers = FakeEventProducer(), list[RequestAnswered]()

    def observe(signal: Signal) -> None:
        assert isinstance(signal, RequestAnswered)
        answers.append(signal)

    most = {"max_body_bytes": 2**20, "max_buffered_bytes": 2**24, "max_events_per_second": 100_000, "timeout_secs": 5.0}
    given = IngestLimits(**({"max_entry_bytes": MAX_REQUEST_BYTES} | most | limits))
    ingest = IngestApp(producer, ApiKeys(file), given, observe)
    with IngestServer.open(ingest, "127.0.0.1", 0, timeout_secs=given.timeout_secs, connections=connections) as server:
        async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession() as session:
            tasks.create_task(server.run())
            door = Door(server.port, producer, ingest, new.secret, session)
            door.answers, door.server, door.other_key = answers, server, other.secret
            try:
                yield door
            finally:
                server.stop()


@asynccontextmanager
async def connection(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = int(door.url.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE_SECS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, Any]:
    """Status, head and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    return int(head.split(b" ", 2)[1]), head, await reader.readexactly(length)


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def vendor_and_trace(door: Door) -> list[tuple[bytes | None, bytes | None]]:
    return [(dict(r.headers)["pushrail-vendor"], dict(r.headers)["traceparent"]) for r in door.producer.taken]
