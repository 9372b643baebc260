"""A worker, a bus and customers whose deliveries die, to replay them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pushrail_stream.core.record import Record
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, with_access_key
from tests.support.commands import Desk
from tests.support.workers import committed, ends, make_topics, open_bus, read_all, settings_for, until

CUSTOMERS = 4


OTHER_KEY_ID = "AKIAIOSFODNN7ANOTHER"


DENIED = Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(0)))


MALFORMED = Rule(EntryError("MalformedDetail", "bad"), Match(bus=bus_arn(1), detail_contains=('"bad"',)))


@asynccontextmanager
async def world(bootstrap: str, home: Path, **delivery: Any) -> AsyncIterator[tuple[FaultBus, Settings, Desk]]:
    async with FaultBus.serve() as bus:
        settings = settings_for(bootstrap, bus.url, tiers=(1,), delivery={"flush_ms": 20, "hold_secs": 30} | delivery)
        make_topics(settings)
        open_bus(bus, range(CUSTOMERS))
        desk = Desk(home, settings)
        desk.put(with_access_key(n) for n in range(CUSTOMERS))
        yield bus, settings, desk


def number_of(arrival: Any) -> str:
    return str(json.loads(arrival.detail)["idempotencyKey"])


def letters(settings: Settings) -> Counter[tuple[str | None, str]]:
    found = (headers for _, _, headers in read_all(settings, settings.topics.dlq))
    return Counter((headers.get("pushrail-destination"), headers["pushrail-reason"]) for headers in found)


async def settled(settings: Settings, dead: int) -> None:
    """Wait until this number of dead letters exists, everything is committed, and no retry waits."""
    await until(lambda: sum(ends(settings, settings.topics.dlq).values()) >= dead)
    await until(lambda: committed(settings) == ends(settings, settings.topics.events))
    await until(lambda: retries_are_done(settings))


def read_all_committed(settings: Settings, topic: str) -> list[Record]:
    with Scan(checked_kafka(settings), topic) as scan:
        return [record for batch in scan for record in batch]


def retries_are_done(settings: Settings) -> bool:
    """Whether the retry topic is read to its end; a transaction ends with a marker that no worker commits."""
    for topic in settings.topics.retry:
        done = committed(settings, topic)
        if any(end - done[number] > 1 for number, end in ends(settings, topic).items()):
            return False
    return True
