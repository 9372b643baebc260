"""Commits as tools make them, and the events that a bus has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, TopicPartition

from pushrail_stream.core.commit import Committable
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import event
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    ends,
    until,
)

CUSTOMER = "acct_0"
"""All records have its key and lie in one partition."""


def records(numbers: Iterable[int]) -> list[tuple[str, bytes]]:
    return [(CUSTOMER, event(0, number)) for number in numbers]


def with_kafka(settings: Settings, **changes: str) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changes)})


def place_of(settings: Settings, topic: str) -> int:
    """The partition that the customer's records lie in. Just after a topic was made, a broker may tell no end yet."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not (found := [number for number, end in ends(settings, topic).items() if end]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [number] = found
    return number


def arrived(bus: FaultBus) -> list[str]:
    return [arrival.detail for arrival in bus.arrivals]


def details(numbers: Iterable[int]) -> set[str]:
    return {event(0, number).decode() for number in numbers}


async def until_all_arrived(bus: FaultBus, numbers: Sequence[int]) -> None:
    await until(lambda: details(numbers) <= set(arrived(bus)))


def commit(settings: Settings, group_id: str, topic: str, number: int, commit: Committable) -> None:
    """Commit as a tool does that moves offsets, or copies them from another cluster."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": group_id, "log_level": 0})
    try:
        consumer.commit(offsets=[TopicPartition(topic, number, commit.offset, commit.metadata)], asynchronous=False)
    finally:
        consumer.close()
