"""Where the faults happen: whole workers on an embedded broker, and a bus that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pushrail_stream.core.signals import Attempted
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus import FaultBus
from pushrail_stream.settings import Settings
from tests.e2e.world import Watched, make_topics, open_bus, read_all, settings_for

PATIENT: Mapping[str, Any] = {"flush_ms": 5_000}
"""Batches leave when they are full: what the test produces for a customer at once is one batch of ten, always."""


@asynccontextmanager
async def outside(
    broker: EmbeddedBroker, customers: int = 1, **sections: Any
) -> AsyncIterator[tuple[FaultBus, Settings]]:
    """A bus for each customer, topics on the broker, and the settings of a worker between them."""
    async with FaultBus.serve() as bus:
        settings = settings_for(broker.bootstrap_servers, bus.url, **sections)
        make_topics(settings, broker)
        open_bus(bus, range(customers))
        yield bus, settings


async def until(holds: Callable[[], bool]) -> None:
    """Ask until it is so, not so often that the workers under test have no time: Kafka tells of nothing by itself."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.1)


LATENCY_SECS = 0.3
"""Long enough that calls that may be in flight together are, on a busy machine too."""


def max_in_flight(bus: FaultBus) -> int:
    """Calls that were in flight at once, by the bus's own records, where every reply takes `LATENCY_SECS`."""
    began = [call.at for call in bus.calls]
    return max(sum(at <= moment < at + 0.9 * LATENCY_SECS for at in began) for moment in began)


def letters(settings: Settings) -> list[tuple[bytes | None, str, str | None]]:
    """Every dead letter: value, reason and code."""
    topic = settings.topics.dlq
    return [
        (value, said["pushrail-reason"], said.get("pushrail-error-code"))
        for _, value, said in read_all(settings, topic)
    ]


def attempts(worker: Watched) -> dict[str, int]:
    """How many attempts were made of each event, by idempotency key."""
    entries = [entry for signal in worker.signals if isinstance(signal, Attempted) for entry in signal.entries]
    return {
        key: sum(e.event.idempotency_key == key for e in entries) for key in {e.event.idempotency_key for e in entries}
    }
