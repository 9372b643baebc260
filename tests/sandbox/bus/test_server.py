"""The bus as a server: TLS, requests that come together, and a clean end."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import SSLError

from pushrail_stream.sandbox.bus.faults import Hang, Latency, Rule, Times
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import (
    client,
    connection,
    declare,
    entry,
    put,
    whole,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_tls_with_the_authority_it_writes(tmp_path: Path) -> None:
    ca_path = tmp_path / "bus-ca.pem"
    async with FaultBus.serve(BusConfig(tls=True, ca_path=ca_path)) as bus:
        declare(bus)
        assert bus.ca_path == str(ca_path)
        assert bus.url.startswith("https://127.0.0.1:")
        async with client("events", bus, verify=bus.ca_path) as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
        async with client("events", bus) as events:
            with pytest.raises(SSLError):
                await events.put_events(Entries=[entry()])
        assert len(bus.arrivals) == 1


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_end_frees_the_port(is_tls: bool) -> None:  # noqa: FBT001 - a table
    async with AsyncExitStack() as clients:
        async with FaultBus.serve(BusConfig(tls=is_tls)) as bus:
            declare(bus)
            bus.set_plan([Rule(Hang(), when=Times(1)), Rule(Latency(3600.0))])
            trusted = ssl.create_default_context(cafile=bus.ca_path) if is_tls else None
            readers = []
            for number in (1, 2):
                reader, writer = await clients.enter_async_context(connection(bus, trusted))
                readers.append(reader)
                writer.write(whole(*put(bus, "a")))
                await bus.wait_for_calls(number)
            assert bus.counts()["openConnections"] == 2
        assert bus.counts()["openConnections"] == 0
        assert [await reader.read() for reader in readers] == [b"", b""]
    async with FaultBus.serve(BusConfig(port=int(bus.url.rpartition(":")[2]))) as again:
        assert again.url.rpartition(":")[2] == bus.url.rpartition(":")[2]
